"""Measure, write and draw what a trained character language model came to."""

import time
from pathlib import Path
from typing import Any

from train import STARTED, plots
from train.charlm.evaluate import final_text, validate
from train.charlm.task import Task
from train.charlm.update import State
from train.cli import printable
from train.likelihood import crop_loss, likelihood
from train.runs.checkpoint import Checkpoints
from train.runs.directory import RunDirectory, count, device_line
from train.runs.files import write_json, write_text
from train.runs.loop import Progress


def best_state(task: Task, progress: Progress, directory: RunDirectory) -> State:
    """Of the states that are kept, the one that predicts the validation text best."""
    checkpoints = Checkpoints(directory.path / "checkpoints", directory.config)
    step = checkpoints.best()
    if step is None or step == progress.step:
        return progress.state
    tree = checkpoints.restore(step, progress.to_tree())
    return progress.from_tree(tree).state


def finish(
    task: Task, progress: Progress, compile_seconds: float, directory: RunDirectory
) -> dict[str, Any]:
    """Measure, print and write all that a run leaves; return its summary."""
    best, model = best_state(task, progress, directory), task.trainer.model
    params = best.params
    directory.write_params(model, params)
    directory.write_model(model, params)
    records = directory.metrics()
    draw(records, directory.path / "plots" / "loss.png")

    text = final_text(task, params)
    samples = [
        f"epoch {record['epoch']:.0f}, loss {record['train_loss']:.4f}\n"
        f"{record['sample']}\n"
        for record in records
        if "sample" in record
    ] + [f"the end\n{text}\n"]
    write_text(directory.path / "samples.txt", f"{'-' * 30}\n".join(samples))
    print("\n" + printable(text, keep="\n\t") + "\n")

    if task.config.recipe == "lab":
        measured = {
            "val_nats_per_char": None,
            "val_bits_per_char": None,
            # Of the whole text in one pass: what it has memorised.
            "train_loss_without_dropout": likelihood(
                model, params, task.tokens
            ).per_token,
        }
    else:
        whole = validate(task, params)
        measured = {
            "val_nats_per_char": whole.per_token,
            "val_bits_per_char": whole.bits,
            "val_chars": whole.num_tokens,
            "val_nats_per_char_of_random_crops": crop_loss(
                model, params, task.tokens[len(task.train) :], task.config.seed
            ),
        }
    summary = {
        "recipe": task.config.recipe,
        "model": model.kind,
        "data": task.text.source,
        "seed": task.config.seed,
        **({} if task.lesson is None else {"torch_seed": task.lesson.seed}),
        "num_params": count(params),
        "steps": progress.step,
        "epochs": progress.step / task.epoch_updates,
        "best_step": int(best.step),
        **measured,
        "train_loss": records[-1]["train_loss"],
        "train_seconds": progress.train_seconds,
        "compile_seconds": compile_seconds,
        "wall_seconds": time.perf_counter() - STARTED,
        "device": device_line(),
        "sample": text,
    }
    write_json(directory.path / "summary.json", summary)
    return summary


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """The loss over the epochs."""
    lines = {"train": [(r["epoch"], r["train_loss"]) for r in records]}
    if points := [(r["epoch"], r["val_loss"]) for r in records if "val_loss" in r]:
        lines["validation"] = points
    curves = {
        name: ([x for x, _ in line], [y for _, y in line])
        for name, line in lines.items()
    }
    plots.curves(path, curves, "epoch", "loss (nats per character)")
