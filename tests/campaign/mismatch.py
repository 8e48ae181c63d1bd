"""Restore checkpoints and parameters into a model that they are not of."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from train import predict, sample
from train.charlm import __main__ as charlm
from train.names import __main__ as names

from . import programs, saved
from .fuzz import train_charlm, train_names
from .results import Plan, Row, judged
from .saved import Saved

Layer = dict[str, Any]


def layer_of(tree: Any) -> Layer:
    """The parameters of the first layer that has a kernel, to be changed in place."""
    if "kernel" in tree:
        return tree
    return layer_of(next(inner for inner in tree.values() if isinstance(inner, dict)))


def put(layer: Layer, shape: tuple[int, ...], dtype: Any) -> tuple[str, str]:
    """Another kernel; what the two are called."""
    old = layer["kernel"]
    new = layer["kernel"] = np.zeros(shape, dtype)
    return f"{old.dtype} {old.shape}", f"{new.dtype} {new.shape}"


def wider(layer: Layer) -> tuple[str, str]:
    """Another hidden size."""
    return put(layer, tuple(2 * n for n in layer["kernel"].shape), np.float32)


def transposed(layer: Layer) -> tuple[str, str]:
    """The same numbers in another shape."""
    return put(layer, layer["kernel"].shape[::-1], np.float32)


def half(layer: Layer) -> tuple[str, str]:
    """Another type."""
    return put(layer, layer["kernel"].shape, np.float16)


def whole_number(layer: Layer) -> tuple[str, str]:
    """A type of as many bits."""
    return put(layer, layer["kernel"].shape, np.int32)


def extra(layer: Layer) -> tuple[str, str]:
    """A parameter more."""
    layer["more"] = np.zeros((3, 5), np.float32)
    return "None there", "(3, 5)"


def missing(layer: Layer) -> tuple[str, str]:
    """A parameter less."""
    return str(layer.pop("kernel").shape), "None now"


def renamed(layer: Layer) -> tuple[str, str]:
    """A parameter of another name."""
    layer["weight"] = layer.pop("kernel")
    return "None there", "None now"


CHANGES: tuple[Callable[[Layer], tuple[str, str]], ...] = (
    wider,
    transposed,
    half,
    whole_number,
    extra,
    missing,
    renamed,
)


def at_restore(whole: Saved, plan: Plan) -> Row:
    """The checkpoint itself, under a config.json that fits."""
    problems, accepted = [], 0
    for change in CHANGES:
        if problem := problem_of(change, whole):
            problems.append(f"{change.__name__}: {problem}")
        accepted += orbax_accepts(whole.newest, changed(change, whole)[0])
    return judged(
        "restored with another shape, a transposed shape, float16, int32, a parameter "
        "more, less or of another name: refused, both values shown",
        len(CHANGES),
        problems,
        f"Orbax: {accepted} of {len(CHANGES)} accepted",
    )


def changed(
    change: Callable[[Layer], tuple[str, str]], whole: Saved
) -> tuple[Any, str, str]:
    """A tree to restore into, and the values there and now that are to be shown."""
    like = jax.tree.map(lambda leaf: leaf, whole.like)
    return like, *change(layer_of(like["state"]["params"]))


def problem_of(change: Callable[[Layer], tuple[str, str]], whole: Saved) -> str:
    """What is wrong with restoring into a changed tree; "" is nothing."""
    like, old, new = changed(change, whole)
    found = saved.read(whole.path / "checkpoints", whole._replace(like=like))
    if found.step is not None:
        return "read"
    shown = old in found.said and new in found.said
    return "" if shown else f"said {found.said[:80]!r}"


def orbax_accepts(step: Path, like: Any) -> bool:
    """Whether Orbax alone restores."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), like)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.restore(step.resolve() / "state", shapes)
    except Exception:  # noqa: BLE001  (it raises many types)
        return False
    return True


def at_the_command_line(plan: Plan) -> Row:
    """The same --out with other flags."""
    trained = {
        names: (train_names(plan.scratch, "practical", "gru"), "practical-gru"),
        charlm: (train_charlm(plan.scratch), ""),
    }
    other_names = {
        "--hidden-size": "12",
        "--seed": "5",
        "--batch-size": "8",
        "--learning-rate": "0.5",
        "--model": "lstm",
        "--recipe": "blog",
        "--data": str(other_data(plan.scratch)),
    }
    other_text = {
        "--hidden-size": "12",
        "--num-layers": "2",
        "--window": "32",
        "--seed": "5",
        "--batch-size": "8",
        "--dropout": "0.5",
        "--tokens": "bytes",
        "--dtype": "bfloat16",
        "--text": str(other_script(plan.scratch)),
    }
    usual = {
        names: {"--recipe": "practical", "--model": "gru", "--hidden-size": "8"}
        | {"--epochs": "1", "--data": str(programs.SAMPLE / "names")},
        charlm: {"--hidden-size": "8", "--epochs": "1", "--window": "64"}
        | {"--text": str(programs.SAMPLE / "script.txt")},
    }
    problems, tried = [], 0
    for module, others in ((names, other_names), (charlm, other_text)):
        out = trained[module][0]
        before = contents(out)
        for flag, value in others.items():
            tried += 1
            flags = {**usual[module], flag: value, "--out": str(out)}
            done = programs.call(module, *(x for pair in flags.items() for x in pair))
            shown = " there, " in done.err and " now" in done.err
            if done.code != 2 or not done.is_plain or not shown:
                problems.append(f"{flag}: exit {done.code} {done.err[:60]}")
            elif contents(out) != before:
                problems.append(f"{flag}: files changed")
    return judged(
        "the same `--out` with another hidden size, model, recipe, vocabulary, text, "
        "data, type, seed …: refused, both values shown, no file changed",
        tried,
        problems,
    )


def other_data(scratch: Path) -> Path:
    """The sample without one language."""
    copy = shutil.copytree(programs.SAMPLE / "names", scratch / "other-names")
    (copy / "Greek.txt").unlink()
    return copy


def other_script(scratch: Path) -> Path:
    """The sample with one more character."""
    path = scratch / "other.txt"
    text = (programs.SAMPLE / "script.txt").read_text(encoding="utf-8")
    path.write_text(f"{text}ŝ", encoding="utf-8")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a run but the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def in_parameters(plan: Plan) -> Row:
    """params.safetensors and config.json of different runs; runs of another program."""
    one = plan.scratch / "practical-gru"
    other = train_names(plan.scratch, "practical", "lstm")
    text, raw = plan.scratch / "charlm", train_charlm(plan.scratch, "--tokens", "bytes")
    problems, tried = [], 0
    for module, question, pairs in (
        (predict, ["Anna"], ((one, other), (other, one), (one, text))),
        (sample, ["--length", "1"], ((text, raw), (raw, text), (text, one))),
    ):
        for into, source in pairs:
            for name in ("params.safetensors", "config.json"):
                tried += 1
                with saved.copied(into, plan.scratch) as copy:
                    shutil.copy(source / name, copy / name)
                    done = programs.call(module, "--run", str(copy), *question)
                if done.code != 2 or not done.is_plain:
                    problems.append(f"{source.name} into {into.name}: {done.code}")
    return judged(
        "`params.safetensors` or `config.json` of another run, model or program: "
        "refused by `train.predict` and `train.sample`",
        tried,
        problems,
    )


def resized(plan: Plan) -> Row:
    """A config.json changed by hand, with or without the flags to match."""
    problems, sizes = [], ({"hidden_size": 9}, {"vocab_size": 58}, {"num_classes": 17})
    for sizes_ in sizes:
        with saved.copied(plan.scratch / "practical-gru", plan.scratch) as copy:
            path = copy / "config.json"
            config = json.loads(path.read_text(encoding="utf-8"))
            config["sizes"] |= sizes_
            path.write_text(json.dumps(config), encoding="utf-8")
            done = programs.call(predict, "--run", str(copy), "Anna")
            if done.code != 2 or not done.is_plain:
                problems.append(f"{sizes_}: exit {done.code}")
    return judged(
        "a size in `config.json` changed by hand: refused by `train.predict`",
        len(sizes),
        problems,
    )


def run(plan: Plan) -> list[Row]:
    """Everything that does not fit."""
    whole = saved.train(plan.scratch / "run")
    return [
        at_restore(whole, plan),
        at_the_command_line(plan),
        in_parameters(plan),
        resized(plan),
    ]
