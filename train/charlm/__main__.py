"""Train a character language model.

python -m train.charlm                                # our own, for three minutes
python -m train.charlm --text novel.txt --minutes 20
python -m train.charlm --recipe lab                   # lesson 002
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

from rnnjax.random import Processor
from train.charlm.settings import Config
from train.charlm.task import make_model, make_task, make_windows
from train.charlm.text import Survey, read_text, survey, tokenize
from train.charlm.training import Training
from train.cli import command, printable, results, run
from train.codec import LINE_END
from train.runs.devices import NOT_OF_A_RUN, make_layout
from train.runs.directory import RunDirectory, default_path, device_line
from train.runs.distributed import is_first, own_path, together
from train.runs.interruption import Interruption, interruptible
from train.runs.loop import run_in
from train.runs.seeded import processor_of


def describe(
    config: Config, source: str, found: Survey, processor: Processor | None = None
) -> dict[str, Any]:
    """What config.json says: all that decides a run, and what sample needs."""
    flags, settings = dataclasses.asdict(config), dataclasses.asdict(config.settings)
    for name in ("text", "checkpoint_every", *NOT_OF_A_RUN):
        del flags[name]
    del settings["checkpoint_every"]
    if config.torch_seed is None:
        del flags["torch_seed"]
    model = make_model(config, found.codec)
    sizes = ("vocab_size", "hidden_size", "mlp_size", "num_layers", "dropout")
    return {
        "program": "charlm",
        "config": flags | {"model": model.kind},
        "settings": settings,
        "sizes": {name: getattr(model, name) for name in sizes},
        "alphabet": found.codec.alphabet,
        "line_end": found.codec.line_end,
        "text": {
            "source": source,
            "sha256": found.sha256,
            "num_tokens": found.num_tokens,
        },
        **({} if processor is None else {"processor": processor._asdict()}),
    }


def main(config: Config, stop_after: float = math.inf) -> None:
    """Train what the flags say.

    Args:
        config: The flags.
        stop_after: Update after which to stop as if a signal had come.
    """
    out = config.out or default_path(config.recipe, "lstm")
    with (
        interruptible(stop_after, out) as stop,
        together(config),
        own_path(out) as path,
    ):
        summary = run_at(path, config, stop)
        if is_first():
            with results(summary):
                tell(summary, path)


def run_at(path: Path, config: Config, stop: Interruption) -> dict[str, Any]:
    """Train in a directory, or go on there, and leave everything about it.

    Args:
        path: The run directory.
        config: The flags.
        stop: Whether to stop before the end.

    Returns:
        The summary; of several processes the first one has it, the others nothing.

    Raises:
        Stopped: If it was to stop; all is saved.
    """
    print(f"device: {device_line()}")
    lab = config.recipe == "lab"
    text = read_text(config.text, "friends" if lab else "shakespeare", joined=lab)
    print(text.note)
    found = survey(text, config.tokens, LINE_END if lab else "\n")
    unit = "bytes" if found.codec.alphabet is None else "different characters"
    print(f"{found.num_tokens:,} tokens, {found.codec.vocab_size} {unit}")
    # Before anything is written, for the text may be too short.
    rows = len(make_windows(config, found.num_tokens).stream_starts)
    layout = make_layout(config, rows, 1, config.settings.hidden_size)
    processor = processor_of(path)
    of_run = None if config.torch_seed is None else processor
    described = describe(config, text.source, found, of_run)
    directory = RunDirectory.open(path, described)

    def make() -> Training:
        tokens = tokenize(text, found.codec, path / "tokens.bin")
        task = make_task(config, text, found.codec, tokens, processor)
        return Training(task, layout)

    return run_in(directory, make, stop)


def tell(summary: dict[str, Any], path: Path) -> None:
    """Print what a run came to, and what to do next."""
    print(
        f"{summary['steps']:,} updates in {summary['train_seconds']:.1f} s, "
        f"{summary['wall_seconds']:.1f} s in all; training loss "
        f"{summary['train_loss']:.4f} nats per character"
    )
    if summary["recipe"] == "lab":
        print(
            f"{summary['train_loss_without_dropout']:.4f} with dropout off; lesson 002 "
            "trains on the whole text, so that there is no validation"
        )
    else:
        if summary["best_step"] != summary["steps"]:
            print(
                f"kept are the parameters after update {summary['best_step']:,}, which "
                "predict the validation text best"
            )
        print(
            f"validation ({summary['val_chars']:,} characters, carry never reset): "
            f"{summary['val_nats_per_char']:.4f} nats, "
            f"{summary['val_bits_per_char']:.4f} bits per character"
        )
        if summary["val_nats_per_char_of_random_crops"] is not None:
            print(
                "nanoGPT's estimate (random crops of 256): "
                f"{summary['val_nats_per_char_of_random_crops']:.4f} nats"
            )
    print(f"report: {printable(str(path / 'report.html'))}")
    print(command("train.sample", "--run", path))


if __name__ == "__main__":
    run(main, Config, __doc__)
