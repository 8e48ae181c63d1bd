"""Every names model of the lessons against PyTorch: values, gradients, training.

PyTorch's figures are kept in tests/reference; where torch is installed, the same
comparison also runs on references made on the spot from another seed.
"""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import from_torch, to_torch
from tests.helpers import AS_USERS
from train.names.batches import Batches
from train.names.settings import SETTINGS
from train.names.task import make_optimizer
from train.names.update import State, Trainer, double_softmax
from train.recipes import build_model

REFERENCE = Path(__file__).parent / "reference"
CASES = [case for case in SETTINGS if case[0] != "best"]
LIVE_SEED = 20261122


def kept(recipe, model):
    with np.load(REFERENCE / f"{recipe}_{model}.npz") as file:
        return dict(file)


@functools.cache
def live(recipe, model):
    # One thread: these matrices are too small to share.
    pytest.importorskip("torch").set_num_threads(1)
    from tests.reference.make_references import make_reference

    return make_reference(recipe, model, seed=LIVE_SEED)


@pytest.fixture(params=[kept, live], ids=["kept", "live"])
def source(request):
    return request.param


def part(reference, prefix):
    prefix += "/"
    return {
        name.removeprefix(prefix): array
        for name, array in reference.items()
        if name.startswith(prefix) and not name.startswith(f"{prefix}bn.")
    }


@functools.cache
def trainer_of(recipe, model):
    """The recipe's own trainer, at the size of the reference."""
    reference = kept(recipe, model)
    sizes = json.loads(str(reference["sizes"]))
    if recipe == "binary":
        # The reference's hand-made network is as wide before its last layer.
        sizes["mlp_size"] = sizes.pop("head_size", sizes["hidden_size"])
    settings = dataclasses.replace(
        SETTINGS[recipe, model], learning_rate=float(reference["learning_rate"])
    )
    if "clip" in reference:
        assert settings.clip == reference["clip"]
    # An initial carry that the reference gives is handed in like a kept one.
    carry = "kept" if settings.carry != "zeros" else "zeros"
    return Trainer(
        build_model(recipe, model, **sizes),
        make_optimizer(settings, updates_per_epoch=1),
        settings.loss,
        carry,
        (reference["tokens"].shape[-1],),
    )


@functools.partial(jax.jit, static_argnames="trainer", compiler_options=AS_USERS)
def train(state, batches, carries, *, trainer):
    """All updates in one call; ``carries`` replace the state's own if there are any."""

    def step(state, xs):
        batch, carry = xs
        state = state if carry is None else state._replace(carry=carry)
        state, metrics = trainer.update(state, batch, jnp.array(0))
        return state, metrics.loss

    return jax.lax.scan(step, state, (batches, carries))


@functools.partial(jax.jit, static_argnames="trainer")
def gradients(params, batch, carry, *, trainer):
    def loss(params):
        logits, last = trainer.apply(params, batch.tokens, batch.seq_lengths, carry, {})
        return trainer.loss(logits, batch.labels).mean(), (logits, last)

    return jax.grad(loss, has_aux=True)(params)


@pytest.fixture(params=CASES, ids="-".join)
def case(request, source):
    recipe, model = request.param
    return trainer_of(recipe, model), source(recipe, model)


def start(trainer, reference):
    params = from_torch(trainer.model, part(reference, "init"))
    state = State(
        params, trainer.tx.init(params), None, jnp.array(0), jax.random.key(0)
    )
    return trainer.fresh_carry(state, batch_size=reference["tokens"].shape[1])


def batches_of(reference):
    return Batches(
        reference["tokens"], reference["seq_lengths"], reference["labels"], None
    )


def assert_state_dicts_close(given, expected, **tolerance):
    assert given.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(given[name], array, err_msg=name, **tolerance)


def test_logits_and_gradients(case):
    trainer, reference = case
    state = start(trainer, reference)
    batch = Batches(*(None if a is None else a[0] for a in batches_of(reference)))
    carry = state.carry
    if "initial_carry" in reference:
        carry = reference["initial_carry"][0]
    grads, (logits, last) = gradients(state.params, batch, carry, trainer=trainer)
    np.testing.assert_allclose(logits, reference["logits"], rtol=1e-5, atol=1e-6)
    assert_state_dicts_close(
        to_torch(trainer.model, grads), part(reference, "grads"), rtol=1e-4, atol=1e-5
    )
    if "carry_out/first" in reference:
        expected = reference["carry_out/first"]
        np.testing.assert_allclose(np.stack(last), expected, rtol=1e-5, atol=1e-6)


def test_training_takes_the_same_way(case):
    trainer, reference = case
    state, losses = train(
        start(trainer, reference),
        batches_of(reference),
        reference.get("initial_carry"),
        trainer=trainer,
    )
    assert len(losses) >= 200
    np.testing.assert_allclose(losses, reference["losses"], rtol=1e-4)
    assert_state_dicts_close(
        to_torch(trainer.model, state.params),
        part(reference, "final"),
        rtol=0,
        atol=1e-4,
    )


def test_attention_weights(source):
    trainer, reference = (
        trainer_of("workshop", "attention"),
        source("workshop", "attention"),
    )
    params = from_torch(trainer.model, part(reference, "init"))
    _, sown = trainer.model.apply(
        {"params": params},
        reference["tokens"][0],
        reference["seq_lengths"][0],
        mutable=["intermediates"],
    )
    (weights,) = sown["intermediates"]["attention"]
    np.testing.assert_allclose(weights, reference["attention"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("recipe", "model"), CASES)
def test_state_dict_goes_round(recipe, model):
    trainer, reference = trainer_of(recipe, model), kept(recipe, model)
    state_dict = part(reference, "init")
    params = from_torch(trainer.model, state_dict)
    back = to_torch(trainer.model, params)
    assert list(back) == list(state_dict)
    for name, array in state_dict.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_unused_entries_of_the_binary_lesson_are_named():
    reference = kept("binary", "linear")
    state_dict = {
        name.removeprefix("init/"): array
        for name, array in reference.items()
        if name.startswith("init/")
    }
    assert "bn.running_mean" in state_dict
    with pytest.warns(UserWarning, match=r"bn\.weight.* not used"):
        from_torch(trainer_of("binary", "linear").model, state_dict)


def test_double_softmax_has_a_floor():
    loss = double_softmax(jnp.array([50.0, -50.0]), jnp.array(0))
    np.testing.assert_allclose(loss, np.log(1 + np.exp(-1)), rtol=1e-6)
