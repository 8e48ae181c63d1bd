"""What campaigns found, and RELIABILITY.md made of it."""

import dataclasses
import importlib.metadata
import json
import os
import platform
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "safetensors", "numpy")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a campaign is asked to do.

    Attributes:
        scratch: Empty folder that it may write to.
        quick: Whether a few cases are enough, to see that the campaign works.
        seed: Decides every random choice.
        minutes: Length of the endurance run.
    """

    scratch: Path
    quick: bool = False
    seed: int = 0
    minutes: float = 30.0

    def random(self, stream: str) -> random.Random:
        """Random choices, the same for the same seed and stream."""
        return random.Random(f"{self.seed} {stream}")

    def few(self, quick: int, full: int) -> int:
        """The number of cases."""
        return quick if self.quick else full


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        test: What was done.
        tried: Number of cases.
        passed: Number of those that went as they should.
        worst: The worst case among them, in words.
        baseline: What Orbax or safetensors alone do; "" is not compared.
    """

    test: str
    tried: int
    passed: int
    worst: str
    baseline: str = ""


def judged(test: str, tried: int, problems: Iterable[str], baseline: str = "") -> Row:
    """A line whose worst case is what went wrong, and how often.

    Args:
        test: What was done.
        tried: Number of cases.
        problems: What was wrong with each case that failed; "" of one that did not.
        baseline: What Orbax or safetensors alone do.
    """
    wrong = [problem for problem in problems if problem]
    return Row(test, tried, tried - len(wrong), f"wrong: {listed(wrong)}", baseline)


class Outcome(NamedTuple):
    """What one campaign found.

    Attributes:
        rows: Its part of the table.
        seconds: How long it took.
        quick: Whether it was cut short.
        date: When it ran.
        versions: What it ran with.
    """

    rows: list[Row]
    seconds: float
    quick: bool
    date: str
    versions: str


def outcome(rows: list[Row], seconds: float, quick: bool) -> Outcome:
    """What a campaign found, with today's date and versions."""
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    system = f"{platform.system()}, {os.cpu_count()} cores"
    return Outcome(
        rows, seconds, quick, time.strftime("%Y-%m-%d"), ", ".join([*versions, system])
    )


def read(path: Path) -> dict[str, Outcome]:
    """The outcomes of earlier campaigns, by name."""
    if not path.exists():
        return {}
    kept = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: Outcome(**found | {"rows": [Row(*row) for row in found["rows"]]})
        for name, found in kept.items()
    }


def write(path: Path, outcomes: dict[str, Outcome]) -> None:
    """Keep outcomes for :func:`read`."""
    kept = {name: found._asdict() for name, found in outcomes.items()}
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False), encoding="utf-8")


def document(outcomes: dict[str, Outcome], titles: dict[str, str]) -> str:
    """RELIABILITY.md.

    Args:
        outcomes: What was found, by the names of the campaigns.
        titles: All campaigns, in the order of the document, with what they are about.

    Returns:
        The text.
    """
    parts = [INTRODUCTION]
    parts += [
        _section(titles[name], outcomes[name]) for name in titles if name in outcomes
    ]
    if missing := [titles[name] for name in titles if name not in outcomes]:
        parts.append(f"Not run: {', '.join(missing)}.\n")
    machines = dict.fromkeys(found.versions for found in outcomes.values())
    parts.append("## Versions\n\n" + "".join(f"- {line}\n" for line in machines))
    return "\n".join(parts)


def _section(title: str, found: Outcome) -> str:
    lines = [
        f"## {title}\n",
        "| test | tried | passed | worst case | Orbax or safetensors alone |",
        "| --- | ---: | ---: | --- | --- |",
        *(
            f"| {row.test} | {row.tried:,} | {row.passed:,} | {row.worst} "
            f"| {row.baseline or '–'} |"
            for row in found.rows
        ),
        f"\n{found.date}, {found.seconds:.0f} s"
        + (" (a short version)" if found.quick else "")
        + "\n",
    ]
    return "\n".join(lines)


INTRODUCTION = """\
# Reliability

What happens when a training process is killed, its disk is full, its files are damaged or
its input is nonsense? Each row below counts cases that were tried. A case passes only if
nothing was lost and every fault was reported. This page is written by:

```sh
pip install -e ".[test]"
python -m tests.campaign --out RELIABILITY.md              # an hour, on 2 cores
python -m tests.campaign --out RELIABILITY.md --only kills flips
```

The last column shows the same tests with only the libraries that checkpoints are built on.
rnnjax adds to them a SHA-256 for each file and for the parameters, a check of names, shapes
and types, and a fall-back to the previous step when the newest is damaged.
"""


def listed(counts: Iterable[str]) -> str:
    """The kinds of failure, with how often each was met; "none" without any."""
    kinds: dict[str, int] = {}
    for kind in counts:
        kind = " ".join(kind.split())  # a line of a table
        kinds[kind] = kinds.get(kind, 0) + 1
    return "; ".join(f"{kind} ({n}x)" for kind, n in kinds.items()) or "none"
