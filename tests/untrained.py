"""Runs before their first update, for tests to which the answers do not matter."""

from pathlib import Path

import jax

from train.charlm import __main__ as charlm
from train.charlm import task as charlm_task
from train.charlm import text as streams
from train.datasets import load_names
from train.names import __main__ as names
from train.names import training
from train.names.task import make_task
from train.recipes import models_of
from train.runs.directory import RunDirectory

SAMPLE = Path(__file__).resolve().parent.parent / "data" / "sample"


def names_run(out: Path, recipe: str, model: str, make_params=None, **flags) -> Path:
    """A run of ``train.names`` on the bundled names.

    Args:
        out: Its directory.
        recipe: Its recipe.
        model: One of the recipe's models.
        make_params: Makes parameters for a model; None is as a training begins.
        **flags: Other flags.
    """
    assert model in models_of(recipe)
    config = names.Config(recipe=recipe, model=model, **flags)
    data = load_names(SAMPLE / "names")
    task = make_task(recipe, model, config.settings(model), data, [0])
    run = RunDirectory.open(out, names.describe(config, task))
    make_params = make_params or (lambda _: training.start(task).state.params)
    run.write_params(task.trainer.model, make_params(task.trainer.model))
    return out


def charlm_run(out: Path, text: Path, make_params=None, **flags) -> Path:
    """A run of ``train.charlm`` on a text; see :func:`names_run`."""
    config = charlm.Config(text=text, **flags)
    lab = config.recipe == "lab"
    read = streams.read_text(text, "friends" if lab else "shakespeare", joined=lab)
    found = streams.survey(read, config.tokens, "$" if lab else "\n")
    run = RunDirectory.open(out, charlm.describe(config, "a test", found))
    model = charlm_task.make_model(config, found.codec)
    run.write_params(model, (make_params or _first_params)(model))
    return out


def _first_params(model):
    tokens = jax.numpy.zeros((1, 1), int)
    return jax.jit(model.init)(jax.random.key(0), tokens)["params"]
