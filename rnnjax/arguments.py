"""What is said of an argument that cannot be meant: what was given, what is expected."""

from collections.abc import Sequence
from typing import Any, Self

import flax.linen as nn
import jax
import numpy as np

TORCH_KEYWORDS = {
    "input_size": "leave it out: the width of the input is known from the input",
    "hidden_size": "it is `features` here",
    "bias": "it is `use_bias` here",
    "batch_first": "leave it out: inputs are always (batch, time, input)",
    "proj_size": "it is `projection` here",
    "nonlinearity": "it is `activation` here",
    "device": "leave it out: jax.device_put decides",
    "num_embeddings": "it is `vocab_size` here",
    "embedding_dim": "it is `features` here",
    "in_features": "leave it out: the number of inputs is known from the input",
    "out_features": "it is `features` here",
    "p": "it is `rate` here",
}
"""What PyTorch's keywords are called here."""


def check_call(cls: type, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Answer what a user of PyTorch would type, before Python does.

    Args:
        cls: The module that is made.
        args: What was given by position; ``features`` alone may be.
        kwargs: What was given by name.

    Raises:
        TypeError: On a keyword of PyTorch's, or more than one argument by position.
    """
    if len(args) > 1:
        raise TypeError(
            f"{cls.__name__} takes features by position and all else by name; got "
            f"{', '.join(map(repr, args))}. In PyTorch's {cls.__name__}(input_size, "
            f"hidden_size) the second is what is called features here: "
            f"{cls.__name__}({args[1]!r})"
        )
    known = getattr(cls, "__dataclass_fields__", {})
    for name in kwargs:
        if name not in known and name in TORCH_KEYWORDS:
            raise TypeError(f"{cls.__name__} has no {name}: {TORCH_KEYWORDS[name]}")


class Features(nn.Module):
    """A module whose features alone may be given by position.

    Attributes:
        features: Its width.
    """

    features: int

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        check_call(cls, args, kwargs)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check_size("features", self.features)
        super().__post_init__()


def check_size(what: str, value: Any, least: int = 1) -> None:
    """Refuse what is no whole number, or too small a one."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(
            f"{what} is {value!r}; expected a whole number of at least {least}"
        )


def check_rate(what: str, value: Any) -> None:
    """Refuse what is no probability."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise ValueError(f"{what} is {value!r}; expected a probability, from 0 to 1")


def check_flag(what: str, value: Any) -> None:
    """Refuse what is neither True nor False, such as a number of layers."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{what} is {value!r}; expected True or False")


def check_projection(projection: Any, features: int) -> None:
    """Refuse a projection that PyTorch refuses: one that is not narrower."""
    if projection is None:
        return
    check_size("projection", projection)
    if projection >= features:
        raise ValueError(
            f"projection is {projection}, and features {features}; expected fewer"
        )


def check_lengths(seq_lengths: Any, num_steps: int) -> None:
    """Refuse lengths that the inputs cannot have, where they are known.

    Under ``jit`` they are not; there a length above ``num_steps`` is ``num_steps``, and
    one below 0 is 0.

    Args:
        seq_lengths: ``(*batch,)`` whole numbers.
        num_steps: Number of steps of the inputs.

    Raises:
        TypeError: If they are no whole numbers.
        ValueError: If one is below 0 or above ``num_steps``.
    """
    if not np.issubdtype(seq_lengths.dtype, np.integer):
        raise TypeError(
            f"seq_lengths are of type {seq_lengths.dtype}; expected whole numbers"
        )
    if isinstance(seq_lengths, jax.core.Tracer):
        return
    values = np.asarray(seq_lengths)
    wrong = values[(values < 0) | (values > num_steps)]
    if wrong.size:
        raise ValueError(
            f"seq_lengths has {wrong[0]}, and the inputs have {num_steps} steps; "
            f"expected lengths from 0 to {num_steps}"
        )
