"""The program names and the program predict, from flags to files."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.campaign import programs
from train import predict
from train.cli import InputError, Stopped
from train.datasets import load_names
from train.names import __main__ as names
from train.names import training
from train.names.settings import SETTINGS
from train.names.task import make_task
from train.recipes import models_of
from train.runs.checkpoint import Checkpoints
from train.runs.directory import open_trained
from train.trained import ask, load_classifier

ROOT = Path(__file__).parents[1]
# All of one length: one bucket, one compilation.
TINY = {
    "German": ["Abts", "Bahr", "Ehrl", "Kuhn", "Voss", "Zorn", "Ähre", "Roth"] * 3,
    "Italian": ["Alòi", "Bova", "Emma", "Gori", "Lala", "Zito", "Rana", "Pace"] * 3,
    "Other": ["Xxxx", "Yyyx", "Xyxx", "Yxyx", "Xxyy", "Yxxx", "Xyyx", "Yyxx"] * 3,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("names")
    for language, some in TINY.items():
        # More than the workshop keeps, so that it has names to be tested on.
        some = [*some, *(f"{name[:3]}{c}" for name in some[:8] for c in "aeiou")]
        text = "\n".join(some) + "\n"
        (directory / f"{language}.txt").write_text(text, encoding="utf-8")
    return directory


def config(data, out, recipe="practical", model="linear", **flags):
    short = {"iterations": 40} if recipe == "workshop" else {"epochs": 1}
    flags = short | {"hidden_size": 6} | flags
    return names.Config(recipe=recipe, model=model, data=data, out=out, **flags)


def train(data, out, *args, **flags):
    names.main(config(data, out, *args, **flags))
    return read(out / "summary.json")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def figures(out):
    """What a run measured, without seconds."""
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) | {"train_seconds": 0} for line in lines]


@pytest.mark.parametrize(("recipe", "model"), list(SETTINGS))
def test_every_model_trains_predicts_and_leaves_its_files(
    recipe, model, data, tmp_path, capsys, request
):
    out = tmp_path / "run"
    # What is drawn depends on the recipe, and on whether there is attention.
    draws = model in (models_of(recipe)[0], "attention")
    if not draws:
        request.getfixturevalue("no_pictures")
    flags = {"protocol": "blog"} if recipe == "best" else {}
    summary = train(data, out, recipe, model, **flags)
    printed = capsys.readouterr().out
    assert printed.startswith("device: ")
    assert f"--run {out}" in printed.splitlines()[-1]

    files = {"config.json", "env.json", "model.txt", "metrics.jsonl", "summary.json"}
    files |= {"params.safetensors", "tensorboard", "plots", "checkpoints"}
    files |= {"findings.json", "report.html"}
    assert files <= {path.name for path in out.iterdir()}
    pictures = {path.name for path in (out / "plots").iterdir()}
    expected = {"loss.png", "accuracy.png", "confusion.png", "distributions.png"}
    has_attention = model == "attention" or recipe == "best"
    if draws:
        assert pictures == expected | ({"attention.png"} if has_attention else set())
    assert ("where attention looks" in printed) == has_attention

    wanted = "recipe model data seed num_params steps test_accuracy test_loss"
    wanted += " test_macro_f1 train_seconds wall_seconds device"
    assert set(wanted.split()) <= summary.keys()
    params = load_file(out / "params.safetensors")
    assert sum(array.size for array in params.values()) == summary["num_params"]
    assert 0 <= summary["test_accuracy"] <= 1

    predict.main(predict.Config(out, ("Kuhn", "Rana"), json=True))
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for answer in answers:
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert answer["language"] == next(iter(answer["probabilities"]))
        assert ("attention" in answer) == has_attention


def test_predict_says_what_the_test_measured(data, tmp_path, no_pictures):
    out = tmp_path / "run"
    summary = train(data, out, "practical", "gru", epochs=2)
    flags = config(data, out, "practical", "gru", epochs=2)
    settings = flags.settings("gru")
    task = make_task("practical", "gru", settings, load_names(data), [0])
    test = task.replicas[0].split.test
    classifier = load_classifier(open_trained(out, "names"))
    right = [
        ask(name, classifier).probs.argmax() == label
        for name, label in zip(test.names, test.labels, strict=True)
    ]
    assert np.mean(right) == pytest.approx(summary["test_accuracy"])


@pytest.mark.parametrize(
    ("recipe", "model"),
    [("practical", "linear"), ("workshop", "gru")],
)
def test_a_continued_run_is_the_uninterrupted_one(
    recipe, model, data, tmp_path, no_pictures
):
    # binary looks at the test names every third epoch and at the end.
    short, long = ("epochs", 3), ("epochs", 6)
    if recipe == "workshop":
        short, long = ("iterations", 1000), ("iterations", 2000)
    whole = train(data, tmp_path / "whole", recipe, model, **dict([long]))
    train(data, tmp_path / "parts", recipe, model, **dict([short]))
    parts = train(data, tmp_path / "parts", recipe, model, **dict([long]))
    assert parts["steps"] == whole["steps"]
    assert figures(tmp_path / "parts") == figures(tmp_path / "whole")
    one, other = (
        (tmp_path / name / "params.safetensors").read_bytes()
        for name in ("whole", "parts")
    )
    assert one == other


@pytest.mark.parametrize(
    ("recipe", "model", "flags"),
    [
        ("binary", "rnn", {"epochs": 4}),
        ("practical", "gru", {"epochs": 2, "seeds": 2}),
        ("workshop", "rnn", {"iterations": 1500}),
    ],
    ids=["carry kept", "replicas", "iterations"],
)
def test_a_stopped_run_goes_on_as_if_nothing_had_been(
    recipe, model, flags, data, tmp_path, capsys, no_pictures
):
    summary = train(data, tmp_path / "whole", recipe, model, **flags)
    last = summary["steps"]
    a_round = figures(tmp_path / "whole")[0]["step"]
    stopped = config(data, tmp_path / "stopped", recipe, model, **flags)
    # Every kind of place once; with replicas, and without a carry, two of them.
    stops = (1, a_round // 2, a_round, last - 1)
    for after in stops if recipe == "binary" else stops[1::2]:
        with pytest.raises(Stopped, match=f"after update {after:,}; saved; the same"):
            names.main(stopped, after)
    assert not (tmp_path / "stopped" / "summary.json").exists()
    capsys.readouterr()
    names.main(stopped)
    assert f"resuming after update {last - 1:,}\n" in capsys.readouterr().out
    assert figures(tmp_path / "stopped") == figures(tmp_path / "whole")
    trees = [newest(stopped, tmp_path / name) for name in ("whole", "stopped")]
    jax.tree.map(np.testing.assert_array_equal, *trees)
    one, other = (
        (tmp_path / name / "params.safetensors").read_bytes()
        for name in ("whole", "stopped")
    )
    assert one == other


def newest(flags, out):
    """The newest checkpoint but for its seconds: optimiser, best and metrics too."""
    settings = flags.settings(flags.model)
    seeds = range(flags.seeds)
    task = make_task(flags.recipe, flags.model, settings, load_names(flags.data), seeds)
    checkpoints = Checkpoints(out / "checkpoints", read(out / "config.json"))
    _, tree = checkpoints.restore_newest(training.start(task).to_tree())
    return tree | {"train_seconds": 0}


def test_a_complete_run_is_left_as_it_is(data, tmp_path, capsys, no_pictures):
    train(data, tmp_path)
    before = contents(tmp_path)
    train(data, tmp_path)
    assert "is complete; nothing to do" in capsys.readouterr().out
    assert contents(tmp_path) == before


def contents(directory):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_the_first_replica_is_the_single_run(data, tmp_path, no_pictures):
    single = train(data, tmp_path / "one", "practical", "gru", epochs=3)
    three = train(data, tmp_path / "three", "practical", "gru", epochs=3, seeds=3)
    alone, together = figures(tmp_path / "one"), figures(tmp_path / "three")
    for one, all_ in zip(alone, together, strict=True):
        assert all_["train_loss"][0] == pytest.approx(one["train_loss"], rel=1e-5)
        assert len(set(all_["train_loss"])) == 3
    assert three["test_accuracy"] == single["test_accuracy"]
    values = three["test_accuracy_all"]
    assert three["test_accuracy_mean"] == pytest.approx(np.mean(values))
    assert three["test_accuracy_std"] == pytest.approx(np.std(values, ddof=1))


def test_compare_trains_every_model_and_names_the_best(
    data, tmp_path, capsys, no_pictures
):
    names.main(
        names.Config(
            recipe="blog",
            compare=True,
            data=data,
            out=tmp_path / "all",
            epochs=1,
            hidden_size=6,
        )
    )
    printed = capsys.readouterr().out
    summaries = read(tmp_path / "all" / "comparison.json")
    assert list(summaries) == ["rnn", "gru"]
    winner = max(summaries, key=lambda name: summaries[name]["test_accuracy"])
    assert f"best on the test names: {winner}" in printed
    assert (tmp_path / "all" / "plots" / "comparison.png").stat().st_size > 5000


def test_best_reports_both_protocols_and_is_left_as_it_is(
    data, tmp_path, capsys, no_pictures
):
    summary = train(data, tmp_path / "run", "best", "gru", epochs=3)
    leak_free = read(tmp_path / "run" / "leak-free" / "summary.json")
    assert summary["leak_free_test_accuracy"] == leak_free["test_accuracy"]
    assert summary["protocol"] == "blog"
    printed = capsys.readouterr().out
    assert "protocol blog: random 10 %" in printed
    assert "protocol leak-free: duplicates removed" in printed
    before = contents(tmp_path)
    train(data, tmp_path / "run", "best", "gru", epochs=3)
    assert "is complete; nothing to do" in capsys.readouterr().out
    assert contents(tmp_path) == before


def test_another_configuration_is_refused_with_the_difference(
    data, tmp_path, no_pictures
):
    train(data, tmp_path / "run")
    before = (tmp_path / "run" / "params.safetensors").read_bytes()
    with pytest.raises(
        InputError, match=r"config\.seed: 0 there, 1 now.*another --out"
    ):
        train(data, tmp_path / "run", seed=1)
    with pytest.raises(InputError, match=r"settings\.hidden_size: 6 there, 7 now"):
        train(data, tmp_path / "run", hidden_size=7)
    assert (tmp_path / "run" / "params.safetensors").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path):
    with pytest.raises(InputError, match=r"not finite after update \d+ .*-rate"):
        train(data, tmp_path / "run", learning_rate=1e30, epochs=3)
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"model": "mlp"}, "practical has no model 'mlp'; expected one of linear, rnn"),
        ({"iterations": 5}, "practical linear has no --iterations; use --epochs"),
        ({"mlp_size": 5}, "practical linear has no --mlp-size; leave it out"),
        ({"learning_rate": -1.0}, "--learning-rate is -1.0; expected a positive"),
        ({"epochs": 0}, "--epochs is 0; expected a positive"),
        ({"seeds": 0}, "--seeds is 0; expected at least 1"),
        ({"seed": 2**31}, "--seed is 2147483648; expected 0 to 2,147,483,647"),
        ({"noise": 1}, "--noise belongs to the recipe workshop, not to practical"),
        ({"protocol": "blog"}, "--protocol belongs to the recipe best"),
        ({"minutes": 0.0}, "--minutes is 0.0; expected more than 0"),
        ({"compare": True}, "--compare trains every model; leave out --model"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_flags_that_make_no_sense(flags, message):
    flags = {"recipe": "practical", "model": "linear"} | flags
    message = message.replace("every model;", "every model of the recipe;")
    with pytest.raises(InputError) as error:
        names.Config(**flags)
    assert message in str(error.value)


def test_one_name_for_each_language_is_too_few(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for language in ("Greek", "Polish"):
        (data / f"{language}.txt").write_text("Ada\n")
    with pytest.raises(InputError, match="too few names: none is left to train on"):
        train(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_directory_that_is_no_run_is_left_alone(data, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match=r"not empty and holds no run"):
        train(data, tmp_path)
    with pytest.raises(InputError, match=r"is a file; expected a directory for --out"):
        train(data, tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    train(data, out, "workshop", "attention")
    return out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "the name is empty"),
        (" \t ", "the name is empty"),
        ("日本", "no letter that the model knows"),
        ("🙂", "no letter that the model knows"),
        ("a" * 3000, "the name has 3,000 characters; expected at most 1,000"),
    ],
    ids=["empty", "blank", "script", "emoji", "long"],
)
def test_odd_names_get_one_line(name, message, trained):
    with pytest.raises(InputError, match=message):
        predict.main(predict.Config(trained, (name,)))


@pytest.mark.parametrize("name", ["O'Neill", "Ślusàrski", "von\tder Ähre", "é" * 300])
def test_odd_but_readable_names_get_an_answer(name, trained, capsys):
    predict.main(predict.Config(trained, (name,)))
    printed = capsys.readouterr().out
    assert printed.count(" %") == 3
    assert "attention" in printed
    assert "\t" not in printed


def test_names_come_from_standard_input(trained, capsys, monkeypatch):
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("Kuhn\n日本\nRana\n"))
    predict.main(predict.Config(trained))
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == "Kuhn"
    assert "Rana" in printed.out
    assert printed.err.count("error: ") == 1


def test_predict_needs_a_run_of_names(trained, tmp_path):
    with pytest.raises(InputError, match=r"no run directory \(no config\.json\)"):
        predict.main(predict.Config(tmp_path, ("a",)))
    (tmp_path / "config.json").write_text(
        '{"program": "charlm", "config": {}, "sizes": {}}'
    )
    with pytest.raises(InputError, match=r"is a run of charlm; expected one of names"):
        predict.main(predict.Config(tmp_path, ("a",)))


def test_damaged_parameters_are_named(trained, tmp_path):
    for name in ("config.json", "params.safetensors"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    path = tmp_path / "params.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"params\.safetensors is damaged"):
        predict.main(predict.Config(tmp_path, ("a",)))
    path.unlink()
    with pytest.raises(InputError, match="holds no trained model"):
        predict.main(predict.Config(tmp_path, ("a",)))


@pytest.mark.parametrize(
    "arguments",
    [
        [names, "--data", "nowhere"],
        [names, "--recipe", "practical", "--model", "transformer"],
        [names, "--epoch", "3"],
        [predict, "--run", "nowhere", "Smith"],
    ],
    ids=["data", "model", "flag", "run"],
)
def test_the_command_line_fails_in_words(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = programs.call(*arguments)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert done.err.strip()
    assert not list(tmp_path.iterdir())


def test_a_process_fails_in_words_too(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "train.names", "--data", "nowhere"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
