"""Cells over time and stacks of them in ONNX, with rnnjax's meaning of padding.

ONNX's own LSTM, GRU and RNN keep to the lengths of the rows, but a row without steps
loses its initial carry there; here it keeps it. A cell that ONNX lacks is a Scan over
its equations.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from rnnjax.cells import hidden
from rnnjax.onnx.cells import check_attributes, operator, step
from rnnjax.onnx.graph import Graph, Value
from rnnjax.onnx.layers import Params, array, linear
from rnnjax.recurrent import Recurrent, Stack


class RealSteps(NamedTuple):
    """Which steps are no padding.

    Attributes:
        seq_lengths: ``(batch,)`` int32, from 0 to time.
        mask: ``(batch, time)``, True at real steps.
    """

    seq_lengths: Value
    mask: Value


class Batch(NamedTuple):
    """What is run side by side.

    Attributes:
        size: ``(1,)`` int64 number of rows.
        time: ``(1,)`` int64 number of steps.
        real: Its real steps; None is all.
    """

    size: Value
    time: Value
    real: RealSteps | None = None


def batch_of(graph: Graph, inputs: Value) -> Batch:
    """The batch with these inputs ``(batch, time, …)``, all of whose steps count."""
    size = graph.size(inputs, 0)
    # At no rows onnxruntime's LSTM and GRU would end the process; to look at the first
    # of them fails before that.
    zeros = graph.add("Expand", np.array([0]), size)
    size = size + graph.add("Gather", zeros, np.array([0]))
    return Batch(size, graph.size(inputs, 1))


def real_steps(graph: Graph, batch: Batch, seq_lengths: Value) -> RealSteps:
    """The steps within these lengths ``(batch,)``."""
    steps = graph.squeeze(graph.cast(batch.time, np.int32), 0)
    # onnxruntime refuses what lies outside; here it is all steps, or none.
    seq_lengths = graph.add("Max", seq_lengths, np.int32(0))
    seq_lengths = graph.add("Min", seq_lengths, steps)
    places = graph.add("Range", np.int32(0), steps, np.int32(1))
    return RealSteps(seq_lengths, places < graph.unsqueeze(seq_lengths, 1))


def zero_row(cell: nn.Module) -> Any:
    """A carry of zeros for one row."""
    zeros = cell.initialize_carry(jax.random.key(0), (1, 1))
    return jax.tree.map(np.asarray, zeros)


def start_of(zeros: Any, given: Any) -> Any:
    """The carry of one row that a run starts from.

    Args:
        zeros: A carry of one row.
        given: The carry wanted; None is zeros.

    Returns:
        A carry of float32 arrays ``(1, features)``.

    Raises:
        ValueError: If what is given has other shapes than a carry of one row.
    """
    if given is None:
        return zeros
    shapes, expected = (jax.tree.map(np.shape, carry) for carry in (given, zeros))
    structures = {jax.tree.structure(carry) for carry in (given, zeros)}
    if len(structures) > 1 or shapes != expected:
        raise ValueError(
            f"initial_carry has shapes {shapes}; expected those of one row, {expected}"
        )
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), given)


def constant_carry(graph: Graph, start: Any) -> Any:
    """A carry of one row as values that no caller can change."""
    return jax.tree.map_with_path(
        lambda path, leaf: graph.weight(leaf_name("initial_carry", path), leaf), start
    )


def optional_carry(graph: Graph, start: Any) -> Any:
    """Inputs ``(1 or batch, features)``, of one row's carry where they are left out."""
    jax.tree.map_with_path(functools.partial(_carry_input, graph, "start"), start)
    return constant_carry(graph, start)


def required_carry(graph: Graph, zeros: Any) -> Any:
    """Inputs ``(batch, features)`` in the shapes of a carry."""
    add = functools.partial(_carry_input, graph, "batch")
    return jax.tree.map_with_path(add, zeros)


def _carry_input(graph, rows, path, leaf):
    name = leaf_name("initial_carry", path)
    return graph.input(name, np.float32, (rows, leaf.shape[-1]))


def output_carry(graph: Graph, carry: Any, zeros: Any) -> None:
    """Outputs for a final carry."""

    def put(path, value, zero):
        shape = ("batch", zero.shape[-1])
        graph.output(leaf_name("carry", path), value, np.float32, shape)

    jax.tree.map_with_path(put, carry, zeros)


def leaf_name(name: str, path: Any) -> str:
    """A name for an array of a carry: ``carry``, or ``carry_0_h``."""
    place = jax.tree_util.keystr(path, simple=True, separator="_")
    return f"{name}_{place}" if place else name


def stack_zeros(stack: Stack) -> tuple[Any, ...]:
    """Carries of zeros for one row, as the stack has them."""
    return tuple(zero_row(stack._cell()) for _ in stack.layer_names())


def run_stack(
    graph: Graph,
    name: str,
    stack: Stack,
    params: Params,
    inputs: Value,
    batch: Batch,
    initial: Sequence[Any],
) -> tuple[tuple[Any, ...], Value]:
    """A stack over a batch.

    Args:
        graph: Gets the nodes.
        name: What the names of its weights begin with.
        stack: The layers.
        params: Their parameters.
        inputs: ``(batch, time, input)``.
        batch: Its real steps.
        initial: A carry for each layer and direction, ``(1 or batch, features)``.

    Returns:
        The final carries in the same order, and the outputs ``(batch, time,
        features)``.
    """
    own = ("features", "num_layers", "bidirectional")
    # The cell says which of its own attributes it cannot do.
    check_attributes(stack, *own, "use_bias", *stack._cell_options())
    names = stack.layer_names()
    directions = 2 if stack.bidirectional else 1
    xs, carries = graph.swap(inputs), []
    for first in range(0, len(names), directions):
        here = slice(first, first + directions)
        weights = [params[part]["cell"] for part in names[here]]
        where = f"{name}{names[first]}"
        finals, xs = _run_layer(
            graph, where, stack._cell(), weights, xs, batch, initial[here]
        )
        carries += finals
    return tuple(carries), graph.swap(xs)


def run_recurrent(
    graph: Graph,
    name: str,
    recurrent: Recurrent,
    params: Params,
    inputs: Value,
    batch: Batch,
    initial: Any,
) -> tuple[Any, Value]:
    """One cell over a batch, see :func:`run_stack`."""
    check_attributes(recurrent, "cell", "reverse")
    xs, weights = graph.swap(inputs), [params["cell"]]
    (carry,), ys = _run_layer(
        graph, name, recurrent.cell, weights, xs, batch, [initial], recurrent.reverse
    )
    return carry, graph.swap(ys)


def _run_layer(graph, name, cell, params, xs, batch, initial, reverse=False):
    """A layer of one direction, or of both, over ``(time, batch, input)``."""

    def for_all(start, zero):
        shape = graph.add("Concat", batch.size, np.array(zero.shape[-1:]), axis=0)
        return graph.add("Expand", start, shape)

    zeros = zero_row(cell)
    initial = [jax.tree.map(for_all, carry, zeros) for carry in initial]
    own = operator(cell)
    if own is not None:
        return _run_operator(graph, name, own, params, xs, batch, initial, reverse)
    backwards = [reverse] if len(params) == 1 else [False, True]
    runs = [
        _run_steps(graph, cell, weights, xs, batch, carry, direction)
        for weights, carry, direction in zip(params, initial, backwards, strict=True)
    ]
    ys = graph.add("Concat", *(ys for _, ys in runs), axis=-1)
    return [carry for carry, _ in runs], ys


def _run_operator(graph, name, own, params, xs, batch, initial, reverse):
    """The layer as a node of ONNX's, which has one direction or both."""

    def in_order(rows):
        gates = np.split(rows, len(own.order))
        return np.concatenate([gates[gate] for gate in own.order])

    def weight(part):
        return np.stack([in_order(array(p[part], "kernel").T) for p in params])

    def biases(weights):
        zeros = np.zeros(weights["hh"]["kernel"].shape[1], np.float32)
        pair = [weights[part].get("bias", zeros) for part in ("ih", "hh")]
        return np.concatenate([in_order(np.asarray(b, np.float32)) for b in pair])

    recurrent = weight("hh")
    features = recurrent.shape[-1]
    bias = None
    if "bias" in params[0]["ih"]:
        bias = graph.weight(f"{name}.B", np.stack([biases(p) for p in params]))
    starts = [
        graph.add("Concat", *(graph.unsqueeze(row, 0) for row in rows), axis=0)
        for rows in zip(*map(jax.tree.leaves, initial), strict=True)
    ]
    direction = "reverse" if reverse else "forward"
    if len(params) == 2:
        direction = "bidirectional"
    ys, *finals = graph.add_many(
        own.name,
        1 + len(starts),
        xs,
        graph.weight(f"{name}.W", weight("ih")),
        graph.weight(f"{name}.R", recurrent),
        bias,
        None if batch.real is None else batch.real.seq_lengths,
        *starts,
        hidden_size=features,
        direction=direction,
        **{name: [value] * len(params) for name, value in own.by_direction.items()},
        **own.attributes,
    )
    if batch.real is not None:
        # onnxruntime's final carry of a row without steps is zeros.
        empty = graph.unsqueeze(batch.real.seq_lengths, 1) < np.int32(1)
        finals = [
            graph.where(empty, start, final)
            for start, final in zip(starts, finals, strict=True)
        ]
    by_direction = [graph.split(final, len(params), axis=0) for final in finals]
    structure = jax.tree.structure(initial[0])
    carries = [
        jax.tree.unflatten(structure, [graph.squeeze(leaf, 0) for leaf in leaves])
        for leaves in zip(*by_direction, strict=True)
    ]
    # (time, directions, batch, features)
    ys = graph.add("Transpose", ys, perm=[0, 2, 1, 3])
    width = len(params) * features
    return carries, graph.add("Reshape", ys, np.array([0, 0, width]))


def _run_steps(graph, cell, params, xs, batch, initial, reverse):
    """One direction of the layer as a loop over the cell's equations."""
    body, zeros = graph.body(), zero_row(cell)
    scanned = [linear(xs, params["ih"])]
    if batch.real is not None:
        # (time, batch, 1)
        scanned.append(graph.swap(graph.unsqueeze(batch.real.mask, 2)))
    before = jax.tree.map(
        lambda zero: body.input(None, np.float32, ("batch", zero.shape[-1])), zeros
    )
    ih = body.input(None, np.float32, ("batch", "gates"))
    after = step(cell, body, params, before, ih)
    y = hidden(after)
    if batch.real is not None:
        real = body.input(None, np.bool_, ("batch", 1))
        after = jax.tree.map(functools.partial(body.where, real), after, before)
        y = body.where(real, y, np.float32(0))
    for value, zero in zip(
        [*jax.tree.leaves(after), y],
        [*jax.tree.leaves(zeros), hidden(zeros)],
        strict=True,
    ):
        body.output(None, value, np.float32, ("batch", zero.shape[-1]))
    leaves, structure = jax.tree.flatten(initial)
    *finals, ys = graph.add_many(
        "Scan",
        len(leaves) + 1,
        *leaves,
        *scanned,
        body=body.as_attribute(),
        num_scan_inputs=len(scanned),
        scan_input_directions=[int(reverse)] * len(scanned),
        scan_output_directions=[int(reverse)],
    )
    return jax.tree.unflatten(structure, finals), ys
