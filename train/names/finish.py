"""What a training has come to: figures, pictures, some names, where attention looked."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from train import STARTED
from train.cli import printable
from train.forward import Attention
from train.names import batches as plans
from train.names import plots
from train.names.evaluate import Report, attention_of, logits_for, report_of, table
from train.names.lesson_draws import states_of_test
from train.names.task import Task
from train.plots import curves
from train.report.findings import find
from train.runs.directory import RunDirectory, count, device_line
from train.runs.files import write_json
from train.runs.loop import Progress


def finish(
    task: Task, progress: Progress, compile_seconds: float, directory: RunDirectory
) -> dict[str, Any]:
    """Test, print and write all that a run leaves; return its summary."""
    params = progress.state.params
    if task.settings.test_every:
        params = progress.best.params
    replicas = [task.replica_of(params, i) for i in range(len(task.replicas))]
    starts = states_of_test(task, progress.draws)
    logits = [logits_for(task, p, i, "test", starts) for i, p in enumerate(replicas)]
    reports = [report_of(task, each, i, "test") for i, each in enumerate(logits)]
    first = reports[0]
    if task.lesson is not None and task.recipe == "blog":
        print(f"Accuracy: {first.accuracy * 100:.4f}%")
    print(f"\n{table(first, task.languages)}\n")
    draw(task, logits[0], first, directory)
    attended, attended_languages = draw_attention(
        task, replicas[0], directory.path / "plots"
    )
    test = task.replicas[0].split.test
    findings = find(
        first.confusion,
        logits[0],
        test.labels[: len(logits[0])],
        test.names.tolist(),
        attended,
        attended_languages,
        task.languages,
    )
    write_json(directory.path / "findings.json", findings.to_json())
    directory.write_params(task.trainer.model, replicas[0])
    directory.write_model(task.trainer.model, replicas[0])
    summary = {
        "recipe": task.recipe,
        "model": task.model_name,
        "data": task.source,
        "seed": task.replicas[0].seed,
        **({} if task.lesson is None else {"torch_seed": task.lesson.seed}),
        "num_params": count(replicas[0]),
        "steps": int(np.max(progress.state.step)),
        "test_names": int(first.confusion.sum()),
        "test_accuracy": first.accuracy,
        "test_loss": first.loss,
        "test_macro_f1": first.macro_f1,
        "train_seconds": progress.train_seconds,
        "compile_seconds": compile_seconds,
        "wall_seconds": time.perf_counter() - STARTED,
        "device": device_line(),
        "languages": {
            language: {
                "names": int(first.confusion[i].sum()),
                "precision": float(first.precision[i]),
                "recall": float(first.recall[i]),
                "f1": float(first.f1[i]),
            }
            for i, language in enumerate(task.languages)
        },
    }
    if len(reports) > 1:
        summary["seeds"] = len(reports)
        for name in ("accuracy", "loss", "macro_f1"):
            values = np.array([getattr(each, name) for each in reports])
            summary |= {
                f"test_{name}_all": values.tolist(),
                f"test_{name}_mean": float(values.mean()),
                f"test_{name}_std": float(values.std(ddof=1)),
            }
    write_json(directory.path / "summary.json", summary)
    return summary


def draw(task: Task, logits, figures: Report, directory: RunDirectory) -> None:
    """The pictures of a run, and some names with what the model makes of them."""
    pictures = directory.path / "plots"
    records = directory.metrics()
    iterations = task.settings.iterations is not None
    axis = "iterations" if iterations else "epoch"
    for what, unit in (("loss", "loss (nats)"), ("accuracy", "accuracy")):
        lines = {}
        for which in ("train", "validation", "test"):
            points = [r for r in records if f"{which}_{what}" in r]
            if points:
                xs = [r["step"] if iterations else r["epoch"] for r in points]
                ys = [np.mean(r[f"{which}_{what}"]) for r in points]
                lines[which] = (xs, ys)
        curves(pictures / f"{what}.png", lines, axis, unit)
    plots.confusion(pictures / "confusion.png", figures, task.languages)

    test = task.replicas[0].split.test
    rng = np.random.default_rng([task.replicas[0].seed, 2])
    chosen = rng.choice(len(logits), size=min(5, len(logits)), replace=False)
    probs = np.asarray(jax.jit(jax.nn.softmax)(logits[chosen]))
    names = [printable(test.names[i]) for i in chosen]
    labels = [task.languages[test.labels[i]] for i in chosen]
    print("some test names")
    for name, label, row in zip(names, labels, probs, strict=True):
        print(f"  {name:<20} {label:<12} {top(row, task.languages)}")
    plots.distributions(
        pictures / "distributions.png", names, labels, probs, task.languages
    )


def top(probs: np.ndarray, languages, num: int = 3) -> str:
    """The likeliest languages, in a line."""
    order = np.argsort(-probs)[:num]
    return ", ".join(f"{languages[i]} {100 * probs[i]:.1f} %" for i in order)


def draw_attention(
    task: Task, params, pictures: Path
) -> tuple[list[Attention], list[str]]:
    """Where attention attended in some training names, noise included, if there is any.

    Returns:
        The names that are drawn, and their languages; none without attention.
    """
    rng = np.random.default_rng([task.replicas[0].seed, 3])
    train_split = task.replicas[0].split.train
    places = rng.choice(len(train_split.names), size=min(500, len(train_split.names)))
    noise = [
        "".join(rng.choice(list(plans.NOISE), rng.integers(task.noise + 2)))
        if task.noise
        else ""
        for _ in places
    ]
    texts = [train_split.names[i] + end for i, end in zip(places, noise, strict=True)]
    attended = attention_of(task.trainer, params, texts, task.vocabulary)
    if not attended:
        return [], []
    print("\nwhere attention looks")
    for each in attended[:5]:
        print("  " + "  ".join(f"{printable(c):>4}" for c in each.text))
        print("  " + "  ".join(f"{w:4.2f}" for w in each.weights))
    on_last = np.mean([each.weights[-1] for each in attended])
    line = f"{100 * on_last:.0f} % of it on the last character"
    if task.noise:
        on_noise = np.mean(
            [
                each.weights[len(each.text) - len(end) :].sum() if end else 0.0
                for each, end in zip(attended, noise, strict=True)
            ]
        )
        line += f", {100 * on_noise:.0f} % on the noise"
    print(f"  mean of {len(attended)} training names: {line}")
    titles = [task.languages[train_split.labels[i]] for i in places[:8]]
    plots.attention(pictures / "attention.png", attended[:8], titles)
    return attended[:8], titles
