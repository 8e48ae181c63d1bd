"""Stacks against what ``torch.nn`` made of the same cases; torch is not needed.

``reference/make_layers.py`` made the file. Where torch is installed, it makes more.
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnjax import from_torch, length_mask, to_torch
from tests.helpers import AS_USERS, assert_matches, error, make_stack, under
from train.runs import optimizers

with np.load(Path(__file__).parent / "reference" / "layers.npz") as file:
    ARRAYS = dict(file)
CASES = json.loads(str(ARRAYS["cases"]))


def is_compiled(num_layers, bidirectional=False, use_bias=True, **_):
    """Compiling takes the time of these tests: every pair of options is enough.

    Of three layers, those that have everything.
    """
    if num_layers == 3:
        return bidirectional and use_bias
    return use_bias == (num_layers == 1) ^ bidirectional


COMPILED = [name for name, arguments in CASES.items() if is_compiled(**arguments)]
TRAJECTORIES = json.loads(str(ARRAYS["trajectories"]))


@pytest.mark.parametrize("name", COMPILED)
def test_values_and_gradients(name):
    check(CASES[name], under(name, ARRAYS))


def check(arguments, case):
    """Compare with PyTorch's; stacks of three layers as users compile them."""
    stack = make_stack(**arguments)
    assert_matches(stack, case, as_users=stack.num_layers == 3)


# 3 * 80 cases, here because these stacks are compiled here.
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")
@settings(max_examples=80, deadline=None, database=None)
@given(data=st.data())
def test_random_cases(kind, data):
    pytest.importorskip("torch").set_num_threads(1)
    from tests.torch_layers import make_case

    names = [name for name in COMPILED if CASES[name]["kind"] == kind]
    arguments = CASES[data.draw(st.sampled_from(names))]
    lengths = st.integers(1, arguments["time"])
    batch = arguments["batch"]
    drawn = {
        "seq_lengths": st.none() | st.lists(lengths, min_size=batch, max_size=batch),
        "initial_carry": st.booleans(),
        "seed": st.integers(0, 2**32 - 1),
    }
    case = make_case(**arguments | data.draw(st.fixed_dictionaries(drawn)))
    check(arguments, case)


@pytest.mark.parametrize("name", CASES)
def test_weights_make_the_round_trip_bit_for_bit(name):
    stack, weights = make_stack(**CASES[name]), under(f"{name}/weights", ARRAYS)
    back = to_torch(stack, from_torch(stack, weights))
    assert list(back) == list(weights)
    for key in weights:
        np.testing.assert_array_equal(back[key], weights[key], strict=True)


OPTIMISERS = {
    "adam": lambda lr: optimizers.adam(lr),
    "sgd": lambda lr, momentum: optax.sgd(lr, momentum),
}


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_training(name):
    arguments, arrays = TRAJECTORIES[name], under(name, ARRAYS)
    stack = make_stack(**arguments)
    optimiser = OPTIMISERS[arguments["optimiser"]](**arguments["optimiser_options"])
    tx = optax.chain(optimizers.clip_by_norm(arguments["clip"]), optimiser)
    inputs, targets, seq_lengths = (
        jnp.asarray(arrays[key]) for key in ("inputs", "targets", "seq_lengths")
    )
    mask = length_mask(seq_lengths, inputs.shape[1])[..., None]

    def loss_fn(params):
        _, ys = stack.apply({"params": params}, inputs, seq_lengths)
        return jnp.sum((ys - targets) ** 2 * mask) / (mask.sum() * targets.shape[-1])

    def update(params_and_state, _):
        params, opt_state = params_and_state
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        return (params, opt_state), (loss, optax.tree.norm(grads))

    params = from_torch(stack, under("init", arrays))
    scan = functools.partial(jax.lax.scan, update, length=arguments["updates"])
    (params, _), (losses, norms) = jax.jit(scan, compiler_options=AS_USERS)(
        (params, tx.init(params))
    )

    assert len(losses) == 100
    np.testing.assert_allclose(losses, arrays["losses"], rtol=1e-5)
    np.testing.assert_allclose(norms, arrays["grad_norms"], rtol=1e-3)
    final = to_torch(stack, params)
    for key, expected in under("final", arrays).items():
        assert error(final[key], expected) <= 1e-3, key
