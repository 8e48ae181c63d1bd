"""Put a NaN or an infinity into a gradient, a parameter or a loss, at one update."""

import contextlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from safetensors.numpy import load_file

from train.charlm import __main__ as charlm
from train.charlm import task as charlm_task
from train.charlm import update as charlm_updates
from train.names import __main__ as names
from train.names import task
from train.names import update as updates

from . import programs
from .programs import Program
from .results import Plan, Row, judged

VALUES = (float("nan"), float("inf"), float("-inf"))

LEAVES = (0, 2, 5)
"""Of the parameters. To touch another one is another program, which may round otherwise:
each has a whole run of its own to be compared with."""


def poison(at: int, value: float, leaf: int) -> optax.GradientTransformation:
    """An optax transformation that puts a value into one leaf, once."""

    def update(tree: Any, count: jax.Array, params: Any = None) -> tuple:
        leaves, structure = jax.tree.flatten(tree)
        place = leaf % len(leaves)
        one = leaves[place].ravel().at[-1].set(value).reshape(leaves[place].shape)
        leaves[place] = jnp.where(count + 1 == at, one, leaves[place])
        return jax.tree.unflatten(structure, leaves), count + 1

    return optax.GradientTransformation(lambda params: jnp.array(0), update)


@contextlib.contextmanager
def poisoned(where: str, at: int, value: float, leaf: int) -> Iterator[None]:
    """Let the trainings in the meantime meet a bad number.

    Args:
        where: ``gradient``, ``parameter`` or ``loss``.
        at: Number of the update; 0 is never.
        value: The number.
        leaf: In which leaf, but for the loss.
    """
    bad = poison(at, value, leaf)
    never = optax.identity()

    def wrap(make: Any) -> Any:
        def made(*args: Any) -> optax.GradientTransformation:
            before = bad if where == "gradient" else never
            after = bad if where == "parameter" else never
            return optax.chain(before, make(*args), after)

        return made

    def bad_loss(loss: jax.Array, step: jax.Array) -> jax.Array:
        return jnp.where((where == "loss") & (step + 1 == at), value, loss)

    def names_update(self: Any, state: Any, *args: Any, real=updates.Trainer.update):
        after, metrics = real(self, state, *args)
        return after, metrics._replace(loss=bad_loss(metrics.loss, state.step))

    def charlm_update(trainer: Any, state: Any, *args: Any, real=charlm_updates.update):
        after, metrics = real(trainer, state, *args)
        return after, metrics._replace(loss=bad_loss(metrics.loss, state.step))

    with (
        mock.patch.object(task, "make_optimizer", wrap(task.make_optimizer)),
        mock.patch.object(
            charlm_task, "make_optimizer", wrap(charlm_task.make_optimizer)
        ),
        mock.patch.object(updates.Trainer, "update", names_update),
        mock.patch.object(charlm_updates, "update", charlm_update),
    ):
        yield


def problem_of(done: programs.Done, out: Path, whole: Path, at: int) -> str:
    """What is wrong after a bad number at an update; "" is nothing."""
    if done.code != 2 or not done.is_plain:
        return f"exit {done.code}"
    (error,) = done.errors
    said = re.search(r"(\S+) is not finite after update ([\d,]+)", error)
    if said is None:
        return f"said {error[:80]!r}"
    late = int(said[2].replace(",", "")) - at
    if not 0 <= late <= 1:
        return f"{late} updates late"
    for step in programs.steps(out):
        arrays = programs.state(out, step)
        if step >= at or not all(
            np.isfinite(array).all()
            for array in arrays.values()
            if np.issubdtype(array.dtype, np.floating)
        ):
            return f"saved step {step}"
        if step in programs.steps(whole) and not programs.same(
            arrays, programs.state(whole, step)
        ):
            return f"step {step} is another one"
    kept = [step for step in programs.steps(whole) if step < at]
    if kept and not programs.steps(out):
        return "nothing kept"
    params = out / "params.safetensors"
    if params.exists() and not all(
        np.isfinite(array).all() for array in load_file(params).values()
    ):
        return "params.safetensors is not finite"
    return ""


def in_program(
    module: Any, program: Program, plan: Plan, number: int, rng: random.Random
) -> list[Row]:
    """Bad numbers in one program, one row for each place."""
    folder, rows = plan.scratch / program.module, []
    for where in ("gradient", "parameter", "loss"):
        for leaf in LEAVES:
            with poisoned(where, 0, 0.0, leaf):
                out = folder / where / f"whole-{leaf}"
                done = programs.call(module, *program.flags, "--out", str(out))
            assert done.code == 0, done
        last, problems = programs.steps(out)[-1], []
        moments = [1, last, *(rng.randint(1, last) for _ in range(number))][:number]
        for index, at in enumerate(moments):
            out, leaf = folder / where / str(index), rng.choice(LEAVES)
            whole = folder / where / f"whole-{leaf}"
            with poisoned(where, at, rng.choice(VALUES), leaf):
                done = programs.call(module, *program.flags, "--out", str(out))
            if problem := problem_of(done, out, whole, at):
                problems.append(f"update {at} of {last}: {problem}")
        rows.append(
            judged(
                f"`{program.module}`: NaN or infinity as a {where}, at one update",
                len(moments),
                problems,
            )
        )
    return rows


def too_fast(module: Any, program: Program, plan: Plan) -> Row:
    """Learning rates that no training survives."""
    rates, problems = ["1e5", "1e20", "1e30", "3e38"][: plan.few(1, 4)], []
    for rate in rates:
        out = plan.scratch / f"{program.module}-{rate}"
        flags = [*program.flags, "--learning-rate", rate, "--out", str(out)]
        done = programs.call(module, *flags)
        finite = all(
            np.isfinite(array).all()
            for step in programs.steps(out)
            for array in programs.state(out, step).values()
            if np.issubdtype(array.dtype, np.floating)
        )
        if not finite or not done.is_plain or done.code not in (0, 2):
            problems.append(f"{rate}: exit {done.code}, saved finite: {finite}")
    return judged(
        f"`{program.module} --learning-rate` {', '.join(rates)}: stops in one line, or "
        "stays finite",
        len(rates),
        problems,
    )


def run(plan: Plan) -> list[Row]:
    """Bad numbers in names and charlm."""
    rng, number = plan.random("numbers"), plan.few(2, 8)
    rows = []
    for module, program in ((names, programs.names(3)), (charlm, programs.charlm(1))):
        rows += in_program(module, program, plan, number, rng)
        rows.append(too_fast(module, program, plan))
    return rows
