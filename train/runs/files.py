"""Files that are whole or not there at all, whatever happens meanwhile."""

import contextlib
import errno
import fcntl
import functools
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

UNFINISHED = ".unfinished"
"""How the names of files end that a killed process may leave behind."""

# What a file system answers that cannot do a thing at all: network shares, FUSE, FAT.
_CANNOT = {
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.ENOLCK,
}


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: through a temporary file and a rename."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of ``path`` once it is written.

    Args:
        path: The file; an older one stays until the new one is on the disk.

    Yields:
        Where to write.
    """
    handle, name = tempfile.mkstemp(
        prefix=f".{path.name}.", suffix=UNFINISHED, dir=path.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        sync(temporary)
        with _if_it_can(path.parent, "change the mode of a file"):
            # mkstemp leaves it readable by its owner alone.
            temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, would survive a loss of power."""
    # A file that cannot be synced is an error; a directory often cannot be.
    able = _if_it_can(path, "sync a directory")
    with able if path.is_dir() else contextlib.nullcontext():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file, which is made, where the file system has locks.

    Args:
        path: The file.

    Raises:
        BlockingIOError: If another process holds it.
    """
    with path.open("w") as file:
        lock(file, path.parent)
        yield


def lock(file: IO[Any] | int, directory: Path, wait: bool = False) -> None:
    """Lock an open file, where the file system has locks.

    Args:
        file: The file, or its descriptor.
        directory: Where it is, for people.
        wait: Whether to wait for who holds it.

    Raises:
        BlockingIOError: If another process holds it, without ``wait``.
    """
    with _if_it_can(directory, "lock a file, so nothing else may write there"):
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextlib.contextmanager
def _if_it_can(directory: Path, what: str) -> Iterator[None]:
    """Go on, with one warning, where a file system cannot do what is not needed."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        reason = os.strerror(error.errno or 0)
        _warn_once(f"the file system of {directory} cannot {what} ({reason}); going on")


@functools.cache
def _warn_once(message: str) -> None:
    from train.cli import printable

    print(f"warning: {printable(message)}", file=sys.stderr)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
