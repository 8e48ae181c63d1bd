"""What can be chosen of a names training, and how each recipe trains."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from train.cli import (
    InputError,
    Output,
    check_seed,
    default,
    flag,
    printable,
)
from train.datasets import FOUND
from train.forward import CarryKind
from train.names import splits
from train.names.update import cross_entropy, double_softmax, smoothed_cross_entropy
from train.recipes import carry_of, models_of
from train.runs.devices import Devices
from train.runs.flags import EveryTraining, recipes_own
from train.runs.seeded import check_torch_seed

NamesRecipe = Literal["best", "practical", "workshop", "blog", "binary"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a model of a names recipe is trained.

    Attributes:
        split: Cleans and divides the names.
        learning_rate: The optimiser's (the highest of the schedule in ``best``).
        hidden_size: Width of the recurrence.
        epochs: Passes over the training names; None if the recipe counts iterations.
        iterations: Updates; None if the recipe counts epochs.
        batch_size: Names per update.
        optimizer: Which one.
        clip: Global norm that gradients are cut to; None is not at all.
        carry: What the recurrence starts from: zeros, random, or what the batch before
            left (kept within an epoch).
        loss: What is minimised, ``(logits, labels) -> (...,)``.
        test_loss: What is measured on names that are not trained on.
        mlp_size: Width of the layer before the last, in the models that have one.
        order: Whether batches come in the order of the split, shuffled, grouped by
            length, or class by class with noise.
        drop_last: Whether a last batch with fewer names is left out.
        max_length: Steps that every name is padded to; None is as few as possible.
        num_buckets: Lengths that batches are padded to; each is compiled once.
        test_every: Epochs between looks at the test set, to keep the best parameters;
            None keeps the last ones.
        dtype: Type of the operands of matrix products.
    """

    split: Callable[..., splits.Split]
    learning_rate: float
    hidden_size: int
    epochs: int | None = None
    iterations: int | None = None
    batch_size: int = 1
    optimizer: Literal["adam", "sgd", "cosine"] = "adam"
    clip: float | None = None
    carry: CarryKind = "zeros"
    loss: Callable = cross_entropy
    test_loss: Callable = cross_entropy
    mlp_size: int | None = None
    order: Literal["fixed", "shuffled", "by_length", "class_uniform"] = "shuffled"
    drop_last: bool = False
    max_length: int | None = None
    num_buckets: int = 4
    test_every: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"


_practical = Settings(
    splits.practical, 1e-3, 57, epochs=10, batch_size=16, num_buckets=2
)
_workshop = Settings(
    splits.workshop,
    learning_rate=0.005,
    hidden_size=32,
    iterations=80_000,
    optimizer="sgd",
    order="class_uniform",
    num_buckets=2,
)
_blog = Settings(splits.blog, learning_rate=1e-3, hidden_size=256, epochs=2)
_binary = Settings(
    splits.binary,
    learning_rate=5e-6,
    hidden_size=256,
    mlp_size=256,
    epochs=30,
    batch_size=8,
    loss=double_softmax,
    test_loss=double_softmax,
    order="fixed",
    drop_last=True,
    max_length=18,
    test_every=3,
)

# Our own.
_best = Settings(
    splits.best,
    # The peak of a warm-up and a cosine: four times the lessons' 1e-3, for a batch of 64.
    learning_rate=4e-3,
    # In each direction; with it both protocols train in about two minutes of two cores.
    hidden_size=160,
    # The cosine ends there, so that more epochs mean another schedule.
    epochs=10,
    # 280 updates an epoch of 18,000 names, each with matrix products worth the name.
    batch_size=64,
    optimizer="cosine",
    # A recurrence has rare, large gradients, which Adam would remember for long.
    clip=1.0,
    # Some names stand under several languages: no answer deserves all the probability.
    loss=smoothed_cross_entropy,
    # Neighbours of one length need the least padding.
    order="by_length",
)

SETTINGS: Mapping[tuple[str, str], Settings] = {
    **{("practical", model): _practical for model in models_of("practical")},
    **{("workshop", model): _workshop for model in models_of("workshop")},
    ("blog", "rnn"): dataclasses.replace(
        _blog, clip=1.0, carry=carry_of("blog", "rnn")
    ),
    ("blog", "gru"): _blog,
    ("binary", "mlp"): _binary,
    ("binary", "linear"): dataclasses.replace(_binary, batch_size=1),
    ("binary", "rnn"): dataclasses.replace(_binary, carry=carry_of("binary", "rnn")),
    ("best", "gru"): _best,
}


def settings_of(recipe: str, model: str, **overrides: Any) -> Settings:
    """A recipe's settings, with what a person wants otherwise.

    Args:
        recipe: Name of the recipe.
        model: One of its models.
        **overrides: Settings by name; None leaves the recipe's own.

    Returns:
        The settings.

    Raises:
        InputError: If a value is out of range, or the recipe has no such setting.
    """
    settings = SETTINGS[recipe, model]
    changes = {name: value for name, value in overrides.items() if value is not None}
    for name, value in changes.items():
        if value <= 0:
            raise InputError(f"{flag(name)} is {value}; expected a positive number")
        if getattr(settings, name) is None:
            instead = {"epochs": "--iterations", "iterations": "--epochs"}.get(name)
            remedy = f"use {instead}" if instead else "leave it out"
            raise InputError(
                f"the recipe {recipe} {model} has no {flag(name)}; {remedy}"
            )
    return dataclasses.replace(settings, **changes)


@dataclasses.dataclass(frozen=True)
class Model:
    """What is trained."""

    recipe: NamesRecipe = "best"
    """practical, workshop, blog and binary are the lessons; best is our own."""
    model: Annotated[str | None, default("the recipe's first")] = None
    """One of the recipe's models (a wrong one lists them)."""
    compare: bool = False
    """Train all models of the recipe and compare them."""
    hidden_size: Annotated[int | None, recipes_own(SETTINGS, "hidden_size")] = None
    """Width of the recurrence."""
    mlp_size: Annotated[int | None, recipes_own(SETTINGS, "mlp_size")] = None
    """binary: width of the layer before the last."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the operands of matrix products, in training."""


@dataclasses.dataclass(frozen=True)
class Data:
    """What it is trained and tested on."""

    data: Annotated[Path | None, FOUND] = None
    """Directory with one <Language>.txt for each language."""
    protocol: Literal["both", "blog", "leak-free"] = "both"
    """How best is tested: blog is a random 10 %, leak-free removes duplicates first."""
    noise: int = 0
    """workshop: with N > 0, names get 0 to N + 1 meaningless characters at their end."""


@dataclasses.dataclass(frozen=True)
class Training(EveryTraining):
    """How it is trained."""

    seed: int = 0
    """Decides split, initial parameters, order, noise and dropout."""
    torch_seed: Annotated[int | None, default("draws of our own")] = None
    """Lessons: draw what the lesson's PyTorch program draws with this seed."""
    file_order: Annotated[str | None, default("as the file system lists them")] = None
    """With --torch-seed: the languages in the order that the lesson finds their files."""
    seeds: int = 1
    """Number of replicas, with seeds seed, seed + 1, …, trained together."""
    epochs: Annotated[int | None, recipes_own(SETTINGS, "epochs")] = None
    """Passes over the training names."""
    iterations: Annotated[int | None, recipes_own(SETTINGS, "iterations")] = None
    """workshop: number of updates."""
    minutes: Annotated[float | None, default("no limit")] = None
    """Stop after the epoch (thousand iterations) that ends after so much training."""
    batch_size: Annotated[int | None, recipes_own(SETTINGS, "batch_size")] = None
    """Names per update."""
    learning_rate: Annotated[float | None, recipes_own(SETTINGS, "learning_rate")] = (
        None
    )
    """Step size of the optimiser."""
    checkpoint_every: Annotated[int | None, default("1; workshop 20")] = None
    """Epochs (workshop: thousands of iterations) between checkpoints."""


@dataclasses.dataclass(frozen=True)
class Config(Output, Devices, Training, Data, Model):
    """Train a classifier that tells the language of a surname."""

    def __post_init__(self):
        known = models_of(self.recipe)
        if self.model is not None and self.model not in known:
            raise InputError(
                f"the recipe {self.recipe} has no model {printable(self.model)!r}; "
                f"expected one of {', '.join(known)}"
            )
        if self.compare and self.model is not None:
            raise InputError(
                "--compare trains every model of the recipe; leave out --model"
            )
        if self.noise and self.recipe != "workshop":
            raise InputError(
                f"--noise belongs to the recipe workshop, not to {self.recipe}; "
                "leave it out or use --recipe workshop"
            )
        if self.protocol != "both" and self.recipe != "best":
            raise InputError(
                f"--protocol belongs to the recipe best, not to {self.recipe}; "
                "leave it out"
            )
        for name, least in [("seeds", 1), ("noise", 0), ("checkpoint_every", 1)]:
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{flag(name)} is {value}; expected at least {least}")
        for name in ("minutes", "skip_gradients_above"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{flag(name)} is {value}; expected more than 0")
        check_seed(self.seed)
        check_torch_seed(self.torch_seed)
        self._check_lesson()
        self.check_devices()
        self.settings(self.model or known[0])

    def _check_lesson(self) -> None:
        if self.torch_seed is None:
            if self.file_order is not None:
                raise InputError(
                    "--file-order is the order in which a lesson's program finds the "
                    "files; give --torch-seed, or leave it out"
                )
            return
        if self.recipe == "best":
            raise InputError(
                "--torch-seed belongs to the lessons, and the recipe best is our own; "
                "give --recipe practical, workshop, blog or binary, or --seed instead"
            )
        if self.seeds != 1:
            raise InputError(
                f"--seeds is {self.seeds}, and --torch-seed trains one model, as the "
                "lesson does; leave out one of the two, or run the program for each seed"
            )

    def settings(self, model: str) -> Settings:
        """The recipe's settings with what the flags change."""
        settings = settings_of(
            self.recipe,
            model,
            learning_rate=self.learning_rate,
            hidden_size=self.hidden_size,
            mlp_size=self.mlp_size,
            epochs=self.epochs,
            iterations=self.iterations,
            batch_size=self.batch_size,
        )
        return dataclasses.replace(settings, dtype=self.dtype)
