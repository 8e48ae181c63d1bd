"""What dropout keeps in one step of training, in the order in which PyTorch draws."""

import functools
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import numpy as np

from rnnjax.dropout import KEPT
from rnnjax.random.generator import TorchGenerator
from rnnjax.recurrent import GRU, LSTM, Elman, Stack

TIME_BY_TIME = (1, 0, 2)
"""How the outputs ``(batch, time, features)`` of a torch.nn layer lie in memory."""


@functools.singledispatch
def dropout_masks(
    module: nn.Module, generator: TorchGenerator, batch_size: int, num_steps: int
) -> dict[str, Any]:
    """Every mask of one forward pass, in the order of PyTorch's draws.

    It is the collection ``dropout_masks`` of ``module.apply``: with it, a call with
    ``deterministic=False`` needs no key. What is kept (True) is multiplied by
    ``float32(1) / float32(1 - rate)``, the rest is 0; see
    :meth:`TorchGenerator.dropout_mask`. The recurrent layers are PyTorch's with
    ``batch_first=True`` and without packing.

    Args:
        module: An ``Elman``, ``GRU`` or ``LSTM``, lesson 002's ``CharLM`` or lesson
            004's ``DropoutClassifier``.
        generator: What draws.
        batch_size: Number of rows.
        num_steps: Number of steps; the ``DropoutClassifier`` pads to its own.

    Returns:
        Masks ``(batch, time, features)`` in bool, each under the name of its
        ``Dropout``, in the order of the draws: one between each layer and
        the next, then those of the model's own dropouts, from the inputs to the logits.

    Raises:
        TypeError: If PyTorch's order of draws is not known for this type of module.
        ValueError: If the stack's dropout is one that PyTorch does not have.

    Example:
        >>> import jax
        >>> from rnnjax import LSTM
        >>> stack = LSTM(features=5, num_layers=3, dropout=0.4)
        >>> masks = dropout_masks(stack, TorchGenerator(0), batch_size=2, num_steps=7)
        >>> {name: mask["kept"].shape for name, mask in masks.items()}
        {'Dropout_0': (2, 7, 5), 'Dropout_1': (2, 7, 5)}
        >>> inputs = np.ones((2, 7, 4))
        >>> params = stack.init(jax.random.key(0), inputs)["params"]
        >>> variables = {"params": params, "dropout_masks": masks}
        >>> _, ys = stack.apply(variables, inputs, deterministic=False)
    """
    # A lesson's model registers its own order beside its class.
    raise TypeError(
        f"PyTorch's order of dropout masks is not known for {type(module).__name__}; "
        "expected Elman, GRU, LSTM, CharLM or DropoutClassifier"
    )


@dropout_masks.register(Elman)
@dropout_masks.register(GRU)
@dropout_masks.register(LSTM)
def _(
    module: Stack, generator: TorchGenerator, batch_size: int, num_steps: int
) -> dict[str, Any]:
    if module.variational and module.dropout:
        raise ValueError(
            "a variational dropout is not PyTorch's; expected variational=False"
        )
    width = getattr(module, "projection", None) or module.features
    width *= 2 if module.bidirectional else 1
    shape = (batch_size, num_steps, width)
    return numbered(
        generator.dropout_mask(shape, module.dropout, TIME_BY_TIME)
        for _ in range(module.num_layers - 1)
    )


def numbered(masks: Iterable[np.ndarray]) -> dict[str, Any]:
    """Masks under the names that Flax gives to a module's dropouts, one by one."""
    return {f"Dropout_{i}": {KEPT: mask} for i, mask in enumerate(masks)}
