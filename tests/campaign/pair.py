"""Two processes on this machine that train together, over loopback."""

import os
import socket
import subprocess
import time
from pathlib import Path

from . import programs
from .programs import ROOT, Done, Program


class Pair:
    """The same training in two processes.

    Args:
        program: What they train.
        folder: For the run directory and what they say.
        *flags: More flags.

    Attributes:
        out: The run directory.
        processes: Both; the first one writes the run directory.
    """

    def __init__(self, program: Program, folder: Path, *flags: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder.mkdir(parents=True, exist_ok=True)
        self.out = folder / "run"
        self.processes = []
        self._said = []
        for index in range(2):
            where = ["--distributed", "--coordinator", f"127.0.0.1:{port}"]
            where += ["--num-processes", "2", "--process-id", str(index), *flags]
            said = [folder / f"{index}.{end}" for end in ("out", "err")]
            # Not through pipes: a process that nobody reads from would wait.
            with said[0].open("w") as out, said[1].open("w") as err:
                process = subprocess.Popen(
                    program.command(self.out) + where,
                    cwd=ROOT,
                    env=os.environ
                    | {"RNNJAX_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
                    | {"JAX_PLATFORMS": "cpu"},
                    stdout=out,
                    stderr=err,
                )
            self.processes.append(process)
            self._said.append(said)

    def wait_for_updates(self) -> None:
        """Wait until the first state is saved.

        Raises:
            RuntimeError: If there are none after two minutes.
        """
        end = time.monotonic() + 120
        while not programs.steps(self.out):
            if time.monotonic() > end or self.processes[0].poll() is not None:
                raise RuntimeError(self._said[0][1].read_text())
            time.sleep(0.05)

    def end(self, timeout: float = 120) -> list[Done]:
        """Wait for both."""
        try:
            codes = [process.wait(timeout) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        texts = [[file.read_text() for file in files] for files in self._said]
        return [Done(code, *text) for code, text in zip(codes, texts, strict=True)]
