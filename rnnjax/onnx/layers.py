"""Maps and attention as parts of an ONNX graph."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnjax.onnx.graph import Graph, Value

Params = Mapping[str, Any]


def array(params: Params, name: str) -> np.ndarray:
    """A parameter in float32."""
    return np.asarray(params[name], np.float32)


def linear(x: Value, params: Params) -> Value:
    """``x @ kernel + bias``."""
    return plus_bias(x @ array(params, "kernel"), params)


def plus_bias(x: Value, params: Params) -> Value:
    """What has a bias, with it."""
    return x + array(params, "bias") if "bias" in params else x


def one_hot(graph: Graph, tokens: Value, vocab_size: int) -> Value:
    """Tokens ``(…)`` as vectors ``(…, vocab_size)``; one outside gives zeros."""
    return rows(graph, tokens, np.eye(vocab_size, dtype=np.float32))


def rows(graph: Graph, tokens: Value, kernel: np.ndarray) -> Value:
    """``one_hot(tokens) @ kernel``: rows of the kernel; a token outside gives zeros."""
    zeros = np.int64(len(kernel))
    tokens = graph.where(tokens < np.int64(0), zeros, tokens)
    table = np.concatenate([kernel, np.zeros_like(kernel[:1])])
    return graph.add("Gather", table, graph.add("Min", tokens, zeros))


def sigmoid(x: Value) -> Value:
    """From 0 to 1."""
    return x.graph.add("Sigmoid", x)


def tanh(x: Value) -> Value:
    """From -1 to 1."""
    return x.graph.add("Tanh", x)


def relu(x: Value) -> Value:
    """What is above 0."""
    return x.graph.add("Relu", x)


def norm(x: Value, params: Params) -> Value:
    """Layer normalisation over the last axis, with PyTorch's epsilon."""
    deviation = x - _mean(x)
    variance = _mean(deviation * deviation)
    y = deviation / x.graph.add("Sqrt", variance + np.float32(1e-5))
    return plus_bias(y * array(params, "scale"), params)


def _mean(x: Value) -> Value:
    return x.graph.add("ReduceMean", x, axes=[-1])


def attention_pooling(
    graph: Graph, params: Params, states: Value, mask: Value
) -> tuple[Value, Value]:
    """:class:`rnnjax.AttentionPooling`.

    Args:
        graph: Gets the nodes.
        params: Its parameters.
        states: ``(batch, time, features)``, zeros where the mask is False.
        mask: ``(batch, time)``.

    Returns:
        The mean ``(batch, features)`` and the weights ``(batch, time)``.
    """
    scores = graph.squeeze(linear(states, params["score"]), 2)
    lowest, zero = np.finfo(np.float32).min, np.float32(0)
    highest = graph.add("ReduceMax", graph.where(mask, scores, lowest), axes=[1])
    # Zeroed before the exponential, which a row without steps would make infinite.
    above = graph.where(mask, scores - highest, zero)
    shares = graph.where(mask, graph.add("Exp", above), zero)
    total = graph.add("ReduceSum", shares, np.array([1]))
    weights = shares / graph.add("Max", total, np.finfo(np.float32).tiny)
    return graph.squeeze(graph.unsqueeze(weights, 1) @ states, 1), weights
