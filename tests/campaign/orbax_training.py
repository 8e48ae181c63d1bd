"""A training that saves with Orbax as its documentation shows, to be killed or stopped.

    python -m tests.campaign.orbax_training FOLDER

It makes an update every few milliseconds, prints its number and hands it to Orbax's
manager, which saves in the background, every twentieth time.
"""

import random
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from .programs import Process

INTERVAL = 20


def state(step: int) -> dict[str, jnp.ndarray]:
    """The state after an update: 100,000 numbers, the same in all updates but one."""
    return {"params": jnp.arange(100_000, dtype=jnp.float32), "step": jnp.array(step)}


def manager(folder: Path) -> ocp.CheckpointManager:
    """Orbax's, which keeps three checkpoints."""
    options = ocp.CheckpointManagerOptions(
        max_to_keep=3, save_interval_steps=INTERVAL, enable_async_checkpointing=True
    )
    return ocp.CheckpointManager(folder.resolve(), options=options)


def train(folder: Path) -> None:
    """Update until something ends the process."""
    with manager(folder) as saving:
        for step in range(1, 10**6):
            time.sleep(0.005)
            saving.save(step, args=ocp.args.StandardSave(state(step)))
            print(step, flush=True)


class Found(NamedTuple):
    """What an ended process left.

    Attributes:
        restored: Whether a checkpoint can be read and is right.
        leftovers: Folders that belong to no finished checkpoint.
        lost: Updates that were printed and are in no checkpoint.
    """

    restored: bool
    leftovers: int
    lost: int


def end_once(folder: Path, number: signal.Signals, rng: random.Random) -> Found:
    """Train, send a signal at a random moment, and look at what is left."""
    command = [sys.executable, "-m", "tests.campaign.orbax_training", str(folder)]
    process = Process(command)
    process.wait_for_start()
    # The first checkpoint takes this long at most.
    time.sleep(1 + rng.uniform(0, 1))
    process.process.send_signal(number)
    printed = [int(line) for line in process.end().out.split()]
    with manager(folder) as saving:
        newest, tree = saving.latest_step(), None
        if newest is not None:
            tree = saving.restore(newest, args=ocp.args.StandardRestore(state(0)))
    right = tree is not None and all(
        np.array_equal(tree[name], leaf) for name, leaf in state(newest).items()
    )
    others = [path for path in folder.iterdir() if not path.name.isdigit()]
    return Found(right, len(others), printed[-1] - (newest or 0))


def ended(folder: Path, number: signal.Signals, times: int, seed: str) -> str:
    """End a process so many times: the figures, in words."""
    rng = random.Random(seed)
    found = [end_once(folder / str(i), number, rng) for i in range(times)]
    restored = sum(each.restored for each in found)
    leftovers = sum(each.leftovers > 0 for each in found)
    return (
        f"Orbax, saving every {INTERVAL}: {restored} of {times} restored, {leftovers} "
        f"with folders left over, {max(each.lost for each in found)} updates lost at "
        "most"
    )


if __name__ == "__main__":
    train(Path(sys.argv[1]))
