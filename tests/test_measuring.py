import itertools

import numpy as np
import pytest

from train.bench import measuring
from train.bench.measuring import Spread
from train.cli import InputError


class FakeClock:
    """A clock that stands still while nobody works."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds

    def work(self, seconds: float) -> None:
        self.seconds += seconds


def test_spread_is_median_and_quartiles():
    assert measuring.spread([5.0, 1.0, 4.0, 2.0, 3.0]) == Spread(3.0, 2.0, 4.0)
    assert measuring.spread([7.0]) == Spread(7.0, 7.0, 7.0)


def test_stopwatch_gives_the_seconds_of_the_round_it_is_asked_for():
    clock = FakeClock()
    timer = measuring.stopwatch(lambda round_: clock.work(round_), clock=clock)
    assert [timer(3), timer(5)] == [3.0, 5.0]


def test_stopwatch_repeats_what_is_over_too_soon():
    clock, rounds = FakeClock(), []

    def run(round_):
        rounds.append(round_)
        clock.work(0.25)

    timer = measuring.stopwatch(run, at_least=0.9, clock=clock)
    assert timer(7) == 0.25
    assert rounds == [7, 7, 7, 7]


def test_contestants_take_turns_and_the_order_alternates():
    order = []

    def timer_of(name):
        def timer(round_):
            order.append((name, round_))
            return float(round_)

        return timer

    seconds = measuring.interleave({name: timer_of(name) for name in "abc"}, 3)
    assert seconds == {name: [1.0, 2.0, 3.0] for name in "abc"}
    assert [name for name, _ in order] == list("abccbaabc")
    assert [round_ for _, round_ in order] == [1] * 3 + [2] * 3 + [3] * 3


def test_a_slow_minute_changes_seconds_but_not_the_ratio():
    clock = FakeClock()
    slowness = dict(zip(range(1, 6), [1.0, 1.0, 9.0, 9.0, 1.0], strict=True))
    timers = {
        name: measuring.stopwatch(
            lambda round_, cost=cost: clock.work(cost * slowness[round_]), clock=clock
        )
        for name, cost in [("ours", 2.0), ("theirs", 3.0)]
    }
    seconds = measuring.interleave(timers, 5)
    assert measuring.times_as_fast(seconds["ours"], seconds["theirs"]) == Spread(
        1.5, 1.5, 1.5
    )


def test_equal_values_pass_and_tell_how_equal():
    ours, theirs = np.array([2.0, 4.0]), np.array([2.0, 4.002])
    assert measuring.check_same("torch", ours, theirs, 1e-3) == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ([2.0, 4.1], "torch computes something else: its value 2 is 4.1, ours is 4"),
        ([np.nan, 4.0], "its value 1 is nan"),
        ([2.0], r"\(1,\) values against our \(2,\)"),
    ],
)
def test_a_mismatch_is_refused(theirs, said):
    with pytest.raises(InputError, match=said):
        measuring.check_same("torch", np.array([2.0, 4.0]), np.array(theirs), 1e-3)


def test_product_flops_counts_multiplications_and_additions():
    # One tick each time that it is read: every measurement lasts one.
    ticks = itertools.count()
    assert measuring.best_flop_rate((2, 3, 5), 2, lambda: next(ticks)) == 2 * 2 * 3 * 5


def test_peak_memory_is_in_bytes():
    before = measuring.peak_memory()
    assert 20 * 2**20 < before < 2**40
    big = np.ones(2**24)
    assert measuring.peak_memory() >= before
    assert big.nbytes == 2**27
