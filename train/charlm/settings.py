"""What can be chosen of a character language model's training, and the two recipes."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from train.cli import InputError, Output, check_seed, default, flag
from train.datasets import FOUND
from train.runs.devices import Devices
from train.runs.flags import EveryTraining, recipes_own
from train.runs.seeded import check_torch_seed


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a recipe trains.

    Attributes:
        hidden_size: Width of the recurrence.
        mlp_size: Width of the MLP's hidden layer; None is no MLP.
        num_layers: Number of recurrent layers.
        dropout: Probability of dropping a state, and a unit of the MLP.
        batch_size: Number of streams.
        window: Characters that gradients go back.
        learning_rate: The optimiser's; with ``decays`` the highest of its schedule.
        epochs: Passes over the text; None is no limit.
        minutes: Training time; None is no limit.
        weight_decay: AdamW's, for the weight matrices.
        b2: Adam's.
        clip: Global norm that gradients are cut to; None is not at all.
        decays: Whether the learning rate rises at first and then falls to zero.
        every: Updates between validations; None is no validation.
        sample_every: Epochs between samples; None is only at the end.
        checkpoint_every: Updates between checkpoints.
    """

    hidden_size: int
    mlp_size: int | None
    num_layers: int
    dropout: float
    batch_size: int
    window: int
    learning_rate: float
    epochs: int | None = None
    minutes: float | None = None
    weight_decay: float = 0.0
    b2: float = 0.999
    clip: float | None = None
    decays: bool = False
    every: int | None = None
    sample_every: int | None = None
    checkpoint_every: int = 500


SETTINGS = {
    "lab": Settings(
        hidden_size=1024,
        mlp_size=2048,
        num_layers=1,
        dropout=0.4,
        batch_size=64,
        window=50,
        learning_rate=1e-3,
        epochs=2000,
        sample_every=50,
    ),
    # Our own.
    "shakespeare": Settings(
        # 2.4 MB of recurrent weights: more units would leave time for fewer updates.
        hidden_size=384,
        # One linear map, for the same reason.
        mlp_size=None,
        num_layers=1,
        # Little, for three minutes are only a few passes over the text.
        dropout=0.1,
        # Many small updates; the carry remembers what lies before the short window.
        batch_size=16,
        window=16,
        # The peak of the schedule; clipping takes the edge off its largest gradients.
        learning_rate=6e-3,
        # The time that nanoGPT's README gives its character model.
        minutes=3.0,
        weight_decay=0.01,
        # As nanoGPT for few tokens an update: Adam's average forgets within 100.
        b2=0.99,
        clip=1.0,
        decays=True,
        # So that validation and saving stay a small part of the time.
        every=2000,
        checkpoint_every=2000,
    ),
}


@dataclasses.dataclass(frozen=True)
class Model:
    """What is trained."""

    recipe: Literal["lab", "shakespeare"] = "shakespeare"
    """lab is lesson 002; shakespeare is our own."""
    hidden_size: Annotated[int | None, recipes_own(SETTINGS, "hidden_size")] = None
    """Width of the recurrence."""
    mlp_size: Annotated[int | None, recipes_own(SETTINGS, "mlp_size")] = None
    """Width of the MLP's hidden layer; without one there is no MLP."""
    num_layers: Annotated[int | None, recipes_own(SETTINGS, "num_layers")] = None
    """Number of recurrent layers."""
    dropout: Annotated[float | None, recipes_own(SETTINGS, "dropout")] = None
    """Probability of dropping a state, and a unit of the MLP."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the operands of matrix products."""


@dataclasses.dataclass(frozen=True)
class Data:
    """What it is trained on."""

    text: Annotated[Path | None, FOUND] = None
    """File in UTF-8, or builtin for the help topics inside Python."""
    tokens: Literal["chars", "bytes"] = "chars"
    """What the model reads and predicts."""


@dataclasses.dataclass(frozen=True)
class Training(EveryTraining):
    """How it is trained."""

    seed: int = 0
    """Decides initial parameters and dropout."""
    torch_seed: Annotated[int | None, default("draws of our own")] = None
    """lab: draw what the lesson's PyTorch program draws with this seed."""
    epochs: Annotated[int | None, recipes_own(SETTINGS, "epochs")] = None
    """Passes over the text."""
    minutes: Annotated[float | None, recipes_own(SETTINGS, "minutes")] = None
    """Training time, to which the schedule is fitted; without limit with --epochs."""
    batch_size: Annotated[int | None, recipes_own(SETTINGS, "batch_size")] = None
    """Number of streams that are read side by side."""
    window: Annotated[int | None, recipes_own(SETTINGS, "window")] = None
    """Characters that gradients go back."""
    learning_rate: Annotated[float | None, recipes_own(SETTINGS, "learning_rate")] = (
        None
    )
    """Step size of the optimiser, the highest of its schedule."""
    checkpoint_every: Annotated[
        int | None, recipes_own(SETTINGS, "checkpoint_every")
    ] = None
    """Updates between checkpoints."""


@dataclasses.dataclass(frozen=True)
class Config(Output, Devices, Training, Data, Model):
    """Train a character language model."""

    def __post_init__(self):
        check_seed(self.seed)
        check_torch_seed(self.torch_seed)
        if self.torch_seed is not None and self.recipe != "lab":
            raise InputError(
                "--torch-seed belongs to the lesson, and the recipe shakespeare is our "
                "own; give --recipe lab, or --seed instead"
            )
        self.check_devices()
        checked = {
            "seed",
            "torch_seed",
            *(field.name for field in dataclasses.fields(Devices)),
        }
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or field.name in checked:
                continue
            given = f"{flag(field.name)} is {value}"
            if field.name == "dropout":
                if value is not None and value < 0:
                    raise InputError(f"{given}; expected at least 0")
            elif isinstance(value, int | float) and not value > 0:
                raise InputError(f"{given}; expected more than 0")
        if self.dropout is not None and not self.dropout < 1:
            raise InputError(f"--dropout is {self.dropout}; expected less than 1")

    @property
    def settings(self) -> Settings:
        """The recipe's settings with what the flags change."""
        settings = SETTINGS[self.recipe]
        if self.epochs is not None and settings.epochs is None:
            settings = dataclasses.replace(settings, minutes=None)
        changes = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(Settings)
            if getattr(self, field.name, None) is not None
        }
        return dataclasses.replace(settings, **changes)
