"""Several processes that train together: they start, agree and end as one.

Each runs the same program on its own devices. The first one alone writes the run
directory and prints; whatever depends on the clock, on the disk or on a signal is asked of
it, or of all.
"""

import contextlib
import ctypes
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from train.cli import InputError, Stopped, tell
from train.runs.checkpoint import Checkpoints
from train.runs.devices import Devices

START_SECONDS = 300
"""How long a process waits for the first one to start."""


def is_first() -> bool:
    """Whether this process writes and prints; one that is alone does."""
    return jax.process_index() == 0


@contextlib.contextmanager
def together(flags: Devices) -> Iterator[None]:
    """Run what is in here in several processes, with ``--distributed``; else alone.

    Raises:
        InputError: If the other processes cannot be found.
    """
    if not flags.distributed:
        yield
        return
    _join(flags)
    try:
        with contextlib.ExitStack() as stack:
            if not is_first():
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield
            # The first one may still have been drawing.
            multihost_utils.sync_global_devices("the end")
    except Stopped:
        raise
    except BaseException as error:  # noqa: BLE001
        # Python's own end waits for the other processes, which wait for this one.
        sys.stdout.flush()
        code = tell(_lost(error))
        sys.stderr.flush()
        os._exit(code)


def _join(flags: Devices) -> None:
    if flags.coordinator is not None and flags.process_id:
        _wait_for(flags.coordinator)
    # It would note SIGTERM alone, and only for one of all updates.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            flags.coordinator,
            flags.num_processes,
            flags.process_id,
            shutdown_timeout_seconds=100,
        )
        with _stdout_to_stderr():
            multihost_utils.sync_global_devices("the beginning")
    except (ValueError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"the processes did not find each other: {reason.rstrip('.')}; give each "
            "--coordinator HOST:PORT, --num-processes N and --process-id 0 to N - 1"
        ) from None


def _wait_for(coordinator: str) -> None:
    """Wait for the first process, where JAX would end this one with a stack trace."""
    host, _, port = coordinator.rpartition(":")
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), 5).close()
            return
        except (OSError, ValueError) as error:
            if time.monotonic() >= end:
                raise InputError(
                    f"nobody answers at --coordinator {coordinator} after "
                    f"{START_SECONDS} s ({error}); start process 0 there"
                ) from None
        time.sleep(0.2)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """For Gloo, which tells on the standard output, where results go, whom it found."""
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        # What C has buffered belongs there too.
        ctypes.CDLL(None).fflush(None)
        os.dup2(stdout, 1)
        os.close(stdout)


def _lost(error: BaseException) -> BaseException:
    """What to say of an error: JAX's own, of a collective, is long and says nothing."""
    first = next(iter(str(error).splitlines()), "")
    of_runtime = isinstance(error, jax.errors.JaxRuntimeError)
    # Some of the runtime's errors arrive as others, but with its code in front.
    if of_runtime or re.match(
        r"[A-Z_]+: .*(?i:gloo|nccl|coordination|connection)", first
    ):
        return OSError(
            f"another process has ended, and this one with it ({first}); the same "
            "command in every process goes on from the newest checkpoint"
        )
    return error


@contextlib.contextmanager
def own_path(path: Path) -> Iterator[Path]:
    """Where this process writes: a directory that is dropped, but for the first one."""
    if is_first():
        yield path
        return
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def first_says(number: float) -> float:
    """A number as the first process has it."""
    if jax.process_count() == 1:
        return number
    # As two integers, for JAX would round it to 32 bits.
    bits = np.array([number], np.float64).view(np.uint32)
    said = np.asarray(multihost_utils.broadcast_one_to_all(bits))
    return float(said.view(np.float64)[0])


def first_has(tree: Any) -> Any:
    """Arrays as the first process has them; those of the others give the shapes."""
    if jax.process_count() == 1:
        return tree
    return multihost_utils.broadcast_one_to_all(tree)


def highest(number: int) -> int:
    """The highest of the numbers that the processes have."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.array(number)).max())


def save(checkpoints: Checkpoints, step: int, tree: Any, *loss: float | None) -> None:
    """Let the first process save a state, see :meth:`Checkpoints.save`."""
    if is_first():
        checkpoints.save(step, tree, *loss)


def restored(checkpoints: Checkpoints, like: Any) -> tuple[int, Any] | None:
    """What the first process finds, see :meth:`Checkpoints.restore_newest`."""
    found = checkpoints.restore_newest(like) if is_first() else None
    step = first_says(-1 if found is None else found[0])
    if step < 0:
        return None
    return int(step), first_has(like if found is None else found[1])
