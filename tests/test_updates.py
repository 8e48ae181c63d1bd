"""Many updates in one compiled call."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnjax.models import AttentionClassifier, DropoutClassifier
from train import batches as plans
from train.updates import Trainer, cross_entropy, random_carry

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
    state, metrics = run(trainer((TIME,)), batches)
    other_state, other_metrics = run(trainer(widths), bucketed)
    np.testing.assert_allclose(metrics.loss, other_metrics.loss, rtol=1e-5)
    for one, other in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(other_state.params), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_only_the_wanted_number_of_updates_is_made(rng):
    batches = draw(rng, 6)
    state, metrics = run(trainer((TIME,)), batches, num=4)
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
    state, metrics = run(trainer((TIME,)), absent)
    same, _ = run(trainer((TIME,)), other)
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
    _, metrics = jax.jit(one.run, static_argnames="replicas")(
        stacked, joined, 4, replicas=True
    )
    for index, (state, batches) in enumerate(zip(states, parts, strict=True)):
        _, alone = jax.jit(one.run, static_argnames="replicas")(
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
    state, metrics = run_from(one, start, batches)
    middle, _ = run_from(one, start, first(batches))
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


def test_random_carry_has_the_bound_of_kaiming_uniform():
    carry = random_carry(jax.random.key(0), 400, 24)
    bound = (6 / 24) ** 0.5
    assert 0.99 * bound < float(jnp.abs(carry).max()) <= bound
    assert float(carry.std()) == pytest.approx(bound / 3**0.5, rel=0.02)
