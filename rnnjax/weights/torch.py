"""PyTorch's state dicts in and out, by tables of names; torch itself is not needed."""

import functools
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rnnjax.attention import MultiHeadAttention
from rnnjax.cells import Cell, ElmanCell, GRUCell, LSTMCell
from rnnjax.linear import Linear
from rnnjax.recurrent import GRU, LSTM, Elman, Stack

Params = dict[str, Any]


class Entry(NamedTuple):
    """One tensor of a state dict.

    Attributes:
        name: Its name in PyTorch.
        paths: Paths of the parameters that it holds, written with slashes. Kernels are
            transposed, for PyTorch stores ``(out, in)``; several of them lie side by
            side along the inputs, as in a linear map of joined vectors.
    """

    name: str
    paths: tuple[str, ...]


def linear_entries(name: str, path: str, use_bias: bool = True) -> list[Entry]:
    """The table of a ``torch.nn.Linear`` whose parameters lie under ``path``."""
    weight = Entry(f"{name}.weight", (f"{path}/kernel",))
    return [weight, Entry(f"{name}.bias", (f"{path}/bias",))][: 1 + use_bias]


def joint_entries(name: str, path: str) -> list[Entry]:
    """The table of one ``torch.nn.Linear`` of the input and the hidden, joined."""
    weight = Entry(f"{name}.weight", (f"{path}/ih/kernel", f"{path}/hh/kernel"))
    return [weight, Entry(f"{name}.bias", (f"{path}/ih/bias",))]


@functools.singledispatch
def torch_layout(module: nn.Module) -> list[Entry]:
    """The table of a module: its PyTorch names, in PyTorch's order.

    Args:
        module: An ``Elman``, ``GRU`` or ``LSTM``, one of their cells, a ``Linear``, a
            ``MultiHeadAttention``, or a model of
            :mod:`rnnjax.lessons`, which registers its own table.

    Returns:
        One entry for each tensor of the state dict.

    Raises:
        TypeError: If there is no table for this type of module.

    Example:
        >>> from rnnjax import GRU
        >>> [entry.name for entry in torch_layout(GRU(5, use_bias=False))]
        ['weight_ih_l0', 'weight_hh_l0']
    """
    known = ", ".join(
        sorted(cls.__name__ for cls in torch_layout.registry if cls != object)
    )
    raise TypeError(
        f"no PyTorch names are known for {type(module).__name__}; expected one of "
        f"{known}"
    )


@torch_layout.register(Elman)
@torch_layout.register(GRU)
@torch_layout.register(LSTM)
def _(module: Stack) -> list[Entry]:
    projected = getattr(module, "projection", None) is not None
    return _stack(module.layer_names(), module.use_bias, projected)


@torch_layout.register(ElmanCell)
@torch_layout.register(GRUCell)
@torch_layout.register(LSTMCell)
def _(module: Cell) -> list[Entry]:
    projected = getattr(module, "projection", None) is not None
    parts = _cell(module.use_bias, module.use_bias and module.hh_bias, projected)
    return [Entry(name, (path,)) for name, path in parts]


def _stack(
    layer_names: Iterable[str],
    use_bias: bool = True,
    projected: bool = False,
    prefix: str = "",
    path: str = "",
) -> list[Entry]:
    return [
        Entry(
            f"{prefix}{torch_name}_l{name.removeprefix('layer_')}",
            (f"{path}{name}/cell/{part}",),
        )
        for name in layer_names
        for torch_name, part in _cell(use_bias, use_bias, projected)
    ]


def _cell(ih_bias: bool, hh_bias: bool, projected: bool) -> list[tuple[str, str]]:
    parts = [("weight_ih", "ih/kernel"), ("weight_hh", "hh/kernel")]
    parts += [("bias_ih", "ih/bias")] * ih_bias + [("bias_hh", "hh/bias")] * hh_bias
    return parts + [("weight_hr", "hr/kernel")] * projected


@torch_layout.register
def _(module: Linear) -> list[Entry]:
    weight, bias = Entry("weight", ("kernel",)), Entry("bias", ("bias",))
    return [weight, bias] if module.use_bias else [weight]


@torch_layout.register
def _(module: MultiHeadAttention) -> list[Entry]:
    first = [
        Entry("in_proj_weight", ("in_proj/kernel",)),
        Entry("in_proj_bias", ("in_proj/bias",)),
    ]
    return first + linear_entries("out_proj", "out_proj")


def stack_entries(
    name: str, num_layers: int, bidirectional: bool = False
) -> list[Entry]:
    """The table of a stack of this name, in PyTorch and here, with all biases."""
    layer_names = GRU(
        1, num_layers=num_layers, bidirectional=bidirectional
    ).layer_names()
    return _stack(layer_names, prefix=f"{name}.", path=f"{name}/")


@functools.singledispatch
def unused_names(module: nn.Module) -> tuple[str, ...]:
    """Names that a state dict has though PyTorch's forward pass never uses them."""
    return ()


@functools.singledispatch
def other_names(module: nn.Module) -> dict[str, str]:
    """Names that widespread checkpoints of a model have, with those of its lesson."""
    return {}


def from_torch(module: nn.Module, state_dict: Mapping[str, Any]) -> Params:
    """Parameters of ``module`` from a PyTorch state dict.

    Args:
        module: See :func:`torch_layout`.
        state_dict: From PyTorch's names to arrays or torch tensors, for a model with
            the names that its lesson's PyTorch module has.

    Returns:
        The parameters, for ``module.apply({"params": params}, …)``, in float32.

    Raises:
        TypeError: If there is no table of names for this type of module, or an entry
            holds no floating-point numbers.
        ValueError: If an entry is missing, extra or misshapen (all of them are listed),
            all names have a prefix, or a number is too large for float32.

    Warns:
        UserWarning: If the state dict has entries that the lesson's module holds but
            never uses (``bn.*`` of lesson 004).

    Example:
        >>> from rnnjax import GRU
        >>> gru = GRU(features=2)
        >>> state_dict = {
        ...     "weight_ih_l0": np.ones((6, 3)),
        ...     "weight_hh_l0": np.ones((6, 2)),
        ...     "bias_ih_l0": np.zeros(6),
        ...     "bias_hh_l0": np.zeros(6),
        ... }
        >>> params = from_torch(gru, state_dict)
        >>> params["layer_0"]["cell"]["ih"]["kernel"].shape
        (3, 6)
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"state_dict is a {type(state_dict).__name__}; expected names with arrays: "
            "of a module its module.state_dict(), of a file what it holds"
        )
    others = other_names(module)
    arrays = {
        others.get(name, name): _to_numpy(name, tensor)
        for name, tensor in state_dict.items()
    }
    unused = [name for name in unused_names(module) if name in arrays]
    arrays = {name: arrays[name] for name in arrays if name not in unused}
    entries = torch_layout(module)
    _check_prefix(module, entries, arrays)
    width = input_width(module, arrays.get(entries[0].name), axis=-1)
    shapes = param_shapes(module, width)
    check_entries(
        {entry.name: torch_shape(entry, shapes) for entry in entries},
        {name: array.shape for name, array in arrays.items()},
        type(module).__name__,
        entries[0].name if width is None else None,
    )
    if unused:
        warnings.warn(
            f"{', '.join(unused)}: not used by {type(module).__name__}", stacklevel=2
        )
    params = {}
    for entry in entries:
        array = _in_float32(entry.name, arrays[entry.name])
        if array.ndim == 1:
            params[entry.paths[0]] = jnp.asarray(array)
            continue
        ends = np.cumsum([shapes[path][0] for path in entry.paths])[:-1]
        for path, part in zip(entry.paths, np.split(array, ends, axis=1), strict=True):
            params[path] = jnp.asarray(part.T)
    return unflatten_dict(params, sep="/")


def to_torch(module: nn.Module, params: Params) -> dict[str, np.ndarray]:
    """A PyTorch state dict from the parameters of ``module``; the inverse of from_torch.

    Args:
        module: See :func:`torch_layout`.
        params: Its parameters.

    Returns:
        From PyTorch's names to arrays, in PyTorch's order, contiguous.

    Raises:
        TypeError: If there is no table of names for this type of module.
        ValueError: If a parameter is missing, extra or misshapen; all of them are
            listed.

    Example:
        >>> from rnnjax import GRU
        >>> gru = GRU(features=2)
        >>> params = gru.init(jax.random.key(0), jnp.ones((1, 3)))["params"]
        >>> {name: array.shape for name, array in to_torch(gru, params).items()}
        {'weight_ih_l0': (6, 3), 'weight_hh_l0': (6, 2), 'bias_ih_l0': (6,), \
'bias_hh_l0': (6,)}
    """
    flat = flatten_dict(params, sep="/")
    entries = torch_layout(module)
    first = entries[0].paths[0]
    width = input_width(module, flat.get(first), axis=0)
    check_entries(
        param_shapes(module, width),
        {path: array.shape for path, array in flat.items()},
        f"the parameters of {type(module).__name__}",
        first if width is None else None,
    )
    state_dict = {}
    for entry in entries:
        parts = [np.asarray(flat[path]) for path in entry.paths]
        if parts[0].ndim == 2:
            parts = [np.concatenate([part.T for part in parts], axis=1)]
        state_dict[entry.name] = np.ascontiguousarray(parts[0])
    return state_dict


def _to_numpy(name: str, tensor: Any) -> np.ndarray:
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":
            # NumPy has none.
            tensor = tensor.float()
    array = np.asarray(tensor)
    # What is counted, and not learnt, may be of any type.
    if name.endswith("num_batches_tracked") or jnp.issubdtype(
        array.dtype, jnp.floating
    ):
        return array
    raise TypeError(
        f"{name} is of type {array.dtype}; expected floating-point numbers "
        "(quantised weights have to be turned back first)"
    )


def _in_float32(name: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    too_large = np.isinf(single) & np.isfinite(array)
    if too_large.any():
        raise ValueError(
            f"{name} has {array[too_large][0]:.3g}, which is too large for float32"
        )
    return single


def _check_prefix(
    module: nn.Module, entries: list[Entry], arrays: Mapping[str, np.ndarray]
) -> None:
    """Say so where the names are those of this module inside another one."""
    first = entries[0].name
    prefixes = {
        name.removesuffix(first) for name in arrays if name.endswith(f".{first}")
    }
    whole = [
        prefix
        for prefix in sorted(prefixes)
        if all(f"{prefix}{entry.name}" in arrays for entry in entries)
    ]
    if whole and first not in arrays:
        raise ValueError(
            f"{type(module).__name__}: the names have the prefix "
            f"{' or '.join(map(repr, whole))}; give its entries alone and without it, as "
            "in {name.removeprefix(prefix): x for name, x in state_dict.items() if "
            "name.startswith(prefix)}"
        )


def input_width(
    module: nn.Module, first_weight: np.ndarray | None, axis: int
) -> int | None:
    """The width of the input: a layer's first weight tells it, a model knows it."""
    if not isinstance(module, Stack | Cell | Linear | MultiHeadAttention):
        return 0
    if first_weight is None or first_weight.ndim != 2:
        return None
    return first_weight.shape[axis]


def param_shapes(module: nn.Module, width: int | None) -> dict[str, tuple[int, ...]]:
    """Shapes of the module's parameters, by path."""
    if width is None:
        width = getattr(module, "num_heads", 1)
    inputs = jax.ShapeDtypeStruct((1, width), jnp.float32)
    args: tuple[Any, ...]
    if isinstance(module, Cell):
        args = (module.initialize_carry(None, (1, 1)), inputs)
    elif isinstance(module, MultiHeadAttention):
        args = (inputs, jax.ShapeDtypeStruct((1, 1, width), jnp.float32))
    elif isinstance(module, Stack | Linear):
        args = (inputs,)
    else:
        args = (jax.ShapeDtypeStruct((1, 1), jnp.int32),)
    variables = jax.eval_shape(module.init, jax.random.key(0), *args)
    return {
        path: leaf.shape
        for path, leaf in flatten_dict(variables["params"], sep="/").items()
    }


def torch_shape(entry: Entry, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    parts = [shapes[path] for path in entry.paths]
    if len(parts[0]) == 1:
        return parts[0]
    return (parts[0][1], sum(num_inputs for num_inputs, _ in parts))


def check_entries(
    expected: dict, given: dict, what: str, unknown: str | None = None
) -> None:
    """Refuse other names or shapes, all of them at once.

    Args:
        expected: From names to shapes.
        given: From names to shapes.
        what: What has these entries.
        unknown: A name whose shape is not known; it is not said when it is missing.

    Raises:
        ValueError: If an entry is missing, extra or misshapen.
    """
    problems = [
        f"missing {name}" + ("" if name == unknown else f" {shape}")
        for name, shape in expected.items()
        if name not in given
    ]
    problems += [
        f"extra {name} {given[name]}" for name in given if name not in expected
    ]
    problems += [
        f"{name} has shape {given[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in given and given[name] != shape
    ]
    if problems:
        raise ValueError(f"{what}: {'; '.join(problems)}")
