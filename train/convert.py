"""Convert a recurrent layer between PyTorch's file of weights and rnnjax's.

    python -m train.convert model.safetensors            # what is in it
    python -m train.convert model.safetensors ours.safetensors
    python -m train.convert ours.safetensors theirs.safetensors

A file of PyTorch's has a `torch.nn.RNN`, `GRU` or `LSTM` (`weight_ih_l0` …), perhaps
inside a model (`--prefix rnn.` where there are several). A file of rnnjax's has the flat
names of its parameters (`layer_0/cell/ih/kernel` …): `flax.traverse_util.unflatten_dict(
load_file(path), sep="/")` is what `apply` takes. Which of the two it is, and kind,
layers, directions and projection, are read from the names and shapes.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from rnnjax import GRU, LSTM, Elman, from_torch, to_torch
from rnnjax.recurrent import Stack
from train.cli import InputError, run

KINDS = {1: Elman, 3: GRU, 4: LSTM}
FIRST = "weight_ih_l0"
PARTS = ("weight_ih_l", "weight_hh_l", "weight_hr_l", "bias_ih_l", "bias_hh_l")


@dataclasses.dataclass(frozen=True)
class Config:
    """Convert a recurrent layer between PyTorch's file of weights and rnnjax's."""

    source: Annotated[Path, tyro.conf.Positional]
    """A .safetensors file, PyTorch's or rnnjax's."""
    target: Annotated[Path | None, tyro.conf.Positional] = None
    """The file to write, in the other form; without it, only say what is there."""
    prefix: str | None = None
    """What stands before weight_ih_l0 in PyTorch's names, such as "rnn."."""


def stack_of(shapes: Mapping[str, tuple[int, ...]]) -> Stack:
    """The stack that has these weights.

    Args:
        shapes: From PyTorch's names, without a prefix, to shapes.

    Returns:
        The stack. PyTorch's file does not say whether an `nn.RNN` has tanh or relu: it
        is taken as tanh.

    Raises:
        InputError: If no stack has such a first layer.

    Example:
        >>> shapes = {"weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4)}
        >>> stack = stack_of(shapes)
        >>> type(stack).__name__, stack.features, stack.use_bias
        ('GRU', 4, False)
    """
    for name in (FIRST, "weight_hh_l0"):
        if len(shapes.get(name, ())) != 2:
            raise InputError(f"no matrix {name}: this is no layer of torch.nn")
    rows, width = shapes["weight_hh_l0"]
    options = {}
    if "weight_hr_l0" in shapes:
        options["projection"], gates = width, 4
    else:
        gates = rows // width if width else 0
    if gates not in KINDS or rows % gates:
        raise InputError(
            f"weight_hh_l0 has shape {(rows, width)}; expected 1, 3 or 4 times as many "
            "rows as columns (RNN, GRU, LSTM)"
        )
    return KINDS[gates](
        rows // gates,
        num_layers=sum(
            name.startswith("weight_ih_l") and not name.endswith("_reverse")
            for name in shapes
        ),
        bidirectional=f"{FIRST}_reverse" in shapes,
        use_bias="bias_ih_l0" in shapes,
        **options,
    )


def describe(stack: Stack, input_size: int) -> str:
    """One line: the stack's arguments, as one would write them."""
    parts = [str(stack.features), f"num_layers={stack.num_layers}"]
    parts += ["bidirectional=True"] * stack.bidirectional
    parts += ["use_bias=False"] * (not stack.use_bias)
    projection = getattr(stack, "projection", None)
    parts += [f"projection={projection}"] * (projection is not None)
    return f"{type(stack).__name__}({', '.join(parts)}) of {input_size} inputs"


def convert(
    arrays: Mapping[str, np.ndarray], prefix: str | None = None
) -> tuple[str, dict[str, np.ndarray]]:
    """Convert one file's arrays to the other form.

    Args:
        arrays: From PyTorch's names or rnnjax's to arrays.
        prefix: See `Config`.

    Returns:
        What the layer is, and the arrays in the other form.

    Raises:
        InputError: If there is no layer, more than one without a prefix, or an entry is
            missing, extra or misshapen.
    """
    if "layer_0/cell/ih/kernel" in arrays:
        names = {_torch_name(path): array for path, array in arrays.items()}
        stack = stack_of({name: array.T.shape for name, array in names.items()})
        other = _or_input_error(to_torch, stack, unflatten_dict(dict(arrays), sep="/"))
        return describe(stack, names[FIRST].shape[0]), other
    if prefix is None:
        prefix = _only_prefix(arrays)
    layer = {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix) and name.removeprefix(prefix).startswith(PARTS)
    }
    stack = stack_of({name: array.shape for name, array in layer.items()})
    params = flatten_dict(_or_input_error(from_torch, stack, layer), sep="/")
    other = {name: np.ascontiguousarray(array) for name, array in params.items()}
    return describe(stack, layer[FIRST].shape[1]), other


def _torch_name(path: str) -> str:
    """``layer_0_reverse/cell/ih/kernel`` -> ``weight_ih_l0_reverse``."""
    if path.count("/") != 3:
        return path
    layer, _, part, leaf = path.split("/")
    return f"{leaf.replace('kernel', 'weight')}_{part}_l{layer.removeprefix('layer_')}"


def _only_prefix(arrays: Mapping[str, np.ndarray]) -> str:
    prefixes = [name.removesuffix(FIRST) for name in arrays if name.endswith(FIRST)]
    if len(prefixes) != 1:
        found = ", ".join(repr(prefix) for prefix in prefixes) or "none"
        raise InputError(
            f"expected one layer with {FIRST}, found prefixes: {found}; "
            "choose one with --prefix"
        )
    return prefixes[0]


def _or_input_error(function, stack, arrays):
    try:
        return function(stack, arrays)
    except ValueError as error:
        raise InputError(str(error)) from error


def main(config: Config) -> None:
    """Read, say what is there, and write the other form."""
    try:
        arrays = load_file(config.source)
    except SafetensorError as error:
        raise InputError(f"{config.source} is no safetensors file: {error}") from error
    what, other = convert(arrays, config.prefix)
    print(what)
    for name, array in other.items():
        print(f"  {name} {array.shape}")
    if config.target is not None:
        save_file(other, config.target)
        print(f"written: {config.target}")


if __name__ == "__main__":
    run(main, Config, __doc__)
