"""The parameters that PyTorch's constructors draw."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from rnnjax.attention import MultiHeadAttention
from rnnjax.random.generator import TorchGenerator
from rnnjax.weights.torch import (
    from_torch,
    input_width,
    param_shapes,
    torch_layout,
    torch_shape,
)

Shapes = Mapping[str, tuple[int, ...]]


def torch_init(
    module: nn.Module, generator: TorchGenerator, input_size: int | None = None
) -> dict[str, Any]:
    """The parameters that PyTorch's module has when it is made.

    The numbers are drawn in the order of PyTorch's constructor, for a lesson's model in
    that of the lesson's own. The module's initialisers (``ih_init`` and so on) have no
    part in it.

    Args:
        module: What :func:`rnnjax.torch_layout` knows.
        generator: What draws; where it was at PyTorch's constructor it will be after
            it.
        input_size: Width of a layer's input; None is its ``vocab_size``. A model knows
            its own.

    Returns:
        The parameters, for ``module.apply({"params": params}, …)``, in float32.

    Raises:
        TypeError: If PyTorch has no such module.
        ValueError: If the width of a layer's input is not known.

    Example:
        >>> from rnnjax import GRU
        >>> params = torch_init(GRU(features=2), TorchGenerator(0), input_size=3)
        >>> # torch.manual_seed(0); torch.nn.GRU(3, 2).weight_ih_l0[0]
        >>> params["layer_0"]["cell"]["ih"]["kernel"][:, 0].tolist()
        [-0.005293981172144413, 0.37932288646698, -0.5819807648658752]
    """
    entries = torch_layout(module)
    width = input_width(module, None, axis=0)
    if width is None:
        width = input_size or getattr(module, "vocab_size", None)
    if width is None:
        raise ValueError(
            f"the width of the input of {type(module).__name__} is not known; give "
            "input_size"
        )
    of_params = param_shapes(module, width)
    shapes = {entry.name: torch_shape(entry, of_params) for entry in entries}
    return from_torch(module, draw(module, generator, shapes))


@functools.singledispatch
def draw(
    module: nn.Module, generator: TorchGenerator, shapes: Shapes
) -> dict[str, np.ndarray]:
    """Draw a module's tensors in PyTorch's order, which is mostly that of their names.

    A module of which that is not so registers its own: ``draw.register``.

    Args:
        module: What :func:`rnnjax.torch_layout` knows.
        generator: What draws.
        shapes: From PyTorch's names to shapes, in the order of the state dict.

    Returns:
        From PyTorch's names to arrays.
    """
    tensors = {}
    for name, shape in shapes.items():
        prefix, _, part = name.rpartition(".")
        if part == "weight":
            # nn.Linear's slope: its bound is 1 / sqrt(inputs), but for the rounding.
            tensors[name] = kaiming_uniform(generator, shape, math.sqrt(5))
            continue
        if part == "bias":
            weight = shapes[f"{prefix}.weight" if prefix else "weight"]
            bound = 1 / math.sqrt(weight[1])
        else:
            bound = 1 / math.sqrt(_hidden_size(module))
        tensors[name] = generator.uniform(shape, -bound, bound)
    return tensors


def _hidden_size(module: Any) -> int:
    return getattr(module, "features", None) or module.hidden_size


@draw.register
def _(
    module: MultiHeadAttention, generator: TorchGenerator, shapes: Shapes
) -> dict[str, np.ndarray]:
    # The last map is made first, as any nn.Linear; then its bias becomes 0.
    last = {name: shapes[name] for name in ("out_proj.weight", "out_proj.bias")}
    drawn = draw.dispatch(object)(module, generator, last)
    return {
        "in_proj_weight": xavier_uniform(generator, shapes["in_proj_weight"]),
        "in_proj_bias": np.zeros(shapes["in_proj_bias"], np.float32),
        "out_proj.weight": drawn["out_proj.weight"],
        "out_proj.bias": np.zeros_like(drawn["out_proj.bias"]),
    }


def kaiming_uniform(
    generator: TorchGenerator, shape: tuple[int, ...], negative_slope: float = 0.0
) -> np.ndarray:
    r"""``torch.nn.init.kaiming_uniform_(torch.empty(shape), a=negative_slope)``.

    .. math:: U(-b, b), \qquad b = \sqrt{6 / ((1 + a^2) \, inputs)}

    Args:
        generator: What draws.
        shape: ``(outputs, inputs)``.
        negative_slope: :math:`a`, that of the leaky ReLU which follows.

    Returns:
        An array of that shape in float32.

    Example:
        Lesson 003 begins each name with a random state of 256 numbers. Nothing else is
        drawn between the names of an epoch, so that those of many are drawn at once:

        >>> one_by_one, at_once = TorchGenerator(0), TorchGenerator(0)
        >>> rows = [kaiming_uniform(one_by_one, (1, 256)) for _ in range(9)]
        >>> bool((np.concatenate(rows) == kaiming_uniform(at_once, (9, 256))).all())
        True

    Source:
        He et al., 2015, https://arxiv.org/abs/1502.01852; the order of operations is
        PyTorch's.
    """
    gain = math.sqrt(2 / (1 + negative_slope**2))
    bound = math.sqrt(3) * (gain / math.sqrt(shape[1]))
    return generator.uniform(shape, -bound, bound)


def xavier_uniform(generator: TorchGenerator, shape: tuple[int, ...]) -> np.ndarray:
    r"""``torch.nn.init.xavier_uniform_(torch.empty(shape))``.

    .. math:: U(-b, b), \qquad b = \sqrt{6 / (inputs + outputs)}

    Args:
        generator: What draws.
        shape: ``(outputs, inputs)``.

    Returns:
        An array of that shape in float32.

    Source:
        Glorot & Bengio, 2010; the order of operations is PyTorch's.
    """
    outputs, inputs = shape
    bound = math.sqrt(3) * math.sqrt(2 / (inputs + outputs))
    return generator.uniform(shape, -bound, bound)


def orthogonal(
    generator: TorchGenerator, shape: tuple[int, int], gain: float = 1.0
) -> np.ndarray:
    """``torch.nn.init.orthogonal_(torch.empty(shape), gain)``, within 5e-6.

    The normal numbers are PyTorch's to the last bit; their decomposition is NumPy's,
    and PyTorch's own differs as much from one processor to another.

    Args:
        generator: What draws.
        shape: ``(rows, columns)``.
        gain: A factor.

    Returns:
        An array of that shape in float32, with orthonormal rows or columns, whichever
        are fewer, times the gain.

    Source:
        Saxe et al., 2014, https://arxiv.org/abs/1312.6120.
    """
    normals = generator.normal(shape)
    wide = shape[0] < shape[1]
    q, r = np.linalg.qr(normals.T if wide else normals)
    q = q * np.sign(np.diag(r))
    return (q.T if wide else q) * np.float32(gain)


def embedding(
    generator: TorchGenerator, shape: tuple[int, int], padding_index: int | None = None
) -> np.ndarray:
    """The weight of ``torch.nn.Embedding(*shape, padding_idx=padding_index)``.

    Args:
        generator: What draws.
        shape: ``(tokens, features)``.
        padding_index: A token whose row is 0; None is no such token.

    Returns:
        An array of that shape in float32.

    Example:
        >>> embedding(TorchGenerator(0), (3, 1), padding_index=1).tolist()
        [[1.5409960746765137], [0.0], [-2.1787893772125244]]
    """
    weight = generator.normal(shape)
    if padding_index is not None:
        weight[padding_index] = 0
    return weight
