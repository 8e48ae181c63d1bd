"""The classifiers beyond `test_lesson_parity`: what they share, and the recipe best."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.lessons import (
    AllStatesClassifier,
    BidirectionalClassifier,
    DropoutClassifier,
    JointClassifier,
    MLPClassifier,
)
from tests.helpers import assert_close, random_params
from train.recipes import build_model

EACH_KIND = [
    ("practical", "linear"),
    ("workshop", "lstm"),
    ("workshop", "attention"),
    ("blog", "rnn"),
    ("binary", "mlp"),
    ("binary", "linear"),
    ("binary", "rnn"),
    ("best", "gru"),
]
SIZES = {"vocab_size": 9, "hidden_size": 16, "num_classes": 3}
TOKENS = np.random.default_rng(0).integers(9, size=(4, 7))
SEQ_LENGTHS = np.array([7, 1, 4, 5])

each_kind = pytest.mark.parametrize(("recipe", "name"), EACH_KIND)


@functools.cache
def params_of(recipe, name):
    """Large enough for what is left out, or rounded, to show."""
    params = random_params(build_model(recipe, name, **SIZES), TOKENS)
    return jax.tree.map(lambda leaf: 2 * leaf, params)


@functools.cache
def compiled(recipe, name):
    return jax.jit(build_model(recipe, name, **SIZES).apply)


def logits_of(recipe, name, *inputs):
    return compiled(recipe, name)({"params": params_of(recipe, name)}, *inputs)


@each_kind
def test_bfloat16(recipe, name):
    """The products are in bfloat16, everything that is handed on in float32."""
    exact = logits_of(recipe, name, TOKENS, SEQ_LENGTHS)
    low = build_model(recipe, name, **SIZES, dtype=jnp.bfloat16)
    params = {"params": params_of(recipe, name)}
    rounded = jax.jit(low.apply)(params, TOKENS, SEQ_LENGTHS)
    assert rounded.dtype == jnp.float32
    scale = np.abs(exact).max()
    assert 1e-5 * scale < np.abs(exact - rounded).max() < 0.1 * scale


@each_kind
def test_what_stands_in_padding_is_ignored(recipe, name):
    padding = np.arange(7) >= SEQ_LENGTHS[:, None]
    others = np.where(padding, (TOKENS + 1) % 9, TOKENS)
    expected = logits_of(recipe, name, TOKENS, SEQ_LENGTHS)
    assert_close(logits_of(recipe, name, others, SEQ_LENGTHS), expected, 0.0)
    # And nothing else: the last character of the longest name.
    others = np.where(padding, TOKENS, (TOKENS + 1) % 9)
    changed = np.abs(logits_of(recipe, name, others, SEQ_LENGTHS) - expected)
    assert (changed.max(axis=-1) > 1e-3).all()


@each_kind
def test_two_batch_axes(recipe, name):
    expected = logits_of(recipe, name, TOKENS, SEQ_LENGTHS)
    rows = TOKENS.reshape(2, 2, 7), SEQ_LENGTHS.reshape(2, 2)
    assert_close(logits_of(recipe, name, *rows).reshape(4, 3), expected)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_states(cell, inputs):
    """PyTorch's equations, step by step."""
    h = np.zeros(16)
    states = []
    for x in inputs:
        xr, xz, xn = np.split(x @ cell["ih"]["kernel"] + cell["ih"]["bias"], 3)
        hr, hz, hn = np.split(h @ cell["hh"]["kernel"] + cell["hh"]["bias"], 3)
        r, z = sigmoid(xr + hr), sigmoid(xz + hz)
        h = (1 - z) * np.tanh(xn + r * hn) + z * h
        states.append(h)
    return np.array(states)


def test_the_bidirectional_classifier_is_its_equations():
    """Each name alone, in NumPy, without padding."""
    params = params_of("best", "gru")
    logits = logits_of("best", "gru", TOKENS, SEQ_LENGTHS)
    window, cells = params["window"]["linear"], params["gru"]
    for row, length, actual in zip(TOKENS, SEQ_LENGTHS, logits, strict=True):
        context = np.pad(row[:length], 1, constant_values=-1)
        inputs = np.tile(window["bias"], (length, 1))
        for step in range(length):
            for place, token in enumerate(context[step : step + 3]):
                if token >= 0:
                    inputs[step] += window["kernel"][place * 9 + token]
        inputs = np.maximum(inputs, 0)
        forward = gru_states(cells["layer_0"]["cell"], inputs)
        backward = gru_states(cells["layer_0_reverse"]["cell"], inputs[::-1])[::-1]
        states = np.concatenate([forward, backward], axis=-1)
        scores = np.exp(states @ params["att"]["score"]["kernel"][:, 0])
        mean = (scores / scores.sum()) @ states
        summary = [forward[-1], backward[0], mean, states.max(axis=0)]
        fc = params["fc"]
        expected = np.concatenate(summary) @ fc["kernel"] + fc["bias"]
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [DropoutClassifier, BidirectionalClassifier])
def test_dropout_is_on_only_when_asked_for(kind):
    """With another key it drops others; with a rate of 0 it changes nothing."""
    model = kind(**SIZES)
    params = {"params": random_params(model, TOKENS)}

    def run(model, seed, deterministic=False):
        key = {"dropout": jax.random.key(seed)}
        return model.apply(
            params, TOKENS, SEQ_LENGTHS, deterministic=deterministic, rngs=key
        )

    plain = run(model, 0, deterministic=True)
    assert_close(run(model, 1, deterministic=True), plain, 0.0)
    one, other = run(model, 0), run(model, 1)
    assert not np.allclose(one, plain) and not np.allclose(one, other)
    none = {name: 0.0 for name in vars(model) if "dropout" in name}
    assert_close(run(model.clone(**none), 0), plain)


def test_a_name_that_is_too_long():
    with pytest.raises(ValueError, match="tokens have 19 steps; expected at most 18"):
        build_model("binary", "mlp").init(
            jax.random.key(0), np.zeros((2, 19), np.int32)
        )


def test_a_token_outside_the_vocabulary_is_the_zero_vector():
    """In every model, and in no model the row of another step."""
    for model in (
        MLPClassifier(5, 4, 3, max_length=6, mlp_size=7),
        AllStatesClassifier(5, 4, 3, max_length=6, mlp_size=7),
        JointClassifier(5, 4, 3),
    ):
        tokens = np.array([[3, 1, 4, 0]], np.int32)
        params = {"params": random_params(model, tokens)}
        outside = [
            model.apply(params, np.where(tokens == 4, number, tokens))
            for number in (-1, 5, 6, 300)
        ]
        for logits in outside[1:]:
            np.testing.assert_allclose(logits, outside[0], rtol=1e-6)
