"""Run campaigns and write RELIABILITY.md: python -m tests.campaign --help."""

import dataclasses
import importlib
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

from train import cli

from . import results

TITLES = {
    "kills": "Killed processes",
    "signals": "SIGTERM and Ctrl-C",
    "resume": "Stopped and resumed",
    "together": "Several processes",
    "flips": "Flipped bits",
    "truncation": "Truncated, emptied and deleted files",
    "mismatch": "Checkpoints of another model",
    "numbers": "Numbers that are not finite",
    "disk": "Full disks",
    "fuzz": "Hostile input",
    "endurance": "Half an hour",
    "cost": "What it costs",
}
"""The campaigns, in the order of RELIABILITY.md, with what they are about."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Run the reliability campaign and write what it found."""

    out: Path = Path("RELIABILITY.md")
    """The page to write."""
    results: Path = Path("reliability.json")
    """What campaigns found, kept from one call to the next; the page is made of it."""
    only: tuple[Literal[*TITLES], ...] = ()
    """Campaigns to run (all if not given); the others stay as they are in --results."""
    quick: bool = False
    """Try a few cases of each, to see that the campaigns work."""
    seed: int = 0
    """Decides every random choice."""
    minutes: float = 30.0
    """Length of the endurance run."""


def main(config: Config) -> None:
    """Run campaigns, one after the other, and keep what each one found."""
    os.environ |= {
        "RNNJAX_OFFLINE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(Path(tempfile.gettempdir(), "rnnjax-cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    # Orbax, alone with damaged files, says much that belongs to the figures.
    logging.disable()
    sys.unraisablehook = lambda unraisable: None
    outcomes = results.read(config.results)
    for name in config.only or TITLES:
        with tempfile.TemporaryDirectory(prefix=f"{name}-") as scratch:
            plan = results.Plan(
                Path(scratch), config.quick, config.seed, config.minutes
            )
            began = time.perf_counter()
            rows = importlib.import_module(f".{name}", __package__).run(plan)
        seconds = time.perf_counter() - began
        outcomes[name] = results.outcome(rows, seconds, config.quick)
        print(f"{name}: {seconds:.0f} s")
        for row in rows:
            print(f"  {row.passed}/{row.tried}  {row.test}: {row.worst}")
        results.write(config.results, outcomes)
        config.out.write_text(results.document(outcomes, TITLES), encoding="utf-8")


if __name__ == "__main__":
    cli.run(main, Config, "Run the reliability campaign and write what it found.")
