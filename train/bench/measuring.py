"""Time contestants against each other, and what the machine could do at best."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from train.cli import InputError

Clock = Callable[[], float]
Timer = Callable[[int], float]
"""From the number of a round to the seconds that it took."""

SQUARE = (4096, 4096, 4096)
"""Rows, inner size and columns of the product that any machine does well."""


class Spread(NamedTuple):
    """Several measurements of one thing.

    Attributes:
        median: Half of them are below it.
        low: A quarter of them are below it.
        high: A quarter of them are above it.
    """

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles.

    Args:
        values: At least one.

    Example:
        >>> spread([3.0, 1.0, 2.0, 10.0, 4.0])
        Spread(median=3.0, low=2.0, high=4.0)
    """
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def stopwatch(
    run: Callable[[int], object],
    at_least: float = 0.0,
    clock: Clock = time.perf_counter,
) -> Timer:
    """A timer of a function that does the work of a round.

    Args:
        run: Takes the number of a round; what it did is done when it returns.
        at_least: Do the round's work again until so many seconds have passed, for work
            that is over too soon to be timed well.
        clock: Seconds.

    Returns:
        From the number of a round to the seconds of doing its work once.
    """

    def timer(round_: int) -> float:
        began, times, elapsed = clock(), 0, 0.0
        while not times or elapsed < at_least:
            run(round_)
            times += 1
            elapsed = clock() - began
        return elapsed / times

    return timer


def interleave(timers: Mapping[str, Timer], rounds: int) -> dict[str, list[float]]:
    """Time all contestants in every round, so that a slow minute hits all of them.

    Every other round goes through them backwards: none always comes after the same one.

    Args:
        timers: From each contestant's name to its timer.
        rounds: How often; rounds are numbered from 1, for 0 is the warm-up.

    Returns:
        From each name to its seconds, round by round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    for round_ in range(1, rounds + 1):
        names = list(timers) if round_ % 2 else list(timers)[::-1]
        for name in names:
            seconds[name].append(timers[name](round_))
    return seconds


def times_as_fast(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """How many times as fast we are, round by round.

    Args:
        ours: Seconds of each round.
        theirs: The same rounds of another contestant.
    """
    return spread([b / a for a, b in zip(ours, theirs, strict=True)])


def check_same(
    name: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float
) -> float:
    """Refuse a contestant that computes something else.

    Args:
        name: Whose values they are.
        ours: What our side computes from the same weights and the same data, such as
            the losses of successive updates.
        theirs: What the contestant computes.
        tolerance: The largest difference, relative to our largest value.

    Returns:
        The largest difference, relative to our largest value.

    Raises:
        InputError: If a value differs by more.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if ours.shape != theirs.shape:
        raise InputError(
            f"{name} computes something else: {theirs.shape} values against our "
            f"{ours.shape}; nothing was timed"
        )
    difference = np.abs(theirs - ours) / np.abs(ours).max()
    worst = int(difference.argmax())
    # Not ">": a NaN is no agreement either.
    if not difference[worst] <= tolerance:
        raise InputError(
            f"{name} computes something else: its value {worst + 1} is "
            f"{theirs[worst]:.6g}, ours is {ours[worst]:.6g}; nothing was timed"
        )
    return float(difference[worst])


def best_flop_rate(
    shape: tuple[int, int, int], repeats: int = 3, clock: Clock = time.perf_counter
) -> float:
    """The most float32 operations a second in a product of two matrices.

    Args:
        shape: Rows, inner size, columns.
        repeats: The best of so many counts.
        clock: Seconds.

    Returns:
        FLOP/s of the better of JAX and, on a CPU, NumPy.
    """
    rows, inner, columns = shape
    a, b = jnp.ones((rows, inner)), jnp.ones((inner, columns))
    product = jax.jit(jnp.matmul)
    products: list[Callable[[], Any]] = [lambda: product(a, b).block_until_ready()]
    if jax.default_backend() == "cpu":
        x, y = np.asarray(a), np.asarray(b)
        products.append(lambda: x @ y)

    def timer_of(run: Callable[[], Any]) -> Callable[[int], float]:
        return stopwatch(lambda _: run(), 0.05, clock)

    timers = [timer_of(run) for run in products]
    for timer in timers:
        timer(0)
    seconds = min(timer(n) for n in range(repeats) for timer in timers)
    return 2 * rows * inner * columns / seconds


def peak_memory(pid: int | None = None) -> int:
    """The most memory that a process has had so far, bytes.

    Args:
        pid: A process; None is this one. Of another one only Linux tells, else it is 0.
    """
    # What getrusage tells of a process counts what its parent had when it began.
    status = Path(f"/proc/{pid or 'self'}/status")
    try:
        lines = status.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    if pid is not None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
