"""Work that grows: what is made up, what is measured, how it is shown."""

import numpy as np
import pytest

from train.bench import growth
from train.bench.growth import Axis, Cost
from train.cli import InputError


def test_made_up_names(tmp_path):
    chars = growth.write_names(tmp_path / "names", 100)
    files = sorted((tmp_path / "names").iterdir())
    names = [line for file in files for line in file.read_text().splitlines()]
    assert len(files) == 18 and len(names) == 100
    assert sum(map(len, names)) == chars
    assert all(4 <= len(name) <= 11 and name.istitle() for name in names)


def test_made_up_text(tmp_path):
    growth.write_text(tmp_path / "text.txt", 12_345)
    text = (tmp_path / "text.txt").read_text()
    assert len(text) == 12_345 and text.endswith("\n")
    _, counts = np.unique(text.split(), return_counts=True)
    assert counts.max() > 20 * np.median(counts)


def test_a_layer_costs_memory_for_every_step():
    short, long = growth.layer_points({4: (2, 4, 8), 64: (2, 64, 8)}, repeats=2)
    assert (short.size, short.chars, long.chars) == (4, 8, 128)
    assert short.seconds > 0 and long.seconds > 0
    assert 8 * short.memory < long.memory < 32 * short.memory


AXES = [
    Axis("batch", "an LSTM", [Cost(1, 50, 2e-6, 10**6), Cost(4, 200, 1e-6, 4 * 10**6)])
]


def test_table():
    assert growth.table(AXES).splitlines() == [
        "batch (an LSTM)",
        "                ns/character  of the one before  memory (MB)",
        "             1         2,000                             1.0",
        "             4         1,000               0.50          4.0",
    ]
    assert growth.record(AXES)[0]["points"][1]["memory"] == 4 * 10**6


def test_picture(tmp_path):
    growth.draw(tmp_path / "growth.png", AXES * 2)
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_a_program_that_fails(tmp_path):
    with pytest.raises(InputError, match=r"train\.names failed: error: .*nowhere"):
        growth.run_program("train.names", ["--data", "nowhere"], tmp_path)
