"""Several processes on this machine that train together, over loopback."""

import json
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from tests.campaign import programs
from tests.campaign.pair import Pair
from tests.campaign.programs import SAMPLE, Program
from train.cli import InputError
from train.runs import distributed
from train.runs.devices import Devices

STEPS = 28
"""Updates of an epoch."""


def binary(epochs: int) -> Program:
    """A small training, which learns faster than its recipe."""
    flags = ["--recipe", "binary", "--model", "rnn", "--hidden-size", "8"]
    flags += ["--mlp-size", "8", "--learning-rate", "0.001", "--epochs", str(epochs)]
    return Program("train.names", (*flags, "--data", str(SAMPLE / "names")), STEPS)


NAMES, ENDLESS = binary(2), binary(10_000)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The same training in one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    done = programs.run(NAMES.command(out))
    assert done.code == 0, done.err
    return out


def test_two_processes_make_the_run_of_one(alone, tmp_path):
    pair = Pair(NAMES, tmp_path, "--json")
    first, second = pair.end()
    assert (first.code, second.code) == (0, 0), first.err + second.err
    # One of them prints and writes.
    assert json.loads(first.out) == json.loads((pair.out / "summary.json").read_text())
    assert second.out == "" and "epoch" not in second.err
    for ours, theirs in zip(
        programs.metrics(pair.out), programs.metrics(alone), strict=True
    ):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, atol=1e-5, err_msg=name)
    assert programs.steps(pair.out) == programs.steps(alone)
    found, expected = programs.state(pair.out), programs.state(alone)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=2e-5, err_msg=name)


def test_a_signal_to_one_stops_both_after_the_same_update(alone, tmp_path):
    pair = Pair(ENDLESS, tmp_path)
    pair.wait_for_updates()
    pair.processes[1].send_signal(signal.SIGTERM)
    ended = pair.end()
    for each in ended:
        assert each.code == 143, each.err
        assert each.err.splitlines()[-1].startswith("stopped by SIGTERM after update ")
    assert len({each.err.splitlines()[-1] for each in ended}) == 1
    step = programs.steps(pair.out)[-1]
    assert f"after update {step:,};" in ended[0].err
    # One process goes on from what both have made.
    shorter = binary(step // STEPS + 1)
    done = programs.run(shorter.command(pair.out))
    assert done.code == 0 and f"resuming after update {step:,}" in done.out, done.err
    ours = [record["train_loss"] for record in programs.metrics(pair.out)]
    theirs = [record["train_loss"] for record in programs.metrics(alone)]
    np.testing.assert_allclose(ours[:2], theirs[: len(ours)], atol=1e-5)


def test_when_one_is_killed_the_other_ends(tmp_path):
    pair = Pair(ENDLESS, tmp_path)
    pair.wait_for_updates()
    pair.processes[1].kill()
    began = time.monotonic()
    left = pair.end()[0]
    assert time.monotonic() - began < 30
    assert left.code == 1, left.err
    assert "error: another process has ended" in left.err
    assert "Traceback" not in left.err


def test_nobody_at_the_coordinator(monkeypatch):
    monkeypatch.setattr(distributed, "START_SECONDS", 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Nobody listens there.
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = Devices(
            distributed=True, coordinator=where, num_processes=2, process_id=1
        )
        with (
            pytest.raises(InputError, match=f"{where} after 0 s .*; start process 0"),
            distributed.together(flags),
        ):
            raise AssertionError("it began")


def test_alone_among_none(tmp_path):
    done = programs.run([*NAMES.command(tmp_path / "run"), "--distributed"])
    assert done.code == 2
    (error,) = done.errors
    assert error.startswith("error: the processes did not find each other: ")
    assert error.endswith(
        "give each --coordinator HOST:PORT, --num-processes N and "
        "--process-id 0 to N - 1"
    )
    assert not (tmp_path / "run").exists()
