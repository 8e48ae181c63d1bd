"""What keeps one bad update from spoiling a training."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from train.cli import InputError


def is_finite(tree: Any) -> jax.Array:
    """Whether all numbers of a tree are finite."""
    # 0 times anything else is NaN, and a product is what a CPU has the fastest code for:
    # jnp.isfinite(leaf).all() took a third of an update of the blog's GRU.
    leaves = map(jnp.atleast_1d, jax.tree.leaves(tree))
    sums = [jnp.sum(jnp.tensordot(jnp.zeros(len(x)), x, axes=1)) for x in leaves]
    return jnp.isfinite(sum(sums))


def repeat_while_finite(
    count: jax.Array,
    body: Callable[[jax.Array, Any], tuple[Any, jax.Array]],
    loop: Any,
) -> tuple[Any, jax.Array]:
    """A ``fori_loop`` from 0 that ends early.

    Args:
        count: How many turns at most.
        body: ``(index, loop) -> (loop, finite)``; a turn that is not finite is the last.
        loop: What the first turn gets.

    Returns:
        What the last turn gave, and whether it was finite.
    """

    def step(carry):
        index, loop, _ = carry
        return index + 1, *body(index, loop)

    _, loop, finite = jax.lax.while_loop(
        lambda carry: (carry[0] < count) & carry[2],
        step,
        (jnp.array(0), loop, jnp.array(True)),
    )
    return loop, finite


def not_finite(params: Any, loss: Any, step: int, saved: int | None) -> InputError:
    """What to raise after an update in which something was not finite.

    Args:
        params: The parameters after it.
        loss: The loss before it, or those of the replicas.
        step: Its number.
        saved: Number of updates of the newest checkpoint, or None.

    Returns:
        An error that names the parameter.
    """
    names = (
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree.leaves_with_path(params)
        if not np.isfinite(leaf).all()
    )
    first = next(names, None)
    what = "the loss" if first is None else f"the parameter {first}"
    shown = ", ".join(f"{each:.4g}" for each in np.atleast_1d(loss))
    kept = (
        "nothing was saved before"
        if saved is None
        else f"the newest checkpoint, update {saved:,}, is good"
    )
    return InputError(
        f"{what} is not finite after update {step:,} (loss {shown}); {kept}; try a "
        "smaller --learning-rate"
    )


def skip_large_gradients(
    tx: optax.GradientTransformation, largest: float
) -> optax.GradientTransformation:
    """An optimiser that leaves out the updates whose gradient is too large.

    Args:
        tx: The optimiser.
        largest: Global norm from which on an update is left out.

    Returns:
        An optax transformation; :func:`skipped` reads its state.
    """
    skip = functools.partial(optax.skip_large_updates, max_squared_norm=largest**2)
    return optax.MultiSteps(tx, 1, should_skip_update_fn=skip).gradient_transformation()


def skipped(state: Any) -> dict[str, int]:
    """How many updates were left out so far, if the optimiser may leave any out."""
    if not isinstance(state.opt_state, optax.MultiStepsState):
        return {}
    return {"skipped_updates": int(np.sum(state.step - state.opt_state.gradient_step))}
