"""The page of a run: what it says, that it is safe, and that it comes out the same."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from train.charlm import __main__ as charlm
from train.cli import InputError
from train.datasets import load_names
from train.names import __main__ as names
from train.names.task import make_task
from train.report import __main__ as report
from train.report.charts import MOST_POINTS, Curve, Point, chart
from train.report.findings import find
from train.report.render import MOST_LANGUAGES
from train.runs.directory import open_trained
from train.trained import ask, load_classifier

VOID = {"meta", "link", "img", "br", "hr", "input", "base", "embed", "source"}


class Page(HTMLParser):
    """A page as its elements, and as the tables in it."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables, self.styles, self._open = [], [], [], []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append((dict(attrs).get("class"), []))
        elif tag == "tr":
            self.tables[-1][1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == "style":
            self.styles.append(data)
        if {"td", "th"} & set(self._open):
            self.tables[-1][1][-1][-1] += data

    def table(self, name):
        """The rows of the only table of a class."""
        (rows,) = (rows for each, rows in self.tables if each == name)
        return rows

    def attributes(self, name):
        return [attrs[name] for _, attrs in self.elements if name in attrs]


def page_of(path):
    return Page((path / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Names of one length, and more than the workshop keeps."""
    directory = tmp_path_factory.mktemp("names")
    for language, letters in {"Ab": "abc", "Cd": "bcd", "<b>": "cde"}.items():
        rows = [f"{x}{y}{z}{x}" for x in letters for y in letters for z in letters]
        text = "\n".join(rows * 2 + rows[:12])
        (directory / f"{language}.txt").write_text(text, encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run with attention, whose report.html was written by the training."""
    out = tmp_path_factory.mktemp("runs") / "attention"
    flags = {"recipe": "workshop", "model": "attention", "hidden_size": 6}
    names.main(names.Config(data=data, out=out, iterations=60, **flags))
    return out


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A run of charlm, whose report.html was written by the training."""
    directory = tmp_path_factory.mktemp("spoken")
    text = directory / "text.txt"
    text.write_text("".join(f"{i} & <i>{i * i}</i>\n" for i in range(40)))
    sizes = {"hidden_size": 8, "batch_size": 3, "window": 5}
    charlm.main(charlm.Config(text=text, out=directory / "run", epochs=1, **sizes))
    return directory / "run"


def make_run(path, program="names", summary=(), config=(), records=(), findings=None):
    """The files of a finished run, without a training."""
    path.mkdir(parents=True)
    parts = {"config": {"recipe": "blog", "seed": 0}, "sizes": {"hidden_size": 6}}
    parts |= {"program": program, "settings": {"epochs": 2, "learning_rate": 0.1}}
    figures = {"recipe": "blog", "model": "rnn", "seed": 0, "steps": 20}
    figures |= {"test_accuracy": 0.5, "num_params": 1234, "train_seconds": 2.0}
    files = {"config": parts | dict(config), "summary": figures | dict(summary)}
    files["env"] = {"python": "3.11.7", "device": "CPU"}
    if findings is not None:
        files["findings"] = findings
    for name, value in files.items():
        (path / f"{name}.json").write_text(json.dumps(value))
    if not records:
        records = [
            {"round": i, "step": 10 * i + 10, "train_loss": 2.0 - i, "train_seconds": i}
            for i in range(2)
        ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (path / "metrics.jsonl").write_text(lines)
    return path


def test_the_counts_are_those_of_the_predictions(trained, data):
    settings = names.Config(recipe="workshop", data=data, hidden_size=6, iterations=60)
    settings = settings.settings("attention")
    task = make_task("workshop", "attention", settings, load_names(data), [0])
    test = task.replicas[0].split.test
    classifier = load_classifier(open_trained(trained, "names"))
    answers = [ask(name, classifier).probs.argmax() for name in test.names]
    expected = confusion_matrix(test.labels, answers, labels=range(3))
    page = page_of(trained)

    head, *rows = page.table("confusion")
    assert head[1:] == [row[0] for row in rows] == list(task.languages)
    assert [list(map(int, row[1:])) for row in rows] == expected.tolist()
    titles = page.attributes("title")
    for i, j in np.ndindex(3, 3):
        one, other = task.languages[i], task.languages[j]
        what = "recognised" if i == j else f"taken for {other}"
        count, total = expected[i, j], expected[i].sum()
        share = f"{100 * count / total:.1f} %"
        assert f"{one} {what}: {count} of {total} ({share})" in titles

    wrong = [row[:3] for row in page.table("mistakes")[1:]]
    assert 0 < len(wrong) == min(20, expected.sum() - np.trace(expected))
    triples = {
        (str(name), task.languages[label], task.languages[answer])
        for name, label, answer in zip(test.names, test.labels, answers, strict=True)
    }
    assert set(map(tuple, wrong)) <= triples
    assert all(language != answer for _, language, answer in wrong)


def test_the_languages_and_attention_are_shown(trained):
    summary = json.loads((trained / "summary.json").read_text())
    page = page_of(trained)
    rows = page.table("languages")[1:]
    for row, (language, figures) in zip(
        rows, summary["languages"].items(), strict=True
    ):
        shares = [f"{figures[name]:.3f}" for name in ("precision", "recall", "f1")]
        assert row == [language, f"{figures['names']:,}", *shares]
    found = json.loads((trained / "findings.json").read_text())["attention"]
    looks = page.table("attention")
    assert len(found) == len(looks) == 8
    for row, look in zip(looks, found, strict=True):
        assert sum(look["weights"]) == pytest.approx(1, abs=1e-3)
        pairs = zip(look["text"], look["weights"], strict=True)
        assert row == [look["language"], *(f"{c}{100 * w:.0f}" for c, w in pairs)]


def test_mistakes_are_the_surest_first():
    logits = np.array([[0.0, 9.0], [0.0, 2.0], [3.0, 0.0], [5.0, 0.0]])
    labels = np.array([0, 0, 1, 0])
    found = find(np.eye(2, dtype=int), logits, labels, list("abcd"), [], [], "XY")
    assert [m.name for m in found.mistakes] == ["a", "c", "b"]
    first = found.mistakes[0]
    assert (first.language, first.answer) == ("X", "Y")
    assert first.prob == pytest.approx(1 / (1 + np.exp(-9)), abs=1e-6)
    assert first.prob + first.prob_of_language == pytest.approx(1, abs=2e-6)


@pytest.mark.parametrize("made", ["trained", "spoken"])
def test_it_is_rebuilt_identically(made, request, tmp_path, capsys):
    path = request.getfixturevalue(made)
    page = path / "report.html"
    before, written = page.read_bytes(), page.stat().st_mtime_ns
    capsys.readouterr()
    report.main(report.Config((path,)))
    assert capsys.readouterr().out == f"{page}\n"
    assert page.stat().st_mtime_ns == written
    page.unlink()
    report.main(report.Config((path,)))
    assert page.read_bytes() == before
    report.main(report.Config((path,), tmp_path / "new" / "other.html"))
    assert (tmp_path / "new" / "other.html").read_bytes() == before


@pytest.mark.parametrize("made", ["trained", "spoken"])
def test_it_loads_nothing(made, request):
    path = request.getfixturevalue(made)
    text, page = (path / "report.html").read_text(encoding="utf-8"), page_of(path)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert not page.attributes("src") and not page.attributes("srcset")
    assert all(href.startswith("#") for href in page.attributes("href"))
    assert "http" not in text.replace("http-equiv", "")
    css = "".join(page.styles + page.attributes("style"))
    assert css and "url(" not in css and "@import" not in css
    (policy,) = page.attributes("content")[:1]
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("made", ["trained", "spoken"])
def test_it_can_be_read_aloud(made, request):
    page = page_of(request.getfixturevalue(made))
    assert ("html", {"lang": "en"}) in page.elements
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {href[1:] for href in page.attributes("href")} <= set(ids)
    for tag, attributes in page.elements:
        if tag == "svg":
            assert attributes.get("role") == "img" or "aria-hidden" in attributes
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
    assert any("loss" in words for words in page.attributes("aria-label"))


def test_samples_over_time_are_shown(spoken):
    lines = (spoken / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    last = json.loads((spoken / "summary.json").read_text())["sample"]
    texts = [record["sample"] for record in records if "sample" in record]
    texts += [last] if last != texts[-1] else []
    html = (spoken / "report.html").read_text(encoding="utf-8")
    shown = [part.split("</pre>")[0] for part in html.split("<pre>")[1:]]
    assert texts and all("<" in text for text in texts)
    assert [text.replace("&lt;", "<").count("<") for text in shown] == [
        text.count("<") for text in texts
    ]
    assert not any("<" in text for text in shown)


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e\x00\ud800"


def test_hostile_names_and_texts_are_only_text(tmp_path):
    mistake = {"name": HOSTILE, "language": HOSTILE, "answer": HOSTILE}
    findings = {
        "languages": [HOSTILE, "B"],
        "confusion": [[1, 2], [3, 4]],
        "mistakes": [mistake | {"prob": 0.9, "prob_of_language": 0.1}],
        "attention": [{"text": "<&", "language": HOSTILE, "weights": [0.5, 0.5]}],
    }
    figures = {"names": 3, "precision": 0.1, "recall": 0.2, "f1": 0.3}
    summary = {"model": HOSTILE, HOSTILE: HOSTILE, "languages": {HOSTILE: figures}}
    config = {"alphabet": HOSTILE, HOSTILE: HOSTILE}
    one = make_run(tmp_path / "one", "names", summary, config, findings=findings)
    record = {"round": 0, "step": 20, "epoch": 1.0, "train_loss": 1.0}
    record |= {"train_seconds": 1, "sample": HOSTILE}
    other = make_run(tmp_path / "two", "charlm", {"sample": HOSTILE}, (), [record])
    for path in (one, other):
        report.main(report.Config((path,)))
        text, page = (path / "report.html").read_text(encoding="utf-8"), page_of(path)
        assert not {tag for tag, _ in page.elements} & {"script", "img"}
        assert not page.attributes("onerror")
        assert "&lt;script&gt;alert(1)" in text and r"\u202e\x00\ud800" in text
        assert "\u202e" not in text and "\x00" not in text
    assert page_of(one).table("attention")[0][1:] == ["<50", "&50"]


def test_a_hostile_directory_is_only_text(tmp_path):
    paths = [make_run(tmp_path / name) for name in ("<i>a", "b\u202e")]
    report.main(report.Config(tuple(paths), tmp_path / "both.html"))
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "<i>" not in text and "&lt;i&gt;a" in text and r"b\u202e" in text


def test_several_runs_side_by_side(tmp_path):
    rates = {"one": 0.1, "two": 0.5}
    for name, rate in rates.items():
        config = {"settings": {"epochs": 2, "learning_rate": rate}}
        make_run(tmp_path / name, summary={"test_accuracy": rate}, config=config)
    out = tmp_path / "both.html"
    report.main(report.Config(tuple(tmp_path / name for name in rates), out))
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    rows = [row for _, rows in page.tables for row in rows]
    assert ["result", "one", "two"] in rows and ["setting", "one", "two"] in rows
    assert ["test accuracy", "10.00 %", "50.00 %"] in rows
    assert ["learning rate ≠ differs", "0.1", "0.5"] in rows
    assert ["epochs", "2", "2"] in rows
    assert ["1", "2", "2"] in rows  # the losses after the first epoch
    curves = [a for tag, a in page.elements if a.get("class", "").startswith("line k")]
    assert [each["class"] for each in curves] == ["line k0 d0", "line k1 d1"] * 2
    assert page.attributes("id")[2:4] == ["run-1", "run-2"]


def test_a_run_has_one_colour_in_all_charts(tmp_path):
    validated = [{"validation_loss": 1.0}, {"validation_loss": 1.5}]
    for name, more in (("one", [{}, {}]), ("two", validated)):
        records = [
            {"round": i, "step": 10 * i + 10, "train_loss": 1.0, "train_seconds": i}
            | more[i]
            for i in range(2)
        ]
        make_run(tmp_path / name, records=records)
    report.main(report.Config((tmp_path / "one", tmp_path / "two"), tmp_path / "b"))
    page = Page((tmp_path / "b").read_text(encoding="utf-8"))
    curves = [a for _, a in page.elements if a.get("class", "").startswith("line k")]
    swatches = [each["class"] for each in curves if each["d"] == "M1 5H27"]
    assert swatches == ["line k0 d0", "line k1 d1", "line k1 d1"]


def test_runs_in_each_other_have_different_names(tmp_path):
    outer = make_run(tmp_path / "best")
    inner = make_run(tmp_path / "best" / "leak-free")
    report.main(report.Config((outer, inner), tmp_path / "both.html"))
    rows = Page((tmp_path / "both.html").read_text(encoding="utf-8")).tables[0][1]
    assert rows[0] == ["result", "best", "best/leak-free"]


def test_a_comparison_stands_for_its_runs(tmp_path):
    for model in ("rnn", "gru"):
        make_run(tmp_path / "all" / model)
    (tmp_path / "all" / "comparison.json").write_text('{"rnn": {}, "gru": {}}')
    report.main(report.Config((tmp_path / "all",)))
    assert page_of(tmp_path / "all").tables[0][1][0] == ["result", "rnn", "gru"]


def test_replicas_have_a_band_and_a_mean(tmp_path):
    records = [
        {"round": i, "step": 10 * i + 10, "train_seconds": 1}
        | {"train_loss": [1.0, 2.0], "train_accuracy": [0.5, 0.7]}
        for i in range(2)
    ]
    means = {"seeds": 2, "test_accuracy_mean": 0.6, "test_accuracy_std": 0.01}
    run = make_run(tmp_path / "run", summary=means, records=records)
    report.main(report.Config((run,)))
    text, page = (run / "report.html").read_text(encoding="utf-8"), page_of(run)
    assert "60.00 % ± 1.00" in text and "Of the first of 2 seeds" in text
    bands = [a for _, a in page.elements if a.get("class", "").startswith("band")]
    assert len(bands) == 2
    assert ["1", "1.5"] in [row for _, rows in page.tables for row in rows]


def test_a_run_of_an_earlier_version_shows_what_there_is(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "env.json").unlink()
    (run / "metrics.jsonl").unlink()
    report.main(report.Config((run,)))
    text, page = (run / "report.html").read_text(encoding="utf-8"), page_of(run)
    assert "no findings.json" in text and "50.00 %" in text
    assert "confusion" not in [name for name, _ in page.tables]
    assert "curves" not in page.attributes("id")


def test_of_very_many_languages_the_most_frequent_are_shown(tmp_path):
    num = MOST_LANGUAGES + 5
    counts = np.diag(np.arange(num))
    counts[-1, 0] = 7
    findings = {
        "languages": [f"L{i}" for i in range(num)],
        "confusion": counts.tolist(),
        "mistakes": [],
        "attention": [],
    }
    run = make_run(tmp_path / "run", findings=findings)
    report.main(report.Config((run,)))
    head, *rows = page_of(run).table("confusion")
    assert head[1:] == [row[0] for row in rows] == [f"L{i}" for i in range(5, num)]
    assert rows[-1][1:] == ["0"] * (num - 6) + [f"{num - 1}"]
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "5 others are not" in " ".join(text.split())


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda p: (p / "config.json").unlink(), r"no run directory \(no config\.json"),
        (lambda p: (p / "summary.json").unlink(), r"not finished .*the same --out fin"),
        (lambda p: (p / "summary.json").write_text("[1]"), r"summary\.json is damaged"),
        (lambda p: (p / "summary.json").write_text("{"), r"summary\.json is damaged"),
        (
            lambda p: (p / "summary.json").write_text('{"steps": 10}'),
            r"continued to update 20 and is not finished \(summary\.json is of upd.* 10",
        ),
        (
            lambda p: (p / "summary.json").write_text(
                '{"steps": 20, "languages": {"A": {"names": 1}}}'
            ),
            r"summary\.json is damaged.*precision",
        ),
        (lambda p: (p / "env.json").write_text("7"), r"env\.json is damaged"),
        (
            lambda p: (p / "findings.json").write_text("{}"),
            r"findings\.json is damaged",
        ),
        (
            lambda p: (p / "findings.json").write_text(
                '{"languages": ["A"], "confusion": [[1, 2]], "mistakes": []}'
            ),
            r"findings\.json is damaged.*another size",
        ),
        (
            lambda p: (p / "config.json").write_text(
                '{"config": {}, "sizes": {}, "program": "bench"}'
            ),
            r"is a run of bench; expected one of names or charlm",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_reported(break_it, message, tmp_path):
    run = make_run(tmp_path / "run")
    break_it(run)
    with pytest.raises(InputError, match=message) as error:
        report.main(report.Config((run,)))
    assert "\n" not in str(error.value)
    assert not (run / "report.html").exists()


def test_runs_that_do_not_belong_side_by_side(tmp_path):
    one, other = make_run(tmp_path / "a"), make_run(tmp_path / "b", "charlm")
    out = tmp_path / "both.html"
    with pytest.raises(
        InputError, match=r"b is a run of charlm, .*a one of names; mak"
    ):
        report.main(report.Config((one, other), out))
    with pytest.raises(InputError, match=r"a is given twice; expected different runs"):
        report.main(report.Config((one, tmp_path / "b" / ".." / "a"), out))
    assert not out.exists()


def test_flags_that_make_no_sense(tmp_path):
    with pytest.raises(InputError, match=r"--run has no directory; expected one or"):
        report.Config(())
    with pytest.raises(InputError, match=r"--run has 2 directories; say with --out"):
        report.Config((tmp_path, tmp_path))
    with pytest.raises(InputError, match=r"is a directory; expected a file"):
        report.Config((tmp_path,), tmp_path)


def places(path):
    pairs = (pair.split() for pair in path.removeprefix("M").split("L"))
    return np.array([[float(x), float(y)] for x, y in pairs])


@pytest.mark.parametrize("num", [1, 2, 40, 5000])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_curves_stay_in_their_box(num, scale, rng):
    values = scale * rng.uniform(0.5, 1.5, num)
    points = [Point(i, y, y, y) for i, y in enumerate(values.tolist())]
    drawn = chart("loss", "epoch", [Curve("train", points, 0)])
    (line,) = drawn.lines
    found = places(line.path)
    assert len(found) == min(num, MOST_POINTS)
    assert (found >= 0).all() and (found <= 1000).all()
    assert (np.diff(found[:, 0]) > 0).all()
    if num == 40:  # a line of the values, upside down
        assert np.corrcoef(found[:, 1], values)[0, 1] == pytest.approx(-1, abs=1e-6)
    assert all("." not in tick.label for tick in drawn.x_ticks)
    for ticks in (drawn.x_ticks, drawn.y_ticks):
        assert 1 <= len(ticks) <= 7
        assert all(0 <= tick.percent <= 100 for tick in ticks)
        assert len({tick.label for tick in ticks}) == len(ticks)
    assert drawn.num_rows == num and len(drawn.rows) == min(num, 50)


def test_losses_over_decades_have_a_logarithmic_axis():
    points = [Point(i, 10.0**-i, 10.0**-i, 10.0**-i) for i in range(5)]
    plain = chart("rate", "epoch", [Curve("train", points, 0)])
    assert plain.title == "rate"
    drawn = chart("loss", "epoch", [Curve("train", points, 0)], logarithmic=True)
    assert drawn.title == "loss, logarithmic"
    steps = np.diff(places(drawn.lines[0].path), axis=0)
    np.testing.assert_allclose(steps, steps[:1].repeat(4, axis=0), atol=0.2)
    assert {"1", "0.01", "0.0001"} <= {tick.label for tick in drawn.y_ticks}
    assert "train 1" in drawn.words and "train 0.0001" in drawn.words
