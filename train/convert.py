"""Convert a recurrent layer between PyTorch's file of weights and rnnjax's.

    python -m train.convert model.safetensors            # what is in it
    python -m train.convert model.safetensors ours.safetensors
    python -m train.convert ours.safetensors theirs.safetensors
    python -m train.convert ours.safetensors theirs.pt   # for torch.load

A file of PyTorch's has a `torch.nn.RNN`, `GRU` or `LSTM` (`weight_ih_l0` …), perhaps
inside a model (`--prefix rnn.` where there are several). A file of rnnjax's has the flat
names of its parameters (`layer_0/cell/ih/kernel` …): `flax.traverse_util.unflatten_dict(
load_file(path), sep="/")` is what `apply` takes. Which of the two it is, and kind,
layers, directions and projection, are read from the names and shapes.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rnnjax import GRU, LSTM, Elman, from_torch, to_torch, torch_file
from rnnjax.recurrent import Stack
from train.cli import InputError, default, printable, run
from train.runs.files import write_bytes

KINDS = {1: Elman, 3: GRU, 4: LSTM}
FIRST = "weight_ih_l0"
PARTS = ("weight_ih_l", "weight_hh_l", "weight_hr_l", "bias_ih_l", "bias_hh_l")
OURS = re.compile(r"layer_\d+(_reverse)?/cell/(ih|hh|hr)/(kernel|bias)")
TORCH_SUFFIXES = (".pt", ".pth")
FLOATS = ("F32", "F64", "F16", "BF16")

MAX_LAYERS = 100
"""More are a mistake, and take minutes."""

MAX_MESSAGE = 1000
"""In characters: a file can have 100,000 wrong entries."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Convert a recurrent layer between PyTorch's file of weights and rnnjax's."""

    source: Annotated[Path, tyro.conf.Positional]
    """A .safetensors file, PyTorch's or rnnjax's."""
    target: Annotated[Path | None, tyro.conf.Positional, default("none")] = None
    """The file to write, in the other form; without it, only say what is there."""
    prefix: Annotated[str | None, default("found")] = None
    """What stands before weight_ih_l0 in PyTorch's names, such as "rnn."."""


def stack_of(shapes: Mapping[str, tuple[int, ...]]) -> Stack:
    """The stack that has these weights.

    Args:
        shapes: From PyTorch's names, without a prefix, to shapes.

    Returns:
        The stack. PyTorch's file does not say whether an `nn.RNN` has tanh or relu: it
        is taken as tanh.

    Raises:
        InputError: If no stack has such a first layer, or so many of them.

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
    num_layers = sum(
        name.startswith("weight_ih_l") and not name.endswith("_reverse")
        for name in shapes
    )
    if num_layers > MAX_LAYERS:
        raise InputError(f"{num_layers:,} layers; expected at most {MAX_LAYERS}")
    return KINDS[gates](
        rows // gates,
        num_layers=num_layers,
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
    unsaid = ""
    if isinstance(stack, Elman):
        unsaid = "; activation is tanh, unless it was relu: the file does not say"
    return f"{type(stack).__name__}({', '.join(parts)}) of {input_size} inputs{unsaid}"


class Converted(NamedTuple):
    """What a file holds, in the other form.

    Attributes:
        what: The layer, in a line for people.
        arrays: Its parameters by their names in the other form.
        left_out: Names and shapes of what belongs to no recurrent layer.
    """

    what: str
    arrays: dict[str, np.ndarray]
    left_out: dict[str, tuple[int, ...]]


def convert(arrays: Mapping[str, np.ndarray], prefix: str | None = None) -> Converted:
    """Convert one file's arrays to the other form.

    Args:
        arrays: From PyTorch's names or rnnjax's to arrays.
        prefix: See `Config`.

    Returns:
        What the layer is, the arrays in the other form, and what was left out.

    Raises:
        InputError: If there is no layer, more than one without a prefix, or an entry is
            missing, extra, misshapen or not finite.
    """
    converted = _convert(arrays, prefix)
    for name, array in converted.arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"{name} has numbers that are not finite in float32")
    return converted


def _convert(arrays, prefix):
    if "layer_0/cell/ih/kernel" in arrays:
        if strange := [path for path in arrays if not OURS.fullmatch(path)]:
            raise InputError(f"{strange[0]} is no parameter of a layer of rnnjax")
        names = {_torch_name(path): array for path, array in arrays.items()}
        stack = stack_of({name: array.T.shape for name, array in names.items()})
        other = _or_input_error(to_torch, stack, unflatten_dict(dict(arrays), sep="/"))
        return Converted(describe(stack, names[FIRST].shape[0]), other, {})
    _refuse_rewritten(arrays)
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
    left_out = {
        name: array.shape
        for name, array in arrays.items()
        if name.removeprefix(prefix) not in layer or not name.startswith(prefix)
    }
    return Converted(describe(stack, layer[FIRST].shape[1]), other, left_out)


REWRITTEN = ("_raw", "_g", "_v", "_orig", ".original", ".original0", ".original1")
"""How names end of what a weight is computed from, by PyTorch's re-parametrisations."""


def _refuse_rewritten(arrays: Mapping[str, np.ndarray]) -> None:
    for name in arrays:
        stem = next((name.removesuffix(e) for e in REWRITTEN if name.endswith(e)), None)
        if stem is not None and any(part in stem for part in PARTS):
            raise InputError(
                f"{name}: this weight is computed from others before each use (dropped, "
                "normalised or pruned), and what stands beside it may be stale; in "
                "PyTorch, write the weight itself into the layer first"
            )


def _torch_name(path: str) -> str:
    """``layer_0_reverse/cell/ih/kernel`` -> ``weight_ih_l0_reverse``."""
    layer, _, part, leaf = path.split("/")
    return f"{leaf.replace('kernel', 'weight')}_{part}_l{layer.removeprefix('layer_')}"


def _only_prefix(arrays: Mapping[str, np.ndarray]) -> str:
    prefixes = [name.removesuffix(FIRST) for name in arrays if name.endswith(FIRST)]
    if len(prefixes) != 1:
        raise InputError(_no_layer(arrays, prefixes))
    return prefixes[0]


def _no_layer(arrays: Mapping[str, np.ndarray], prefixes: list[str]) -> str:
    """What is wrong with a file that has no single layer, and what to do."""
    if prefixes:
        found = ", ".join(map(repr, prefixes))
        return (
            f"expected one layer with {FIRST}, found prefixes: {_cut(found)}; choose "
            "one with --prefix"
        )
    names = _cut(", ".join(arrays)) or "nothing"
    cell = FIRST.removesuffix("_l0")
    if any(name.split(".")[-1] == cell for name in arrays):
        return (
            f"there is a cell ({cell}) and no layer ({FIRST}); a cell's weights go "
            "through rnnjax.from_torch(rnnjax.LSTMCell(features), state_dict)"
        )
    return (
        f"there is no recurrent layer ({FIRST}) among {names}; the weights of a lesson's "
        "model go through rnnjax.from_torch(train.recipes.build_model(recipe, model), "
        "state_dict)"
    )


def _or_input_error(function, stack, arrays):
    try:
        # What is too large for float32 becomes infinite, and is found later.
        with np.errstate(over="ignore"):
            return function(stack, arrays)
    except ValueError as error:
        raise InputError(_cut(str(error))) from error


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]} …"


def read(path: Path) -> dict[str, np.ndarray]:
    """Read the weights of a file.

    Args:
        path: A safetensors file.

    Returns:
        Its floating-point arrays by name; others, such as counters, are left out.

    Raises:
        InputError: If it is no such file, or part of a layer is of another type.
        OSError: If it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path} is no file; expected a .safetensors file")
    arrays = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.offset_keys():
                dtype = file.get_slice(name).get_dtype()
                if dtype in FLOATS:
                    arrays[name] = file.get_tensor(name)
                elif OURS.fullmatch(name) or any(part in name for part in PARTS):
                    raise InputError(
                        f"{name} is of type {dtype}; expected one of "
                        f"{', '.join(FLOATS)}"
                    )
    except SafetensorError as error:
        with path.open("rb") as opened:
            begins = opened.read(4)
        if begins.startswith((b"PK\x03\x04", b"\x80\x02")):
            raise InputError(
                f"{path} is a file of torch.save, not of safetensors; in PyTorch: "
                "safetensors.torch.save_file(torch.load(path, weights_only=True), "
                "'model.safetensors')"
            ) from None
        raise InputError(f"{path} is no safetensors file: {error}") from error
    return arrays


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file of weights, whole or not at all.

    Raises:
        InputError: If something is there that is no file, or the arrays are not those
            of such a file.
        OSError: If it cannot be written.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file; expected one to write, or nothing")
    if path.suffix not in TORCH_SUFFIXES:
        data = save(dict(arrays))
    elif FIRST in arrays:
        data = torch_file(arrays)
    else:
        raise InputError(
            f"{path} would hold rnnjax's names, which PyTorch does not know; expected a "
            "name that ends in .safetensors"
        )
    write_bytes(path, data)


def main(config: Config) -> None:
    """Read, say what is there, and write the other form."""
    what, other, left_out = convert(read(config.source), config.prefix)
    print(what)
    for name, array in other.items():
        print(f"  {name} {array.shape}")
    if left_out:
        parts = ", ".join(f"{name} {shape}" for name, shape in left_out.items())
        print(f"left out: {printable(_cut(parts))}")
    if config.target is not None:
        write(config.target, other)
        print(f"written: {printable(str(config.target))}")


if __name__ == "__main__":
    run(main, Config, __doc__)
