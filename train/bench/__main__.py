"""Measure rnnjax against what one would use instead, on this machine.

    python -m train.bench                              # all rows, about 20 minutes
    python -m train.bench --rows lab,lstm --json bench.json
    python -m train.bench --quick                      # three rounds of everything
    python -m train.bench --growth growth.png          # what larger work costs
    python -m train.bench --rows backends-lstm,backends-gru    # on a TPU or a GPU
    python -m train.bench --tpu-compile                # for a TPU, without one

Every row is the same mathematics for all its contestants, which is checked before
anything is timed; they take turns, so that a slow minute of the machine hits them all.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from train.bench import growth
from train.bench.peers.rows import OURS, ROWS, Options
from train.bench.tpu import compile as tpu_compile
from train.bench.tpu.programs import PROGRAMS
from train.cli import InputError, default, run, some_of
from train.datasets import FOUND
from train.runs.files import write_json


@dataclasses.dataclass(frozen=True)
class Measuring:
    """What is measured."""

    rows: Annotated[str | None, default("all but the backends")] = None
    """Some of the rows, with commas between them (a wrong one lists them)."""
    repeats: int = 9
    """Rounds in which everyone is timed; figures are medians over them."""
    quick: bool = False
    """Only three rounds, and neither compilation nor memory."""
    growth: Annotated[Path | None, default("none")] = None
    """PNG file: let the work of rnnjax alone grow, and draw what a character costs."""
    whole: bool = False
    """Run a lesson's program to its end, which is not extrapolated then."""
    data: Annotated[Path | None, FOUND] = None
    """Directory with one <Language>.txt for each language."""
    text: Annotated[Path | None, FOUND] = None
    """File in UTF-8 for the rows of lesson 002."""


@dataclasses.dataclass(frozen=True)
class Compiling:
    """What is compiled for a TPU instead; it needs none, and nothing is run."""

    tpu_compile: bool = False
    """Compile the programs for one TPU v5e and for four; needs ".[tpu-compile]"."""
    programs: Annotated[str | None, default("all")] = None
    """tpu-compile: some of them, with commas between them (a wrong one lists them)."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """Where the figures go."""

    json: Annotated[Path | None, default("none")] = None
    """File for all figures, raw seconds included."""


@dataclasses.dataclass(frozen=True)
class Config(Figures, Compiling, Measuring):
    """Measure rnnjax against what one would use instead."""

    def __post_init__(self):
        if self.repeats < 1:
            raise InputError(f"--repeats is {self.repeats}; expected at least 1")
        some_of(self.rows, ROWS, "row")
        some_of(self.programs, PROGRAMS, "program")
        if self.programs is not None and not self.tpu_compile:
            raise InputError("--programs belongs to --tpu-compile; add it")
        measuring = [
            f"--{field.name}"
            for field in dataclasses.fields(Measuring)
            if getattr(self, field.name) != field.default
        ]
        if self.tpu_compile and measuring:
            raise InputError(
                f"--tpu-compile measures nothing; leave out {', '.join(measuring)}"
            )

    @property
    def row_names(self) -> list[str]:
        """The rows to be measured."""
        if self.rows is None:
            return [name for name, row in ROWS.items() if not row.is_asked_for]
        return some_of(self.rows, ROWS, "row")

    @property
    def options(self) -> Options:
        """What the measuring has to know."""
        return Options(
            rounds=min(3, self.repeats) if self.quick else self.repeats,
            data=None if self.data is None else str(self.data),
            text=None if self.text is None else str(self.text),
            whole=self.whole,
        )


def in_process(
    name: str | None, options: Options, alone: str | None = None, cache: str = ""
) -> dict[str, Any]:
    """Measure in a fresh process.

    Args:
        name: Which row; None asks only about the machine.
        options: How it is measured.
        alone: The contestant whose start is measured; None compares all.
        cache: Directory of compiled programs; without one, none are kept.

    Returns:
        What :mod:`train.bench.peers.rows` returns.

    Raises:
        InputError: If the contestants differ, or the process failed.
    """
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "measured.json")
        request = {
            "row": name,
            "options": options._asdict(),
            "alone": alone,
            "small_loops": name is not None and ROWS[name].small_loops,
            "out": str(out),
        }
        done = subprocess.run(
            [sys.executable, "-m", "train.bench.peers", json.dumps(request)],
            env=os.environ
            | {
                "JAX_ENABLE_COMPILATION_CACHE": "1" if cache else "0",
                "JAX_COMPILATION_CACHE_DIR": cache,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            },
            check=False,
        )
        if done.returncode:
            # It has said why: its standard error is ours.
            raise InputError(f"row {name}: its process ended with {done.returncode}")
        measured = json.loads(out.read_text(encoding="utf-8"))
    if "error" in measured:
        raise InputError(f"row {name}: {measured['error']}")
    return measured


def measure(name: str, config: Config) -> dict[str, Any]:
    """Everything about a row: for JSON."""
    row, options = ROWS[name], config.options
    measured = in_process(name, options)
    if not (config.quick or row.is_program):
        for contestant, figures in measured["contestants"].items():
            figures |= measure_start(name, contestant, options)
    for contestant, figures in measured["contestants"].items():
        bar = row.contestants[contestant].bar
        figures["bar"] = bar
        figures["reached"] = bar and figures["times_as_fast"]["median"] >= bar
    measured["contestants"][OURS]["peak_bar"] = row.peak_share
    return {"title": row.title, "unit": row.unit, **measured}


def measure_start(name: str, contestant: str, options: Options) -> dict[str, Any]:
    """Memory and, if it compiles, seconds of it, with and without the cache."""
    if ROWS[name].contestants[contestant].needs == "torch":
        alone = in_process(name, options, contestant)
        return {"peak_memory": alone["peak_memory"]}
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = (in_process(name, options, contestant, cache) for _ in range(2))
    return {
        "peak_memory": cold["peak_memory"],
        "compile_seconds": cold["compile_seconds"],
        "cached_compile_seconds": warm["compile_seconds"],
    }


COLUMNS = (
    *("", "seconds", "quartiles", "characters/s", "of peak"),
    *("compiles", "cached", "memory", ""),
)


def table(row: Mapping[str, Any]) -> str:
    """A row's figures for people.

    Args:
        row: What :func:`measure` returns.
    """
    lines = [
        (COLUMNS[0], f"1 {row['unit']}", *COLUMNS[2:]),
        *(cells(name, each) for name, each in row["contestants"].items()),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            # Names and remarks to the left, numbers to the right.
            cell.ljust(width) if index in (0, len(widths) - 1) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([row["title"], *text, *row["notes"]])


def cells(name: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    """A contestant's line, cell by cell."""
    seconds = figures["seconds"]
    rate, share = figures["chars_per_second"], figures["peak_share"]
    memory = figures.get("peak_memory")
    return (
        name,
        duration(seconds["median"]),
        f"{duration(seconds['low'])} - {duration(seconds['high'])}",
        f"{rate:,.0f}" if rate else "",
        f"{100 * share:.0f} %" if share else "",
        duration(figures.get("compile_seconds")),
        duration(figures.get("cached_compile_seconds")),
        "" if memory is None else f"{memory / 2**20:,.0f} MiB",
        verdict(name, figures),
    )


def verdict(name: str, figures: Mapping[str, Any]) -> str:
    """How much faster we are than a contestant, and whether we meant to be so."""
    if name == OURS:
        bar = figures.get("peak_bar")
        if bar is None:
            return ""
        word = "reached" if figures["peak_share"] >= bar else "missed"
        return f"{word} {100 * bar:.0f} %"
    said = f"rnnjax is {figures['times_as_fast']['median']:.2f} times as fast"
    if figures["bar"] is None:
        return said
    word = "reached" if figures["reached"] else "missed"
    return f"{said} ({word} {figures['bar']:g})"


def duration(seconds: float | None) -> str:
    """Seconds with three digits, in the unit that fits.

    Example:
        >>> duration(0.00123456), duration(12.345), duration(None)
        ('1.23 ms', '12.3 s', '')
    """
    if seconds is None:
        return ""
    units = {"s": 1, "ms": 1e-3, "µs": 1e-6}
    unit = next((unit for unit, size in units.items() if seconds >= size), "µs")
    number = seconds / units[unit]
    digits = max(0, 2 - len(str(int(number))) + 1)
    return f"{number:.{digits}f} {unit}"


def compile_for_tpu(config: Config) -> None:
    """Compile the programs that the flags say."""
    machine = tpu_compile.machine()
    versions = ", ".join(f"{n} {v}" for n, v in machine["versions"].items())
    print(f"target: {machine['target']} ({versions})")
    names = some_of(config.programs, PROGRAMS, "program")
    found: dict[str, Any] = {}

    def done(name: str, record: dict[str, Any]) -> None:
        found[name] = record
        print(f"\n{name}: {tpu_compile.table(record)}", flush=True)
        if config.json is not None:
            ordered = {name: found[name] for name in names if name in found}
            write_json(config.json, {"machine": machine, "programs": ordered})

    tpu_compile.compile_all(names, done)
    print(f"\n{tpu_compile.LEGEND}")


def main(config: Config) -> None:
    """Measure the rows that the flags say."""
    if config.tpu_compile:
        compile_for_tpu(config)
        return
    machine = in_process(None, config.options)
    print(f"device: {machine['device']}, {machine['cores']} cores")
    print(f"float32 matrix products: {machine['peak_flops'] / 1e9:.0f} GFLOP/s at best")
    if config.growth is not None:
        axes = growth.measure(config.options.rounds, config.quick, print)
        print(f"\n{growth.table(axes)}")
        growth.draw(config.growth, axes)
        if config.json is not None:
            write_json(config.json, {"machine": machine, "growth": growth.record(axes)})
        return
    measured = {}
    for name in config.row_names:
        measured[name] = measure(name, config)
        print(f"\n{name}: {table(measured[name])}", flush=True)
        if config.json is not None:
            # After every row, for the next one may fail.
            write_json(config.json, {"machine": machine, "rows": measured})


if __name__ == "__main__":
    run(main, Config, __doc__)
