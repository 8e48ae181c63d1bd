"""How time and memory grow with the work, for a real character each.

Layers are timed in this process, every size of an axis in turn. Programs run as a person
runs them, on names and texts made up here, for no real ones are so many.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from rnnjax import LSTM
from train.bench.measuring import interleave, peak_memory, spread, stopwatch
from train.cli import InputError
from train.plots import COLOURS, save

VOCAB = 65
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


class Cost(NamedTuple):
    """What a size cost.

    Attributes:
        size: Of what grows.
        chars: Real characters of what was timed.
        seconds: In updates, for a real character.
        memory: Most bytes at once: of a layer's temporaries, or of a whole process.
    """

    size: int
    chars: int
    seconds: float
    memory: int


class Axis(NamedTuple):
    """Something that grows.

    Attributes:
        title: What it is.
        what: What was done, in a line.
        points: From the smallest to the largest.
    """

    title: str
    what: str
    points: Sequence[Cost]


def measure(repeats: int, quick: bool, say: Callable[[str], object]) -> list[Axis]:
    """Let everything grow, one thing at a time.

    Args:
        repeats: How often a layer's gradient is timed; the median counts.
        quick: Only the smaller sizes, to try it out.
        say: Is told what comes next.

    Returns:
        The axes.
    """
    axes = []
    sizes: tuple[int, ...]
    for title, sizes, shape in (
        ("sequence length", (50, 200, 1000, 5000), lambda n: (16, n, 128)),
        ("batch", (1, 4, 16, 64, 256, 1024), lambda n: (n, 50, 128)),
        ("hidden size", (32, 128, 512, 2048), lambda n: (64, 50, n)),
    ):
        say(title)
        shapes = {size: shape(size) for size in (sizes[:2] if quick else sizes)}
        what = "LSTM, forward and backward; batch, steps, hidden: "
        what += "; ".join(f"{b} x {t} x {h}" for b, t, h in shapes.values())
        axes.append(Axis(title, what, layer_points(shapes, repeats)))
    for title, sizes, run, what in (
        (
            "number of names",
            (20_000, 200_000, 2_000_000),
            names_point,
            "train.names --recipe practical --model gru --batch-size 64 --epochs 1",
        ),
        (
            "bytes of text",
            (10**6, 10**7, 2 * 10**8),
            text_point,
            "train.charlm --hidden-size 128 --minutes 0.2",
        ),
    ):
        say(title)
        points = []
        for size in sizes[:1] if quick else sizes:
            with tempfile.TemporaryDirectory() as directory:
                points.append(run(size, Path(directory)))
        axes.append(Axis(title, what, points))
    return axes


def layer_points(
    shapes: dict[int, tuple[int, int, int]], repeats: int
) -> Sequence[Cost]:
    """Time an LSTM's gradient at several sizes, by turns.

    Args:
        shapes: From the size to ``(batch, steps, features)``.
        repeats: How often.
    """
    compiled, timers = {}, {}
    for size, (batch, steps, features) in shapes.items():
        rng = np.random.default_rng(0)
        tokens = rng.integers(VOCAB, size=(batch, steps), dtype=np.int32)
        layer = LSTM(features, vocab_size=VOCAB)
        params = jax.jit(layer.init)(jax.random.key(0), tokens)["params"]

        def loss(params, tokens, layer=layer):
            _, ys = layer.apply({"params": params}, tokens)
            return jnp.mean(ys**2)

        program = jax.jit(jax.grad(loss)).lower(params, tokens).compile()

        def run(_, program=program, params=params, tokens=tokens):
            jax.block_until_ready(program(params, tokens))

        run(0)
        compiled[str(size)] = program
        timers[str(size)] = stopwatch(run, at_least=0.1)
    seconds = interleave(timers, repeats)
    points = []
    for size, (batch, steps, _) in shapes.items():
        chars = batch * steps
        memory = compiled[str(size)].memory_analysis()
        assert memory is not None  # of CPU, GPU and TPU it is known
        median = spread(seconds[str(size)]).median
        memory_bytes = memory.temp_size_in_bytes
        points.append(Cost(size, chars, median / chars, memory_bytes))
    return points


def names_point(num_names: int, directory: Path) -> Cost:
    """Train an epoch on so many names."""
    chars = write_names(directory / "names", num_names)
    flags = "--recipe practical --model gru --batch-size 64 --epochs 1 --data names"
    summary, memory = run_program("train.names", flags.split(), directory)
    # The recipe trains on three quarters of the names.
    return Cost(num_names, chars, summary["train_seconds"] / (0.75 * chars), memory)


def text_point(num_bytes: int, directory: Path) -> Cost:
    """Train for some seconds on a text of so many bytes."""
    write_text(directory / "text.txt", num_bytes)
    flags = "--text text.txt --hidden-size 128 --minutes 0.2"
    summary, memory = run_program("train.charlm", flags.split(), directory)
    config = json.loads((directory / "run" / "config.json").read_text())["settings"]
    chars = summary["steps"] * config["batch_size"] * config["window"]
    return Cost(num_bytes, chars, summary["train_seconds"] / chars, memory)


def run_program(
    program: str, flags: Sequence[str], directory: Path
) -> tuple[dict, int]:
    """Run a program as a person does, in a process of its own.

    Args:
        program: Such as ``train.names``.
        flags: Its flags but for ``--out``.
        directory: Where it runs.

    Returns:
        Its summary, and the most memory it had, in bytes.

    Raises:
        InputError: If it fails; with the last line that it printed.
    """
    root = str(Path(__file__).parents[2])
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", program, *flags, "--out", "run"],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": root},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        memory = 0
        while process.poll() is None:
            memory = max(memory, peak_memory(process.pid))
            time.sleep(0.1)
    if process.returncode:
        lines = log.read_text(errors="replace").splitlines() or ["it said nothing"]
        raise InputError(f"python -m {program} failed: {lines[-1]}")
    summary = json.loads((directory / "run" / "summary.json").read_text())
    return summary, memory


def write_names(directory: Path, num_names: int) -> int:
    """Make up names in 18 languages, each with letters that it likes.

    Args:
        directory: Is made; gets one file for each language.
        num_names: How many in all.

    Returns:
        Number of their characters.
    """
    rng = np.random.default_rng(0)
    directory.mkdir()
    chars = 0
    for language in range(18):
        num = num_names // 18 + (language < num_names % 18)
        likes = rng.dirichlet(np.full(len(LETTERS), 0.5))
        seq_lengths = rng.integers(4, 12, num)
        letters = "".join(rng.choice(LETTERS, seq_lengths.sum(), p=likes))
        ends = np.cumsum(seq_lengths)
        names = (letters[end - n : end] for end, n in zip(ends, seq_lengths))
        path = directory / f"Language{language:02}.txt"
        path.write_text("\n".join(name.capitalize() for name in names) + "\n")
        chars += len(letters)
    return chars


def write_text(path: Path, num_bytes: int) -> None:
    """Make up a text of words, some of which are more frequent than others."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(LETTERS, n)) for n in rng.integers(2, 10, 5000)]
    shares = 1 / np.arange(1, 5001)
    written = 0
    with path.open("w") as file:
        while written < num_bytes:
            chosen = rng.choice(5000, 200_000, p=shares / shares.sum())
            lines = (
                " ".join(words[word] for word in line)
                for line in chosen.reshape(-1, 10)
            )
            piece = "\n".join(lines)[: num_bytes - written - 1] + "\n"
            written += file.write(piece)


def table(axes: Sequence[Axis]) -> str:
    """The figures, for people."""
    lines = []
    for axis in axes:
        lines += ["", f"{axis.title} ({axis.what})"]
        lines.append(f"{'':>14}  ns/character  of the one before  memory (MB)")
        before = None
        for point in axis.points:
            ratio = f"{point.seconds / before:.2f}" if before else ""
            before = point.seconds
            lines.append(
                f"{point.size:>14,}  {1e9 * point.seconds:>12,.0f}  {ratio:>17}  "
                f"{point.memory / 1e6:>11,.1f}"
            )
    return "\n".join(lines[1:])


def record(axes: Sequence[Axis]) -> list[dict]:
    """The figures, for JSON."""
    return [
        axis._asdict() | {"points": [point._asdict() for point in axis.points]}
        for axis in axes
    ]


def draw(path: Path, axes: Sequence[Axis]) -> None:
    """A picture for each axis: time above, memory below, both scales logarithmic."""
    figure = Figure(figsize=(3 * len(axes), 5.4), layout="constrained")
    rows = figure.subplots(2, len(axes), squeeze=False)
    for column, axis in enumerate(axes):
        sizes = [point.size for point in axis.points]
        values = (
            [1e9 * point.seconds for point in axis.points],
            [point.memory / 1e6 for point in axis.points],
        )
        for row, (ys, colour) in enumerate(zip(values, COLOURS, strict=False)):
            axes_ = rows[row][column]
            axes_.loglog(sizes, ys, color=colour, marker="o")
            axes_.set_ylim(min(ys) / 3, max(ys) * 3)
            axes_.grid(alpha=0.3)
        rows[1][column].set_xlabel(axis.title)
    rows[0][0].set_ylabel("time for a character (ns)")
    rows[1][0].set_ylabel("memory (MB)")
    save(figure, path)
