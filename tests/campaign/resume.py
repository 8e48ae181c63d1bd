"""Stop every model of both programs at some updates, and go on."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

from train.charlm import __main__ as charlm
from train.names import __main__ as names
from train.names.settings import SETTINGS

from . import programs
from .programs import SAMPLE, Program
from .results import Plan, Row, judged

FEW = 8
"""Names of each language: a bucket or two, an epoch of few updates."""


def make_data(folder: Path) -> Path:
    """A few names of each language of the sample; enough for the workshop's test."""
    folder.mkdir(parents=True)
    for path in (SAMPLE / "names").iterdir():
        lines = path.read_text(encoding="utf-8").splitlines()
        if path.stem in ("German", "Italian"):
            lines += [f"{line[:3]}{c}" for line in lines[:20] for c in "aeiou"]
        else:
            lines = lines[:FEW]
        (folder / path.name).write_text("\n".join(lines), encoding="utf-8")
    return folder


def every_model(scratch: Path) -> dict[str, tuple[Any, Program, int]]:
    """Each recipe and model with a short training, and its number of rounds."""
    data, found = ["--data", str(make_data(scratch / "names"))], {}
    lengths = {
        "workshop": (2, "--iterations", "2000"),
        "blog": (2, "--epochs", "2"),
        "binary": (4, "--epochs", "4"),
    }
    for recipe, model in SETTINGS:
        flags = ["--recipe", recipe, "--model", model, "--hidden-size", "8"]
        rounds, *length = lengths.get(recipe, (3, "--epochs", "3"))
        flags += length
        flags += ["--noise", "2"] * (recipe == "workshop")
        flags += ["--protocol", "blog"] * (recipe == "best")
        program = Program("train.names", (*flags, *data), 0)
        found[f"names {recipe} {model}"] = (names, program, rounds)
    text = ["--text", str(SAMPLE / "script.txt"), "--hidden-size", "8"]
    small = {"lab": ["--mlp-size", "8", "--window", "9"], "shakespeare": []}
    for recipe, flags in small.items():
        flags = ["--recipe", recipe, *flags, *text, "--epochs", "3"]
        program = Program("train.charlm", tuple(flags), 0)
        found[f"charlm {recipe} lstm"] = (charlm, program, 3)
    return found


def moments(last: int, rounds: int, quick: bool) -> dict[str, int]:
    """Where to stop: by what the moment is called, the number of the update.

    Args:
        last: The number of updates of the whole run.
        rounds: How many epochs, or thousands of iterations, these are.
        quick: Whether one is enough.

    Returns:
        The update after which to stop, by what the moment is called.
    """
    end = last // rounds
    found = {"mid-epoch": end + end // 3, "first": 1, "epoch end": end}
    found["last but one"] = last - 1
    return dict(list(found.items())[: 1 if quick else None])


def stop_and_go_on(
    module: Any, program: Program, out: Path, whole: Path, at: int
) -> str:
    """Stop a run after an update, then go on; what is wrong, "" is nothing."""
    flags = [*program.flags, "--out", str(out)]
    stopped = programs.call(module, *flags, stop_after=at)
    if stopped.code != 143 or programs.steps(out)[-1:] != [at]:
        return f"stopped: exit {stopped.code}, saved {programs.steps(out)}"
    if (out / "summary.json").exists():
        return "a summary of half a run"
    done = programs.call(module, *flags)
    if done.code or f"resuming after update {at:,}" not in done.out:
        return f"exit {done.code}: {done.err[-200:]}"
    return "; ".join(programs.differences(out, whole))


def every_moment(name: str, scratch: Path, quick: bool) -> Row:
    """Stop one model at every kind of moment."""
    folder = scratch / name.replace(" ", "-")
    module, program, rounds = every_model(folder)[name]
    whole = folder / "whole"
    with (
        # Pictures are not compared, and take half of the time.
        mock.patch("train.names.finish.draw"),
        mock.patch("train.charlm.finish.draw"),
    ):
        done = programs.call(module, *program.flags, "--out", str(whole))
        assert done.code == 0, done.err
        at = moments(programs.steps(whole)[-1], rounds, quick)
        problems = [
            f"{what} (update {step}): {problem}"
            for what, step in at.items()
            if (problem := stop_and_go_on(module, program, folder / what, whole, step))
        ]
    shown = ", ".join(f"{what} ({step:,})" for what, step in at.items())
    return judged(
        f"`{name}`, stopped after update {shown}",
        len(at),
        problems,
    )


def run(plan: Plan) -> list[Row]:
    """Every model, one on each core."""
    all_of_them = [f"names {recipe} {model}" for recipe, model in SETTINGS]
    all_of_them += ["charlm lab lstm", "charlm shakespeare lstm"]
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, fresh) as pool:
        jobs = [
            pool.submit(every_moment, name, plan.scratch, plan.quick)
            for name in all_of_them
        ]
        return [job.result() for job in jobs]
