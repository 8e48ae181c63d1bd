"""SIGTERM and Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import pytest

from train.runs.interruption import SIGNALS, Interruption, interruptible

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted(number):
    jax.devices()  # Whose first call has threads of its own.
    before, threads = signal.getsignal(number), set(threading.enumerate())
    with interruptible() as stop:
        assert not stop.should_stop(7)
        os.kill(os.getpid(), number)
        assert stop.should_stop(7)
        stopped = stop.stopped(1234)
    assert str(stopped) == (
        f"stopped by {number.name} after update 1,234; saved; the same command with "
        "the same --out goes on"
    )
    assert stopped.code == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert signal.getsignal(number) is before
    assert signal.set_wakeup_fd(-1) == -1
    assert set(threading.enumerate()) <= threads


def test_a_signal_in_the_middle_of_an_agreement_counts_at_the_next(monkeypatch):
    stop = Interruption()

    def all_answer(number):
        stop.signal = signal.SIGTERM  # Too late for what this process has answered.
        return number

    monkeypatch.setattr("train.runs.interruption.highest", all_answer)
    assert not stop.should_stop(1)
    assert stop.should_stop(2)


def test_it_stops_where_it_is_told_to():
    with interruptible(3) as stop:
        assert [stop.should_stop(step) for step in (0, 2, 3, 4)] == [0, 0, 1, 1]
    assert "stopped after update 3; saved" in str(stop.stopped(3))


def test_who_stops_it_is_told_the_directory():
    with interruptible(3, Path("runs/a b")) as stop:
        said = str(stop.stopped(3))
    assert said.endswith("the same command with --out 'runs/a b' goes on")


def test_a_thread_cannot_be_interrupted():
    seen = []

    def work():
        before = signal.getsignal(signal.SIGTERM)
        with interruptible() as stop:
            seen.append(signal.getsignal(signal.SIGTERM) is before)
            seen.append(stop.should_stop(5))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True, False]


PROGRAM = """
import hashlib
from dataclasses import dataclass
from train.cli import run
from train.runs.interruption import interruptible

@dataclass
class Config:
    pass

def main(config):
    with interruptible() as stop:
        print("ready", flush=True)
        # As in a compiled call, Python has no say and the GIL is free.
        hashlib.pbkdf2_hmac("sha256", b"", b"", {rounds})
        while not stop.should_stop(5):
            pass
        raise stop.stopped(5)

run(main, Config, "A program.")
"""


def start(tmp_path, rounds):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(rounds=rounds))
    process = subprocess.Popen(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


CODES = [(signal.SIGTERM, 143), (signal.SIGINT, 130)]


@pytest.mark.parametrize(("number", "code"), CODES)
def test_the_first_signal_ends_a_program_in_words(number, code, tmp_path):
    with start(tmp_path, 1) as process:
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert said == (
        f"stopped by {number.name} after update 5; saved; the same command with the "
        "same --out goes on\n"
    )


@pytest.mark.parametrize(("number", "code"), CODES)
def test_the_second_signal_ends_even_a_long_call_at_once(number, code, tmp_path):
    with start(tmp_path, 2**31 - 1) as process:
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "")
