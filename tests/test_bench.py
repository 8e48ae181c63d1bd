import functools
import importlib
import importlib.util
import json
import sys

import numpy as np
import pytest

from rnnjax import LSTMCell, Recurrent
from train.bench import __main__ as bench
from train.bench import measuring
from train.bench.peers import __main__ as peers_main
from train.bench.peers import rows
from train.bench.peers.rows import OURS, ROWS, Contestant, Options, Row
from train.bench.peers.work import layer_work, names_work, sample_work, text_work
from train.cli import InputError, run
from train.datasets import SAMPLE_NAMES, SAMPLE_SCRIPT, load_names

TINY_TEXT = {
    "hidden_size": 12,
    "mlp_size": 10,
    "batch_size": 5,
    "window": 6,
    "dropout": 0.0,
}


def tiny_names(recipe, model, **changes):
    data = load_names(SAMPLE_NAMES)
    settings = {"hidden_size": 6, "num_buckets": 1} | changes
    return names_work(recipe, model, data, **settings)


TINY_WORK = {
    "workshop-rnn": lambda: tiny_names("workshop", "rnn", iterations=20),
    "workshop-gru": lambda: tiny_names("workshop", "gru", iterations=20),
    "workshop-attention": lambda: tiny_names("workshop", "attention", iterations=20),
    "practical": lambda: tiny_names("practical", "linear", names=40, validates=True),
    "blog-gru": lambda: tiny_names("blog", "gru", names=20),
    "padded": lambda: tiny_names(
        "blog", "gru", names=50, num_buckets=2, batch_size=16, order="by_length"
    ),
    "lab": lambda: text_work(SAMPLE_SCRIPT, updates=3, **TINY_TEXT),
    "lstm": lambda: layer_work(Recurrent(LSTMCell(6, vocab_size=5)), 5, 3, 7),
    "sample-1": lambda: sample_work(SAMPLE_SCRIPT, 20, 1, **TINY_TEXT),
    "sample-64": lambda: sample_work(SAMPLE_SCRIPT, 20, 3, **TINY_TEXT),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Two of torch's threads wait for each other where the tests share the cores."""
    if rows.is_installed("torch"):
        importlib.import_module("torch").set_num_threads(1)


@pytest.mark.parametrize("name", TINY_WORK)
def test_everyone_computes_what_we_compute(name):
    present, absent = rows.contestants(ROWS[name])
    work = TINY_WORK[name]()
    runs, differences = rows.prepare_all(ROWS[name], present, work)
    assert set(runs) == set(present)
    assert set(differences) == set(present) - {OURS}
    assert len(present) + len(absent) == len(ROWS[name].contestants)


def test_every_row_is_compared_or_a_whole_program():
    compared = {name for name, row in ROWS.items() if not row.is_program}
    backends = {name for name in ROWS if name.startswith("backends-")}
    assert compared - backends == set(TINY_WORK)
    for row in ROWS.values():
        assert next(iter(row.contestants)) == OURS


@pytest.mark.filterwarnings("ignore:backend:UserWarning")
def test_backends_are_compared_on_their_devices_and_only_when_asked_for():
    present, absent = rows.contestants(ROWS["backends-lstm"])
    assert list(present) == [OURS]
    assert absent == [
        "pallas is left out: it is for a TPU",
        "cudnn is left out: it is for a GPU",
    ]
    default = bench.Config().row_names
    assert "lstm" in default and "backends-lstm" not in default
    # Here each of them is the scan.
    for contestant in ROWS["backends-lstm"].contestants.values():
        values = rows.prepare(contestant, TINY_WORK["lstm"]())(0)
        np.testing.assert_allclose(values, layer_values(), 1e-6)


def doubled(work):
    """A contestant that computes something else."""
    return lambda round_: 2 * layer_values()


def silent(work):
    """A contestant that takes no time and agrees."""
    return lambda round_: layer_values()


@functools.cache
def layer_values():
    return rows.prepare(Contestant("ours:layer"), TINY_WORK["lstm"]())(0)


@pytest.fixture
def tiny_row(monkeypatch):
    """A row that takes milliseconds, called tiny, in place of all others."""
    contestants = {
        OURS: Contestant("ours:layer"),
        "nn.scan": Contestant("ours:reference_layer", bar=1e-6),
        "nothing": Contestant("test:silent", bar=1e6),
        "absent": Contestant("absent_rnn:layer", needs="torch", bar=2),
    }
    row = Row(
        "a tiny LSTM",
        "pass",
        lambda options: TINY_WORK["lstm"](),
        contestants,
        product=(2, 3, 5),
    )
    monkeypatch.setattr(measuring, "SQUARE", (2, 3, 5))
    monkeypatch.setitem(sys.modules, "train.bench.peers.test", sys.modules[__name__])
    monkeypatch.setitem(rows.PACKAGES, "torch", "pip install torch")
    monkeypatch.setattr(rows, "is_installed", lambda package: package is None)
    monkeypatch.setitem(ROWS, "tiny", row)
    return row


def in_this_process(tmp_path):
    """What bench.in_process does, without a new process for each row."""

    def measure(name, options, alone=None, cache=""):
        out = tmp_path / "measured.json"
        request = {"row": name, "options": options._asdict(), "alone": alone}
        peers_main.main(request | {"small_loops": False, "out": str(out)})
        measured = json.loads(out.read_text())
        if "error" in measured:
            raise InputError(measured["error"])
        return measured

    return measure


def call(monkeypatch, *flags: str) -> int:
    """The exit code of the program with these flags."""
    monkeypatch.setattr(sys, "argv", ["bench", *flags])
    try:
        run(bench.main, bench.Config, "Measure.")
    except SystemExit as stop:
        return stop.code
    return 0


def test_the_program_prints_a_table_and_writes_everything(
    tiny_row, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(bench, "in_process", in_this_process(tmp_path))
    path = tmp_path / "bench.json"
    flags = ["--rows", "tiny", "--repeats", "3", "--json", str(path)]
    assert call(monkeypatch, *flags) == 0
    said = capsys.readouterr().out
    assert said.startswith("device: ")
    assert "tiny: a tiny LSTM" in said
    assert "(reached 1e-06)" in said
    assert "(missed 1e+06)" in said
    assert "absent is left out: torch is not installed (pip install torch)" in said

    written = json.loads(path.read_text())
    assert written["machine"]["cores"] >= 1
    assert "jax" in written["machine"]["versions"]
    row = written["rows"]["tiny"]
    assert list(row["contestants"]) == [OURS, "nn.scan", "nothing"]
    assert row["peak_flops"] > 0
    ours, scan = row["contestants"][OURS], row["contestants"]["nn.scan"]
    assert len(ours["round_seconds"]) == row["rounds"] == 3
    seconds = ours["seconds"]
    assert seconds["low"] <= seconds["median"] <= seconds["high"]
    # 3 sequences of 7 steps.
    assert ours["chars_per_second"] == pytest.approx(21 / seconds["median"])
    assert ours["times_as_fast"]["median"] == 1
    assert ours["difference"] is None
    assert scan["difference"] < 1e-5
    assert (scan["bar"], scan["reached"]) == (1e-6, True)
    assert row["contestants"]["nothing"]["reached"] is False
    for figures in row["contestants"].values():
        assert figures["peak_memory"] > 0
        assert figures["compile_seconds"] >= 0
        assert figures["cached_compile_seconds"] >= 0


def test_quick_leaves_out_what_needs_fresh_processes(tiny_row, monkeypatch, tmp_path):
    asked = []
    measure = in_this_process(tmp_path)

    def in_process(name, options, alone=None, cache=""):
        asked.append((name, alone, options.rounds))
        return measure(name, options, alone, cache)

    monkeypatch.setattr(bench, "in_process", in_process)
    assert call(monkeypatch, "--rows", "tiny", "--quick") == 0
    assert asked == [(None, None, 3), ("tiny", None, 3)]


def test_a_mismatch_is_refused_in_one_line(tiny_row, monkeypatch, capsys, tmp_path):
    wrong = tiny_row.contestants | {"wrong": Contestant("test:doubled")}
    monkeypatch.setitem(ROWS, "tiny", tiny_row._replace(contestants=wrong))
    monkeypatch.setattr(bench, "in_process", in_this_process(tmp_path))
    assert call(monkeypatch, "--rows", "tiny", "--quick") == 2
    said = capsys.readouterr().err
    assert "wrong computes something else" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rows", "lab,typo"], "there is no row typo; expected some of workshop-rnn"),
        (["--rows", ""], "there is no row "),
        (["--repeats", "0"], "--repeats is 0; expected at least 1"),
    ],
)
def test_wrong_flags_are_refused_in_one_line(monkeypatch, capsys, flags, said):
    assert call(monkeypatch, *flags) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def test_a_process_that_fails_is_one_line(monkeypatch, capfd):
    def fail(*args, **kwargs):
        return type("Done", (), {"returncode": 3})

    monkeypatch.setattr(bench.subprocess, "run", fail)
    with pytest.raises(InputError, match="row lab: its process ended with 3"):
        bench.in_process("lab", Options())


def test_a_row_runs_in_a_process_of_its_own(tmp_path):
    options = Options(rounds=1, data=str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"row workshop-rnn: .*none does not exist"):
        bench.in_process("workshop-rnn", options)


@pytest.mark.parametrize(
    ("recipe", "model", "per_char", "per_name"),
    [
        # Recurrent and, above the first layer, input matrices; then the head.
        ("blog", "gru", 3 * 3 * 6 * 6, 18 * 6),
        ("workshop", "rnn", 6 * 6, 18 * 6),
        ("practical", "linear", 6 * 6, 18 * 6),
    ],
)
def test_useful_operations_of_a_classifier(recipe, model, per_char, per_name):
    work = tiny_names(recipe, model)
    batches = work.batches(0)
    chars, names = batches.seq_lengths.sum(), (batches.labels >= 0).sum()
    amount = work.amount(0)
    assert amount.chars == chars
    assert amount.flops == 3 * 2 * (chars * per_char + names * per_name)


def test_useful_operations_of_lesson_002_are_as_the_notes_count_them():
    work = text_work(SAMPLE_SCRIPT, updates=1)
    assert work.task.settings.dropout == 0.4
    assert work.without_dropout.task.settings.dropout == 0
    vocab_size = work.task.codec.vocab_size
    amount = work.amount(0)
    streams = len(work.task.windows.stream_starts)
    assert amount.chars == streams * 50
    per_char = 8 * 1024**2 + 2 * 1024 * 2048 + 2 * 2048 * vocab_size
    assert amount.flops == 3 * amount.chars * per_char


def test_names_and_batches_of_a_round_are_the_same():
    work = TINY_WORK["padded"]()
    batches, named = work.batches(1), work.names(1)
    assert [len(batch) for batch in named] == [16, 16, 16, 2]
    assert sum(len(name) for batch in named for name, _ in batch) == (
        batches.seq_lengths.sum()
    )
    labels = [label for batch in named for _, label in batch]
    assert labels == batches.labels[batches.labels >= 0].tolist()


def test_a_missing_peer_is_told_how_to_get(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    present, skipped = rows.contestants(ROWS["lab"])
    assert list(present) == [OURS, "flax nn.RNN"]
    assert skipped == [
        "torch is left out: torch is not installed (pip install torch)",
        'keras is left out: keras is not installed (pip install -e ".[bench]")',
        'equinox is left out: equinox is not installed (pip install -e ".[bench]")',
    ]


def test_table_has_a_column_for_everything():
    figures = {
        "seconds": {"median": 0.0012, "low": 0.001, "high": 0.0015},
        "chars_per_second": 12345.6,
        "peak_share": 0.713,
        "times_as_fast": {"median": 1.0, "low": 1.0, "high": 1.0},
        "compile_seconds": 2.5,
        "cached_compile_seconds": 0.25,
        "peak_memory": 300 * 2**20,
        "bar": None,
    }
    slower = figures | {"times_as_fast": {"median": 2.345}, "bar": 2, "reached": True}
    row = {
        "title": "title",
        "unit": "update",
        "contestants": {OURS: figures | {"peak_bar": 0.7}, "torch": slower},
        "notes": ["a remark"],
    }
    lines = bench.table(row).splitlines()
    assert lines[0] == "title"
    assert [" ".join(line.split()) for line in lines[1:3]] == [
        "1 update quartiles characters/s of peak compiles cached memory",
        "rnnjax 1.20 ms 1.00 ms - 1.50 ms 12,346 71 % 2.50 s 250 ms 300 MiB reached 70 %",
    ]
    assert lines[3].endswith("300 MiB  rnnjax is 2.35 times as fast (reached 2)")
    assert lines[2].index("12,346") == lines[3].index("12,346")
    assert lines[4] == "a remark"


def test_lesson_programs_train_on_the_sample(tmp_path):
    pytest.importorskip("torch")
    from train.bench.peers import lesson_program

    for lesson in ("workshop", "blog"):
        assert lesson_program.train(lesson, SAMPLE_NAMES, 2) > 0
    assert np.isfinite(lesson_program.train("workshop", SAMPLE_NAMES, 1))
