"""Finished runs, read for people to compare."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from flax.traverse_util import flatten_dict

from train.cli import InputError
from train.report.findings import Findings
from train.runs.directory import open_trained, read_json

Part = TypeVar("Part")

PROGRAMS = ("names", "charlm")

MOST_SAMPLES = 40
"""Of a run that wrote more, every second, third, … is read."""


class LanguageFigures(NamedTuple):
    """How well a language was told.

    Attributes:
        language: The language.
        names: Number of its test names.
        precision: Share of the answers with this language that were right.
        recall: Share of its names that were recognised.
        f1: Harmonic mean of the two.
    """

    language: str
    names: int
    precision: float
    recall: float
    f1: float


class Sample(NamedTuple):
    """What a language model wrote, and when."""

    when: str
    text: str


class FinishedRun(NamedTuple):
    """All of a run that a report shows.

    Attributes:
        label: What tells it from the others, by its directory.
        program: ``names`` or ``charlm``.
        title: Its recipe, model and seed.
        settings: What it was asked, by name.
        environment: Versions and device.
        summary: What summary.json says.
        records: The lines of metrics.jsonl.
        languages: Figures of every language (names).
        findings: What the test showed (names); None for runs of earlier versions.
        samples: What it wrote, earliest first (charlm).
    """

    label: str
    program: str
    title: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    summary: dict[str, Any]
    records: list[dict[str, Any]]
    languages: list[LanguageFigures]
    findings: Findings | None
    samples: list[Sample]

    @property
    def counts_epochs(self) -> bool:
        """Whether it counts epochs, not iterations."""
        return self.program == "charlm" or self.settings.get("iterations") is None


def read_runs(paths: Sequence[Path]) -> list[FinishedRun]:
    """Read runs to be laid side by side.

    Args:
        paths: Their directories; one that ``--compare`` made stands for all its runs.

    Returns:
        The runs.

    Raises:
        InputError: If one is no run, not finished or damaged, if one is given twice, or
            if they are of different programs.
    """
    paths = [run for path in paths for run in _runs_in(path)]
    real = [path.resolve() for path in paths]
    if twice := [p for p, r in zip(paths, real, strict=True) if real.count(r) > 1]:
        raise InputError(f"{twice[0]} is given twice; expected different runs")
    common = os.path.commonpath([path.parent for path in real])
    runs = [
        _read(path, os.path.relpath(whole, common))
        for path, whole in zip(paths, real, strict=True)
    ]
    for path, each in zip(paths, runs, strict=True):
        if each.program != runs[0].program:
            raise InputError(
                f"{path} is a run of {each.program}, {paths[0]} one of "
                f"{runs[0].program}; make a report of each"
            )
    return runs


def _runs_in(path: Path) -> list[Path]:
    comparison = path / "comparison.json"
    if not comparison.is_file():
        return [path]
    # The last part of each name, which cannot lead out of the directory.
    return [path / Path(model).name for model in _part(comparison, dict)]


def _read(path: Path, label: str) -> FinishedRun:
    directory = open_trained(path, *PROGRAMS)
    program = directory.config["program"]
    finish = "the training command with the same --out finishes it"
    if not (path / "summary.json").exists():
        raise InputError(f"{path} is not finished (no summary.json); {finish}")
    summary = _part(path / "summary.json", dict)
    with _damaged(path / "summary.json"):
        languages = _languages(summary)
    with _damaged(path / "metrics.jsonl"):
        records = _checked(directory.metrics())
        samples = _samples(records, summary)
    if records and records[-1]["step"] != summary.get("steps"):
        raise InputError(
            f"{path} has been continued to update {records[-1]['step']} and is not "
            f"finished (summary.json is of update {summary.get('steps')}); {finish}"
        )
    findings = None
    if program == "names" and (path / "findings.json").is_file():
        findings = _part(path / "findings.json", Findings.from_json)
    return FinishedRun(
        label,
        program,
        f"{summary.get('recipe')} {summary.get('model')}, seed {summary.get('seed')}",
        _part(path / "config.json", _settings),
        _part(path / "env.json", dict) if (path / "env.json").is_file() else {},
        summary,
        records,
        languages,
        findings,
        samples,
    )


def _part(path: Path, make: Callable[[Any], Part]) -> Part:
    value = read_json(path)
    with _damaged(path):
        return make(value)


@contextlib.contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """What does not fit means that the file is damaged."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        raise InputError(
            f"{path} is damaged: it is not what a training wrote ({e!r})"
        ) from None


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """What a configuration comes to: a flag that is also a setting is given once."""
    others = dict(config)
    flags, sizes = others.pop("config"), others.pop("sizes")
    settings = others.pop("settings", {})
    return flags | settings | sizes | flatten_dict(others, sep=".")


def _languages(summary: dict[str, Any]) -> list[LanguageFigures]:
    return [
        LanguageFigures(
            name,
            int(each["names"]),
            *(float(each[figure]) for figure in ("precision", "recall", "f1")),
        )
        for name, each in summary.get("languages", {}).items()
    ]


def _checked(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for record in records:
        # Before there was an epoch: its index, from 0, in a run of names.
        if "epoch" not in record and "round" in record:
            record["epoch"] = record.pop("round") + 1
        for name in ("step", "epoch"):
            if not isinstance(record.get(name, 0), int | float):
                raise TypeError(f"{name} is {record[name]!r}")
    return records


def _samples(records: list[dict[str, Any]], summary: dict[str, Any]) -> list[Sample]:
    samples = [
        Sample(f"epoch {record['epoch']:.3g}, loss {record['train_loss']:.4f}", text)
        for record in records
        if (text := record.get("sample")) is not None
    ]
    samples = samples[:: -(-len(samples) // MOST_SAMPLES) or 1]
    last = summary.get("sample")
    # Where the newest parameters are the kept ones, it is the newest sample.
    if last is not None and (not samples or samples[-1].text != last):
        samples.append(Sample("the end", last))
    return samples
