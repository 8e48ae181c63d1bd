"""A run's directory: what it was asked, what it measured, what it learnt."""

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from rnnjax.torch_weights import to_torch
from train.cli import InputError

LENGTHS = ("epochs", "iterations", "minutes")
"""What may be extended when a run is continued."""


def device_line() -> str:
    """The devices that JAX will use, in a line for people."""
    devices = jax.devices()
    kind = devices[0].device_kind
    platform_name = devices[0].platform.upper()
    shown = (
        platform_name if kind.upper() == platform_name else f"{platform_name} ({kind})"
    )
    return f"{len(devices)} x {shown}" if len(devices) > 1 else shown


def default_path(recipe: str, model: str) -> Path:
    """``runs/<recipe>-<model>-<time>``."""
    return Path("runs") / f"{recipe}-{model}-{time.strftime('%Y%m%d-%H%M%S')}"


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: through a temporary file and a rename."""
    with _replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp leaves it readable by its owner alone.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


class RunDirectory:
    """The files of one run.

    Attributes:
        path: The directory.
    """

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def open(cls, path: Path, config: Mapping[str, Any]) -> "RunDirectory":
        """Make a new directory, or continue in one that was made by the same command.

        Args:
            path: The directory.
            config: All that decides what the run does.

        Returns:
            The run, with ``config.json``, ``env.json`` and empty folders written.

        Raises:
            InputError: If ``path`` is a file, a directory that is no run, or a run of
                another configuration; the difference is shown.
        """
        run = cls(path)
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; expected a directory for --out")
        if (path / "config.json").exists():
            run._check_same(config)
        elif path.exists() and any(path.iterdir()):
            raise InputError(
                f"{path} is not empty and holds no run (no config.json); give --out a "
                "new directory"
            )
        for folder in ("plots", "tensorboard", "checkpoints"):
            (path / folder).mkdir(parents=True, exist_ok=True)
        write_json(path / "config.json", config)
        write_json(path / "env.json", _environment())
        return run

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in the same directory meanwhile."""
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"another process is training in {self.path}; wait for it, or "
                    "give another --out"
                ) from None
            yield

    @property
    def config(self) -> dict[str, Any]:
        """What ``config.json`` says."""
        return read_json(self.path / "config.json")

    @property
    def summary(self) -> dict[str, Any] | None:
        """What ``summary.json`` says, or None before the end of the run."""
        path = self.path / "summary.json"
        return read_json(path) if path.exists() else None

    def _check_same(self, config: Mapping[str, Any]) -> None:
        old, new = flatten_dict(self.config, sep="."), flatten_dict(config, sep=".")
        differences = [
            f"{name}: {old.get(name)!r} there, {new.get(name)!r} now"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name) and name.split(".")[-1] not in LENGTHS
        ]
        if differences:
            raise InputError(
                f"{self.path} holds a run of another configuration "
                f"({'; '.join(differences)}); give another --out"
            )

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add a line to ``metrics.jsonl``."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        with path.open(encoding="utf-8") as file:
            # A killed run can leave half a last line.
            return [json.loads(line) for line in file if line.endswith("\n")]

    def keep_metrics(self, num_rounds: int) -> None:
        """Drop the lines after a round, which a continued run will write again."""
        kept = [record for record in self.metrics() if record["round"] < num_rounds]
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        write_text(self.path / "metrics.jsonl", lines)

    def write_model(self, model: nn.Module, params: Any) -> None:
        """Write ``model.txt``: every parameter with its shape."""
        flat = flatten_dict(params, sep="/")
        width = max(map(len, flat))
        lines = [f"{name:<{width}}  {leaf.shape}" for name, leaf in flat.items()]
        lines += [f"{count(params):,} parameters", "", str(model), ""]
        write_text(self.path / "model.txt", "\n".join(lines))

    def write_params(self, model: nn.Module, params: Any) -> None:
        """Write ``params.safetensors`` under PyTorch's names."""
        path = self.path / "params.safetensors"
        with _replacing(path) as temporary:
            save_file(to_torch(model, params), temporary)

    def read_params(self) -> dict[str, np.ndarray]:
        """Read ``params.safetensors``.

        Raises:
            InputError: If it is missing or damaged.
        """
        path = self.path / "params.safetensors"
        if not path.exists():
            raise InputError(
                f"{self.path} holds no trained model (no params.safetensors); has its "
                "training ended?"
            )
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path} is damaged: {error}") from None


def count(params: Any) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def open_trained(path: Path, program: str) -> RunDirectory:
    """Open a run to use what it learnt.

    Args:
        path: Its directory.
        program: Which program made it: ``names`` or ``charlm``.

    Returns:
        The run.

    Raises:
        InputError: If it is no run, or one of another program.
    """
    if not (path / "config.json").is_file():
        raise InputError(
            f"{path} is no run directory (no config.json); expected one that "
            f"python -m train.{program} made"
        )
    run = RunDirectory(path)
    made_by = run.config.get("program")
    if made_by != program:
        raise InputError(
            f"{path} is a run of {made_by}; expected one of {program}, made by "
            f"python -m train.{program}"
        )
    return run


def read_json(path: Path) -> Any:
    """Read JSON, or fail in one line.

    Raises:
        InputError: If the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged: {error}") from None


def _environment() -> dict[str, Any]:
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device_line(),
        **{name: importlib.metadata.version(name) for name in packages},
    }
