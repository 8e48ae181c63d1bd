"""Trainings that draw what the lessons' own programs draw."""

import hashlib
import importlib.util
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from rnnjax import to_torch
from rnnjax.random import Processor
from train.charlm import __main__ as charlm
from train.cli import InputError
from train.datasets import in_file_order, load_names
from train.names import __main__ as names
from train.names.lesson_draws import draw_record, states_of_test
from train.names.task import make_task
from train.recipes import models_of
from train.runs.interruption import Stopped
from train.runs.seeded import Draws, write_losses

ROOT = Path(__file__).parents[1]
SEED = 11
AVX2 = Processor(fma=True, vector_normal=True)
LANGUAGES = ("Italian", "Greek", "German", "Polish")
RECIPES = ("practical", "workshop", "blog", "binary")
MODELS = [(recipe, model) for recipe in RECIPES for model in models_of(recipe)]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with a few names, and lesson 002's text."""
    folder = tmp_path_factory.mktemp("lesson")
    (folder / "names").mkdir()
    for language in LANGUAGES:
        path = ROOT / "data/sample/names" / f"{language}.txt"
        lines = path.read_text("utf-8").split("\n")[:60]
        (folder / "names" / path.name).write_text("\n".join(lines) + "\n", "utf-8")
    script = (ROOT / "data/sample/script.txt").read_text("utf-8")[:6000]
    (folder / "episode1_english.txt").write_text(script, "utf-8")
    return folder


def config(recipe, model, data, **flags):
    flags = (
        {"iterations": 40} | flags if recipe == "workshop" else {"epochs": 3} | flags
    )
    return names.Config(
        recipe=recipe, model=model, data=data / "names", torch_seed=SEED, **flags
    )


def task_of(recipe, model, data, order=None, processor=None, **less):
    flags = config(recipe, model, data, **less)
    ordered = in_file_order(load_names(flags.data), order)
    settings = flags.settings(model)
    return make_task(
        recipe, model, settings, ordered, [0], torch_seed=SEED, processor=processor
    )


def all_draws(task) -> tuple[list, Draws]:
    """Everything that is drawn for the updates; where the generators are then."""
    drawn, draws = [], task.lesson.draws
    for index in range(-(-task.num_updates // task.record_updates)):
        record = draw_record(task, index, draws)
        drawn.append((record.batches, record.given))
        draws = record.after
    return drawn, draws


KEPT = json.loads((ROOT / "tests/reference/same_seed.json").read_text("utf-8"))


def digest(task) -> str:
    """Of the parameters before the first update, and of all draws until the last."""
    hashed = hashlib.sha256()
    for leaf in jax.tree.leaves((task.lesson.params, all_draws(task))):
        hashed.update(np.ascontiguousarray(leaf).tobytes())
    return hashed.hexdigest()[:16]


@pytest.mark.parametrize(("recipe", "model"), MODELS)
def test_the_draws_are_the_kept_ones(recipe, model, data):
    task = task_of(recipe, model, data, LANGUAGES, AVX2)
    assert digest(task) == KEPT[f"{recipe} {model}"]


LIVE = [(recipe, model) for recipe, model in MODELS if model != "lstm"]
LIVE = [case for case in LIVE if case[0] != "practical" or case[1] == "linear"]


@pytest.fixture
def programs():
    for package in ("torch", "sklearn", "unidecode", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the lessons' programs need {package}")
    from tests import lesson_programs

    if not lesson_programs.PAGES.is_dir():
        pytest.skip("the lessons' pages are not here")
    return lesson_programs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("recipe", "model"), LIVE)
def test_a_lessons_own_program_does_the_same(
    recipe, model, data, programs, tmp_path, capsys
):
    """Its blocks are run by PyTorch: start, every loss, every line, generators' end."""
    less = {"epochs": 1} if recipe in ("practical", "blog") else {}
    flags = config(recipe, model, data, out=tmp_path / "run", **less)
    ran = programs.run(recipe, model, flags.epochs or flags.iterations, SEED, data)
    task = task_of(recipe, model, data, **less)
    start = to_torch(task.trainer.model, task.lesson.params)
    for name, array in start.items():
        np.testing.assert_array_equal(array, ran.start[name])
    _, draws = all_draws(task)
    generators = task.lesson.generators(draws)
    if (states := states_of_test(task, draws)) is not None:
        generators.torch.uniform(states.shape)
    np.testing.assert_array_equal(generators.torch.state(), ran.torch_state)
    np.testing.assert_array_equal(generators.draws().python, ran.python_words)

    names.main(flags)
    losses = np.load(tmp_path / "run" / "losses.npy")
    assert losses.dtype == np.float32
    np.testing.assert_allclose(losses, ran.losses, rtol=2e-6, atol=2e-6)
    said = capsys.readouterr().out.splitlines()
    # A mean of many losses has more digits than float32 holds.
    exact = [line for line in ran.printed if not line.startswith(("Loss", "Ep", "Val"))]
    assert not set(exact) - set(said)
    assert len(exact) > 1 or recipe in ("practical", "workshop", "blog")


@pytest.mark.filterwarnings("ignore")
def test_lesson_002s_program_does_the_same(data, programs, tmp_path):
    sizes = {"rnn_size": 24, "mlp_size": 32}
    ran = programs.run("lab", "lstm", 3, SEED, data, **sizes)
    flags = lab(data, tmp_path / "run", epochs=3)
    charlm.main(flags)
    losses = np.load(tmp_path / "run" / "losses.npy")
    np.testing.assert_allclose(losses, ran.losses, rtol=1e-5)


def lab(data, out, **flags):
    return charlm.Config(
        recipe="lab",
        torch_seed=SEED,
        text=data / "episode1_english.txt",
        hidden_size=24,
        mlp_size=32,
        out=out,
        **flags,
    )


def same_losses(one: Path, other: Path) -> None:
    for name in ("losses.npy", "params.safetensors"):
        # The flags are the same, and so are the bytes.
        assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.parametrize(("recipe", "model"), [("binary", "rnn"), ("blog", "rnn")])
def test_a_stopped_training_goes_on_with_the_same_draws(recipe, model, data, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    sizes = {"hidden_size": 6, "file_order": ",".join(LANGUAGES)}
    names.main(config(recipe, model, data, out=whole, **sizes))
    updates = len(np.load(whole / "losses.npy"))
    for stop_after in (2, updates // 2 + 1):
        with pytest.raises(Stopped):
            names.main(config(recipe, model, data, out=parts, **sizes), stop_after)
    # What a training that was killed would leave behind.
    shutil.copy(whole / "losses.npy", parts / "losses.npy")
    names.main(config(recipe, model, data, out=parts, **sizes))
    same_losses(whole, parts)


def test_a_stopped_language_model_goes_on_with_the_same_draws(data, tmp_path):
    charlm.main(lab(data, tmp_path / "whole", epochs=6))
    with pytest.raises(Stopped):
        charlm.main(lab(data, tmp_path / "parts", epochs=6), 3)
    charlm.main(lab(data, tmp_path / "parts", epochs=6))
    same_losses(tmp_path / "whole", tmp_path / "parts")


def test_the_order_of_the_files_is_kept_with_the_run(data, tmp_path):
    out, reverse = tmp_path / "run", ",".join(sorted(LANGUAGES, reverse=True))
    flags = config("practical", "rnn", data, out=out, epochs=1, hidden_size=5)
    names.main(flags)
    kept = json.loads((out / "config.json").read_text("utf-8"))
    assert sorted(kept["config"]["file_order"].split(",")) == sorted(LANGUAGES)
    assert set(kept["processor"]) == set(Processor._fields)
    one = task_of("practical", "rnn", data, reverse.split(","))
    assert one.languages == tuple(reverse.split(","))
    assert digest(one) != digest(task_of("practical", "rnn", data, LANGUAGES))


def test_losses_that_were_taken_away_are_nan(tmp_path, capsys):
    write_losses(tmp_path, 0, np.arange(4))
    np.testing.assert_array_equal(write_losses(tmp_path, 2, [7]), [0, 1, 7])
    (tmp_path / "losses.npy").write_bytes(b"nothing")
    np.testing.assert_array_equal(write_losses(tmp_path, 2, [7]), [np.nan, np.nan, 7])
    assert "cannot be read" in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(tmp_path / "losses.npy"), [np.nan] * 2 + [7])


def test_too_few_names_are_refused(tmp_path):
    (tmp_path / "names").mkdir()
    for language in LANGUAGES:
        (tmp_path / "names" / f"{language}.txt").write_text("Ab\nCd\n", "utf-8")
    with pytest.raises(InputError, match="has too few names: 8 examples of 4 classes"):
        task_of("blog", "rnn", tmp_path)


@pytest.mark.parametrize(
    ("program", "flags", "message"),
    [
        (names, {"recipe": "best"}, "belongs to the lessons"),
        (names, {"recipe": "blog", "seeds": 2}, "--seeds is 2, and --torch-seed"),
        (charlm, {}, "belongs to the lesson, and the recipe shakespeare"),
        (names, {"recipe": "blog", "torch_seed": -1}, "expected 0 to 4,294,967,295"),
        (names, {"file_order": "A,B", "torch_seed": None}, "give --torch-seed"),
    ],
)
def test_what_makes_no_sense_is_refused(program, flags, message):
    with pytest.raises(InputError, match=message):
        program.Config(**{"torch_seed": 0, **flags})


def test_another_order_than_that_of_the_languages_is_refused(data):
    with pytest.raises(InputError, match="expected each language of .* once: German"):
        in_file_order(load_names(data / "names"), ["German", "Greek"])
