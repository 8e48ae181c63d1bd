"""Flip one bit in a file of a checkpoint, in params.safetensors, in config.json."""

import json
import random
from pathlib import Path

import orbax.checkpoint as ocp
from safetensors import SafetensorError
from safetensors.numpy import load_file

from train import predict

from . import programs, saved
from .results import Plan, Row, judged
from .saved import Saved


def flip(path: Path, rng: random.Random) -> None:
    """Flip one random bit of a file."""
    content = bytearray(path.read_bytes())
    place = rng.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def in_checkpoints(whole: Saved, plan: Plan) -> Row:
    """Every file of the newest checkpoint, several times."""
    rng, problems, times = plan.random("checkpoints"), [], plan.few(1, 12)
    silent = wrong = tried_alone = 0
    files = [p for p in sorted(whole.newest.rglob("*")) if p.is_file()]
    files = [path for path in files if path.stat().st_size]
    for path in files * times:
        with saved.copied(whole.path / "checkpoints", plan.scratch) as copy:
            flip(copy / path.relative_to(whole.path / "checkpoints"), rng)
            step = copy / str(whole.steps[1])
            if path.is_relative_to(whole.newest / "state"):
                tried_alone += 1
                found = orbax_alone(step, whole)
                silent += found != "error"
                wrong += found == "wrong"
            problems.append(saved.problem_of(saved.read(copy, whole), whole))
    return judged(
        f"one bit in one of the {len(files)} files of the newest checkpoint: it is "
        "named, the one before is read",
        len(problems),
        problems,
        f"Orbax: {silent} of {tried_alone} read without a word, {wrong} of them wrongly",
    )


def orbax_alone(step: Path, whole: Saved) -> str:
    """What Orbax makes of a damaged checkpoint: "error", "harmless" or "wrong"."""
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.restore(step.resolve() / "state", whole.like)
    except Exception:  # noqa: BLE001  (it raises many types)
        return "error"
    return "harmless" if saved.equal(tree, whole.like) else "wrong"


def in_parameters(whole: Saved, plan: Plan) -> Row:
    """params.safetensors, read by predict."""
    return in_file(whole, plan, "params.safetensors", plan.few(5, 60))


def in_config(whole: Saved, plan: Plan) -> Row:
    """config.json, read by predict."""
    return in_file(whole, plan, "config.json", plan.few(5, 60))


def in_file(whole: Saved, plan: Plan, name: str, number: int) -> Row:
    """One of the files that predict reads."""
    rng, problems, alone = plan.random(name), [], []
    path = whole.path / name
    content, correct = path.read_bytes(), read_alone(path)
    answer = programs.call(predict, "--run", str(whole.path), "Anna")
    assert answer.code == 0, answer
    for _ in range(number):
        flip(path, rng)
        done = programs.call(predict, "--run", str(whole.path), "Anna")
        alone.append(read_alone(path))
        refused = done.code == 2 and done.is_plain and name in done.err
        # JSON may be written in several ways that say the same.
        if not refused and alone[-1] != correct:
            problems.append(f"exit {done.code}: {done.err[-80:]}")
        path.write_bytes(content)
    silent = sum(each is not None and each != correct for each in alone)
    reader = "safetensors" if name.endswith("safetensors") else "json"
    return judged(
        f"one bit in `{name}`: `train.predict` names it and answers nothing",
        number,
        problems,
        f"{reader}: {silent} of {number} read wrongly without a word",
    )


def read_alone(path: Path) -> object:
    """What a library reads from a file, so that it can be compared; None is an error."""
    try:
        if path.suffix == ".json":
            return json.dumps(json.loads(path.read_bytes()), sort_keys=True)
        arrays = load_file(path)
    except (SafetensorError, ValueError):
        return None
    return {name: (a.shape, a.dtype, a.tobytes()) for name, a in arrays.items()}


def run(plan: Plan) -> list[Row]:
    """Flip bits in a small run."""
    whole = saved.train(plan.scratch / "run")
    return [
        in_checkpoints(whole, plan),
        in_parameters(whole, plan),
        in_config(whole, plan),
    ]
