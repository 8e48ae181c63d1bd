"""A run's directory: what it was asked, what it measured, what it learnt."""

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from rnnjax.weights.torch import to_torch
from train.cli import InputError, printable
from train.runs.files import UNFINISHED, locked, replacing, write_json, write_text

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
        if not (path / "config.json").exists() and run._files():
            raise InputError(
                f"{path} is not empty and holds no run (no config.json); give --out a "
                "new directory"
            )
        path.mkdir(parents=True, exist_ok=True)
        with run.lock():
            if (path / "config.json").exists():
                run._check_same(config)
            for leftover in path.rglob(f".*{UNFINISHED}"):
                leftover.unlink()
            run._write_changed("config.json", config)
            run._write_changed("env.json", _environment())
            for folder in ("plots", "tensorboard", "checkpoints"):
                (path / folder).mkdir(exist_ok=True)
        return run

    def _files(self) -> list[Path]:
        """What is in the directory, but for what a run killed at birth leaves."""
        return [
            path
            for path in (self.path.iterdir() if self.path.exists() else ())
            if path.name != ".lock" and path.suffix != UNFINISHED
        ]

    def _write_changed(self, name: str, value: Any) -> None:
        """Write JSON unless it is there: a complete run stays as it is."""
        path = self.path / name
        if not path.exists() or read_json(path) != json.loads(json.dumps(value)):
            write_json(path, value)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in the same directory meanwhile."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path / ".lock"))
            except BlockingIOError:
                raise InputError(
                    f"another process is training in {self.path}; wait for it, or "
                    "give another --out"
                ) from None
            yield

    @property
    def config(self) -> dict[str, Any]:
        """What ``config.json`` says."""
        path = self.path / "config.json"
        config = read_json(path)
        parts = config if isinstance(config, dict) else {}
        if not all(isinstance(parts.get(name), dict) for name in ("config", "sizes")):
            raise InputError(
                f"{path} is damaged: it is not what a training wrote; give another --out"
            )
        return config

    @property
    def summary(self) -> dict[str, Any] | None:
        """What ``summary.json`` says, or None before the end of the run."""
        path = self.path / "summary.json"
        return read_json(path) if path.exists() else None

    def outcome(self, num_updates: int) -> dict[str, Any] | None:
        """The summary, if it and the parameters are those of a whole training.

        Args:
            num_updates: How many updates the training has made.

        Returns:
            The summary; None if there is something left to do.
        """
        summary = self.summary
        if summary is None or summary["steps"] != num_updates:
            return None
        try:
            self.read_params()
        except InputError as error:
            print(f"{printable(str(error))}: now")
            return None
        return summary

    def _check_same(self, config: Mapping[str, Any]) -> None:
        if differences := differing(lasting(self.config), lasting(config)):
            raise InputError(
                f"{self.path} holds a run of another configuration ({differences}); "
                "give another --out"
            )

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add a line to ``metrics.jsonl``."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; damaged ones are named and left out."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        records = []
        for number, line in enumerate(path.read_bytes().splitlines(True), 1):
            try:
                record = json.loads(line)
                _ = record["step"] + record["train_seconds"]
            except (ValueError, TypeError, KeyError):
                # A killed run can leave half a last line.
                if line.endswith(b"\n"):
                    print(f"{path}: line {number} is damaged and left out")
            else:
                records.append(record)
        return records

    def keep_metrics(self, step: int) -> None:
        """Drop the lines after an update, which a continued run will write again."""
        path = self.path / "metrics.jsonl"
        kept = [record for record in self.metrics() if record["step"] <= step]
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        if not path.exists() or path.read_bytes() != lines.encode():
            write_text(path, lines)

    def write_model(self, model: nn.Module, params: Any) -> None:
        """Write ``model.txt``: every parameter with its shape."""
        flat = flatten_dict(params, sep="/")
        width = max(map(len, flat))
        lines = [f"{name:<{width}}  {leaf.shape}" for name, leaf in flat.items()]
        lines += [f"{count(params):,} parameters", "", str(model), ""]
        write_text(self.path / "model.txt", "\n".join(lines))

    def write_params(self, model: nn.Module, params: Any) -> None:
        """Write ``params.safetensors`` under PyTorch's names, with a hash."""
        arrays = to_torch(model, params)
        # One entry, for several are written in any order.
        metadata = {"sha256": self._digest(arrays)}
        with replacing(self.path / "params.safetensors") as temporary:
            save_file(arrays, temporary, metadata)

    def read_params(self) -> dict[str, np.ndarray]:
        """Read ``params.safetensors``.

        Raises:
            InputError: If it is missing, damaged or of another ``config.json``.
        """
        path = self.path / "params.safetensors"
        remedy = "the training command with the same --out writes it anew"
        if not path.exists():
            raise InputError(
                f"{self.path} holds no trained model (no params.safetensors); {remedy}"
            )
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                names = file.keys()
                arrays = {name: file.get_tensor(name) for name in names}
        # NumPy's errors are those of a type that it does not have.
        except (
            SafetensorError,
            OSError,
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:
            raise InputError(f"{path} is damaged: {error}; {remedy}") from None
        digests = [self._digest(arrays, with_paths) for with_paths in (False, True)]
        if metadata.get("sha256") not in digests:
            raise InputError(
                f"{path} is damaged, or the config.json beside it is: the SHA-256 of "
                f"both is another; {remedy}"
            )
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise InputError(
                    f"{path} cannot be used: {name} has numbers that are not finite"
                )
        return arrays

    def _digest(
        self, arrays: Mapping[str, np.ndarray], with_paths: bool = False
    ) -> str:
        """SHA-256 of the configuration, and of names, types, shapes and numbers."""
        config = json.dumps(lasting(self.config, with_paths), sort_keys=True)
        digest = hashlib.sha256(config.encode())
        for name, array in sorted(arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


PATHS = ("config.data", "text.source")
"""Where the data were; what they are, their SHA-256 beside it says."""


def lasting(config: Mapping[str, Any], with_paths: bool = False) -> dict[str, Any]:
    """A configuration by full names, without what may change when a run goes on.

    Args:
        config: The configuration.
        with_paths: Whether where the data are counts, as in runs made before 0.2.
    """
    flat = flatten_dict(config, sep=".")
    return {
        name: value
        for name, value in flat.items()
        if name.split(".")[-1] not in LENGTHS and (with_paths or name not in PATHS)
    }


def differing(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How the values on the disk differ from those of this run, for people."""
    return "; ".join(
        f"{name}: {there.get(name)!r} there, {now.get(name)!r} now"
        for name in sorted(there.keys() | now.keys())
        if there.get(name) != now.get(name)
    )


def count(params: Any) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def open_trained(path: Path, *programs: str) -> RunDirectory:
    """Open a run to use what it learnt.

    Args:
        path: Its directory.
        *programs: Which programs may have made it: ``names``, ``charlm``.

    Returns:
        The run.

    Raises:
        InputError: If it is no run, or one of another program.
    """
    makers = " or ".join(f"python -m train.{program}" for program in programs)
    if not (path / "config.json").is_file():
        raise InputError(
            f"{path} is no run directory (no config.json); expected one that {makers} "
            "made"
        )
    run = RunDirectory(path)
    made_by = run.config.get("program")
    if made_by not in programs:
        raise InputError(
            f"{path} is a run of {made_by}; expected one of {' or '.join(programs)}, "
            f"made by {makers} (so says its config.json)"
        )
    return run


def read_json(path: Path) -> Any:
    """Read JSON, or fail in one line.

    Raises:
        InputError: If the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from None


def _environment() -> dict[str, Any]:
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device_line(),
        **{name: importlib.metadata.version(name) for name in packages},
    }
