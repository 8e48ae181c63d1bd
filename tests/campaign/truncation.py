"""Truncate, empty, lengthen and delete the files of a run."""

import shutil
from collections.abc import Callable
from pathlib import Path

from train import predict
from train.names import __main__ as names

from . import programs, saved
from .flips import orbax_alone
from .results import Plan, Row, judged
from .saved import Saved


def halve(path: Path) -> None:
    """Keep the first half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    """Keep nothing."""
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    """Add a byte."""
    path.write_bytes(path.read_bytes() + b"\0")


def zero(path: Path) -> None:
    """Keep the length alone, as some file systems do after a loss of power."""
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES: tuple[Callable[[Path], None], ...] = (
    halve,
    empty,
    lengthen,
    zero,
    Path.unlink,
)


def in_newest(whole: Saved, plan: Plan) -> Row:
    """Every file of the newest checkpoint, damaged in every way."""
    problems, read_alone, tried_alone = [], 0, 0
    files = [path for path in sorted(whole.newest.rglob("*")) if path.is_file()]
    for path in files[:: plan.few(5, 1)]:
        for damage in DAMAGES:
            if not path.stat().st_size and damage in (halve, empty, zero):
                continue
            with saved.copied(whole.path / "checkpoints", plan.scratch) as copy:
                damage(copy / path.relative_to(whole.path / "checkpoints"))
                if path.is_relative_to(whole.newest / "state"):
                    tried_alone += 1
                    step = copy / str(whole.steps[1])
                    read_alone += orbax_alone(step, whole) != "error"
                problems.append(saved.problem_of(saved.read(copy, whole), whole))
    return judged(
        f"one of the {len(files)} files of the newest checkpoint halved, emptied, "
        "lengthened, zeroed or deleted: it is named, the one before is read",
        len(problems),
        problems,
        f"Orbax: {read_alone} of {tried_alone} read without a word; after an error it "
        "reads no other",
    )


def in_all(whole: Saved, plan: Plan) -> Row:
    """Both checkpoints damaged: nothing may be read."""
    problems = []
    for damage in DAMAGES:
        with saved.copied(whole.path / "checkpoints", plan.scratch) as copy:
            for step in whole.steps:
                damage(copy / str(step) / "run.json")
            found = saved.read(copy, whole)
            if found.step is not None or "\n" in found.said or not found.said:
                problems.append(f"step {found.step}, said {found.said!r}")
    return judged(
        "a file of every checkpoint: refused in one line",
        len(DAMAGES),
        problems,
    )


def in_run(whole: Saved, plan: Plan) -> Row:
    """The files beside the checkpoints: the programs name them, or write them anew."""
    program, problems, tried = programs.names(epochs=3), [], 0
    for name in ("config.json", "params.safetensors", "summary.json", "metrics.jsonl"):
        for damage in DAMAGES:
            tried += 1
            with saved.copied(whole.path, plan.scratch) as copy:
                damage(copy / name)
                kept = read(copy / name)
                asked = programs.call(predict, "--run", str(copy), "Anna")
                again = programs.call(names, *program.flags, "--out", str(copy))
                needed = name in ("config.json", "params.safetensors")
                if not asked.is_plain or (asked.code == 0) == needed:
                    problems.append(f"predict, {name}: exit {asked.code}")
                elif needed and name not in asked.err:
                    problems.append(f"predict did not name {name}")
                if not again.is_plain:
                    problems.append(f"names, {name}: exit {again.code}")
                elif again.code and name not in again.err:
                    problems.append(f"names did not name {name}")
                elif name == "metrics.jsonl":
                    continue  # A log: what is left of it is used.
                elif not again.code and read(copy / name) == kept:
                    problems.append(f"names left {name} as it was")
    return judged(
        "`config.json`, `params.safetensors` or `summary.json` halved, emptied, "
        "lengthened, zeroed or deleted: `train.predict` names what it needs; "
        "`train.names` names it or writes it anew; the same with `metrics.jsonl`, a "
        "log: what is left of it is used",
        tried,
        problems,
    )


def read(path: Path) -> bytes | None:
    """The file, or None."""
    return path.read_bytes() if path.exists() else None


def in_folders(whole: Saved, plan: Plan) -> Row:
    """Folders of the newest checkpoint deleted."""
    folders = [path for path in whole.newest.rglob("*") if path.is_dir()]
    problems = []
    for folder in folders:
        with saved.copied(whole.path / "checkpoints", plan.scratch) as copy:
            shutil.rmtree(copy / folder.relative_to(whole.path / "checkpoints"))
            problems.append(saved.problem_of(saved.read(copy, whole), whole))
    return judged(
        "a folder of the newest checkpoint deleted: named, the one before is read",
        len(folders),
        problems,
    )


def run(plan: Plan) -> list[Row]:
    """Damage the files of a small run."""
    whole = saved.train(plan.scratch / "run")
    tests = [in_newest, in_folders, in_all, in_run]
    return [test(whole, plan) for test in tests]
