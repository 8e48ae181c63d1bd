"""Draw docs/same-curve.png: lesson 001's training in PyTorch and in rnnjax.

Run as ``python -m docs.same_curve`` (with PyTorch installed). Both begin with the same
weights and see the same 80,000 names in the same order: those of `data/sample/names`.
"""

import time
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from train.bench.peers.lessons import workshop_model, workshop_update
from train.bench.peers.work import NamesWork, names_work
from train.datasets import load_names
from train.names.training import call_batches, start
from train.names.update import update_many

ROOT = Path(__file__).parents[1]
PYTORCH, RNNJAX = "#dd4c35", "#1f6feb"


def lesson(work: NamesWork, rounds: range) -> tuple[list[float], list[float]]:
    """PyTorch's seconds and mean loss after each thousand updates."""
    import torch

    # Its matrices are too small to share: more threads are slower.
    torch.set_num_threads(1)
    task = work.task
    letters = task.vocabulary.characters
    sizes = len(letters), task.settings.hidden_size, len(task.languages)
    model = workshop_model(task.model_name, *sizes)
    weights = {name: torch.tensor(array) for name, array in work.weights.items()}
    model.load_state_dict(weights)
    update = workshop_update(task.model_name, model, task.settings.learning_rate)
    seconds, losses = [], []
    begin = time.perf_counter()
    for index in rounds:
        names = [name for (name,) in work.names(index)]
        losses.append(np.mean([update(*name, letters) for name in names]))
        seconds.append(time.perf_counter() - begin)
    return seconds, losses


def ours(work: NamesWork, rounds: range) -> tuple[list[float], list[float]]:
    """The same of rnnjax; what it compiles is in its first thousand."""
    task = work.task
    update = partial(update_many, trainer=task.trainer, replicas=False)
    state = start(task).state
    seconds, losses = [], []
    begin = time.perf_counter()
    for index in rounds:
        batches = call_batches(task.batches(index), 0, task.record_updates)
        state, metrics, _ = update(state, batches, task.record_updates)
        losses.append(float(np.mean(metrics.loss)))
        seconds.append(time.perf_counter() - begin)
    return seconds, losses


def draw(theirs: tuple, mine: tuple, thousands: np.ndarray) -> Figure:
    """Draw both losses against thousands of updates, and against seconds."""
    figure = Figure(figsize=(9, 2.9), layout="constrained", dpi=160)
    left, right = figure.subplots(1, 2, sharey=True)
    wide = {"color": PYTORCH, "linewidth": 5, "alpha": 0.45, "solid_capstyle": "round"}
    thin = {"color": RNNJAX, "linewidth": 1.6}
    left.plot(thousands, theirs[1], **wide, label="PyTorch")
    left.plot(thousands, mine[1], **thin, label="rnnjax")
    left.set(title="The same training …", xlabel="thousand updates", ylabel="loss")
    left.legend(frameon=False)
    right.plot(*theirs, **wide)
    right.plot(*mine, **thin)
    right.set(title="… in less time", xlabel="seconds, compilation included")
    bold = {"textcoords": "offset points", "weight": "bold"}
    for seconds, losses, name, color in (
        (*mine, f"rnnjax: {mine[0][-1]:.1f} s", RNNJAX),
        (*theirs, f"PyTorch: {theirs[0][-1]:.0f} s", PYTORCH),
    ):
        end = seconds[-1], losses[-1]
        right.plot(*end, "o", color=color)
        align, aside = ("left", 9) if color == RNNJAX else ("right", 0)
        up = -4 if color == RNNJAX else 14
        right.annotate(name, end, (aside, up), color=color, ha=align, **bold)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
    return figure


def main() -> None:
    """Train twice, compare, draw."""
    work = names_work("workshop", "rnn", load_names(ROOT / "data/sample/names"))
    task = work.task
    rounds = range(task.num_updates // task.record_updates)
    mine = ours(work, rounds)
    theirs = lesson(work, rounds)
    apart = np.abs(np.subtract(mine[1], theirs[1]))
    print(f"rnnjax {mine[0][-1]:.2f} s, PyTorch {theirs[0][-1]:.1f} s")
    print(f"mean losses differ by {apart.max():.1e} at most, {apart[:10].max():.1e}")
    thousands = (1 + np.array(rounds)) * task.record_updates / 1000
    draw(theirs, mine, thousands).savefig(ROOT / "docs/same-curve.png")


if __name__ == "__main__":
    main()
