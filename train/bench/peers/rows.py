"""The rows of the comparison: what is done, by whom, and how much faster we want to be."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax import GRUCell, LSTMCell, Recurrent
from rnnjax.cells import Cell
from train.bench import measuring
from train.bench.peers import processes
from train.bench.peers.work import (
    Amount,
    layer_work,
    names_work,
    sample_work,
    text_work,
)
from train.datasets import find_names
from train.runs.directory import device_line

OURS = "rnnjax"

PACKAGES = {
    "torch": "pip install torch",
    "keras": 'pip install -e ".[bench]"',
    "equinox": 'pip install -e ".[bench]"',
}
"""How to get what a contestant needs."""


class Options(NamedTuple):
    """What the flags say about the measuring.

    Attributes:
        rounds: How often everyone is timed.
        data: Directory of the names; None is as in ``train.names``.
        text: The text; None is as in ``train.charlm``.
        whole: Whether a lesson's program is run to its end instead of extrapolated.
    """

    rounds: int = 9
    data: str | None = None
    text: str | None = None
    whole: bool = False


class Contestant(NamedTuple):
    """One side of a comparison.

    Attributes:
        prepare: Its function in :mod:`train.bench.peers`, as ``module:function``.
        needs: The package that has to be installed for it.
        bar: How many times as fast as it we mean to be.
        tolerance: How far its values may be from ours, relative to the largest.
        compared: How many of the values have to agree; None is all.
        device: The kind of device that it is for, as JAX calls it; None is all.
    """

    prepare: str
    needs: str | None = None
    bar: float | None = None
    tolerance: float = 1e-3
    compared: int | None = None
    device: str | None = None


class Row(NamedTuple):
    """One comparison.

    Attributes:
        title: What is done.
        unit: What is counted.
        work: Makes what all contestants are given.
        contestants: From names to contestants; ours comes first.
        small_loops: Whether XLA compiles small loops whole, as in ``train.names``.
        product: Rows, inner size and columns of the products that take the time.
        peak_share: The share of the machine's best product that we mean to reach.
        max_rounds: Fewer rounds than asked for, where one takes long.
        is_program: Whether contestants are whole programs: they tell their seconds,
            and nothing else can be compared.
        is_asked_for: Whether it is measured only when its name is given.
    """

    title: str
    unit: str
    work: Callable[[Options], Any]
    contestants: Mapping[str, Contestant]
    small_loops: bool = False
    product: tuple[int, int, int] = measuring.SQUARE
    peak_share: float | None = None
    max_rounds: int | None = None
    is_program: bool = False
    is_asked_for: bool = False


# Frameworks with one bias move it by one step where two biases move by two, so that
# losses part slowly: the first is equal, the next ones nearly so.
_ONE_BIAS = {"tolerance": 2e-2, "compared": 3}


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _names(recipe, model, **changes):
    def work(options: Options):
        return names_work(recipe, model, find_names(_path(options.data)), **changes)

    return work


def _lesson(function: str, bar: float, **more) -> Contestant:
    return Contestant(f"lessons:{function}", "torch", bar, **more)


def _workshop(model: str) -> Row:
    return Row(
        f"workshop {model}: updates on single names, SGD",
        "update",
        _names("workshop", model),
        {OURS: Contestant("ours:names"), "lesson": _lesson("workshop", 40)},
        small_loops=True,
    )


def _backends(cell: Cell) -> Row:
    kind = type(cell).__name__.removesuffix("Cell")
    dtype = jnp.dtype(cell.dtype or jnp.float32)
    contestants = {
        OURS: Contestant("ours:layer"),
        "pallas": Contestant("ours:pallas_layer", tolerance=1e-2, device="tpu"),
    }
    if isinstance(cell, LSTMCell) and cell.dtype is None:
        contestants["cudnn"] = Contestant(
            "ours:cudnn_layer", tolerance=1e-2, device="gpu"
        )
    return Row(
        f"the backends: {kind} of {cell.features} in {dtype}, forward and backward, "
        "batch 64, 50 steps",
        "pass",
        lambda options: layer_work(Recurrent(cell), 65, 64, 50),
        contestants,
        product=(64, cell.features, cell.gates * cell.features),
        is_asked_for=True,
    )


def _programs(options: Options) -> processes.Programs:
    names = find_names(_path(options.data))
    return processes.Programs(names.directory, options.whole)


def _lesson_program(lesson: str, bar: float) -> Contestant:
    return Contestant(f"processes:lesson_{lesson}", "torch", bar)


ROWS: dict[str, Row] = {
    "workshop-rnn": _workshop("rnn"),
    "workshop-gru": _workshop("gru"),
    "workshop-attention": _workshop("attention"),
    "workshop-program": Row(
        "the whole program of workshop rnn, 80,000 updates",
        "program",
        _programs,
        {
            OURS: Contestant("processes:workshop"),
            "rnnjax, started before": Contestant("processes:workshop_again"),
            "lesson": _lesson_program("workshop", 10),
        },
        max_rounds=3,
        is_program=True,
    ),
    "practical": Row(
        "practical: an epoch with its validation, batches of 16, Adam",
        "epoch",
        _names("practical", "linear", validates=True),
        {OURS: Contestant("ours:names"), "lesson": _lesson("practical", 20)},
        small_loops=True,
        max_rounds=5,
    ),
    "blog-gru": Row(
        "blog gru: updates on single names, Adam",
        "update",
        _names("blog", "gru", names=128),
        {OURS: Contestant("ours:names"), "lesson": _lesson("blog", 6)},
        small_loops=True,
    ),
    "blog-accuracy": Row(
        "a whole program that reaches the 81.4 % of the blog's test",
        "program",
        _programs,
        {
            OURS: Contestant("processes:accuracy"),
            "rnnjax, started before": Contestant("processes:accuracy_again"),
            "lesson": _lesson_program("blog", 25),
        },
        max_rounds=3,
        is_program=True,
    ),
    "padded": Row(
        "GRU 2x256 on batches of 64 names",
        "update",
        _names("blog", "gru", names=2048, batch_size=64, order="by_length"),
        {
            OURS: Contestant("ours:names"),
            "torch packed": Contestant("packed:names", "torch", 2),
            "flax nn.RNN": Contestant("flax_rnn:names", None, 2, **_ONE_BIAS),
        },
        small_loops=True,
        product=(64, 256, 768),
    ),
    "lab": Row(
        "lesson 002: LSTM 1024, MLP 2048, batch 64, 50 steps, dropout, Adam",
        "update",
        lambda options: text_work(_path(options.text), updates=3),
        {
            OURS: Contestant("ours:lab"),
            "torch": _lesson("lab", 1.15),
            "flax nn.RNN": Contestant("flax_rnn:lab", None, 1.15, **_ONE_BIAS),
            "keras": Contestant("keras_rnn:lab", "keras", 1.15, **_ONE_BIAS),
            "equinox": Contestant("equinox_rnn:lab", "equinox", None, **_ONE_BIAS),
        },
        product=(64, 1024, 4096),
        peak_share=0.7,
    ),
    "lstm": Row(
        "an LSTM of 1024 alone, forward and backward, batch 64, 50 steps",
        "pass",
        lambda options: layer_work(
            Recurrent(LSTMCell(1024, vocab_size=65)), 65, 64, 50
        ),
        {
            OURS: Contestant("ours:layer"),
            "nn.scan": Contestant("ours:reference_layer", None, 1.2),
            "flax nn.RNN": Contestant("flax_rnn:layer"),
            "torch": Contestant("packed:layer", "torch"),
        },
        product=(64, 1024, 4096),
    ),
    "backends-lstm": _backends(LSTMCell(1024, vocab_size=65)),
    "backends-gru": _backends(GRUCell(1024, vocab_size=65)),
    "backends-lstm-bfloat16": _backends(
        LSTMCell(1024, vocab_size=65, dtype=jnp.bfloat16)
    ),
    "backends-gru-bfloat16": _backends(
        GRUCell(1024, vocab_size=65, dtype=jnp.bfloat16)
    ),
    "sample-1": Row(
        "greedy text from lesson 002's model, one sample",
        "character",
        lambda options: sample_work(_path(options.text), chars=150, samples=1),
        {OURS: Contestant("ours:sample"), "lesson": _lesson("sample", 7, compared=20)},
    ),
    "sample-64": Row(
        "greedy text from lesson 002's model, 64 samples",
        "character",
        lambda options: sample_work(_path(options.text), chars=24, samples=64),
        {OURS: Contestant("ours:sample"), "lesson": _lesson("sample", 35, compared=20)},
        max_rounds=5,
    ),
}


def is_installed(package: str | None) -> bool:
    """Whether a package that a contestant needs is there."""
    return package is None or importlib.util.find_spec(package) is not None


def contestants(row: Row) -> tuple[dict[str, Contestant], list[str]]:
    """Those who can take part, and a line about each of the others."""
    present, absent = {}, []
    for name, contestant in row.contestants.items():
        missing = None
        if not is_installed(contestant.needs):
            remedy = PACKAGES[contestant.needs]
            missing = f"{contestant.needs} is not installed ({remedy})"
        elif contestant.device not in (None, jax.default_backend()):
            missing = f"it is for a {contestant.device.upper()}"
        if missing is None:
            present[name] = contestant
        else:
            absent.append(f"{name} is left out: {missing}")
    return present, absent


def prepare(contestant: Contestant, work: Any) -> Callable[[int], Any]:
    """Import a contestant, and let it begin."""
    module, function = contestant.prepare.split(":")
    return getattr(importlib.import_module(f"train.bench.peers.{module}"), function)(
        work
    )


def prepare_all(row: Row, present: Mapping[str, Contestant], work: Any):
    """Let everyone begin, when all have shown to compute the same as we do.

    Returns:
        ``(runs, differences)``, each by name.

    Raises:
        InputError: If a contestant computes something else.
    """
    comparable = getattr(work, "without_dropout", work)
    runs, values, differences = {}, {}, {}
    for name, contestant in present.items():
        runs[name] = prepare(contestant, comparable)
        values[name] = runs[name](0)
        if name != OURS:
            num = contestant.compared
            differences[name] = measuring.check_same(
                name, values[OURS][:num], values[name][:num], contestant.tolerance
            )
    if comparable is not work:
        runs = {name: prepare(each, work) for name, each in present.items()}
        for run in runs.values():
            run(0)
    return runs, differences


def measure(row: Row, options: Options) -> dict[str, Any]:
    """Time all contestants of a row.

    Returns:
        For JSON: figures of each contestant, raw seconds included, and of the machine.

    Raises:
        InputError: If a contestant computes something else.
    """
    present, absent = contestants(row)
    work = row.work(options)
    rounds = min(options.rounds, row.max_rounds or options.rounds)
    if row.is_program:
        timers, differences = {n: prepare(c, work) for n, c in present.items()}, {}
    else:
        runs, differences = prepare_all(row, present, work)
        # What is over within milliseconds is done for a fifth of a second.
        timers = {name: measuring.stopwatch(run, 0.2) for name, run in runs.items()}
    seconds = measuring.interleave(timers, rounds)
    amounts = [work.amount(round_) for round_ in range(1, rounds + 1)]
    peak = max(measuring.best_flop_rate(s) for s in {measuring.SQUARE, row.product})
    return {
        "contestants": {
            name: figures(seconds[name], seconds[OURS], amounts, peak)
            | {"difference": differences.get(name)}
            for name in present
        },
        "notes": absent + getattr(work, "notes", []),
        "rounds": rounds,
        "peak_flops": peak,
    }


def figures(
    seconds: list[float], ours: list[float], amounts: list[Amount], peak: float
) -> dict[str, Any]:
    """What one contestant's seconds mean.

    Args:
        seconds: Of each round.
        ours: Our side's, of the same rounds.
        amounts: What was done in each.
        peak: FLOP/s of the machine's best product.
    """
    rounds = list(zip(seconds, amounts, strict=True))
    return {
        "seconds": measuring.spread([s / a.units for s, a in rounds])._asdict(),
        "chars_per_second": measuring.spread([a.chars / s for s, a in rounds]).median,
        "peak_share": measuring.spread([a.flops / s for s, a in rounds]).median / peak,
        "times_as_fast": measuring.times_as_fast(ours, seconds)._asdict(),
        "round_seconds": seconds,
    }


def measure_start(row: Row, name: str, options: Options) -> dict[str, Any]:
    """What the first round costs beyond the second, and memory, of this process."""
    run = prepare(row.contestants[name], row.work(options))
    timer = measuring.stopwatch(run)
    first, second = timer(0), timer(1)
    return {
        "compile_seconds": max(0.0, first - second),
        "peak_memory": measuring.peak_memory(),
    }


def measure_machine() -> dict[str, Any]:
    """What all of this was measured on."""
    packages = ("jax", "jaxlib", "flax", "numpy", "torch", "keras", "equinox")
    versions = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "device": device_line(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "peak_flops": measuring.best_flop_rate(measuring.SQUARE),
    }
