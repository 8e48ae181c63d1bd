"""Run the commands of README's table of results and print the table.

python -m train.results                               # about 25 minutes on two cores
python -m train.results --only blog-gru,blog-rnn --seeds 5

The runs stay in their directories; the same command goes on where it was stopped.
"""

import dataclasses
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np

from train.cli import InputError, Stopped, default, run, some_of
from train.datasets import FOUND
from train.runs.directory import read_json


class ResultRow(NamedTuple):
    """One command of the table.

    Attributes:
        command: What follows ``python -m``.
        figures: From what the summary calls a figure to what is said of it.
    """

    command: str
    figures: Mapping[str, str]


ACCURACY = "test_accuracy"

ROWS = {
    "best": ResultRow(
        "train.names",
        {ACCURACY: "", "leak_free_test_accuracy": "no test name is in training"},
    ),
    "practical": ResultRow(
        "train.names --recipe practical --model linear", {ACCURACY: "lesson 000"}
    ),
    "workshop": ResultRow(
        "train.names --recipe workshop --model attention", {ACCURACY: "lesson 001"}
    ),
    "blog-gru": ResultRow(
        "train.names --recipe blog --model gru", {ACCURACY: "lesson 003"}
    ),
    "blog-rnn": ResultRow(
        "train.names --recipe blog --model rnn", {ACCURACY: "lesson 003"}
    ),
    "binary": ResultRow(
        "train.names --recipe binary --model linear", {ACCURACY: "lesson 004"}
    ),
    "shakespeare": ResultRow("train.charlm --minutes 3", {"val_nats_per_char": ""}),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Run the commands of README's table of results and print the table."""

    only: Annotated[str | None, default("all")] = None
    """Some of the rows, with commas between them (a wrong one lists them)."""
    seeds: int = 3
    """Trainings of each command, with seeds 0, 1, …, one after the other."""
    out: Path = Path("runs/results")
    """Directory for the run directories."""
    data: Annotated[Path | None, FOUND] = None
    """Directory with one <Language>.txt for each language."""
    text: Annotated[Path | None, FOUND] = None
    """File in UTF-8 for train.charlm."""

    def __post_init__(self):
        if self.seeds < 1:
            raise InputError(f"--seeds is {self.seeds}; expected at least 1")
        some_of(self.only, ROWS, "row")

    @property
    def rows(self) -> list[str]:
        """The rows to be shown."""
        return some_of(self.only, ROWS, "row")


def train(name: str, seed: int, config: Config) -> dict[str, Any]:
    """Run a row's command in a process of its own, or go on with it.

    Returns:
        The run's summary.

    Raises:
        Stopped: If it ended with an error, or was stopped.
    """
    program, *flags = ROWS[name].command.split()
    flags += ["--seed", str(seed), "--out", str(config.out / f"{name}-{seed}")]
    if program == "train.names" and config.data is not None:
        flags += ["--data", str(config.data)]
    if program == "train.charlm" and config.text is not None:
        flags += ["--text", str(config.text)]
    print(shlex.join(["python", "-m", program, *flags]), file=sys.stderr)
    if code := run_program([program, *flags]):
        raise Stopped(f"{name} ended with {code}; the same command goes on", abs(code))
    return read_json(config.out / f"{name}-{seed}" / "summary.json")


def run_program(words: Sequence[str]) -> int:
    """Run one of our programs in a process of its own; return what it ends with."""
    # What it prints is not the table.
    child = subprocess.Popen([sys.executable, "-m", *words], stdout=sys.stderr)
    try:
        return child.wait()
    except KeyboardInterrupt:
        return child.wait()  # Ctrl-C has reached it too, and it is saving.


def line(row: ResultRow, figure: str, summaries: Sequence[Mapping[str, Any]]) -> str:
    """A line of the table, in Markdown.

    Args:
        row: The command.
        figure: The one to be shown; an accuracy is a share.
        summaries: Of its runs.

    Returns:
        The line.
    """
    is_share = "accuracy" in figure
    unit, digits, scale = ("%", 2, 100) if is_share else ("nats", 3, 1)
    values = scale * np.array([summary[figure] for summary in summaries])
    each = ", ".join(f"{value:.{digits}f}" for value in values)
    mean = f"{values.mean():.{digits - 1}f}"
    if len(values) > 1:
        mean += f" ± {values.std(ddof=1):.{digits - 1}f}"
    seconds = [round(summary["wall_seconds"]) for summary in summaries]
    span = "–".join(str(s) for s in dict.fromkeys([min(seconds), max(seconds)]))
    note = row.figures[figure] and f", {row.figures[figure]}"
    return (
        f"| `python -m {row.command}`{note} | {summaries[0]['num_params']:,} | {each} | "
        f"{mean} {unit} | {span} |"
    )


def main(config: Config) -> None:
    """Train and print."""
    summaries = {
        name: [train(name, seed, config) for seed in range(config.seeds)]
        for name in config.rows
    }
    devices = {summary["device"] for runs in summaries.values() for summary in runs}
    print(f"Seeds 0 to {config.seeds - 1}; {', '.join(sorted(devices))}\n")
    print("| command | parameters | each seed | mean | seconds |")
    print("| --- | ---: | --- | ---: | ---: |")
    for name, runs in summaries.items():
        for figure in ROWS[name].figures:
            print(line(ROWS[name], figure, runs))


if __name__ == "__main__":
    run(main, Config, __doc__)
