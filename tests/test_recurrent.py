"""Properties of cells over time: every edge of padding, masks, resets, transforms."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export

from rnnjax import (
    GRU,
    LSTM,
    Elman,
    ElmanCell,
    GRUCell,
    LayerNormGRUCell,
    LayerNormLSTM,
    LSTMCarry,
    LSTMCell,
    Recurrent,
    SumCell,
    per_gate,
)
from tests.helpers import GRADIENTS, assert_close, normal, random_params

BATCH, TIME, INPUTS, FEATURES, VOCAB = 3, 7, 4, 5, 4

# The last two have no pure update: they run the scan of the cell.
STACKS = {
    "rnn": Elman(FEATURES, bidirectional=True, vocab_size=VOCAB),
    "gru": GRU(FEATURES, bidirectional=True, vocab_size=VOCAB),
    "lstm": LSTM(FEATURES, bidirectional=True, vocab_size=VOCAB),
    "projection": LSTM(FEATURES, bidirectional=True, projection=3, vocab_size=VOCAB),
    "norm_lstm": LayerNormLSTM(FEATURES, bidirectional=True, vocab_size=VOCAB),
}

every_stack = pytest.mark.parametrize("name", STACKS)
# Compiling takes the time of these tests: one stack for each way through the code.
some_stacks = pytest.mark.parametrize("name", ["gru", "projection"])

lengths = st.lists(st.integers(0, TIME), min_size=BATCH, max_size=BATCH).map(np.array)
seeds = st.integers(0, 2**32 - 1)
examples = settings(max_examples=25, deadline=None, database=None)


@functools.cache
def params_of(name):
    return random_params(STACKS[name], normal(0, TIME, INPUTS))


@functools.cache
def carry_of(name):
    """A random initial carry."""
    cell = STACKS[name]._cell()
    zeros = (cell.initialize_carry(None, (BATCH, 1)),) * 2
    return jax.tree.map(lambda leaf: normal(1, *leaf.shape), zeros)


def loss_of(stack, params, inputs, *args, **kwargs):
    carry, ys = stack.apply({"params": params}, inputs, *args, **kwargs)
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((carry, ys)))


@functools.cache
def compiled(stack):
    """``(params, inputs, seq_lengths, carry, mask, reset) -> results``.

    The results are the carry and the outputs, and the gradients of the parameters, the
    inputs and the initial carry.
    """

    def run(params, inputs, seq_lengths=None, carry=None, mask=None, reset=None):
        def loss(params, inputs, carry):
            results = stack.apply(
                {"params": params}, inputs, seq_lengths, carry, mask=mask, reset=reset
            )
            leaves = jax.tree.leaves(results)
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in leaves), results

        argnums = (0, 2) if inputs.dtype == jnp.int32 else (0, 1, 2)
        grads, results = jax.grad(loss, argnums, has_aux=True)(params, inputs, carry)
        return results, grads

    return jax.jit(run)


def run(name, *args, **options):
    stack = STACKS[name].clone(**options) if options else STACKS[name]
    return compiled(stack)(params_of(name), *args)


@every_stack
@examples
@given(seq_lengths=lengths, seed=seeds, garbage=st.sampled_from([np.nan, np.inf, 1e30]))
def test_padding_has_no_effect(name, seq_lengths, seed, garbage):
    """Not on values, nor on gradients, nor by its own gradient; outputs there are 0."""
    inputs = normal(seed, BATCH, TIME, INPUTS)
    padding = np.arange(TIME) >= seq_lengths[:, None]
    dirty = np.where(padding[..., None], np.float32(garbage), inputs)
    clean = np.where(padding[..., None], np.float32(0), inputs)
    results, grads = run(name, dirty, seq_lengths, carry_of(name))
    assert_close((results, grads), run(name, clean, seq_lengths, carry_of(name)), 0.0)
    (_, ys), (_, grad_inputs, _) = results, grads
    assert not np.asarray(ys)[padding].any()
    assert not np.asarray(grad_inputs)[padding].any()


@every_stack
def test_length_0_gives_the_initial_carry(name):
    inputs, carry = normal(0, BATCH, TIME, INPUTS), carry_of(name)
    (last, ys), grads = run(name, inputs, np.array([0, 7, 0]), carry)
    for row in (0, 2):
        jax.tree.map(
            lambda a, b, row=row: np.testing.assert_array_equal(a[row], b[row]),
            last,
            carry,
        )
        assert not ys[row].any()
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@some_stacks
def test_no_steps_at_all(name):
    (carry, ys), _ = run(name, normal(0, BATCH, 0, INPUTS), None, carry_of(name))
    assert ys.shape == (BATCH, 0, 2 * carry_width(name))
    assert_close(carry, carry_of(name), 0.0)


def carry_width(name):
    return jax.tree.leaves(carry_of(name))[0].shape[-1]


@some_stacks
@examples
@given(seq_lengths=lengths, seed=seeds)
def test_more_padding_changes_nothing(name, seq_lengths, seed):
    inputs = normal(seed, BATCH, TIME, INPUTS)
    longer = np.pad(inputs, [(0, 0), (0, 2), (0, 0)], constant_values=np.nan)
    (carry, ys), _ = run(name, inputs, seq_lengths, carry_of(name))
    carry_2, ys_2 = forward(name)(longer, seq_lengths, carry_of(name))
    assert_close((carry_2, ys_2[:, :TIME]), (carry, ys))
    assert not ys_2[:, TIME:].any()


@functools.cache
def forward(name):
    variables = {"params": params_of(name)}
    return jax.jit(functools.partial(STACKS[name].apply, variables))


@functools.cache
def rows_of(name):
    """The same rows one by one, under vmap, and with two batch axes."""
    one = forward(name)

    def grid(inputs, seq_lengths, carry):
        args = jax.tree.map(lambda x: x.reshape(3, 1, *x.shape[1:]), (inputs, carry))
        results = one(args[0], seq_lengths.reshape(3, 1), args[1])
        return jax.tree.map(lambda x: x.reshape(3, *x.shape[2:]), results)

    return one, jax.jit(jax.vmap(one)), jax.jit(grid)


@some_stacks
@examples
@given(seq_lengths=lengths, seed=seeds)
def test_rows_are_independent(name, seq_lengths, seed):
    """One row, a batch, vmap over rows, two batch axes: the same numbers."""
    inputs, carry = normal(seed, BATCH, TIME, INPUTS), carry_of(name)
    batch, _ = run(name, inputs, seq_lengths, carry)
    one, vmapped, grid = rows_of(name)
    rows = [
        one(inputs[i], seq_lengths[i], jax.tree.map(lambda x, i=i: x[i], carry))
        for i in range(BATCH)
    ]
    assert_close(jax.tree.map(lambda *x: jnp.stack(x), *rows), batch)
    assert_close(vmapped(inputs, seq_lengths, carry), batch)
    assert_close(grid(inputs, seq_lengths, carry), batch)


@some_stacks
@examples
@given(seq_lengths=lengths, seed=seeds)
def test_tokens_are_one_hot_vectors(name, seq_lengths, seed):
    tokens = np.random.default_rng(seed).integers(0, VOCAB, (BATCH, TIME), np.int32)
    one_hot = np.eye(VOCAB, dtype=np.float32)[tokens]
    carry = carry_of(name)
    results, (grads, grad_carry) = run(name, tokens, seq_lengths, carry)
    expected, (grads_2, _, grad_carry_2) = run(name, one_hot, seq_lengths, carry)
    assert_close(results, expected)
    assert_close((grads, grad_carry), (grads_2, grad_carry_2), GRADIENTS)


def test_what_stands_in_padding_need_not_be_a_token():
    tokens = np.array([[1, 2, -7, 99]], np.int32)
    other = np.array([[1, 2, 0, 0]], np.int32)
    results = [
        STACKS["gru"].apply({"params": params_of("gru")}, t, np.array([2]))
        for t in (tokens, other)
    ]
    assert_close(*results, 0.0)


@pytest.mark.parametrize("name", ["gru", "lstm"])
@examples
@given(seq_lengths=lengths, seed=seeds, reset=st.booleans())
def test_both_paths_are_one(name, seq_lengths, seed, reset):
    """The stated derivative against the scan of the cell that JAX differentiates."""
    inputs = normal(seed, BATCH, TIME, INPUTS)
    resets = normal(seed + 1, BATCH, TIME) > (0.5 if reset else np.inf)
    args = (inputs, seq_lengths, carry_of(name), None, resets)
    results, grads = run(name, *args)
    results_2, grads_2 = run(name, *args, backend="reference")
    assert_close(results, results_2)
    assert_close(grads, grads_2, GRADIENTS)


def test_both_paths_give_the_same_gradients_of_every_example():
    name = "lstm"
    inputs, seq_lengths = normal(0, BATCH, TIME, INPUTS), np.array([4, 0, 7])

    def grads(backend):
        loss = functools.partial(loss_of, STACKS[name].clone(backend=backend))
        each = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))
        return jax.jit(each)(params_of(name), inputs, seq_lengths)

    assert_close(grads("scan"), grads("reference"), GRADIENTS)


def test_hessians():
    """Forward over reverse, through both paths."""
    cell = LSTMCell(2)
    inputs = normal(0, 3, 2)
    params = random_params(Recurrent(cell), inputs)

    def hessian(backend):
        def loss(kernel):
            hh = {**params["cell"]["hh"], "kernel": kernel}
            changed = {"cell": {**params["cell"], "hh": hh}}
            return loss_of(Recurrent(cell, backend=backend), changed, inputs)

        return jax.jit(jax.hessian(loss))(params["cell"]["hh"]["kernel"])

    assert_close(hessian("scan"), hessian("reference"), GRADIENTS)


@some_stacks
@pytest.mark.parametrize("reverse", [False, True])
def test_mask_with_holes(name, reverse, rng):
    """Holes and padding on the left: as if the steps were not there."""
    recurrent, params = one_direction(name, reverse)
    inputs = normal(0, 2, TIME, INPUTS)
    mask = np.array([[0, 1, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 1, 1]], bool)
    dirty = np.where(mask[..., None], inputs, np.nan)
    packed, packed_mask = np.zeros_like(inputs), np.zeros_like(mask)
    packed[:, :4] = np.stack(
        [row[real] for row, real in zip(inputs, mask, strict=True)]
    )
    packed_mask[:, :4] = True
    run = jax.jit(
        lambda inputs, mask: recurrent.apply({"params": params}, inputs, mask=mask)
    )
    carry, ys = run(dirty, mask)
    carry_2, ys_2 = run(packed, packed_mask)
    assert_close(carry, carry_2)
    assert_close(np.asarray(ys)[mask], np.asarray(ys_2)[packed_mask])
    assert not np.asarray(ys)[~mask].any()


def one_direction(name, reverse):
    stack = STACKS[name].clone(parent=None)
    return Recurrent(stack._cell(), reverse), params_of(name)["layer_0"]


@pytest.mark.parametrize(
    ("name", "backend"),
    [("gru", "scan"), ("gru", "reference"), ("projection", "scan")],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_reset_begins_a_new_sequence(name, reverse, backend, rng):
    """One row of three sequences and padding, against the three sequences."""
    recurrent, params = one_direction(name, reverse)
    recurrent = recurrent.clone(backend=backend)
    inputs = normal(0, TIME, INPUTS)
    parts = [(0, 2), (2, 3), (3, 6)]
    reset = np.zeros(TIME, bool)
    reset[[2, 3, 6]] = True  # that in the padding does nothing
    carry = jax.tree.map(lambda x: x[0], carry_of(name)[0])
    zeros = jax.tree.map(np.zeros_like, carry)
    run = jax.jit(
        lambda inputs, length, carry, reset: recurrent.apply(
            {"params": params}, inputs, length, carry, reset=reset
        )
    )
    last, ys = run(inputs, 6, carry, reset)
    first = len(parts) - 1 if reverse else 0
    carries, outputs = [], []
    for index, (begin, end) in enumerate(parts):
        part = np.roll(inputs, -begin, axis=0)
        start = carry if index == first else zeros
        part_last, part_ys = run(part, end - begin, start, np.zeros(TIME, bool))
        carries.append(part_last)
        outputs.append(part_ys[: end - begin])
    assert_close(ys[:6], jnp.concatenate(outputs))
    assert_close(last, carries[0 if reverse else -1])


@pytest.mark.parametrize(
    ("name", "reverse"), [("gru", False), ("gru", True), ("projection", True)]
)
def test_remat_changes_nothing_but_memory(name, reverse):
    """Seven steps are four chunks of two: one step too many."""
    recurrent, params = one_direction(name, reverse)
    inputs, carry = normal(0, BATCH, TIME, INPUTS), carry_of(name)[0]
    reset = normal(1, BATCH, TIME) > 0.5
    args = (params, inputs, np.array([4, 0, 7]), carry, None, reset)
    results, grads = compiled(recurrent)(*args)
    results_2, grads_2 = compiled(recurrent.clone(remat=True))(*args)
    assert_close(results_2, results)
    assert_close(grads_2, grads, GRADIENTS)


@pytest.mark.parametrize("time", [7, 9])
def test_remat_without_lengths(time):
    inputs = normal(0, BATCH, time, INPUTS)
    recurrent, params = one_direction("gru", False)
    results = [
        recurrent.clone(remat=remat).apply({"params": params}, inputs)
        for remat in (False, True)
    ]
    assert_close(*results)


@pytest.mark.parametrize("remat", [False, True])
def test_memory_of_the_backward_pass(remat):
    """16 times the steps: 16 times the memory, or 4 times with remat."""
    stack = LSTM(32, vocab_size=VOCAB, remat=remat)

    def last(params, tokens):
        (carry,), _ = stack.apply(params, tokens)
        return carry.h.sum()

    def memory(time):
        tokens = jax.ShapeDtypeStruct((4, time), jnp.int32)
        params = jax.eval_shape(stack.init, jax.random.key(0), tokens)
        program = jax.jit(jax.grad(last)).lower(params, tokens).compile()
        return program.memory_analysis().temp_size_in_bytes

    growth = memory(4096) / memory(256)
    assert growth < 5 if remat else growth > 12


@some_stacks
def test_step_by_step(name):
    """Streaming: a step at a time, with the same parameters and the same c."""
    stack = STACKS[name].clone(bidirectional=False, num_layers=2)
    inputs = normal(0, BATCH, TIME, INPUTS)
    variables = {"params": random_params(stack, inputs)}
    whole = jax.jit(functools.partial(stack.apply, mutable=["intermediates"]))
    step = jax.jit(functools.partial(stack.apply, method="step"))
    (last, ys), sown = whole(variables, inputs)
    carry, carries, outputs = None, [], []
    for x in inputs.swapaxes(0, 1):
        carry, y = step(variables, carry, x)
        carries.append(carry)
        outputs.append(y)
    assert_close(carry, last)
    assert_close(jnp.stack(outputs, axis=1), ys)
    every_carry = jax.tree.map(lambda *c: jnp.stack(c, axis=1), *carries)
    sown = [sown["intermediates"][f"layer_{i}"]["carries"][0] for i in range(2)]
    assert_close(tuple(sown), every_carry)


def test_step_of_one_token():
    stack = GRU(FEATURES, vocab_size=VOCAB)
    params = {"params": {"layer_0": params_of("gru")["layer_0"]}}
    carry, y = stack.apply(params, None, jnp.array(2), method="step")
    (expected,), _ = stack.apply(params, jnp.array([2]))
    assert_close((carry[0], y), (expected, expected))


def test_all_cell_states_are_zero_at_padding_and_end_in_the_carry():
    stack, inputs = STACKS["lstm"], normal(0, BATCH, TIME, INPUTS)
    (carry, ys), sown = stack.apply(
        {"params": params_of("lstm")},
        inputs,
        np.array([4, 0, 7]),
        mutable=["intermediates"],
    )
    forward, backward = (
        sown["intermediates"][name]["carries"][0] for name in stack.layer_names()
    )
    assert_close(jnp.concatenate([forward.h, backward.h], axis=-1), ys, 0.0)
    assert not forward.c[0, 4:].any() and not forward.c[1].any()
    assert_close(forward.c[[0, 2], [3, 6]], carry[0].c[jnp.array([0, 2])], 0.0)
    assert_close(backward.c[[0, 2], [0, 0]], carry[1].c[jnp.array([0, 2])], 0.0)


def test_flax_cells_run_too():
    """The same as in nn.RNN, where that is right: lengths above 0, one batch axis."""
    cell = nn.OptimizedLSTMCell(5)
    inputs, seq_lengths = normal(0, BATCH, TIME, INPUTS), np.array([4, 1, 7])
    ours, theirs = Recurrent(cell), nn.RNN(cell, return_carry=True)
    params = {"params": random_params(ours, inputs)}
    carry, ys = jax.jit(ours.apply)(params, inputs, seq_lengths)
    expected, expected_ys = jax.jit(theirs.apply)(
        params, inputs, seq_lengths=seq_lengths
    )
    real = (np.arange(TIME) < seq_lengths[:, None])[..., None]
    assert_close((carry, ys), (expected, expected_ys * real))


# Dropout


def dropped(rate, shape, **options):
    """What dropout makes of the ones between two layers."""
    stack = Elman(8, num_layers=2, dropout=rate, activation="identity", **options)
    inputs = jnp.ones((*shape, 1))
    params = jax.tree.map(np.zeros_like, random_params(stack, inputs))
    params["layer_0"]["cell"]["ih"]["bias"] = np.ones(8, np.float32)
    params["layer_1"]["cell"]["ih"]["kernel"] = np.eye(8, dtype=np.float32)
    run = jax.jit(functools.partial(stack.apply, deterministic=False))
    _, ys = run({"params": params}, inputs, rngs={"dropout": jax.random.key(1)})
    return np.asarray(ys)


def test_dropout_is_torchs():
    """Rate and scale; a fresh mask for every row, step and feature; none at the end."""
    ys = dropped(0.4, (20, 50))
    assert set(np.unique(ys.round(4))) == {0.0, np.float32(1.6667)}
    # Four standard errors of 8,000 draws.
    assert abs((ys == 0).mean() - 0.4) < 4 * (0.24 / ys.size) ** 0.5
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        assert (ys.std(axis=axis) > 0).mean() > 0.95, axis
        rates = (ys == 0).mean(axis=others)
        assert rates.std() < 4 * (0.24 * len(rates) / ys.size) ** 0.5


def test_variational_dropout_has_one_mask_for_a_sequence():
    ys = dropped(0.4, (20, 50), variational=True)
    assert not np.ptp(ys, axis=1).any()
    assert np.ptp(ys[:, 0], axis=0).all() and np.ptp(ys[:, 0], axis=1).mean() > 0.9


def test_dropout_is_off_by_default_and_without_a_second_layer():
    inputs = normal(0, BATCH, TIME, INPUTS)
    stack = STACKS["rnn"].clone(dropout=0.9)
    params = {"params": params_of("rnn")}
    plain = STACKS["rnn"].apply(params, inputs)
    key = {"dropout": jax.random.key(0)}
    one_layer = stack.apply(params, inputs, deterministic=False, rngs=key)
    assert_close(one_layer, plain, 0.0)


# bfloat16


@pytest.mark.parametrize(
    "cell",
    [
        ElmanCell(FEATURES, activation="relu"),
        GRUCell(FEATURES),
        LSTMCell(FEATURES),
        LSTMCell(FEATURES, projection=3),
        SumCell(FEATURES),
        LayerNormGRUCell(FEATURES),
    ],
    ids=lambda cell: type(cell).__name__,
)
def test_bfloat16(cell):
    """Products in bfloat16; everything else, gradients included, in float32."""
    recurrent, low = Recurrent(cell), Recurrent(cell.clone(dtype=jnp.bfloat16))
    inputs, seq_lengths = normal(0, BATCH, TIME, INPUTS), np.array([4, 0, 7])

    @jax.jit
    def run(params):
        def loss(params):
            results = low.apply({"params": params}, inputs, seq_lengths)
            return results[1].sum(), results

        grads, results = jax.grad(loss, has_aux=True)(params)
        exact = recurrent.apply({"params": params}, inputs, seq_lengths)
        return results, grads, exact

    results, grads, exact = run(random_params(recurrent, inputs))
    for leaf in jax.tree.leaves((results, grads)):
        assert leaf.dtype == jnp.float32 and jnp.isfinite(leaf).all()
    # bfloat16 has 8 bits: 2**-8 for a product, more through the steps.
    assert_close(results, exact, 0.03)
    assert not jnp.array_equal(results[1], exact[1])


# Transforms


def test_checkpoint():
    inputs, params = normal(0, BATCH, TIME, INPUTS), params_of("gru")
    loss = functools.partial(loss_of, STACKS["gru"])
    grads = [jax.jit(jax.grad(f))(params, inputs) for f in (loss, jax.checkpoint(loss))]
    assert_close(*grads, GRADIENTS)


def test_export_with_any_number_of_rows():
    stack, params = STACKS["gru"], params_of("gru")
    (rows,) = export.symbolic_shape("rows")
    inputs = jax.ShapeDtypeStruct((rows, TIME, INPUTS), jnp.float32)
    seq_lengths = jax.ShapeDtypeStruct((rows,), jnp.int32)
    run = jax.jit(lambda *args: stack.apply({"params": params}, *args))
    exported = export.export(run)(inputs, seq_lengths)
    for batch in (1, 3):
        args = normal(0, batch, TIME, INPUTS), np.full(batch, 4, np.int32)
        assert_close(tuple(exported.call(*args)), run(*args))


def test_bridge_to_nnx():
    inputs = normal(0, BATCH, TIME, INPUTS)
    bridged = nnx.bridge.ToNNX(STACKS["lstm"].clone(parent=None), rngs=nnx.Rngs(0))
    nnx.bridge.lazy_init(bridged, inputs)
    carry, ys = bridged(inputs, np.array([4, 0, 7]))
    params = nnx.to_pure_dict(nnx.state(bridged, nnx.Param))
    assert jax.tree.structure(params) == jax.tree.structure(params_of("lstm"))
    expected = STACKS["lstm"].apply({"params": params}, inputs, np.array([4, 0, 7]))
    assert_close((carry, ys), expected)


# Initialisation


def test_every_weight_begins_as_in_torch():
    """U(-1/sqrt(features), 1/sqrt(features)), biases included."""
    stack = LSTM(64, num_layers=2, projection=16)
    params = jax.jit(stack.init)(jax.random.key(0), normal(0, 1, 9))
    for leaf in jax.tree.leaves(jax.device_get(params)):
        assert np.abs(leaf).max() <= 1 / 8
        # Four standard errors, at most, of the standard deviation.
        assert abs(leaf.std() * 8 * 3**0.5 - 1) < 4 / leaf.size**0.5


def test_initialisers_reach_every_layer():
    orthogonal = per_gate(*[nn.initializers.orthogonal()] * 3)
    stack = GRU(
        4,
        num_layers=2,
        bidirectional=True,
        ih_init=nn.initializers.ones,
        hh_init=orthogonal,
        bias_init=nn.initializers.zeros,
    )
    params = jax.jit(stack.init)(jax.random.key(0), normal(0, 1, 3))["params"]
    params = jax.device_get(params)
    assert set(params) == set(stack.layer_names())
    for layer in params.values():
        cell = layer["cell"]
        assert (cell["ih"]["kernel"] == 1).all()
        assert not cell["ih"]["bias"].any() and not cell["hh"]["bias"].any()
        for gate in np.split(cell["hh"]["kernel"], 3, axis=-1):
            np.testing.assert_allclose(gate @ gate.T, np.eye(4), atol=1e-5)


def test_the_projection_has_its_own_initialiser():
    stack = LSTM(4, projection=2, hr_init=nn.initializers.ones)
    params = jax.jit(stack.init)(jax.random.key(0), normal(0, 1, 3))["params"]
    assert (np.asarray(params["layer_0"]["cell"]["hr"]["kernel"]) == 1).all()


def test_gates_that_do_not_share():
    with pytest.raises(ValueError, match="a last axis of 12 cannot be shared among 5"):
        per_gate(*[nn.initializers.zeros] * 5)(jax.random.key(0), (4, 12))


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seq_lengths": np.ones(4)}, r"seq_lengths has shape \(4,\); expected \(3,\)"),
        ({"mask": np.ones((3, 6))}, r"mask has shape \(3, 6\); expected \(3, 7\)"),
        ({"reset": np.ones(7)}, r"reset has shape \(7,\); expected \(3, 7\)"),
        ({"initial_carry": (None,)}, "1 entries; expected 2: layer_0, layer_0_reverse"),
        (
            {"initial_carry": (np.ones((3, 4)), None)},
            r"initial_carry has shapes \(3, 4\); expected \(3, 5\)",
        ),
    ],
)
def test_shapes_that_do_not_agree(arguments, message):
    with pytest.raises(ValueError, match=message):
        STACKS["gru"].apply(
            {"params": params_of("gru")}, normal(0, BATCH, TIME, INPUTS), **arguments
        )


def test_a_carry_of_another_kind():
    pair = np.zeros((2, BATCH, FEATURES))
    with pytest.raises(ValueError, match=r"expected LSTMCarry\(h=\(3, 5\)"):
        STACKS["lstm"].apply(
            {"params": params_of("lstm")},
            normal(0, BATCH, TIME, INPUTS),
            initial_carry=(tuple(pair), tuple(pair)),
        )


def test_a_carry_in_another_type_is_converted():
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), carry_of("lstm"))
    assert isinstance(low[0], LSTMCarry)
    carry, _ = STACKS["lstm"].apply(
        {"params": params_of("lstm")}, normal(0, BATCH, TIME, INPUTS), None, low
    )
    assert carry[0].c.dtype == jnp.float32


def test_no_single_step_both_ways():
    with pytest.raises(ValueError, match="a bidirectional stack has no single step"):
        STACKS["gru"].apply(
            {"params": params_of("gru")}, None, jnp.ones((3, 4)), method="step"
        )


def test_tokens_without_a_vocabulary():
    with pytest.raises(ValueError, match="tokens .* set vocab_size"):
        GRU(5).init(jax.random.key(0), jnp.zeros((2, 3), jnp.int32))


def test_an_activation_that_is_not_known():
    with pytest.raises(ValueError, match="activation is 'gelu'; expected one of tanh"):
        Recurrent(ElmanCell(5, activation="gelu")).init(
            jax.random.key(0), jnp.ones((2, 3))
        )
