"""`train.tensorboard`: what is written can be read, and a failure is heard."""

import struct
import threading

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from train.runs.scalars import ScalarWriter


def events(path):
    """The events of a file: each behind its length and a checksum, before another."""
    data, found = path.read_bytes(), []
    while data:
        size = struct.unpack("<Q", data[:8])[0]
        event = Event()
        event.ParseFromString(data[12 : 12 + size])
        found.append(event)
        data = data[16 + size :]
    return found


def test_figures_of_a_continued_run(tmp_path):
    threads = threading.active_count()
    with ScalarWriter(tmp_path, 5) as writer:
        writer.add_scalars({"loss": 1.5, "accuracy": 0.25}, 6)
        (path,) = tmp_path.iterdir()
        # On the disk already, and without a thread that could fail unheard.
        _, start, *figures = events(path)
        assert threading.active_count() == threads
    assert (start.step, start.session_log.status) == (5, SessionLog.START)
    written = [
        (each.step, value.tag, value.simple_value)
        for each in figures
        for value in each.summary.value
    ]
    assert written == [(6, "loss", 1.5), (6, "accuracy", 0.25)]
    assert all(each.wall_time > 0 for each in figures)


def test_a_failure_is_an_error_here(tmp_path):
    with pytest.raises(FileNotFoundError):
        ScalarWriter(tmp_path / "missing", 0)
