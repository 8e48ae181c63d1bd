"""Train on several devices, as one would on one: the losses, the saves, the weights.

    python -m tests.campaign.devices                  # every recipe and model
    python -m tests.campaign.devices "workshop gru"   # some

A CPU is divided into eight devices of JAX's, which compute and talk as eight chips would.
"""

import os

COUNT = 8
FLAGS = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = f"{FLAGS} --xla_force_host_platform_device_count={COUNT}"
os.environ["JAX_PLATFORMS"] = "cpu"
# What is compared does not depend on how well it is compiled.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from train import codec
from train.bench.tpu import hlo
from train.charlm import __main__ as charlm
from train.charlm import task as charlm_task
from train.charlm import text as streams
from train.charlm import training as charlm_training
from train.charlm.settings import Config as CharLMConfig
from train.datasets import find_names
from train.names import __main__ as names
from train.names import training as names_training
from train.names.task import make_task
from train.names.update import update_many
from train.recipes import MODELS
from train.runs.devices import Devices, make_layout, placed
from train.runs.loop import advance

from . import programs
from .programs import SAMPLE

UPDATES = 100
ROWS = 16


def names_run(recipe: str, model: str, seeds: int, flags: Devices, updates: int) -> Any:
    """``(losses (updates, replicas), state)`` of a names training."""
    config = names.Config(
        recipe=recipe,
        batch_size=ROWS,
        hidden_size=8,
        mlp_size=8 if recipe == "binary" else None,
    )
    settings = config.settings(model)
    if settings.iterations is not None:
        settings = dataclasses.replace(settings, iterations=updates)
    else:
        settings = dataclasses.replace(settings, epochs=10)
    data = find_names(SAMPLE / "names")
    task = make_task(recipe, model, settings, data, range(seeds))
    layout = make_layout(flags, ROWS, seeds, settings.hidden_size)
    training = names_training.Training(task, layout)
    progress, losses = training.start(), []
    progress = progress._replace(state=placed(layout, progress.state))
    while sum(map(len, losses)) < updates:
        num = min(training.batches(progress).num_batches, updates)
        progress = advance(training, progress, num)
        losses.append(progress.unrecorded.loss.copy())
        progress = progress._replace(recorded=progress.step)
    return np.concatenate(losses)[:updates], progress.state


def charlm_run(recipe: str, flags: Devices, updates: int) -> Any:
    """The same of a character language model."""
    config = CharLMConfig(
        recipe=recipe, hidden_size=8, mlp_size=8, batch_size=ROWS, epochs=1000
    )
    lab = recipe == "lab"
    text = streams.read_text(SAMPLE / "script.txt", "shakespeare", joined=lab)
    found = streams.survey(text, "chars", codec.LINE_END if lab else "\n")
    tokens = streams.tokenize(text, found.codec, Path())
    task = charlm_task.make_task(config, text, found.codec, tokens)
    rows = len(task.windows.stream_starts)
    layout = make_layout(flags, rows, 1, task.settings.hidden_size)
    training = charlm_training.Training(task, layout)
    progress, losses = training.start(), []
    progress = progress._replace(state=placed(layout, progress.state))
    while progress.step < updates:
        progress = advance(training, progress, training.room(progress))
        losses.append(progress.unrecorded.loss.copy())
        progress = progress._replace(recorded=progress.step)
    return np.concatenate(losses), progress.state


def run(name: str, flags: Devices, updates: int) -> Any:
    """The same by a name such as ``best gru`` or ``best gru x 8``, for eight seeds."""
    recipe, model, *seeds = name.replace(" x", "").split()
    if recipe in ("lab", "shakespeare"):
        return charlm_run(recipe, flags, updates)
    return names_run(recipe, model, int(*seeds or [1]), flags, updates)


def compare(
    name: str, layouts: list[Devices], updates: int = UPDATES
) -> dict[str, Any]:
    """The largest difference of a loss from one device's, by layout."""
    alone, _ = run(name, Devices(devices=1), updates)
    result = {"first": float(alone[0].mean()), "last": float(alone[-1].mean())}
    for flags in layouts:
        losses, state = run(name, flags, updates)
        on = f"{flags.devices}/{flags.model_parallel}"
        result[on] = float(np.abs(losses - alone).max())
        result[f"{on} share"] = share(state)
    return result


def share(state: Any) -> float:
    """The part of the parameters' and the optimiser's numbers that one device has."""
    leaves = [x for x in jax.tree.leaves((state.params, state.opt_state)) if x.ndim]
    mine = sum(leaf.addressable_shards[0].data.size for leaf in leaves)
    return mine / sum(leaf.size for leaf in leaves)


def resumed(program: str, scratch: Path) -> dict[str, Any]:
    """Stop on eight devices, go on on others: the largest difference of a parameter."""
    flags = {
        "names": ["--recipe", "binary", "--model", "rnn", "--hidden-size", "8"],
        "charlm": ["--hidden-size", "8", "--text", str(SAMPLE / "script.txt")],
    }[program]
    if program == "names":
        flags += ["--epochs", "1", "--data", str(SAMPLE / "names")]
    else:
        flags += ["--epochs", "1", "--checkpoint-every", "20"]
    module = {"names": names, "charlm": charlm}[program]

    def train(out: str, devices: int, **options: Any) -> None:
        where = ["--devices", str(devices), "--out", str(scratch / out)]
        with (
            mock.patch("train.names.finish.draw"),
            mock.patch("train.charlm.finish.draw"),
        ):
            done = programs.call(module, *flags, *where, **options)
        assert done.code in (0, 143), done.err

    train("whole", 1)
    expected = programs.state(scratch / "whole")
    result = {}
    for devices in (1, 2):
        out = f"on-{devices}"
        train(out, COUNT, stop_after=10)
        assert programs.steps(scratch / out)[-1] == 10
        train(out, devices)
        found = programs.state(scratch / out)
        result[f"{COUNT} to {devices}"] = max(
            float(np.abs(found[name] - expected[name]).max())
            for name in expected
            if "params" in name
        )
    return result


def talks(name: str, flags: Devices) -> dict[str, int]:
    """Collectives of a compiled training: in all, and inside its loops over time."""
    recipe, model = name.split()
    config = names.Config(recipe=recipe, batch_size=ROWS, hidden_size=8)
    data = find_names(SAMPLE / "names")
    task = make_task(recipe, model, config.settings(model), data, range(1))
    layout = make_layout(flags, ROWS, 1, 8)
    lowered = update_many.lower(
        placed(layout, names_training.start(task).state),
        names_training.call_batches(task.batches(0), 0, 2, layout),
        2,
        trainer=task.trainer,
        replicas=False,
        layout=layout,
    )
    module = hlo.Module(lowered.compile().as_text())
    inside = [len(module.collectives(loop.body)) for loop in module.time_loops]
    return {
        "loops": len(inside),
        "inside": sum(inside),
        "all": len(module.collectives()),
    }


def main(*chosen: str) -> None:
    """Some recipes and models, or all; a line of JSON for each.

    Some are tried for fewer updates and on fewer devices.
    """
    updates, most = (20, 4) if chosen else (UPDATES, COUNT)
    layouts = [Devices(devices=n) for n in (2, 4, 8) if n == most or not chosen]
    twice = [Devices(devices=4, model_parallel=2)]
    every = [f"{recipe} {model}" for recipe, model in MODELS] + ["practical lstm x 8"]
    for name in chosen or every:
        found = compare(name, layouts + twice, updates)
        if chosen:
            twice = []  # Once is enough.
        print(json.dumps({"name": name} | found), flush=True)
    found = talks("binary rnn", Devices(devices=4))
    print(json.dumps({"name": "talks"} | found), flush=True)
    if chosen:
        return
    with tempfile.TemporaryDirectory() as scratch:
        for program in ("names", "charlm"):
            found = resumed(program, Path(scratch, program))
            print(json.dumps({"name": program} | found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
