"""Send SIGTERM or Ctrl-C at random moments, and go on."""

import random
import re
import signal
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from . import orbax_training, programs
from .kills import Whole, lost, run_whole
from .programs import SAMPLE, Process, Program
from .results import Plan, Row, listed

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
MOST_IN_A_RUN = 6


class Stop(NamedTuple):
    """What came of one signal.

    Attributes:
        seconds: Until the process had ended.
        problem: What was wrong; "" is nothing.
    """

    seconds: float
    problem: str


def stop_once(
    program: Program, out: Path, delay: float, number: signal.Signals
) -> Stop | None:
    """Train on until a signal comes; None if the training ends before."""
    process = Process(program.command(out))
    process.wait_for_start()
    try:
        process.process.wait(delay)
    except subprocess.TimeoutExpired:
        process.process.send_signal(number)
    began = time.perf_counter()
    done = process.end()
    seconds = time.perf_counter() - began
    if done.code == 0:
        return None
    # Before the training begins there is nothing to be saved.
    began_training = bool(programs.metrics(out)) or "after update" in done.err
    early = done.code == CODES[number] and not began_training
    # Or before there is even a handler, or after it has gone.
    if early or (done.code == -number and not lost(out)):
        return Stop(seconds, "")
    if done.code != CODES[number] or "Traceback" in done.err:
        return Stop(seconds, f"exit {done.code}")
    if "after update" not in done.err:
        # After the last update: all is saved already.
        return Stop(seconds, f"{lost(out)} updates lost" if lost(out) else "")
    said = re.search(r"after update ([\d,]+)", done.err)
    step = int(said[1].replace(",", ""))
    if programs.steps(out)[-1:] != [step] or lost(out):
        return Stop(seconds, f"said {step}, saved {programs.steps(out)}")
    return Stop(seconds, "")


def chain(program: Program, out: Path, whole: Whole, rng: random.Random) -> list[Stop]:
    """Stop one run until it comes to its end, and compare it."""
    stops: list[Stop] = []
    while len(stops) < MOST_IN_A_RUN:
        number = rng.choice(list(CODES))
        delay = rng.uniform(0, whole.seconds)
        if (stop := stop_once(program, out, delay, number)) is None:
            break
        stops.append(stop)
    else:
        done = programs.run(program.command(out))
        if done.code:
            return [stop._replace(problem=f"exit {done.code}") for stop in stops]
    if different := "; ".join(programs.differences(out, whole.path)):
        return [stop._replace(problem=different) for stop in stops]
    return stops


def stopped(name: str, program: Program, plan: Plan, baseline: str) -> Row:
    """Signals to a small training."""
    rng, scratch = plan.random(name), plan.scratch / name
    whole = run_whole(program, scratch)
    stops: list[Stop] = []
    runs = 0
    while len(stops) < plan.few(3, 18):
        runs += 1
        stops += chain(program, scratch / f"run{runs}", whole, rng)
    return row(
        f"`train.{name}`, SIGTERM or Ctrl-C at a random moment; {runs} runs went on to "
        "the end, equal bit by bit to the undisturbed one",
        stops,
        baseline,
    )


def row(test: str, stops: list[Stop], baseline: str = "") -> Row:
    """A line of the table."""
    problems = [stop.problem for stop in stops if stop.problem]
    times = [stop.seconds for stop in stops]
    return Row(
        test,
        len(stops),
        len(stops) - len(problems),
        f"ended after {statistics.median(times):.2f} s in the median, "
        f"{max(times):.2f} s at most; wrong: {listed(problems)}",
        baseline,
    )


def at_full_size(plan: Plan) -> Row:
    """Signals to trainings of the default size."""
    rng, stops = plan.random("full size"), []
    full = [
        ("train.names", ("--data", str(SAMPLE / "names"), "--epochs", "40")),
        ("train.charlm", ("--text", str(SAMPLE / "script.txt"))),
    ]
    for module, flags in full:
        for index in range(plan.few(1, 3)):
            out = plan.scratch / f"{module}-{index}"
            delay, number = rng.uniform(8, 14), rng.choice(list(CODES))
            program = Program(module, flags, 2000)
            stop = stop_once(program, out, delay, number)
            if stop is not None:
                stops.append(stop)
    return row("the same at the default sizes of both programs", stops)


def twice(plan: Plan) -> Row:
    """A second Ctrl-C right after the first one."""
    stops = []
    for index in range(plan.few(1, 4)):
        out = plan.scratch / f"twice-{index}"
        program = Program("train.charlm", ("--text", str(SAMPLE / "script.txt")), 2000)
        process = Process(program.command(out))
        process.wait_for_start()
        time.sleep(5 + 2 * index)
        process.process.send_signal(signal.SIGINT)
        time.sleep(0.02)
        process.process.send_signal(signal.SIGINT)
        began = time.perf_counter()
        done = process.end()
        seconds = time.perf_counter() - began
        bad = done.code != 130 or "Traceback" in done.err
        stops.append(Stop(seconds, f"exit {done.code}" if bad else ""))
    return row("Ctrl-C twice: ends at once", stops)


def run(plan: Plan) -> list[Row]:
    """All of it; the two programs side by side."""
    small = {"names": programs.names(8), "charlm": programs.charlm(3)}
    times = plan.few(1, 12)
    alone = orbax_training.ended(plan.scratch / "orbax", signal.SIGTERM, times, "stop")
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(lambda item: stopped(*item, plan, alone), small.items()))
    return [*rows, at_full_size(plan), twice(plan)]
