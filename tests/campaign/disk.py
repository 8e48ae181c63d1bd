"""Fill the disk under a training, limit its files, put files where folders belong."""

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from train import predict, sample
from train.charlm import __main__ as charlm
from train.names import __main__ as names
from train.runs.checkpoint import Damaged, verify

from . import programs
from .fuzz import train_charlm, train_names
from .kills import Whole, run_whole
from .programs import Done, Program
from .results import Plan, Row, judged, listed

SECONDS = 60
"""A failed program that has not ended after so long hangs."""


def problem_of(done: Done, out: Path) -> str:
    """What is wrong after a full disk; "" is nothing."""
    if done.code == 0:
        return "claimed success"
    if done.code != 1 or not done.is_plain:
        return f"exit {done.code}, {len(done.err.splitlines())} lines of errors"
    for step in programs.steps(out):
        try:
            verify(out / "checkpoints" / str(step))
        except Damaged as damage:
            return f"checkpoint {step}: {damage}"
    return ""


def fill(program: Program, whole: Whole, out: Path, at: int) -> str:
    """Let one change of a file and all that follow fail, then go on with a free disk."""
    try:
        command = program.command(out, "full", str(at))
        done = programs.run(command, SECONDS)
    except subprocess.TimeoutExpired:
        return f"hangs at change {at}"
    if problem := problem_of(done, out):
        return f"{problem} at change {at}"
    done = programs.run(program.command(out))
    if done.code:
        return f"does not go on: exit {done.code}"
    return "; ".join(programs.differences(out, whole.path))


def filled(name: str, program: Program, plan: Plan) -> Row:
    """Full disks at random changes of files."""
    scratch, rng = plan.scratch / name, plan.random(name)
    whole = run_whole(program, scratch)
    moments = [rng.randint(1, whole.changes) for _ in range(plan.few(2, 15))]
    problems = []
    for index, at in enumerate(moments):
        out = scratch / f"run{index}"
        problems.append(fill(program, whole, out, at))
    return judged(
        f"`train.{name}`, no space left from a random change of a file on: one line, "
        "exit 1, checkpoints good; with space again it goes on to the same end",
        len(moments),
        problems,
    )


def limited(plan: Plan) -> Row:
    """No file may be larger than a few kilobytes (RLIMIT_FSIZE)."""
    sizes, problems = [0, 1, 2, 4, 16][: plan.few(1, 5)], []
    for size in sizes:
        for name, program in (
            ("names", programs.names(3)),
            ("text", programs.charlm(1)),
        ):
            out = plan.scratch / f"limit-{name}-{size}"
            command = ["sh", "-c", f'ulimit -f {2 * size}; exec "$@"', "sh"]
            try:
                done = programs.run([*command, *program.command(out)], SECONDS)
            except subprocess.TimeoutExpired:
                problems.append(f"{size} kB: hangs")
                continue
            if problem := problem_of(done, out):
                problems.append(f"{size} kB: {problem}")
    return judged(
        f"files limited to {', '.join(map(str, sizes))} kB (RLIMIT_FSIZE): one line, "
        "exit 1",
        2 * len(sizes),
        problems,
    )


def small_disk(plan: Plan) -> Row:
    """A run in a tmpfs that is too small, looked at before it is unmounted."""
    script = (
        'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && "$@"; code=$?; '
        'cp -r "$DISK/." "$COPY"; exit $code'
    )
    program = programs.names(epochs=8)
    whole = run_whole(program, plan.scratch / "small").path
    files = [path.stat().st_size for path in whole.rglob("*") if path.is_file()]
    # A disk gives whole pages.
    needed = sum(-(-size // 4096) * 4 for size in files)
    shares, problems, tried = [10, 30, 50, 70, 90][: plan.few(1, 5)], [], 0
    for share in shares:
        size = f"{needed * share // 100}k"
        disk, copy = plan.scratch / f"disk-{share}", plan.scratch / f"copy-{share}"
        disk.mkdir()
        copy.mkdir()
        command = program.command(disk / "run")
        command = ["env", f"DISK={disk}", f"COPY={copy}", "unshare", "-rm", "sh", "-c"] + [
            script, "sh", size, str(disk), *command
        ]  # fmt: skip
        try:
            done = programs.run(command, SECONDS)
        except subprocess.TimeoutExpired:
            problems.append(f"{share} %: hangs")
            continue
        if "unshare" in done.err or "mount" in done.err:
            continue  # This machine lets nobody mount.
        tried += 1
        if problem := problem_of(done, copy / "run"):
            problems.append(f"{share} %: {problem}")
    return judged(
        f"a disk (tmpfs) of {', '.join(map(str, shares))} % of what the run needs: one "
        "line, exit 1, checkpoints good",
        tried,
        problems,
    )


def in_the_way(plan: Plan) -> Row:
    """A file where a folder belongs, or a folder where a file does."""
    folder, problems, tried = plan.scratch / "in the way", [], 0
    runs = {
        (names, predict, "--", "Anna"): train_names(folder, "practical", "gru"),
        (charlm, sample, "--length", "1"): train_charlm(folder),
    }
    for (trainer, asker, *question), run in runs.items():
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        data = _flags(config)
        for name in (
            ".lock",
            "checkpoints",
            "config.json",
            "env.json",
            "metrics.jsonl",
            "model.txt",
            "params.safetensors",
            "plots",
            "summary.json",
            "tensorboard",
            ".",
        ):
            out = folder / f"swapped-{tried}"
            shutil.copytree(run, out)
            # So that there is something to do.
            (out / "summary.json").unlink()
            swap(out / name)
            tried += 1
            done = programs.call(trainer, *data, "--out", str(out))
            asked = programs.call(asker, "--run", str(out), *question)
            if not done.is_plain or done.code not in (0, 1, 2):
                problems.append(f"{trainer.__name__}, {name}: exit {done.code}")
            if not asked.is_plain:
                problems.append(f"{asker.__name__}, {name}: exit {asked.code}")
    return Row(
        "a file where a folder belongs in the run directory, or a folder where a file "
        "does: one line, or nothing of it is needed",
        tried,
        tried - len({problem.split(":")[0] for problem in problems}),
        f"wrong: {listed(problems)}",
    )


def swap(path: Path) -> None:
    """Make a file of a folder and a folder of a file."""
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("in the way")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
        (path / "precious").write_text("in the way")


def _flags(config: dict[str, Any]) -> list[str]:
    """The flags of the runs of :mod:`fuzz`."""
    if config["program"] == "names":
        flags = ["--recipe", "practical", "--model", "gru", "--hidden-size", "8"]
        return [*flags, "--epochs", "2", "--data", str(programs.SAMPLE / "names")]
    flags = ["--hidden-size", "8", "--epochs", "2", "--window", "64"]
    return [*flags, "--text", str(programs.SAMPLE / "script.txt")]


def run(plan: Plan) -> list[Row]:
    """All of it; the two programs side by side."""
    small = {"names": programs.names(4), "charlm": programs.charlm(1)}
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(lambda item: filled(*item, plan), small.items()))
    return [*rows, limited(plan), small_disk(plan), in_the_way(plan)]
