"""Files that are whole or not there, on file systems that lack something."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from train.cli import InputError
from train.runs import files
from train.runs.directory import RunDirectory

CONFIG = {"config": {}, "sizes": {}}


@pytest.fixture(autouse=True)
def _say_it_again():
    files._warn_once.cache_clear()


def refusing(real, number, only=lambda *args: True):
    """A call of the operating system that a file system does not know."""

    def refuse(*args):
        if only(*args):
            raise OSError(number, os.strerror(number))
        return real(*args)

    return refuse


def is_directory(descriptor):
    return os.path.isdir(f"/proc/self/fd/{descriptor}")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_directory_that_cannot_be_synced(number, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "fsync", refusing(os.fsync, number, is_directory))
    for text in ("one", "two"):
        files.write_text(tmp_path / "file", text)
    assert (tmp_path / "file").read_text() == "two"
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: the file system of {tmp_path} cannot sync")


def test_a_file_whose_mode_cannot_be_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Path, "chmod", refusing(Path.chmod, errno.EPERM))
    files.write_bytes(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert "cannot change the mode of a file" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks(number, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fcntl, "flock", refusing(fcntl.flock, number))
    run = RunDirectory.open(tmp_path / "run", CONFIG)
    with run.lock():
        files.write_json(run.path / "metrics.json", {"step": 1})
    (warning,) = capsys.readouterr().err.splitlines()
    assert "cannot lock a file, so nothing else may write there" in warning


def test_a_lock_that_another_process_holds_is_still_one(tmp_path):
    run = RunDirectory.open(tmp_path / "run", CONFIG)
    with run.lock(), pytest.raises(InputError, match="another process is training"):
        RunDirectory.open(tmp_path / "run", CONFIG)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_other_errors_are_errors(number, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "fsync", refusing(os.fsync, number))
    with pytest.raises(OSError, match=os.strerror(number)):
        files.write_text(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"
