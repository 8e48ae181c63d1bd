"""Many updates in one compiled call."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnjax.lessons import AttentionClassifier, DropoutClassifier
from tests.helpers import AS_USERS
from train.forward import random_carry
from train.names import batches as plans
from train.names.update import State, Trainer, cross_entropy
from train.runs.guards import is_finite, not_finite, skip_large_gradients, skipped

VOCAB, CLASSES, BATCH, TIME = 7, 4, 3, 9


def draw(rng, num, time=TIME, longest=TIME):
    seq_lengths = rng.integers(1, longest, size=(num, BATCH), endpoint=True)
    return plans.Batches(
        tokens=rng.integers(VOCAB, size=(num, BATCH, time)).astype(np.int32),
        seq_lengths=seq_lengths.astype(np.int32),
        labels=rng.integers(CLASSES, size=(num, BATCH)).astype(np.int32),
        buckets=np.zeros(num, np.int32),
    )


def trainer(widths):
    model = AttentionClassifier(VOCAB, 5, CLASSES)
    return Trainer(model, optax.sgd(0.1), cross_entropy, "zeros", widths)


def run(trainer, batches, num=None, replicas=False):
    state = trainer.init(jax.random.key(3), BATCH)
    num = batches.num_batches if num is None else num
    go = jax.jit(trainer.run, static_argnames="replicas")
    return go(state, batches, num, replicas=replicas)


def test_buckets_change_nothing(rng):
    batches = draw(rng, 6)
    widths = (3, 6, TIME)
    longest = batches.seq_lengths.max(axis=1)
    bucketed = batches._replace(buckets=plans.bucket_of(longest, widths))
    assert len(set(bucketed.buckets.tolist())) > 1
    state, metrics, _ = run(trainer((TIME,)), batches)
    other_state, other_metrics, _ = run(trainer(widths), bucketed)
    np.testing.assert_allclose(metrics.loss, other_metrics.loss, rtol=1e-5)
    for one, other in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(other_state.params), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_only_the_wanted_number_of_updates_is_made(rng):
    batches = draw(rng, 6)
    state, metrics, good = run(trainer((TIME,)), batches, num=4)
    assert good
    assert int(state.step) == 4
    assert (metrics.count[:4] == BATCH).all()
    assert (metrics.loss[4:] == 0).all()


def test_absent_rows_have_no_effect(rng):
    batches = draw(rng, 5)
    labels = batches.labels.copy()
    labels[:, -1] = plans.ABSENT
    lengths = batches.seq_lengths.copy()
    lengths[:, -1] = 0
    absent = batches._replace(labels=labels, seq_lengths=lengths)
    other = absent._replace(tokens=np.where(labels[..., None] < 0, 5, batches.tokens))
    state, metrics, _ = run(trainer((TIME,)), absent)
    same, *_ = run(trainer((TIME,)), other)
    assert (metrics.count == BATCH - 1).all()
    jax.tree.map(np.testing.assert_array_equal, state.params, same.params)

    def loss(params):
        logits = state_model.apply(
            {"params": params}, batches.tokens[0, :2], batches.seq_lengths[0, :2]
        )
        return cross_entropy(logits, batches.labels[0, :2]).mean()

    state_model = trainer((TIME,)).model
    start = trainer((TIME,)).init(jax.random.key(3), BATCH)
    np.testing.assert_allclose(metrics.loss[0], loss(start.params), rtol=1e-5)


def test_replicas_are_the_single_runs(rng):
    parts = [draw(rng, 4), draw(rng, 4)]
    one = trainer((TIME,))
    keys = jax.random.split(jax.random.key(0), 2)
    states = [one.init(key, BATCH) for key in keys]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    joined = plans.join_replicas(parts)
    _, metrics, _ = jax.jit(one.run, static_argnames="replicas")(
        stacked, joined, 4, replicas=True
    )
    for index, (state, batches) in enumerate(zip(states, parts, strict=True)):
        _, alone, _ = jax.jit(one.run, static_argnames="replicas")(
            state, batches, 4, replicas=False
        )
        np.testing.assert_allclose(metrics.loss[:, index], alone.loss, rtol=1e-5)


def test_a_kept_carry_is_handed_on_without_its_gradient(rng):
    model = DropoutClassifier(
        VOCAB, 5, CLASSES, max_length=TIME, mlp_size=6, dropout=0.0
    )
    one = Trainer(model, optax.sgd(0.1), cross_entropy, "kept", (TIME,))
    batches = draw(rng, 2)
    start = one.init(jax.random.key(0), BATCH)
    state, metrics, _ = run_from(one, start, batches)
    middle, *_ = run_from(one, start, first(batches))
    logits, last = one.apply(
        middle.params, batches.tokens[1], batches.seq_lengths[1], middle.carry, {}
    )
    loss = cross_entropy(logits, batches.labels[1]).mean()
    np.testing.assert_allclose(metrics.loss[1], loss, rtol=1e-5)
    for given, expected in zip(state.carry, last, strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)
    assert all((carry == 0).all() for carry in one.fresh_carry(state, BATCH).carry)


def first(batches):
    return plans.Batches(*(array[:1] for array in batches))


def run_from(trainer, state, batches):
    go = jax.jit(trainer.run, static_argnames="replicas")
    return go(state, batches, batches.num_batches, replicas=False)


@pytest.mark.parametrize("replicas", [False, True])
def test_it_ends_with_the_update_whose_loss_is_not_finite(replicas, rng):
    """One replica's is enough."""
    one = trainer((TIME,))
    poisoned = one._replace(loss=poisoned_loss)
    batches = draw(rng, 6)
    batches.labels[:] = 0
    if replicas:
        batches = plans.join_replicas([batches, batches])
    # A name of the fourth update, of the last replica.
    batches.labels[3].flat[-1] = 1
    state = start_of(poisoned, replicas)
    go = jax.jit(poisoned.run, static_argnames="replicas")
    state, metrics, good = go(state, batches, 6, replicas=replicas)
    assert not good
    assert (np.asarray(state.step) == 4).all()
    assert np.isfinite(metrics.loss[:3]).all()
    assert np.isnan(metrics.loss[3]).sum() == 1
    assert (metrics.loss[4:] == 0).all()
    state, metrics, good = go(
        start_of(poisoned, replicas), batches, 3, replicas=replicas
    )
    assert good


def start_of(one, replicas):
    states = [one.init(jax.random.key(seed), BATCH) for seed in range(2)]
    return jax.tree.map(lambda *x: jnp.stack(x), *states) if replicas else states[0]


def poisoned_loss(logits, labels):
    return cross_entropy(logits, labels) + jnp.where(labels == 1, jnp.nan, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_it_ends_with_the_update_that_makes_a_parameter_not_finite(value, rng):
    """Even where the losses stay finite: a row that no name uses."""
    one = trainer((TIME,))
    break_ = optax.stateless(
        lambda updates, _: jax.tree.map(lambda u: u.at[..., 0].set(value), updates)
    )
    odd = one._replace(tx=optax.chain(optax.sgd(0.1), at_step(2, break_)))
    state, metrics, good = run(odd, draw(rng, 6))
    assert not good
    assert int(state.step) == 3
    assert np.isfinite(metrics.loss).all()
    error = not_finite(state.params, metrics.loss[2], 3, 0)
    path, _ = jax.tree.leaves_with_path(state.params)[0]
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    assert str(error) == (
        f"the parameter {name} is not finite after update 3 (loss "
        f"{metrics.loss[2]:.4g}); the newest checkpoint, update 0, is good; try a "
        "smaller --learning-rate"
    )


def at_step(step, tx):
    """A transformation that is applied in one update alone."""
    return optax.conditionally_transform(tx, lambda count: count == step)


def test_is_finite(rng):
    """Compiled, wherever the bad number is; the largest and smallest numbers are good."""
    check = jax.jit(is_finite, compiler_options=AS_USERS)
    shapes = {"a": (), "b": (5,), "c": (3, 4), "d": (2, 3, 4), "e": (300, 70)}
    limits = np.finfo(np.float32)
    good = {
        name: np.where(rng.random(shape) < 0.5, limits.max, -limits.max).astype("f")
        for name, shape in shapes.items()
    }
    good["f"] = np.array([limits.smallest_subnormal, 0, -0.0], np.float32)
    assert check(good) and is_finite(good)
    for name, leaf in good.items():
        for bad in (np.nan, -np.nan, np.inf, -np.inf):
            for place in {0, leaf.size // 2, leaf.size - 1}:
                spoilt = leaf.copy()
                spoilt.flat[place] = bad
                assert not check(good | {name: spoilt}), (name, bad, place)
    assert not is_finite(good | {"e": spoilt})


def test_updates_with_large_gradients_are_left_out_and_counted():
    tx = skip_large_gradients(optax.adam(0.1), 5.0)
    plain = optax.adam(0.1)
    params = {"a": jnp.zeros(2)}
    state, plain_state, other = tx.init(params), plain.init(params), params
    for step, size in enumerate((1.0, 3.0, 300.0, 2.0, jnp.inf), 1):
        grads = {"a": jnp.array([size, -size])}
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        if size < 5:
            updates, plain_state = plain.update(grads, plain_state, other)
            other = optax.apply_updates(other, updates)
        np.testing.assert_allclose(params["a"], other["a"], rtol=1e-6)
    whole = State(params, state, None, jnp.array(step), None)
    assert skipped(whole) == {"skipped_updates": 2}
    assert skipped(whole._replace(opt_state=plain_state)) == {}


def test_random_carry_has_the_bound_of_kaiming_uniform():
    carry = random_carry(jax.random.key(0), 400, 24)
    bound = (6 / 24) ** 0.5
    assert 0.99 * bound < float(jnp.abs(carry).max()) <= bound
    assert float(carry.std()) == pytest.approx(bound / 3**0.5, rel=0.02)
