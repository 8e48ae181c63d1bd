"""Kill a training again and again, at random moments and at exact ones, and go on.

A run is killed, started again, killed again … until it comes to its end. It then has to
be the run that was never disturbed, bit by bit, and to have left nothing else behind.
"""

import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from . import orbax_training, programs
from .programs import Process, Program
from .results import Plan, Row, listed

MOST_IN_A_RUN = 6
"""Kills of one run, after which it may come to its end."""


class Kill(NamedTuple):
    """What came of one kill.

    Attributes:
        exact: Whether it was at an exact change of a file, not at a random moment.
        lost: Updates that had been reported and are to be made again.
        problem: What was wrong with the run in the end; "" is nothing.
    """

    exact: bool
    lost: int
    problem: str


class Whole(NamedTuple):
    """The run that is never disturbed.

    Attributes:
        path: Its directory.
        changes: How many changes of files it makes.
        seconds: From its first line to its end.
    """

    path: Path
    changes: int
    seconds: float


def run_whole(program: Program, path: Path) -> Whole:
    """Run a program twice: to compile it and count its changes, and to take its time."""
    counted = programs.run(program.command(path / "count", "count", "0"))
    assert counted.code == 0, counted.err
    changes = int(counted.err.rsplit("changes: ", 1)[1])
    process = Process(program.command(path / "whole"))
    process.wait_for_start()
    began = time.perf_counter()
    done = process.end()
    assert done.code == 0, done.err
    return Whole(path / "whole", changes, time.perf_counter() - began)


def kill_once(
    program: Program, out: Path, whole: Whole, rng: random.Random
) -> tuple[bool, bool, str]:
    """Train on, to be killed; ``(whether it was, whether exactly, what was wrong)``."""
    exact = rng.random() < 0.5
    if exact:
        number = str(rng.randint(1, whole.changes))
        done = programs.run(program.command(out, "kill", number))
    else:
        process = Process(program.command(out))
        process.wait_for_start()
        try:
            process.process.wait(rng.uniform(0, whole.seconds))
        except subprocess.TimeoutExpired:
            process.process.kill()
        done = process.end()
    if done.code == -signal.SIGKILL:
        return True, exact, ""
    return False, exact, "" if done.code == 0 else f"exit {done.code}"


def chain(program: Program, out: Path, whole: Whole, rng: random.Random) -> list[Kill]:
    """Kill one run until it comes to its end, and compare it."""
    kills: list[tuple[bool, int]] = []
    problem = ""
    while not problem and len(kills) < MOST_IN_A_RUN:
        killed, exact, problem = kill_once(program, out, whole, rng)
        if not killed:
            break
        kills.append((exact, lost(out)))
    else:
        done = programs.run(program.command(out))
        problem = "" if done.code == 0 else f"exit {done.code}: {done.err[-200:]}"
    problem = problem or "; ".join(programs.differences(out, whole.path))
    return [Kill(exact, updates, problem) for exact, updates in kills]


def lost(out: Path) -> int:
    """Updates that ``metrics.jsonl`` reports and no good checkpoint has."""
    records, saved = programs.metrics(out), programs.steps(out)
    reported = max((record["step"] for record in records), default=0)
    return max(0, reported - (saved[-1] if saved else 0))


def campaign(
    program: Program, plan: Plan, scratch: Path, num_kills: int
) -> tuple[list[Kill], int]:
    """Kill runs of a program so many times; the kills, and the number of runs."""
    rng = plan.random(program.module)
    whole = run_whole(program, scratch)
    kills: list[Kill] = []
    runs = 0
    while len(kills) < num_kills:
        runs += 1
        kills += chain(program, scratch / f"run{runs}", whole, rng)
    return kills, runs


def run(plan: Plan) -> list[Row]:
    """Kill names and charlm, one on each core."""
    each = plan.few(4, 32)
    small = {"names": programs.names(8), "charlm": programs.charlm(3)}
    with ThreadPoolExecutor(2) as pool:
        found = {
            name: pool.submit(
                campaign, program, plan, plan.scratch / name, num_kills=each
            )
            for name, program in small.items()
        }
    times = plan.few(1, 12)
    alone = orbax_training.ended(plan.scratch / "orbax", signal.SIGKILL, times, "kill")
    rows = []
    for name, program in small.items():
        kills, runs = found[name].result()
        exact = sum(kill.exact for kill in kills)
        most = max(kill.lost for kill in kills)
        passed = sum(not k.problem and k.lost <= program.interval for k in kills)
        problems = listed(k.problem for k in kills if k.problem)
        rows.append(
            Row(
                f"`train.{name}` killed with SIGKILL, {exact} times at an exact change "
                f"of a file, {len(kills) - exact} times at a random moment; {runs} runs "
                "went on to the end, equal bit by bit to the undisturbed one",
                len(kills),
                passed,
                f"{most} updates to be made again (saved every {program.interval}); "
                f"wrong: {problems}",
                alone,
            )
        )
    return rows
