"""Stop and kill one of two processes that train together."""

import random
import time
from pathlib import Path

import numpy as np

from . import programs
from .pair import Pair
from .programs import Program
from .results import Plan, Row, judged, listed
from .signals import CODES

ROUNDING = 1e-4
"""Two devices add up in another order than one, and Adam divides by small numbers."""


def stopped(program: Program, folder: Path, whole: Path, rng: random.Random) -> str:
    """Stop one of them at a random moment, go on in one process; what was wrong."""
    pair = Pair(program, folder)
    pair.wait_for_updates()
    time.sleep(rng.uniform(0, 2))
    number = rng.choice(list(CODES))
    pair.processes[rng.randrange(2)].send_signal(number)
    ended = pair.end()
    if any(done.code == 0 for done in ended):
        return ""  # It came too late.
    if any(done.code != CODES[number] for done in ended):
        said = [" ".join(done.err.split())[-300:] for done in ended]
        return f"exits {[done.code for done in ended]}: {said}"
    said = {done.err.splitlines()[-1] for done in ended}
    step = programs.steps(pair.out)[-1]
    if len(said) > 1 or f"after update {step:,};" not in said.pop():
        return f"not the same update, or not saved: {step}"
    done = programs.run(program.command(pair.out))
    if done.code:
        return f"exit {done.code} when going on"
    found, expected = programs.state(pair.out), programs.state(whole)
    furthest = max(float(np.abs(found[n] - expected[n]).max()) for n in expected)
    return "" if furthest <= ROUNDING else f"other parameters, by {furthest:.1e}"


def killed(program: Program, folder: Path, which: int) -> tuple[float, str]:
    """Kill one of them: how long the other went on, and what was wrong."""
    pair = Pair(program, folder)
    pair.wait_for_updates()
    pair.processes[which].kill()
    began = time.perf_counter()
    left = pair.end()[1 - which]
    seconds = time.perf_counter() - began
    told = "another process has ended" in left.err or "another task died" in left.err
    if left.code == 0 or not told:
        return seconds, f"exit {left.code}: {left.err[-200:]}"
    steps = programs.steps(pair.out)
    return seconds, "" if steps else "nothing saved"


def run(plan: Plan) -> list[Row]:
    """Both programs."""
    rng, rows = plan.random("together"), []
    times: list[float] = []
    problems: list[str] = []
    for name, program, endless in (
        ("names", programs.names(8), programs.names(10_000)),
        ("charlm", programs.charlm(8), programs.charlm(10_000)),
    ):
        scratch = plan.scratch / name
        done = programs.run(program.command(scratch / "whole"))
        assert done.code == 0, done.err
        number = plan.few(1, 8)
        wrong = [
            stopped(program, scratch / f"stop-{index}", scratch / "whole", rng)
            for index in range(number)
        ]
        rows.append(
            judged(
                f"`train.{name}` in two processes (gloo over loopback), SIGTERM or "
                "Ctrl-C to one of them: both end after the same update, which is saved "
                "once, and one process alone goes on to the parameters of an "
                f"undisturbed one within {ROUNDING:g}",
                number,
                wrong,
            )
        )
        for index in range(plan.few(1, 6)):
            seconds, problem = killed(endless, scratch / f"kill-{index}", index % 2)
            times.append(seconds)
            problems.append(problem)
    bad = [problem for problem in problems if problem]
    rows.append(
        Row(
            "SIGKILL to one of the two: the other ends with an error",
            len(times),
            len(times) - len(bad),
            f"after {max(times):.1f} s at most; wrong: {listed(bad)}",
        )
    )
    return rows
