"""The loop over time of a parameter-free update, with its weight's gradient outside.

Differentiating a plain scan adds up the recurrent weight's gradient step by step, in the
carry of the backward loop. Here the derivative is stated once, for all steps: the
weight's part of the tangent, ``h @ dW``, needs nothing that the tangent loop computes,
so it is one product before that loop; transposed, it is one product after the backward
loop. As it is a rule for tangents, it holds under ``vmap``, forward mode and higher
derivatives alike.
"""

import functools

import jax

from rnnjax.affine import Affine, affine, matmul
from rnnjax.equations import Carry, hidden, preactivations
from rnnjax.loops.job import Job, Static, Steps, hold_carry, perturbed, reset_carry


def applies(job: Job) -> bool:
    """Whether the scan can do it: it can do everything."""
    return True


def run(job: Job) -> tuple[Carry, Carry]:
    """Run a job by a scan; the product with the inputs is one, for all steps.

    Args:
        job: What to run.

    Returns:
        ``(last, carries)``: the final carry, and the carry after every step,
        ``(time, *batch, ...)``.
    """
    ih = affine(job.xs, *job.ih, job.static.dtype)
    return recurrence(job.static, job.hh, ih, job.carry, job.steps)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def recurrence(
    static: Static, weights: Affine, ih: jax.Array, carry: Carry, steps: Steps
) -> tuple[Carry, Carry]:
    """Run ``carry = update(carry, ih[t], h @ kernel + bias)`` over time.

    Args:
        static: The update and whether it takes the sum of the two pre-activations, the direction,
            and the type of the product's operands.
        weights: The recurrent map.
        ih: ``(time, *batch, gates)`` the input's part of every step.
        carry: The initial carry, ``(*batch, ...)``.
        steps: Masks over the steps.

    Returns:
        ``(carry, carries)``: the final carry, and the carry after every step,
        ``(time, *batch, ...)``.
    """

    return _scan(static, weights, ih, carry, steps)


def _scan(static, weights, ih, carry, steps):
    def step(carry, xs):
        ih, (mask, reset, perturbation) = xs
        before = reset_carry(reset, carry)
        hh = affine(hidden(before), weights.kernel, weights.bias, static.dtype)
        new = static.update(before, *preactivations(static.sums_preactivations, ih, hh))
        carry = hold_carry(mask, perturbed(new, perturbation), before)
        return carry, carry

    return jax.lax.scan(step, carry, (ih, steps), reverse=static.reverse)


@recurrence.defjvp
def _recurrence_jvp(static, primals, tangents):
    # Step by step, each linearization is a function of its own: they cannot be stacked.
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        return jax.jvp(functools.partial(_scan, static), primals, tangents)
    weights, ih, carry, steps = primals
    weights_dot, ih_dot, carry_dot, (_, _, perturbation_dot) = tangents
    scan = functools.partial(jax.lax.scan, reverse=static.reverse)

    def step(carry, xs):
        ih, (mask, reset, perturbation) = xs
        before = reset_carry(reset, carry)
        hh = affine(hidden(before), weights.kernel, weights.bias, static.dtype)
        # What is returned for `update_dot` is an array for each number that it needs.
        new, update_dot = jax.linearize(
            static.update, before, *preactivations(static.sums_preactivations, ih, hh)
        )
        carry = hold_carry(mask, perturbed(new, perturbation), before)
        return carry, (carry, hidden(before), update_dot)

    def step_dot(carry_dot, xs):
        update_dot, (*others_dot, last_dot), (mask, reset, perturbation_dot) = xs
        before_dot = reset_carry(reset, carry_dot)
        last_dot += matmul(hidden(before_dot), weights.kernel, static.dtype)
        new_dot = update_dot(before_dot, *others_dot, last_dot)
        carry_dot = hold_carry(mask, perturbed(new_dot, perturbation_dot), before_dot)
        return carry_dot, carry_dot

    last, (carries, h_before, update_dot) = scan(step, carry, (ih, steps))
    preactivations_dot = preactivations(
        static.sums_preactivations,
        ih_dot,
        affine(h_before, weights_dot.kernel, weights_dot.bias, static.dtype),
    )
    steps_dot = steps._replace(perturbation=perturbation_dot)
    dots = scan(step_dot, carry_dot, (update_dot, preactivations_dot, steps_dot))
    return (last, carries), dots
