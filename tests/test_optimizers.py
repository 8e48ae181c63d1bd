"""The lessons' optimisers: PyTorch's steps, where optax's part from them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.helpers import normal
from train.runs import optimizers

STEPS, SHAPE = 30, (3, 5)


def adam_in_double(gradients, start, learning_rate):
    """PyTorch's equations, with the float32 of its buffers and the double of the rest."""
    mean = square = np.zeros(SHAPE)
    params = start.astype(float)
    for n, g in enumerate(gradients.astype(float), 1):
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
        divisor = np.sqrt(square / (1 - 0.999**n)) + 1e-8
        params = params - learning_rate * mean / (1 - 0.9**n) / divisor
    return params


def after(tx, gradients, start):
    params, state = jnp.array(start), tx.init(jnp.array(start))
    update = jax.jit(tx.update)
    for gradient in gradients:
        steps, state = update(gradient, state, params)
        params = optax.apply_updates(params, steps)
    return np.asarray(params)


def distance(one, other, start):
    """How far apart, as a share of the way from the start."""
    return np.abs(one - other).max() / np.abs(other - start).min()


def test_adam_takes_steps_of_the_right_size():
    """One gradient again and again: each step is the learning rate."""
    gradients = np.broadcast_to(normal(0, *SHAPE), (STEPS, *SHAPE))
    start = np.zeros(SHAPE, np.float32)
    expected = adam_in_double(gradients, start, 0.1)
    ours = after(optimizers.adam(0.1), gradients, start)
    optaxs = after(optax.adam(0.1), gradients, start)
    assert distance(ours, expected, start) < 1e-6
    assert 3e-6 < distance(optaxs, expected, start) < 3e-5


def test_adam_on_random_gradients():
    gradients, start = normal(1, STEPS, *SHAPE), normal(2, *SHAPE)
    expected = adam_in_double(gradients, start, 1e-2)
    ours = after(optimizers.adam(1e-2), gradients, start)
    np.testing.assert_allclose(ours, expected, rtol=5e-7, atol=5e-7)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_clipping_has_torchs_small_number(scale):
    gradients = {"a": scale * normal(3, 4), "b": scale * normal(4, *SHAPE)}
    norm = np.sqrt(sum((g.astype(float) ** 2).sum() for g in gradients.values()))
    factor = min(1, 0.5 / (norm + 1e-6))
    clipped, _ = optimizers.clip_by_norm(0.5).update(gradients, optax.EmptyState())
    for name, gradient in gradients.items():
        np.testing.assert_allclose(clipped[name], gradient * factor, rtol=3e-7)


def test_live_against_torch():
    torch = pytest.importorskip("torch")
    gradients, start = normal(5, STEPS, *SHAPE), normal(6, *SHAPE)
    cases = [
        (optimizers.adam(1e-2), lambda p: torch.optim.Adam(p, lr=1e-2), None),
        (optax.sgd(1e-2), lambda p: torch.optim.SGD(p, lr=1e-2), None),
        (
            optax.chain(optimizers.clip_by_norm(1.0), optimizers.adam(1e-2)),
            lambda p: torch.optim.Adam(p, lr=1e-2),
            1.0,
        ),
    ]
    for tx, make, clip in cases:
        parameter = torch.nn.Parameter(torch.tensor(start))
        theirs = make([parameter])
        for gradient in gradients:
            parameter.grad = torch.tensor(gradient)
            if clip is not None:
                torch.nn.utils.clip_grad_norm_([parameter], clip)
            theirs.step()
        expected = parameter.detach().numpy()
        np.testing.assert_allclose(
            after(tx, gradients, start), expected, rtol=5e-7, atol=5e-7
        )
