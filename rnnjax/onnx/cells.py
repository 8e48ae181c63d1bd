"""Cells in ONNX: as one of its own operators, or by their equations."""

import dataclasses
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from rnnjax.cells import ElmanCell, GRUCell, LSTMCell, SumCell
from rnnjax.norm_cells import LayerNormGRUCell, LayerNormLSTMCell
from rnnjax.onnx.graph import Graph, Value
from rnnjax.onnx.layers import Params, linear, norm, sigmoid, tanh

ACTIVATIONS: dict[str, dict[str, Any]] = {
    "tanh": {"activations": "Tanh"},
    "relu": {"activations": "Relu"},
    "sigmoid": {"activations": "Sigmoid"},
    # alpha x + beta
    "identity": {
        "activations": "Affine",
        "activation_alpha": 1.0,
        "activation_beta": 0.0,
    },
}
"""The attributes of ONNX's RNN, by rnnjax's name of the activation."""

WITHOUT_EFFECT = {
    *("parent", "name", "backend", "remat", "vocab_size"),
    *("dropout", "embedding_dropout", "variational"),
    *("ih_init", "hh_init", "bias_init", "hr_init"),
}
"""Attributes that do not change what a trained module computes."""


def check_attributes(module: nn.Module, *expressed: str) -> None:
    """Refuse a module that computes something else than its graph.

    Args:
        module: A cell, a stack or a model.
        *expressed: Its attributes that the graph follows.

    Raises:
        ValueError: If another one is not at its default, or the products are not in
            float32.
    """
    what = type(module).__name__
    dtype = getattr(module, "dtype", None)
    if dtype is not None and np.dtype(dtype) != np.float32:
        raise ValueError(
            f"{what} has dtype {np.dtype(dtype)}; ONNX files are written in float32: "
            "give the module without dtype"
        )
    for field in dataclasses.fields(module):
        value = getattr(module, field.name, field.default)
        if field.name in {"dtype", *expressed} | WITHOUT_EFFECT:
            continue
        if value != field.default:
            raise ValueError(
                f"{what} has {field.name}={value!r}, which cannot be written as ONNX"
            )


class Operator(NamedTuple):
    """A cell that ONNX has.

    Attributes:
        name: Of its operator.
        order: Its gates, by their places in rnnjax's order.
        by_direction: Attributes that a layer of two directions says twice.
        attributes: The others, besides width and direction.
    """

    name: str
    order: tuple[int, ...]
    by_direction: dict[str, Any]
    attributes: dict[str, Any]


@functools.singledispatch
def operator(cell: nn.Module) -> Operator | None:
    """The operator that is this cell over time; None if ONNX has none.

    Raises:
        ValueError: If ONNX has the cell, but not with these attributes.
    """
    return None


@operator.register
def _(cell: ElmanCell) -> Operator:
    check_attributes(cell, "features", "use_bias", "hh_bias", "activation")
    if cell.activation not in ACTIVATIONS:
        raise ValueError(
            f"ElmanCell has activation={cell.activation!r}, which cannot be written as "
            f"ONNX; expected one of {', '.join(ACTIVATIONS)}"
        )
    return Operator("RNN", (0,), ACTIVATIONS[cell.activation], {})


@operator.register
def _(cell: GRUCell) -> Operator:
    check_attributes(cell, "features", "use_bias", "hh_bias")
    # z, r, n; the reset acts after the product.
    return Operator("GRU", (1, 0, 2), {}, {"linear_before_reset": 1})


@operator.register
def _(cell: LSTMCell) -> Operator | None:
    check_attributes(cell, "features", "use_bias", "hh_bias", "projection")
    # i, o, f, g.
    return None if cell.projection else Operator("LSTM", (0, 3, 1, 2), {}, {})


@functools.singledispatch
def step(cell: nn.Module, graph: Graph, params: Params, carry: Any, ih: Value) -> Any:
    """One step of a cell that ONNX lacks.

    Args:
        cell: The cell.
        graph: Gets the nodes.
        params: The cell's.
        carry: What the step begins with.
        ih: What the map of the input makes of it.

    Returns:
        The new carry.

    Raises:
        ValueError: If its equations are known here, but not with these attributes.
    """
    raise NotImplementedError


@step.register(SumCell)
def _(cell, graph, params, carry, ih):
    check_attributes(cell, "features", "use_bias", "hh_bias")
    return tanh(ih) + tanh(linear(carry, params["hh"]))


@step.register(LSTMCell)
def _(cell, graph, params, carry, ih):
    i, f, g, o = graph.split(ih + linear(carry.h, params["hh"]), 4)
    c = sigmoid(f) * carry.c + sigmoid(i) * tanh(g)
    return carry._replace(h=linear(sigmoid(o) * tanh(c), params["hr"]), c=c)


@step.register(LayerNormLSTMCell)
def _(cell, graph, params, carry, ih):
    check_attributes(cell, "features", "use_bias")
    hh = norm(linear(carry.h, params["hh"]), params["hh_norm"])
    i, f, g, o = graph.split(norm(ih, params["ih_norm"]) + hh, 4)
    c = sigmoid(f) * carry.c + sigmoid(i) * tanh(g)
    return carry._replace(h=sigmoid(o) * tanh(norm(c, params["c_norm"])), c=c)


@step.register(LayerNormGRUCell)
def _(cell, graph, params, carry, ih):
    check_attributes(cell, "features", "use_bias")
    parts = np.array([2 * cell.features, cell.features])
    irz, in_ = graph.add_many("Split", 2, ih, parts, axis=-1)
    hrz, hn = graph.add_many("Split", 2, linear(carry, params["hh"]), parts, axis=-1)
    rz = sigmoid(norm(irz, params["ih_norm"]) + norm(hrz, params["hh_norm"]))
    r, z = graph.split(rz, 2)
    n = tanh(norm(in_, params["in_norm"]) + r * norm(hn, params["hn_norm"]))
    return (np.float32(1) - z) * n + z * carry


def check_cell(cell: nn.Module) -> None:
    """Refuse a cell that is none of those above; a subclass may compute anything.

    Raises:
        TypeError: If it is not.
    """
    known = (operator.registry.keys() | step.registry.keys()) - {object}
    if type(cell) not in known:
        raise TypeError(
            f"the cell {type(cell).__name__} cannot be written as ONNX; expected one "
            f"of {', '.join(sorted(each.__name__ for each in known))}"
        )
