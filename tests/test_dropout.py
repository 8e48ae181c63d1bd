"""Dropout: what torch's drops, from random numbers of which each decides on two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import GRU, LSTM, Elman, dropout, from_torch
from rnnjax.dropout import KEPT, MASKS, Dropout, draw
from rnnjax.random import TorchGenerator, dropout_masks
from tests.helpers import normal, random_params


def drawn(*shape):
    return np.asarray(draw(jax.random.key(0), shape))


def drop(rate, shape, **options):
    module = Dropout(rate, **options)
    ones = jnp.ones(shape)
    rngs = {"dropout": jax.random.key(0)}
    return np.asarray(module.apply({}, ones, deterministic=False, rngs=rngs))


@pytest.mark.parametrize("shape", [(5000,), (7, 5, 401), (1, 9999)])
def test_rate_and_scale(shape):
    """Within four standard errors; odd sizes leave half of a random word over."""
    ys = drop(0.3, shape)
    np.testing.assert_allclose(np.unique(ys), [0, 1 / 0.7], rtol=1e-6)
    assert abs((ys == 0).mean() - 0.3) < 4 * (0.21 / ys.size) ** 0.5


def test_the_numbers_are_uniform_and_do_not_repeat():
    """Also the two of one word, the rows, and the bits of a number."""
    numbers = drawn(64, 1024)
    counts = np.bincount(numbers.ravel() >> 8, minlength=256)
    expected = numbers.size / 256
    # Chi-squared with 255 degrees of freedom: 380 has a probability of one in a million.
    assert ((counts - expected) ** 2 / expected).sum() < 380
    for a, b in [
        (numbers[:, :512], numbers[:, 512:]),
        (numbers[::2], numbers[1::2]),
        (numbers >> 8, numbers & 255),
    ]:
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(correlation) < 5 * a.size**-0.5


def test_in_pieces_the_numbers_are_the_same(monkeypatch):
    """The last piece is smaller than the others."""
    expected = drawn(7, 3, 5)
    monkeypatch.setattr(dropout, "WORDS_AT_ONCE", 3 * 8)
    program = str(jax.make_jaxpr(lambda key: draw(key, (7, 3, 5)))(jax.random.key(0)))
    assert "scan[" in program
    np.testing.assert_array_equal(drawn(7, 3, 5), expected)


def test_a_row_does_not_depend_on_how_many_there_are():
    np.testing.assert_array_equal(drawn(3, 11), drawn(8, 11)[:3])


@pytest.mark.parametrize("rate", [0.0, 1e-9])
def test_nothing_is_dropped(rate):
    assert (drop(rate, (3, 5)) == 1).all()


def test_everything_is_dropped():
    ys = drop(1.0, (3, 5))
    assert (ys == 0).all()


def test_shared_axes():
    ys = drop(0.5, (20, 30, 40), broadcast_dims=(-2,))
    assert not np.ptp(ys, axis=1).any()
    assert np.ptp(ys, axis=0).all() and np.ptp(ys, axis=2).all()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,)])
def test_nothing_to_drop(shape):
    assert drop(0.5, shape).shape == shape


def test_the_gradient_is_that_of_what_was_kept():
    xs = jnp.arange(1.0, 21).reshape(4, 5)

    def total(xs):
        rngs = {"dropout": jax.random.key(0)}
        return Dropout(0.4).apply({}, xs, deterministic=False, rngs=rngs).sum()

    ys = drop(0.4, xs.shape)
    np.testing.assert_allclose(jax.grad(total)(xs), ys, rtol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_masks_from_outside_need_no_key(rate, rng):
    inputs, weights = normal(0, 4, 5), normal(1, 4, 5)
    kept = (rng.random(inputs.shape) > rate) if rate != 1 else np.zeros((4, 5), bool)
    variables = {MASKS: {KEPT: kept}}

    def total(inputs):
        ys = Dropout(rate).apply(variables, inputs, deterministic=False)
        return (ys * weights).sum(), ys

    gradients, ys = jax.grad(total, has_aux=True)(inputs)
    factor = kept * (np.float32(1) / np.float32(1 - rate) if rate != 1 else 0)
    np.testing.assert_array_equal(ys, np.where(kept, inputs * factor, 0))
    np.testing.assert_array_equal(gradients, np.where(kept, weights * factor, 0))
    unchanged = Dropout(rate).apply(variables, inputs, deterministic=True)
    np.testing.assert_array_equal(unchanged, inputs)


def test_masks_of_another_shape_are_refused():
    stack, inputs = LSTM(5, num_layers=3, dropout=0.4), normal(0, 2, 7, 4)
    masks = dropout_masks(stack, TorchGenerator(0), 2, 6)
    variables = {"params": random_params(stack, inputs), MASKS: masks}
    with pytest.raises(
        ValueError, match=r"Dropout_0 .*\(2, 6, 5\); expected \(2, 7, 5\)"
    ):
        stack.apply(variables, inputs, deterministic=False)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_a_stack_in_training_live_against_torch(kind, bidirectional):
    torch = pytest.importorskip("torch")
    twin = getattr(torch.nn, kind)(
        4, 5, 3, batch_first=True, dropout=0.4, bidirectional=bidirectional
    )
    stack = {"RNN": Elman, "GRU": GRU, "LSTM": LSTM}[kind](
        5, num_layers=3, dropout=0.4, bidirectional=bidirectional
    )
    inputs = normal(0, 2, 7, 4)
    weights = normal(1, 2, 7, 10 if bidirectional else 5)
    params = from_torch(stack, {n: p.numpy() for n, p in twin.state_dict().items()})
    torch.manual_seed(3)
    generator = TorchGenerator(3)
    masks = dropout_masks(stack, generator, 2, 7)
    given = torch.tensor(inputs, requires_grad=True)
    theirs = twin(given)[0]
    (theirs * torch.tensor(weights)).sum().backward()

    def total(params, inputs):
        variables = {"params": params, MASKS: masks}
        _, ys = stack.apply(variables, inputs, deterministic=False)
        return (ys * weights).sum(), ys

    gradients, ys = jax.grad(total, (0, 1), has_aux=True)(params, inputs)
    np.testing.assert_allclose(ys, theirs.detach().numpy(), atol=2e-6)
    np.testing.assert_allclose(gradients[1], given.grad.numpy(), atol=1e-5)
    expected = from_torch(
        stack, {n: p.grad.numpy() for n, p in twin.named_parameters()}
    )
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5),
        gradients[0],
        expected,
    )
    np.testing.assert_array_equal(generator.state(), torch.get_rng_state().numpy())
