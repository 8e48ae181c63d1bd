"""Take the time that checksums and checks add to a save and to a load."""

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from train.runs import checkpoint
from train.runs.checkpoint import Checkpoints

from . import programs
from .programs import SAMPLE, Program
from .results import Plan, Row

SIZES = {"0.07 M": 70_000, "1 M": 1_000_000, "10 M": 10_000_000}
CONFIG = {"program": "campaign"}


def tree_of(num_params: int) -> Any:
    """A state with so many parameters and Adam's two moments of each."""
    width = 2 ** int(np.log2(num_params**0.5 / 2))
    rng, left, arrays = np.random.default_rng(0), num_params, {}
    while left > 0:
        rows = min(width, max(1, left // width))
        arrays[f"layer_{len(arrays)}"] = rng.random((rows, width), np.float32)
        left -= rows * width
    params = jax.tree.map(jnp.asarray, arrays)
    return {"params": params, "mu": params, "nu": params, "step": jnp.array(1)}


def median_ms(act: Callable[[int], object], times: int) -> float:
    """Milliseconds that something takes, the first time left out."""
    seconds = []
    for index in range(times + 1):
        began = time.perf_counter()
        act(index)
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[1:])


@contextlib.contextmanager
def timed(name: str) -> Iterator[list[float]]:
    """Collect the milliseconds of each call of a function of train.checkpoint."""
    real, spent = getattr(checkpoint, name), []

    def act(*args: Any) -> Any:
        began = time.perf_counter()
        result = real(*args)
        spent.append(1000 * (time.perf_counter() - began))
        return result

    with mock.patch.object(checkpoint, name, act):
        yield spent


def of_size(size: str, num_params: int, plan: Plan) -> tuple[Row, float]:
    """A row for one size, and the milliseconds that hashing adds to a save."""
    tree, times = tree_of(num_params), plan.few(3, 15)
    folder = plan.scratch / size.replace(" ", "")
    ours = Checkpoints(folder / "ours", CONFIG)
    with timed("_manifest") as hashing:
        saving = median_ms(lambda i: ours.save(i + 1, tree), times)
    with timed("verify") as verifying:
        loading = median_ms(lambda _: ours.restore_newest(tree), times)
    with ocp.StandardCheckpointer() as alone:

        def save(index: int) -> None:
            alone.save((folder / f"alone{index}").resolve(), tree)
            alone.wait_until_finished()

        save_alone = median_ms(save, times)
        path = (folder / "alone1").resolve()
        load_alone = median_ms(lambda _: alone.restore(path, tree), times)
    add_save, add_load = statistics.median(hashing), statistics.median(verifying)
    row = Row(
        f"{size} parameters with Adam's moments: milliseconds in the median",
        times,
        times,
        f"save {saving:.0f} ms, of which {add_save:.1f} ms for SHA-256; load "
        f"{loading:.0f} ms, of which {add_load:.1f} ms",
        f"save {save_alone:.0f} ms, load {load_alone:.0f} ms",
    )
    return row, add_save


def share(name: str, program: Program, plan: Plan) -> Row:
    """What hashing takes of a training at its default settings."""
    out = plan.scratch / name
    done = programs.run(program.command(out), timeout=600)
    assert done.code == 0, done.err
    records = programs.metrics(out)
    seconds = json.loads((out / "summary.json").read_text())["train_seconds"]
    step = out / "checkpoints" / str(programs.steps(out)[-1])
    # The manifest is made once for a save; to compare it takes the same time again.
    once = median_ms(lambda _: checkpoint.verify(step), plan.few(3, 15)) / 1000
    per_update = seconds / records[-1]["step"]
    percent = 100 * once / (program.interval * per_update)
    return Row(
        f"`train.{name}` at its default settings, saved every {program.interval:,} "
        "updates: SHA-256 takes less than 1 % of the training time",
        1,
        int(percent < 1),
        f"{1000 * once:.1f} ms every {program.interval * per_update:.1f} s: "
        f"{percent:.3f} %",
    )


def run(plan: Plan) -> list[Row]:
    """Three sizes, and both programs as they are."""
    rows = [of_size(size, number, plan)[0] for size, number in SIZES.items()]
    minutes = "0.2" if plan.quick else "0.5"
    text = ("--text", str(SAMPLE / "script.txt"), "--minutes", minutes)
    names = ("--data", str(SAMPLE / "names"), "--protocol", "blog")
    rows.append(share("charlm", Program("train.charlm", text, 2000), plan))
    rows.append(share("names", Program("train.names", names, epoch_updates()), plan))
    return rows


def epoch_updates() -> int:
    """Updates of an epoch of the recipe best on the sample: 90 % of it by 64."""
    files: list[Path] = list((SAMPLE / "names").iterdir())
    number = sum(len(path.read_text("utf-8").splitlines()) for path in files)
    return round(0.9 * number / 64)
