"""Attention: against the formulas, at the edges, and inside a scanned decoder."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import (
    AdditiveAttention,
    AttentionPooling,
    DotAttention,
    GRUCell,
    MultiHeadAttention,
)
from tests.helpers import GRADIENTS, assert_close

BATCH, TIME, FEATURES = 3, 7, 6


class Pooling(nn.Module):
    """AttentionPooling, called with a query that it does not need."""

    @nn.compact
    def __call__(self, query, states, mask=None):
        return AttentionPooling()(states, mask)


ATTENTIONS = {
    "pooling": Pooling(),
    "additive": AdditiveAttention(features=5),
    "dot": DotAttention(scale=0.5),
    "general": DotAttention(general=True),
    "heads": MultiHeadAttention(num_heads=2),
}
every_attention = pytest.mark.parametrize("name", ATTENTIONS)


def make(name, rng):
    query = rng.standard_normal((BATCH, FEATURES)).astype(np.float32)
    states = rng.standard_normal((BATCH, TIME, FEATURES)).astype(np.float32)
    attention = ATTENTIONS[name]
    shapes = jax.eval_shape(attention.init, jax.random.key(0), query, states)
    draw = lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32)
    return attention, jax.tree.map(draw, shapes), query, states


def softmax(scores):
    exps = np.exp(scores - scores.max(-1, keepdims=True))
    return exps / exps.sum(-1, keepdims=True)


def test_the_formulas(rng):
    def scores_of(name):
        attention, params, query, states = make(name, rng)
        p = params.get("params", {})
        query, q = query[0], query[0]
        scores = {
            "additive": lambda: np.stack(
                [
                    np.tanh(
                        q @ p["query"]["kernel"]
                        + p["query"]["bias"]
                        + h @ p["key"]["kernel"]
                    )
                    @ p["score"]["kernel"][:, 0]
                    for h in states[0]
                ]
            ),
            "dot": lambda: np.array([0.5 * q @ h for h in states[0]]),
            "general": lambda: np.array(
                [q @ (h @ p["key"]["kernel"]) for h in states[0]]
            ),
        }[name]()
        return attention.apply(params, query, states[0]), scores, states[0]

    for name in ("additive", "dot", "general"):
        (context, weights), scores, states = scores_of(name)
        assert_close(weights, softmax(scores), 1e-5)
        assert_close(context, softmax(scores) @ states, 1e-5)


@every_attention
def test_masked_steps_have_no_effect(name, rng):
    """NaN there reaches neither values nor gradients; an empty row gives zeros."""
    attention, params, query, states = make(name, rng)
    mask = np.arange(TIME) < np.array([4, 0, 7])[:, None]

    def loss(params, query, states):
        context, weights = attention.apply(params, query, states, mask)
        return jnp.sum(jnp.sin(context)), (context, weights)

    run = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))
    dirty = np.where(mask[..., None], states, np.nan)
    clean = np.where(mask[..., None], states, 0)
    results = run(params, query, dirty)
    assert_close(results, run(params, query, clean), 0.0)
    grads, (context, weights) = results
    assert not context[1].any() and not weights[1].any()
    assert not np.moveaxis(np.asarray(weights), -1, 1)[~mask].any()
    np.testing.assert_allclose(weights[0].sum(-1), 1, rtol=1e-6)
    assert not np.asarray(grads[2])[~mask].any()


@every_attention
def test_padding_and_vmap(name, rng):
    attention, params, query, states = make(name, rng)
    mask = np.arange(TIME) < np.array([4, 1, 7])[:, None]
    apply = jax.jit(attention.apply)
    context, weights = apply(params, query, states, mask)
    short_context, short_weights = apply(params, query[0], states[0, :4])
    assert_close(context[0], short_context, 1e-5)
    assert_close(weights[0][..., :4], short_weights, 1e-5)
    vmapped = jax.vmap(attention.apply, (None, 0, 0, 0))(params, query, states, mask)
    assert_close(vmapped, (context, weights), 1e-5)


@pytest.mark.parametrize("name", ["additive", "dot", "general", "heads"])
def test_several_queries_at_once(name, rng):
    attention, params, _, states = make(name, rng)
    queries = rng.standard_normal((BATCH, 2, FEATURES)).astype(np.float32)
    mask = np.arange(TIME) < np.array([4, 0, 7])[:, None]
    apply = jax.jit(attention.apply)
    both = apply(params, queries, states[:, None], mask[:, None])
    each = [apply(params, queries[:, i], states, mask) for i in range(2)]
    assert_close(both, jax.tree.map(lambda *x: jnp.stack(x, axis=1), *each), 1e-5)


class Decoder(nn.Module):
    """A GRU cell that attends, at every step, with the state before it."""

    attention: nn.Module

    def setup(self):
        self.cell = GRUCell(FEATURES)

    def __call__(self, inputs, states, mask):
        def step(self, carry, x):
            context, weights = self.attention(carry, states, mask)
            joined = jnp.concatenate([x, context], axis=-1)
            carry, y = self.cell(carry, joined)
            return carry, (y, weights)

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        carry = jnp.zeros((len(inputs), FEATURES))
        _, outputs = scan(self, carry, jnp.swapaxes(inputs, 0, 1))
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), outputs)


def test_in_a_scanned_decoder(rng):
    """The scan against a loop over its steps, values and gradients."""
    attention, _, _, states = make("additive", rng)
    mask = np.arange(TIME) < np.array([4, 0, 7])[:, None]
    inputs = rng.standard_normal((BATCH, 2, 3)).astype(np.float32)
    decoder = Decoder(attention)
    init = jax.jit(decoder.init)
    params = init(jax.random.key(0), inputs, states, mask)["params"]

    def scanned(params):
        return decoder.apply({"params": params}, inputs, states, mask)

    def looped(params):
        carry, outputs = jnp.zeros((BATCH, FEATURES)), []
        for x in inputs.swapaxes(0, 1):
            context, weights = attention.apply(
                {"params": params["attention"]}, carry, states, mask
            )
            carry, y = GRUCell(FEATURES).apply(
                {"params": params["cell"]}, carry, jnp.concatenate([x, context], -1)
            )
            outputs.append((y, weights))
        return jax.tree.map(lambda *x: jnp.stack(x, axis=1), *outputs)

    def value_and_grad(f):
        def loss(params):
            ys, weights = f(params)
            return jnp.sum(jnp.sin(ys)), (ys, weights)

        return jax.jit(jax.grad(loss, has_aux=True))(params)

    (grads, results), (grads_2, results_2) = map(value_and_grad, (scanned, looped))
    assert_close(results, results_2, 1e-5)
    assert_close(grads, grads_2, GRADIENTS)


def test_multi_head_initialisation_is_torchs():
    states = jnp.ones((7, 64))
    params = MultiHeadAttention(4).init(jax.random.key(0), states[0], states)["params"]
    # Xavier's bound on the fused matrix; torch.nn.Linear's for the last map.
    assert 0.15 < jnp.abs(params["in_proj"]["kernel"]).max() <= (6 / 256) ** 0.5
    assert 0.12 < jnp.abs(params["out_proj"]["kernel"]).max() <= 1 / 8
    assert not params["in_proj"]["bias"].any() and not params["out_proj"]["bias"].any()


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (DotAttention(), "4 features and the states 6; expected as many, or general"),
        (MultiHeadAttention(2), "4 features and the states 6; expected as many"),
    ],
    ids=["dot", "heads"],
)
def test_widths_that_differ(attention, message):
    with pytest.raises(ValueError, match=message):
        attention.init(jax.random.key(0), jnp.ones(4), jnp.ones((7, 6)))


def test_heads_that_do_not_divide():
    with pytest.raises(ValueError, match=r"a multiple of 4 \(num_heads\)"):
        MultiHeadAttention(4).init(jax.random.key(0), jnp.ones(6), jnp.ones((7, 6)))
