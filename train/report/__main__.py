"""Lay out what runs came to as one page, for people.

    python -m train.report --run runs/best-gru-…                   # its report.html
    python -m train.report --run runs/a runs/b --out both.html     # side by side

Every run writes its own at its end. The page is made only from the files of the runs,
so that it comes out the same each time; it loads nothing and runs nothing.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

from train.cli import InputError, default, printable, run
from train.report.finished_runs import read_runs
from train.report.render import render, write_report
from train.runs.files import write_text


@dataclasses.dataclass(frozen=True)
class Config:
    """Lay out what runs came to as one page, for people."""

    run: tuple[Path, ...]
    """Run directories that train.names or train.charlm made, or one of --compare."""
    out: Annotated[Path | None, default("report.html in the run directory")] = None
    """The page; several runs need a name for theirs."""

    def __post_init__(self):
        if not self.run:
            raise InputError("--run has no directory; expected one or more")
        if self.out is None and len(self.run) > 1:
            raise InputError(
                f"--run has {len(self.run)} directories; say with --out which file to "
                "write, such as --out report.html"
            )
        if self.out is not None and self.out.is_dir():
            raise InputError(
                f"--out {self.out} is a directory; expected a file, such as "
                f"{self.out / 'report.html'}"
            )


def main(config: Config) -> None:
    """Write the page of some runs."""
    if config.out is None:
        page = write_report(config.run[0])
    else:
        page = config.out
        page.parent.mkdir(parents=True, exist_ok=True)
        write_text(page, render(read_runs(config.run)))
    print(printable(str(page)))


if __name__ == "__main__":
    run(main, Config, __doc__)
