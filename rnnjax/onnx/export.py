"""A module and its parameters as an ONNX file."""

import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict

from rnnjax.norm_cells import LayerNormGRU, LayerNormLSTM
from rnnjax.onnx.cells import check_cell
from rnnjax.onnx.graph import Graph
from rnnjax.onnx.layers import Params
from rnnjax.onnx.recurrent import (
    batch_of,
    optional_carry,
    output_carry,
    real_steps,
    run_recurrent,
    run_stack,
    stack_zeros,
    start_of,
    zero_row,
)
from rnnjax.recurrent import GRU, LSTM, Elman, Recurrent, Stack
from rnnjax.weights.torch import check_entries


def to_onnx(module: nn.Module, params: Params, initial_carry: Any = None) -> bytes:
    """A module and its parameters as an ONNX file, for any number of rows and steps.

    A stack or a ``Recurrent`` takes ``inputs (batch, time, input)`` float32 and
    ``seq_lengths (batch,)`` int32, and returns ``ys (batch, time, features)`` and the
    final carries, ``carry_0``, ``carry_1`` and so on in the order of the stack's own
    (an LSTM's are ``carry_0_h``, ``carry_0_c``). A caller may also give the carries to
    start from, ``initial_carry_0 (batch, features)`` and so on. Padding has no effect,
    and a row without steps returns its initial carry, as in rnnjax.

    Dropout is off. The file is of opset 14; an LSTM, a GRU or an Elman network is
    ONNX's operator of that kind, any other cell a loop over its equations.

    Args:
        module: An ``Elman``, ``GRU`` or ``LSTM``, a stack with layer normalisation, or
            a ``Recurrent`` of one of their cells. After ``import rnnjax.onnx.lessons``
            also one of the lessons' models.
        params: Its parameters.
        initial_carry: What a run starts from where the caller gives nothing, a carry
            of one row ``(1, features)``; None is zeros.

    Returns:
        The file, checked by ``onnx.checker``.

    Raises:
        ImportError: If the package onnx is not installed.
        TypeError: If this type of module, or of its cell, cannot be written.
        ValueError: If one of its attributes cannot be written, a parameter is missing,
            extra or misshapen, or the initial carry has other shapes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from rnnjax import GRU
        >>> gru = GRU(features=4, bidirectional=True)
        >>> params = gru.init(jax.random.key(0), jnp.ones((1, 1, 3)))["params"]
        >>> import onnx
        >>> graph = onnx.load_model_from_string(to_onnx(gru, params)).graph
        >>> [output.name for output in graph.output]
        ['ys', 'carry_0', 'carry_1']

    Source:
        https://onnx.ai/onnx/operators, LSTM, GRU, RNN and Scan.
    """
    if type(module) not in write.registry:
        known = sorted(kind.__name__ for kind in write.registry if kind is not object)
        raise TypeError(
            f"{type(module).__name__} cannot be written as ONNX; expected one of "
            f"{', '.join(known)} (a lesson's model needs import rnnjax.onnx.lessons)"
        )
    graph = Graph()
    write(module, params, graph, initial_carry)
    return graph.to_bytes(type(module).__name__)


@functools.singledispatch
def write(module: nn.Module, params: Params, graph: Graph, initial_carry: Any) -> None:
    """Write a module's inputs, nodes and outputs into a graph, see :func:`to_onnx`."""
    raise NotImplementedError


def check_params(
    module: nn.Module, params: Params, inputs: jax.ShapeDtypeStruct
) -> None:
    """Refuse parameters that are not the module's.

    Args:
        module: The module.
        params: Its parameters, perhaps.
        inputs: Of the shape and type that it is called with.

    Raises:
        ValueError: If one is missing, extra or misshapen; all of them are listed.
    """
    variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
    expected, given = (
        {path: np.shape(leaf) for path, leaf in flatten_dict(tree, sep="/").items()}
        for tree in (variables["params"], params)
    )
    check_entries(expected, given, f"the parameters of {type(module).__name__}")


def _add_inputs(module, params, graph, *first):
    """``(inputs, batch)`` of a module whose first kernel is at that place."""
    kernel = flatten_dict(params).get((*first, "cell", "ih", "kernel"))
    width = kernel.shape[0] if np.ndim(kernel) == 2 else 1
    shape = (1, 1, width)
    check_params(module, params, jax.ShapeDtypeStruct(shape, np.float32))
    inputs = graph.input("inputs", np.float32, ("batch", "time", width))
    seq_lengths = graph.input("seq_lengths", np.int32, ("batch",))
    batch = batch_of(graph, inputs)
    return inputs, batch._replace(real=real_steps(graph, batch, seq_lengths))


@write.register(Elman)
@write.register(GRU)
@write.register(LSTM)
@write.register(LayerNormGRU)
@write.register(LayerNormLSTM)
def _(module: Stack, params: Params, graph: Graph, initial_carry: Any) -> None:
    inputs, batch = _add_inputs(module, params, graph, module.layer_names()[0])
    zeros = stack_zeros(module)
    initial = optional_carry(graph, start_of(zeros, initial_carry))
    carry, ys = run_stack(graph, "", module, params, inputs, batch, initial)
    directions = 2 if module.bidirectional else 1
    width = directions * jax.tree.leaves(zeros)[0].shape[-1]
    graph.output("ys", ys, np.float32, ("batch", "time", width))
    output_carry(graph, carry, zeros)


@write.register
def _(module: Recurrent, params: Params, graph: Graph, initial_carry: Any) -> None:
    check_cell(module.cell)
    inputs, batch = _add_inputs(module, params, graph)
    zeros = zero_row(module.cell)
    initial = optional_carry(graph, start_of(zeros, initial_carry))
    carry, ys = run_recurrent(graph, "cell", module, params, inputs, batch, initial)
    width = jax.tree.leaves(zeros)[0].shape[-1]
    graph.output("ys", ys, np.float32, ("batch", "time", width))
    output_carry(graph, carry, zeros)
