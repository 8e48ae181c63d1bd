"""Train a classifier that tells the language of a surname.

    python -m train.names                                     # the project's own best
    python -m train.names --recipe workshop --model attention --noise 5
    python -m train.names --recipe practical --compare

The recipes practical, workshop, blog and binary are lessons 000, 001, 003 and 004.
"""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from train import STARTED, plots
from train.cli import (
    command,
    printable,
    results,
    run,
)
from train.datasets import NamesData, find_names, in_file_order
from train.names import splits
from train.names.settings import Config
from train.names.task import Task, make_task
from train.names.training import Training
from train.recipes import models_of
from train.report.render import write_report
from train.runs.devices import NOT_OF_A_RUN, make_layout
from train.runs.directory import RunDirectory, default_path, device_line
from train.runs.distributed import is_first, own_path, together
from train.runs.files import write_json
from train.runs.guards import skip_large_gradients
from train.runs.interruption import Interruption, interruptible
from train.runs.loop import run_in
from train.runs.seeded import processor_of


def run_task(
    config: Config, task: Task, path: Path, stop: Interruption
) -> dict[str, Any]:
    """Train in a directory, or go on there, and leave everything about it.

    Args:
        config: The flags.
        task: What to train.
        path: The run directory.
        stop: Whether to stop before the end.

    Returns:
        The summary; of several processes the first one has it, the others nothing.

    Raises:
        Stopped: If it was to stop; all is saved.
    """
    settings = task.settings
    layout = make_layout(
        config, settings.batch_size, len(task.replicas), settings.hidden_size
    )
    if config.skip_gradients_above is not None:
        tx = skip_large_gradients(task.trainer.tx, config.skip_gradients_above)
        task = task._replace(trainer=task.trainer._replace(tx=tx))
    directory = RunDirectory.open(path, describe(config, task))
    training = Training(task, layout, config.minutes, config.checkpoint_every)
    return run_in(directory, lambda: training, stop)


def describe(config: Config, task: Task) -> dict[str, Any]:
    """What config.json says: all that decides a run, and what predict needs."""
    flags = dataclasses.asdict(config)
    for name in ("compare", "checkpoint_every", *NOT_OF_A_RUN):
        del flags[name]
    flags |= {"data": task.source, "model": task.model_name}
    if task.lesson is None:
        del flags["torch_seed"], flags["file_order"]
    else:
        flags["file_order"] = ",".join(task.file_order)
    settings = {
        name: value
        for name, value in dataclasses.asdict(task.settings).items()
        if not callable(value)
    }
    model = task.trainer.model
    sizes = {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if isinstance(getattr(model, field.name), int)
        and not isinstance(getattr(model, field.name), bool)
    }
    return {
        "program": "names",
        "config": flags,
        "settings": settings | {"split": task.settings.split.__name__},
        "sizes": sizes,
        "alphabet": task.vocabulary.characters,
        "languages": list(task.languages),
        "names_sha256": task.fingerprint,
        **({} if task.lesson is None else task.lesson.described()),
    }


def file_order(config: Config, path: Path) -> list[str] | None:
    """The languages as they are wanted, or as a run at this path was begun."""
    order = config.file_order
    if order is None and (path / "config.json").is_file():
        order = RunDirectory(path).config["config"].get("file_order")
    return None if order is None else order.split(",")


def run_model(
    config: Config, model_name: str, data: NamesData, path: Path, stop: Interruption
) -> dict[str, Any]:
    """Train one model: for ``best``, once for each protocol."""
    settings = config.settings(model_name)
    seeds = range(config.seed, config.seed + config.seeds)
    if config.torch_seed is not None:
        data = in_file_order(data, file_order(config, path))
    if config.recipe != "best":
        task = make_task(
            config.recipe,
            model_name,
            settings,
            data,
            seeds,
            config.noise,
            config.backend,
            config.torch_seed,
            processor_of(path),
        )
        return run_task(config, task, path, stop)
    summaries = {}
    for protocol, split in (
        ("blog", splits.best),
        ("leak-free", splits.best_leak_free),
    ):
        if config.protocol not in ("both", protocol):
            continue
        task = make_task(
            config.recipe,
            model_name,
            dataclasses.replace(settings, split=split),
            data,
            seeds,
            backend=config.backend,
        )
        sizes = [len(part.labels) for part in task.replicas[0][2:] if part is not None]
        explained = {
            "blog": "random 10 % for the test; some of its names also stand in training",
            "leak-free": "duplicates removed before splitting",
        }[protocol]
        print(f"\nprotocol {protocol}: {explained} ({sizes[0]:,} + {sizes[1]:,} names)")
        nested = (
            path if config.protocol != "both" or protocol == "blog" else path / protocol
        )
        summaries[protocol] = run_task(config, task, nested, stop)
        summaries[protocol]["protocol"] = protocol
    summary = next(iter(summaries.values()))
    if not is_first():
        return {}
    if len(summaries) == 2:
        for name in ("test_accuracy", "test_loss", "test_macro_f1"):
            summary[f"leak_free_{name}"] = summaries["leak-free"][name]
    if summary != RunDirectory(path).summary:
        summary["wall_seconds"] = time.perf_counter() - STARTED
        write_json(path / "summary.json", summary)
        write_report(path)
    return summary


def compare(config: Config, data: NamesData, path: Path, stop: Interruption) -> None:
    """Train every model of the recipe; answer which one works best."""
    path.mkdir(parents=True, exist_ok=True)
    summaries, curves = {}, {}
    for model_name in models_of(config.recipe):
        print(f"\n{config.recipe} {model_name}")
        summaries[model_name] = run_model(
            config, model_name, data, path / model_name, stop
        )
        if not is_first():
            continue
        records = RunDirectory(path / model_name).metrics()
        curves[model_name] = (
            [record["step"] for record in records],
            [np.mean(record["train_loss"]) for record in records],
        )
    if not is_first():
        return
    (path / "plots").mkdir(exist_ok=True)
    plots.curves(
        path / "plots" / "comparison.png", curves, "updates", "training loss (nats)"
    )
    write_json(path / "comparison.json", summaries)
    page = write_report(path)
    spread = config.seeds > 1

    def figure(summary: dict[str, Any], name: str) -> tuple[float, float]:
        """The mean over the seeds and its deviation; of one seed the figure and 0."""
        if not spread:
            return summary[name], 0.0
        return summary[f"{name}_mean"], summary[f"{name}_std"]

    head = f"mean of {config.seeds} seeds ± deviation" if spread else "one seed"
    lines = [
        head,
        f"{'model':<10} {'parameters':>10}  {'train loss':>10}  {'test loss':>15}  "
        + f"{'accuracy':>14}  {'macro-F1':>15}  {'seconds':>7}",
    ]
    for name, summary in summaries.items():
        shown = [
            f"{mean:.4f}" + (f" ± {deviation:.4f}" if spread else "")
            for mean, deviation in (
                figure(summary, "test_loss"),
                figure(summary, "test_macro_f1"),
            )
        ]
        mean, deviation = figure(summary, "test_accuracy")
        accuracy = f"{100 * mean:.2f}" + (f" ± {100 * deviation:.2f}" * spread) + " %"
        lines.append(
            f"{name:<10} {summary['num_params']:>10,}  {curves[name][1][-1]:10.4f}  "
            f"{shown[0]:>15}  {accuracy:>14}  {shown[1]:>15}  "
            f"{summary['train_seconds']:7.1f}"
        )
    ranked = sorted(
        summaries, key=lambda name: -figure(summaries[name], "test_accuracy")[0]
    )
    winner = ranked[0]
    verdict = f"best on the test names: {winner}"
    if spread and len(ranked) > 1:
        (first, deviation), (second, other) = (
            figure(summaries[name], "test_accuracy") for name in ranked[:2]
        )
        if first - second <= max(deviation, other):
            verdict = (
                f"no clear winner: {winner} is ahead of {ranked[1]} by less than one "
                "deviation"
            )
    print()
    with results(summaries):
        print("\n".join(lines))
        print(f"\n{verdict}")
        print(f"all of them side by side: {printable(str(page))}")
        print(command("train.predict", "--run", path / winner, "NAME"))


def main(config: Config, stop_after: float = math.inf) -> None:
    """Train what the flags say.

    Args:
        config: The flags.
        stop_after: Update after which to stop as if a signal had come.
    """
    what = config.model or models_of(config.recipe)[0]
    named = "compare" if config.compare else what
    out = config.out or default_path(config.recipe, named)
    with (
        interruptible(stop_after, out) as stop,
        together(config),
        own_path(out) as path,
    ):
        print(f"device: {device_line()}")
        data = find_names(config.data)
        print(data.note)
        if config.compare:
            compare(config, data, path, stop)
            return
        summary = run_model(config, what, data, path, stop)
        if is_first():
            print()
            with results(summary):
                tell(summary, path)


def tell(summary: dict[str, Any], path: Path) -> None:
    """Print what a run came to, and what to do next."""
    if "seeds" in summary:
        print(
            f"{summary['seeds']} seeds: test accuracy "
            f"{100 * summary['test_accuracy_mean']:.2f} % "
            f"± {100 * summary['test_accuracy_std']:.2f}, macro-F1 "
            f"{summary['test_macro_f1_mean']:.3f} ± {summary['test_macro_f1_std']:.3f}"
        )
    print(
        f"test accuracy {100 * summary['test_accuracy']:.2f} %, loss "
        f"{summary['test_loss']:.4f} nats, macro-F1 {summary['test_macro_f1']:.3f} "
        f"({summary['test_names']:,} names"
        + (f", protocol {summary['protocol']})" if "protocol" in summary else ")")
    )
    if "leak_free_test_accuracy" in summary:
        print(
            f"leak-free: accuracy {100 * summary['leak_free_test_accuracy']:.2f} %, "
            f"macro-F1 {summary['leak_free_test_macro_f1']:.3f}"
        )
    print(
        f"{summary['steps']:,} updates in {summary['train_seconds']:.1f} s, "
        f"{summary['wall_seconds']:.1f} s in all"
    )
    print(f"report: {printable(str(path / 'report.html'))}")
    print(command("train.predict", "--run", path, "NAME"))


if __name__ == "__main__":
    run(main, Config, __doc__)
