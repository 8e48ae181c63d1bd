"""Drawing text: distributions, restrictions, repeatability."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.lessons import CharLM
from rnnjax.sampling import Choice, candidates, choose, generate, read, sample_keys
from tests.helpers import random_params

LOGITS = np.array([0.3, -1.0, 2.0, 0.0, 1.5, -4.0], np.float32)
MODEL = CharLM(vocab_size=5, hidden_size=7, mlp_size=6)


@pytest.fixture(scope="module")
def params():
    tokens = np.zeros((1, 1), np.int32)
    # Sharper than at the beginning, so that characters differ in probability.
    return jax.tree.map(lambda leaf: 3 * leaf, random_params(MODEL, tokens))


def draw(choice: Choice, num: int = 5_000) -> np.ndarray:
    """How often each token is drawn."""
    keys = jax.random.split(jax.random.key(1), num)
    draws = jax.jit(jax.vmap(lambda key: choose(key, jnp.asarray(LOGITS), choice)))
    drawn = draws(keys)
    return np.bincount(drawn, minlength=len(LOGITS))


def softmax(logits):
    exp = np.exp(logits - logits.max())
    return exp / exp.sum()


def allowed(choice: Choice) -> set[int]:
    """By the definition, on the host."""
    probs = softmax(LOGITS / choice.temperature)
    order = sorted(range(len(probs)), key=lambda token: -probs[token])
    order = order[: choice.top_k]
    if choice.top_p is None:
        return set(order)
    probs = probs / probs[order].sum()
    for num in range(1, len(order) + 1):
        if probs[order[:num]].sum() >= choice.top_p:
            return set(order[:num])
    return set(order)


@pytest.mark.parametrize(
    "choice",
    [
        Choice(),
        Choice(temperature=0.7),
        Choice(temperature=2.5, top_k=3),
        Choice(top_p=0.8),
        Choice(temperature=1.5, top_k=5, top_p=0.9),
    ],
    ids=str,
)
def test_draws_match_the_probabilities(choice):
    counts = draw(choice)
    kept = sorted(allowed(choice))
    assert set(np.flatnonzero(counts)) <= set(kept)
    expected = counts.sum() * softmax(LOGITS[kept] / choice.temperature)
    chi_square = float(((counts[kept] - expected) ** 2 / expected).sum())
    # The 99.9 % point for 5 degrees of freedom is 20.5.
    assert chi_square < 20.5


@pytest.mark.parametrize("top_k", [None, 1, 2, 4, 6, 9])
@pytest.mark.parametrize("top_p", [None, 1e-6, 0.3, 0.6, 0.95, 1.0])
def test_candidates_by_brute_force(top_k, top_p):
    choice = Choice(0.8, top_k, top_p)
    logits, tokens = candidates(jnp.asarray(LOGITS), choice)
    assert set(np.asarray(tokens)[np.isfinite(logits)].tolist()) == allowed(choice)


def test_greedy_takes_the_likeliest():
    assert choose(jax.random.key(0), jnp.asarray(LOGITS), Choice(0)) == 2


def test_samples_follow_the_model(params):
    """Two drawn characters are distributed as the model says, given each other."""
    prompt = jnp.array([[1, 4, 2]])
    num = 4000
    point = read(MODEL, params, jnp.tile(prompt, (num, 1)))
    keys = sample_keys(jax.random.key(2), num)
    _, tokens = generate(MODEL, params, point, keys, 2, Choice())
    firsts = jnp.arange(5)[:, None]
    after = jnp.concatenate([jnp.tile(prompt, (5, 1)), firsts], axis=1)
    _, logits = MODEL.apply({"params": params}, after)
    log_probs = nn.log_softmax(logits)
    expected = num * jnp.exp(log_probs[0, 2][:, None] + log_probs[:, 3])
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(np.asarray(tokens).T), 1)
    # The 99.9 % point for 24 degrees of freedom is 51.2.
    assert float(((counts - expected) ** 2 / expected).sum()) < 51.2


def test_text_depends_neither_on_pieces_nor_on_other_samples(params):
    prompt, choice = jnp.array([[1, 4, 2]]), Choice(0.9, top_k=4)
    keys = sample_keys(jax.random.key(3), 3)
    point = read(MODEL, params, jnp.tile(prompt, (3, 1)))
    _, whole = generate(MODEL, params, point, keys, 12, choice)
    middle, begin = generate(MODEL, params, point, keys, 6, choice)
    _, end = generate(MODEL, params, middle, keys, 6, choice)
    np.testing.assert_array_equal(whole, np.concatenate([begin, end], axis=1))
    assert len({tuple(row) for row in np.asarray(whole).tolist()}) == 3
    alone = read(MODEL, params, prompt)
    _, first = generate(MODEL, params, alone, keys[:1], 12, choice)
    np.testing.assert_array_equal(whole[:1], first)


def test_greedy_is_the_model_fed_with_its_own_choices(params):
    tokens = [1, 4, 2]
    point = read(MODEL, params, jnp.array([tokens]))
    keys = sample_keys(jax.random.key(0), 1)
    _, drawn = generate(MODEL, params, point, keys, 6, Choice(temperature=0))
    everything = jnp.concatenate([jnp.array([tokens]), drawn], axis=1)
    _, logits = MODEL.apply({"params": params}, everything)
    np.testing.assert_array_equal(drawn[0], np.argmax(logits[0, 2:-1], axis=-1))
