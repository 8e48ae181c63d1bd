"""What can be chosen of a character language model's training, and the two recipes."""

import dataclasses
from pathlib import Path
from typing import Literal

from train.cli import InputError


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


RECIPES = {
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
    "shakespeare": Settings(
        hidden_size=384,
        mlp_size=None,
        num_layers=1,
        dropout=0.1,
        batch_size=16,
        window=16,
        learning_rate=6e-3,
        minutes=3.0,
        weight_decay=0.01,
        b2=0.99,
        clip=1.0,
        decays=True,
        every=2000,
        checkpoint_every=2000,
    ),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Train a character language model."""

    recipe: Literal["lab", "shakespeare"] = "shakespeare"
    """lab is lesson 002; shakespeare is our own."""
    text: Path | None = None
    """File in UTF-8, or builtin for the help topics inside Python."""
    tokens: Literal["chars", "bytes"] = "chars"
    """What the model reads and predicts."""
    out: Path | None = None
    """Run directory; the same command with the same directory continues the run."""
    seed: int = 0
    """Decides initial parameters and dropout."""
    epochs: int | None = None
    """Passes over the text (lab: 2000 if not given)."""
    minutes: float | None = None
    """Training time, compilation apart (shakespeare: 3 if neither this nor --epochs is
    given). The learning rate's schedule is fitted to it."""
    batch_size: int | None = None
    """Number of streams that are read side by side."""
    window: int | None = None
    """Characters that gradients go back."""
    learning_rate: float | None = None
    """Step size of the optimiser, the highest of its schedule."""
    hidden_size: int | None = None
    """Width of the recurrence."""
    mlp_size: int | None = None
    """Width of the MLP's hidden layer."""
    num_layers: int | None = None
    """Number of recurrent layers."""
    dropout: float | None = None
    """Probability of dropping a state, and a unit of the MLP."""
    checkpoint_every: int | None = None
    """Updates between checkpoints (500 in lab, 2000 in shakespeare if not given)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the operands of matrix products."""
    skip_gradients_above: float | None = None
    """Leave out updates whose gradient has this norm or a larger one."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            flag = f"--{field.name.replace('_', '-')}"
            if field.name in ("seed", "dropout"):
                if value is not None and value < 0:
                    raise InputError(f"{flag} is {value}; expected at least 0")
            elif isinstance(value, int | float) and not value > 0:
                raise InputError(f"{flag} is {value}; expected more than 0")
        if self.dropout is not None and not self.dropout < 1:
            raise InputError(f"--dropout is {self.dropout}; expected less than 1")

    @property
    def settings(self) -> Settings:
        """The recipe's settings with what the flags change."""
        settings = RECIPES[self.recipe]
        if self.epochs is not None and settings.epochs is None:
            settings = dataclasses.replace(settings, minutes=None)
        changes = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(Settings)
            if getattr(self, field.name, None) is not None
        }
        return dataclasses.replace(settings, **changes)
