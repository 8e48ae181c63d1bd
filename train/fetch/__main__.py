"""Download the real data, verify it, and put it where the programs look.

    python -m train.fetch                        # names, friends and shakespeare
    python -m train.fetch names --file data.zip  # from a copy downloaded elsewhere

The data are other people's texts without a licence to pass them on, so this project
ships none of them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from train import cli
from train.fetch.download import DATA, DATA_SETS, fetch


@dataclass(frozen=True)
class Config:
    """Flags of `python -m train.fetch`."""

    what: tyro.conf.Positional[
        tuple[Literal["names", "friends", "shakespeare"], ...]
    ] = ("names", "friends", "shakespeare")
    """What to fetch."""

    url: Annotated[str | None, cli.default("the usual one")] = None
    """Address to download from, for one data set."""

    file: Annotated[Path | None, cli.default("none")] = None
    """Copy on this machine to take instead of a download, for one data set."""

    out: Path = DATA
    """Folder that gets names/, episode1_english.txt and tinyshakespeare.txt."""

    timeout: float = 30.0
    """Seconds of silence to give up after; for the whole, ten times as many."""

    def __post_init__(self) -> None:
        if self.url is not None and self.file is not None:
            raise cli.InputError("--url and --file were both given; expected one")
        if len(self.what) != 1 and (self.url is not None or self.file is not None):
            raise cli.InputError(
                f"--url and --file are for one data set, not {len(self.what)}; say "
                "which, as in: python -m train.fetch names --file data.zip"
            )
        if not 0 < self.timeout <= 3600:
            raise cli.InputError(
                f"--timeout is {self.timeout:g}; expected seconds, above 0 to 3600"
            )


PROGRAMS = {
    "names": ("train.names",),
    "friends": ("train.charlm", "--recipe", "lab"),
    "shakespeare": ("train.charlm",),
}
"""What trains on each of them."""


def main(config: Config) -> None:
    """Fetch what `config` asks for and print one line for each."""
    for what in config.what:
        data_set = DATA_SETS[what]
        path = config.out / data_set.name
        done = fetch(data_set, path, config.url, config.file, config.timeout)
        print(cli.printable(done))
    if config.out == DATA:
        print(cli.command(*PROGRAMS[config.what[0]]))


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
