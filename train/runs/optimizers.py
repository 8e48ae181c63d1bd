"""The optimisers of the lessons, with the numbers that PyTorch's give.

optax's Adam computes ``1 - 0.999**n`` in float32, but weighs the new square by 0.001:
0.999 is no number of float32, and so each of its first steps is 6.6e-6 too small. That
alone parted the losses of a lesson from PyTorch's. Its SGD and its cross entropy are
PyTorch's; its clipping lacks the 1e-6 beside the norm.
"""

import math

import jax
import jax.numpy as jnp
import optax


def scale_by_adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    r"""Adam's steps but for the learning rate, rounded as ``torch.optim.Adam``'s.

    .. math::
        m_n &= m_{n-1} + (1 - b_1) (g - m_{n-1}) \\
        v_n &= b_2 v_{n-1} + (1 - b_2) g^2 \\
        step &= \frac{m_n / (1 - b_1^n)}{\sqrt{v_n} / \sqrt{1 - b_2^n} + eps}

    Args:
        b1: Decay of the mean.
        b2: Decay of the mean square.
        eps: Keeps the divisor from 0.

    Returns:
        An optax transformation, whose state is that of ``optax.scale_by_adam``.

    Example:
        >>> tx, params = scale_by_adam(), jnp.array([1.0, -2.0])
        >>> steps, _ = tx.update(jnp.array([0.5, -3.0]), tx.init(params))
        >>> [round(float(step), 6) for step in steps]
        [1.0, -1.0]

    Source:
        Kingma & Ba, 2015, https://arxiv.org/abs/1412.6980; the order of operations is
        that of ``torch.optim.adam._single_tensor_adam``.
    """

    def correction(b, count):
        # 1 - b**n without the rounding of b to float32.
        return -jnp.expm1(count * math.log(b))

    def update(updates, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        mu = jax.tree.map(lambda g, m: m + (1 - b1) * (g - m), updates, state.mu)
        nu = jax.tree.map(lambda g, v: b2 * v + (1 - b2) * g * g, updates, state.nu)
        scale = 1 / correction(b1, count)
        root = jnp.sqrt(correction(b2, count))
        steps = jax.tree.map(
            lambda m, v: (scale * m) / (jnp.sqrt(v) / root + eps), mu, nu
        )
        return steps, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam(b1, b2).init, update)


def adam(learning_rate: float) -> optax.GradientTransformation:
    """``torch.optim.Adam(lr=learning_rate)``, see :func:`scale_by_adam`.

    Args:
        learning_rate: The step size.
    """
    return optax.chain(scale_by_adam(), optax.scale_by_learning_rate(learning_rate))


def clip_by_norm(max_norm: float) -> optax.GradientTransformation:
    r"""Gradients as ``torch.nn.utils.clip_grad_norm_(parameters, max_norm)`` leaves them.

    .. math:: g \min(1, max\_norm / (\lVert g \rVert + 10^{-6}))

    optax's ``clip_by_global_norm`` has no 1e-6, and so takes as much more than PyTorch.

    Args:
        max_norm: Global norm that gradients are cut to.

    Example:
        >>> tx, grads = clip_by_norm(1.0), jnp.array([3.0, 4.0])
        >>> [round(float(g), 6) for g in tx.update(grads, tx.init(grads))[0]]
        [0.6, 0.8]
    """

    def update(updates, state, params=None):
        del params
        factor = jnp.minimum(1, max_norm / (optax.tree.norm(updates) + 1e-6))
        return jax.tree.map(lambda g: g * factor, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
