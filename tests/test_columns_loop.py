"""The loop by columns, for wide layers on a CPU, gives what plain scans give."""

import functools
import operator
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import ElmanCell, GRUCell, LSTMCarry, LSTMCell, Recurrent, SumCell
from rnnjax.loops import columns as columns_loop
from tests.helpers import (
    AS_USERS,
    assert_close,
    normal,
    random_params,
    results_and_gradients,
)

TIME, INPUTS, FEATURES, VOCAB = 4, 3, 6, 5
VALUES, GRADIENTS = 1e-5, 1e-4
LENGTHS = np.array([2, 0, 4, 3, 1], np.int32)
RESET = np.array(
    [[0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [0] * 4, [1, 0, 0, 0]], bool
)
CELLS = {
    "elman": ElmanCell(FEATURES, vocab_size=VOCAB),
    "gru": GRUCell(FEATURES, vocab_size=VOCAB),
    "lstm": LSTMCell(FEATURES, vocab_size=VOCAB),
}


@pytest.fixture
def small(monkeypatch):
    """Small layers run by columns; whether they did is what this counts."""
    for name in ("FEWEST_WEIGHTS", "FEWEST_ROWS", "FEWEST_STEPS"):
        monkeypatch.setattr(columns_loop, name, 1)
    calls, recurrence = [], columns_loop._recurrence

    def counted(*args):
        calls.append(args)
        return recurrence(*args)

    monkeypatch.setattr(columns_loop, "_recurrence", counted)
    return calls


def assert_as_reference(recurrent, calls, *args, gradients=GRADIENTS, **masks):
    """Compare with ``nn.scan`` over the same cell."""
    reference = recurrent.clone(backend="reference")
    expected = results_and_gradients(reference, *args, **masks)
    assert not calls
    out, grads = results_and_gradients(recurrent, *args, **masks)
    assert calls
    assert_close(out, expected[0], VALUES)
    assert_close(grads, expected[1], gradients)


@pytest.mark.parametrize(
    ("name", "reverse"), [("elman", True), ("gru", False), ("lstm", True)]
)
def test_padded_vectors(name, reverse, small):
    inputs = normal(0, len(LENGTHS), TIME, INPUTS)
    recurrent = Recurrent(CELLS[name], reverse=reverse)
    assert_as_reference(recurrent, small, inputs, LENGTHS)


@pytest.mark.parametrize("cell", [CELLS["lstm"], SumCell(FEATURES, vocab_size=VOCAB)])
def test_tokens_with_resets_and_holes(cell, small):
    """One token stands for the zero vector."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(-1, VOCAB, (len(LENGTHS), TIME), dtype=np.int32)
    assert (tokens == -1).any()
    mask = rng.random(tokens.shape) < 0.7
    assert_as_reference(Recurrent(cell), small, tokens, reset=RESET, mask=mask)


def test_two_axes_of_rows_without_biases_in_pieces(small):
    cell = GRUCell(FEATURES, use_bias=False)
    inputs = normal(0, 2, 3, TIME, INPUTS)
    assert_as_reference(Recurrent(cell, remat=True), small, inputs)


def test_bfloat16(small):
    """The products alone are rounded, in both alike; backward at other places."""
    inputs = normal(0, len(LENGTHS), TIME, INPUTS)
    recurrent = Recurrent(LSTMCell(FEATURES, dtype=jnp.bfloat16))
    assert_as_reference(recurrent, small, inputs, LENGTHS, gradients=0.02)


def test_each_with_weights_of_its_own_under_vmap(small):
    recurrent, inputs = Recurrent(CELLS["gru"]), normal(0, 2, 7, TIME, INPUTS)
    params = random_params(recurrent, inputs[0])
    params = jax.tree.map(lambda x: normal(1, 2, *x.shape), params)

    def loss(params, inputs):
        return jnp.sin(recurrent.apply({"params": params}, inputs)[1]).sum()

    gradient = jax.grad(loss, (0, 1))
    grads = jax.jit(jax.vmap(gradient))(params, inputs)
    assert small
    one_by_one = [
        jax.jit(gradient)(*jax.tree.map(operator.itemgetter(i), (params, inputs)))
        for i in range(2)
    ]
    assert_close(grads, jax.tree.map(lambda *xs: np.stack(xs), *one_by_one), GRADIENTS)


def test_forward_mode_and_second_derivatives(small):
    inputs = normal(0, len(LENGTHS), TIME, INPUTS)
    params = random_params(Recurrent(CELLS["lstm"]), inputs)
    direction = jax.tree.map(lambda x: normal(1, *x.shape), params)
    small.clear()

    def products(backend):
        recurrent = Recurrent(CELLS["lstm"], backend=backend)

        def loss(params):
            _, ys = recurrent.apply({"params": params}, inputs, LENGTHS)
            return jnp.sin(ys).sum()

        both = functools.partial(jax.jvp, jax.value_and_grad(loss))
        return jax.jit(both)([params], [direction])

    expected = products("reference")
    assert not small
    assert_close(products("scan"), expected, GRADIENTS)
    assert small


@pytest.mark.filterwarnings("ignore:backend 'cudnn':UserWarning")
def test_where_it_applies():
    """To wide layers, several rows, enough steps; not to many tokens or a look inside."""

    def applies(features, shape, vocab_size=None, backend="scan", **collections):
        cell = LSTMCell(features, vocab_size=vocab_size)
        recurrent = Recurrent(cell, backend=backend)
        dtype = jnp.float32 if vocab_size is None else jnp.int32
        inputs = jax.ShapeDtypeStruct(shape, dtype)
        params = jax.eval_shape(recurrent.init, jax.random.key(0), inputs)
        program = jax.make_jaxpr(recurrent.apply)(params | collections, inputs)
        return "platform_index" in str(program)

    assert applies(512, (4, 8, 3))
    assert applies(512, (2, 2, 8, 3))
    assert applies(512, (4, 8, 3), backend="cudnn")  # Which a CPU has not.
    assert not applies(512, (4, 8, 3), backend="reference")
    assert not applies(511, (4, 8, 3))
    assert not applies(512, (3, 8, 3))
    assert not applies(512, (8, 3))
    assert not applies(512, (4, 7, 3))
    assert applies(512, (4, 8), vocab_size=512)
    assert not applies(512, (4, 8), vocab_size=513)
    perturbation = jax.ShapeDtypeStruct((4, 8, 512), jnp.float32)
    perturbations = {"carries": LSTMCarry(perturbation, perturbation)}
    assert not applies(512, (4, 8, 3), perturbations=perturbations)


def lowered_gradient(platform):
    """That of a GRU on a batch of 7."""
    recurrent = Recurrent(CELLS["gru"])
    inputs = jax.ShapeDtypeStruct((7, TIME, INPUTS), jnp.float32)
    params = jax.eval_shape(recurrent.init, jax.random.key(0), inputs)

    def loss(params, inputs):
        return jnp.sin(recurrent.apply(params, inputs)[1]).sum()

    traced = jax.jit(jax.grad(loss)).trace(params, inputs)
    return traced.lower(lowering_platforms=(platform,))


@pytest.mark.usefixtures("small")
def test_a_cpu_multiplies_by_columns_and_others_by_rows():
    """Forward and backward; the choice is that of the device compiled for."""
    program = lowered_gradient("cpu").compile(AS_USERS).as_text()
    on_cpu = set(re.findall(r"= f32\[(\d+,\d+)\]\S* dot\(", program))
    assert {f"{3 * FEATURES},7", f"{FEATURES},7"} <= on_cpu
    assert not {f"7,{3 * FEATURES}", f"7,{FEATURES}"} & on_cpu
    program = lowered_gradient("tpu").as_text()
    on_tpu = set(re.findall(r"dot_general.*-> tensor<(\d+x\d+)xf32>", program))
    assert {f"7x{3 * FEATURES}", f"7x{FEATURES}"} <= on_tpu
    assert f"{3 * FEATURES}x7" not in on_tpu
