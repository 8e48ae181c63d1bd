"""The lessons' models as ONNX graphs; importing this teaches them to ``to_onnx``.

Each takes ``tokens (batch, time)`` int64; -1 and whatever is no token of the model is
the zero vector. A classifier takes ``seq_lengths (batch,)`` int32 too and returns
``logits (batch, num_classes)``, one with attention also ``attention (batch, time)``. It
starts from the initial carry that ``to_onnx`` is given. A language model returns
``logits (batch, time, vocab_size)``; it takes ``initial_carry_0`` and so on, zeros at
the beginning of a text, and returns ``carry_0`` and so on, which the next call takes.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from rnnjax.cells import ElmanCell, SumCell, hidden
from rnnjax.lessons import (
    STACKS,
    AllStatesClassifier,
    AttentionClassifier,
    BidirectionalClassifier,
    CharLM,
    DropoutClassifier,
    JointClassifier,
    MLPClassifier,
    NameClassifier,
    PaddedClassifier,
    PreviousStateClassifier,
    StackClassifier,
)
from rnnjax.onnx.cells import check_attributes
from rnnjax.onnx.export import check_params, write
from rnnjax.onnx.graph import Graph, Value
from rnnjax.onnx.layers import (
    Params,
    array,
    attention_pooling,
    linear,
    one_hot,
    plus_bias,
    relu,
    rows,
)
from rnnjax.onnx.recurrent import (
    Batch,
    RealSteps,
    batch_of,
    constant_carry,
    output_carry,
    real_steps,
    required_carry,
    run_recurrent,
    run_stack,
    stack_zeros,
    start_of,
    zero_row,
)
from rnnjax.recurrent import GRU, Elman, Recurrent, Stack

SIZES = ("vocab_size", "hidden_size", "num_classes")

NONE = np.int64(-1)
"""The token that is the zero vector."""


class Names(NamedTuple):
    """A batch of names.

    Attributes:
        tokens: ``(batch, time)``.
        batch: Their sizes.
        real: Their characters.
    """

    tokens: Value
    batch: Batch
    real: RealSteps


def names(
    module: NameClassifier, params: Params, graph: Graph, *attributes: str
) -> Names:
    """The two inputs of a classifier, whose attributes and parameters are checked."""
    check(module, params, *SIZES, *attributes)
    tokens = graph.input("tokens", np.int64, ("batch", "time"))
    seq_lengths = graph.input("seq_lengths", np.int32, ("batch",))
    batch = batch_of(graph, tokens)
    real = real_steps(graph, batch, seq_lengths)
    return Names(tokens, batch._replace(real=real), real)


def check(module: Any, params: Params, *attributes: str) -> None:
    """Refuse attributes that the graph does not follow, and parameters of others."""
    check_attributes(module, *attributes)
    check_params(module, params, jax.ShapeDtypeStruct((1, 1), np.int32))


def run_cell(
    graph: Graph,
    module: Any,
    name: str,
    cell: Any,
    params: Params,
    tokens: Value,
    batch: Batch,
    given: Any,
) -> tuple[Any, Value]:
    """A model's cell over its tokens; ``given`` is its initial carry."""
    inputs = one_hot(graph, tokens, module.vocab_size)
    start = constant_carry(graph, start_of(zero_row(cell), given))
    return run_recurrent(
        graph, name, Recurrent(cell), params[name], inputs, batch, start
    )


def run_layers(
    graph: Graph,
    name: str,
    stack: Stack,
    params: Params,
    inputs: Value,
    batch: Batch,
    given: Any,
) -> tuple[Any, Value]:
    """A model's stack over vectors; ``given`` is its initial carry."""
    start = constant_carry(graph, start_of(stack_zeros(stack), given))
    return run_stack(graph, f"{name}.", stack, params[name], inputs, batch, start)


def put_logits(graph: Graph, module: NameClassifier, logits: Value) -> None:
    """The output that every classifier has."""
    graph.output("logits", logits, np.float32, ("batch", module.num_classes))


def put_attention(graph: Graph, weights: Value) -> None:
    """The output of a classifier that looks at some characters more than at others."""
    graph.output("attention", weights, np.float32, ("batch", "time"))


def joint_cell(module: NameClassifier, activation: Any) -> ElmanCell:
    """The lessons' cell with one bias."""
    return ElmanCell(
        module.hidden_size, hh_bias=False, activation=activation, parent=None
    )


@write.register(JointClassifier)
def _(module, params, graph, initial_carry):
    tokens, batch, _ = names(module, params, graph, "activation")
    cell = joint_cell(module, module.activation)
    carry, _ = run_cell(
        graph, module, "i2h", cell, params, tokens, batch, initial_carry
    )
    put_logits(graph, module, linear(carry, params["h2o"]))


@write.register(StackClassifier)
def _(module, params, graph, initial_carry):
    tokens, batch, _ = names(module, params, graph, "kind", "num_layers", "head")
    stack = STACKS[module.kind](
        module.hidden_size, num_layers=module.num_layers, parent=None
    )
    inputs = one_hot(graph, tokens, module.vocab_size)
    carry, _ = run_layers(
        graph, module.kind, stack, params, inputs, batch, initial_carry
    )
    last: Any = hidden(carry[-1])
    put_logits(graph, module, linear(last, params[module.head]))


@write.register(AttentionClassifier)
def _(module, params, graph, initial_carry):
    tokens, batch, real = names(module, params, graph)
    stack = GRU(module.hidden_size, parent=None)
    inputs = one_hot(graph, tokens, module.vocab_size)
    _, states = run_layers(graph, "gru", stack, params, inputs, batch, initial_carry)
    summary, weights = attention_pooling(graph, params["att"], states, real.mask)
    put_logits(graph, module, linear(summary, params["h2o"]))
    put_attention(graph, weights)


@write.register(PreviousStateClassifier)
def _(module, params, graph, initial_carry):
    tokens, batch, real = names(module, params, graph, "activation")
    one = np.int32(1)
    before = graph.add("Max", real.seq_lengths - one, np.int32(0))
    shorter = batch._replace(real=real_steps(graph, batch, before))
    carry, _ = run_cell(
        graph,
        module,
        "in2hidden",
        joint_cell(module, module.activation),
        params,
        tokens,
        shorter,
        initial_carry,
    )
    place = graph.unsqueeze(graph.cast(before, np.int64), 1)
    last = graph.squeeze(graph.add("GatherElements", tokens, place, axis=1), 1)
    last = graph.where(real.seq_lengths < one, NONE, last)
    head = params["in2output"]
    logits = rows(graph, last, array(head["ih"], "kernel")) + linear(carry, head["hh"])
    put_logits(graph, module, plus_bias(logits, head["ih"]))


def zero_padded(
    module: PaddedClassifier, graph: Graph, given: Names
) -> tuple[Value, Batch]:
    """All names with ``max_length`` steps, of which all count; longer ones fail."""
    tokens, batch, real = given
    missing = np.array([module.max_length]) - batch.time
    shape = graph.add("Concat", batch.size, missing, axis=0)
    padding = graph.add("Expand", np.array([[NONE]]), shape)
    tokens = graph.where(real.mask, tokens, NONE)
    tokens = graph.add("Concat", tokens, padding, axis=1)
    return tokens, batch_of(graph, tokens)


def flat(graph: Graph, states: Value, module: PaddedClassifier) -> Value:
    """All states of a name, side by side."""
    width = module.max_length * module.hidden_size
    return graph.add("Reshape", states, np.array([0, width]))


PADDED = ("max_length", "mlp_size")


@write.register(MLPClassifier)
def _(module, params, graph, initial_carry):
    start_of((), initial_carry)
    tokens, _ = zero_padded(module, graph, names(module, params, graph, *PADDED))
    # Step t owns the rows from t * vocab_size on.
    first = np.arange(module.max_length) * module.vocab_size
    inside = graph.where(tokens < np.int64(module.vocab_size), tokens + first, NONE)
    index = graph.where(tokens < np.int64(0), NONE, inside)
    x = rows(graph, index, array(params["mlp_0"]["linear"], "kernel"))
    x = plus_bias(
        graph.add("ReduceSum", x, np.array([1]), keepdims=0), params["mlp_0"]["linear"]
    )
    x = linear(relu(x), params["mlp_2"])
    put_logits(graph, module, linear(relu(x), params["mlp_4"]))


@write.register(AllStatesClassifier)
def _(module, params, graph, initial_carry):
    given = names(module, params, graph, *PADDED)
    tokens, batch = zero_padded(module, graph, given)
    cell = SumCell(module.hidden_size, parent=None)
    _, states = run_cell(graph, module, "W", cell, params, tokens, batch, initial_carry)
    x = relu(linear(flat(graph, states, module), params["Wy"]))
    put_logits(graph, module, linear(x, params["output_layer"]))


@write.register(DropoutClassifier)
def _(module, params, graph, initial_carry):
    given = names(module, params, graph, *PADDED, "num_layers")
    tokens, batch = zero_padded(module, graph, given)
    stack = Elman(module.hidden_size, num_layers=module.num_layers, parent=None)
    inputs = one_hot(graph, tokens, module.vocab_size)
    _, states = run_layers(graph, "rnn", stack, params, inputs, batch, initial_carry)
    x = relu(linear(flat(graph, states, module), params["linear_layer"]))
    put_logits(graph, module, linear(x, params["output_layer"]))


@write.register(BidirectionalClassifier)
def _(module, params, graph, initial_carry):
    given = names(module, params, graph, "embedding_size")
    _, batch, real = given
    window = params["window"]["linear"]
    x = relu(plus_bias(with_neighbours(graph, given, window), window))
    stack = GRU(module.hidden_size, bidirectional=True, parent=None)
    carry, states = run_layers(graph, "gru", stack, params, x, batch, initial_carry)
    mean, weights = attention_pooling(graph, params["att"], states, real.mask)
    # States lie in (-1, 1), so that padding, at -1, is never the maximum.
    inside = graph.where(graph.unsqueeze(real.mask, 2), states, np.float32(-1))
    highest = graph.add("ReduceMax", inside, axes=[1], keepdims=0)
    summary = graph.add("Concat", *carry, mean, highest, axis=-1)
    put_logits(graph, module, linear(summary, params["fc"]))
    put_attention(graph, weights)


def with_neighbours(graph: Graph, given: Names, window: Params) -> Value:
    """The map of every token and its two neighbours, without its bias."""
    tokens, batch, real = given
    tokens = graph.where(real.mask, tokens, NONE)
    shape = graph.add("Concat", batch.size, np.array([1]), axis=0)
    edge = graph.add("Expand", np.array([[NONE]]), shape)
    axis, end = np.array([1]), np.array([np.iinfo(np.int64).max])
    but_last = graph.add("Slice", tokens, np.array([0]), np.array([-1]), axis)
    but_first = graph.add("Slice", tokens, np.array([1]), end, axis)
    left = graph.add("Concat", edge, but_last, axis=1)
    right = graph.add("Concat", but_first, edge, axis=1)
    before, here, after = np.split(array(window, "kernel"), 3)
    return (
        rows(graph, left, before)
        + rows(graph, tokens, here)
        + rows(graph, right, after)
    )


@write.register(CharLM)
def _(module, params, graph, initial_carry):
    if initial_carry is not None:
        raise ValueError(
            "a CharLM is given its initial carry by whoever runs the file; leave "
            "initial_carry out"
        )
    sizes = ("vocab_size", "hidden_size", "mlp_size", "num_layers", "kind")
    check(module, params, *sizes)
    tokens = graph.input("tokens", np.int64, ("batch", "time"))
    stack = STACKS[module.kind](
        module.hidden_size, num_layers=module.num_layers, parent=None
    )
    carry, x = run_stack(
        graph,
        f"{module.kind}.",
        stack,
        params[module.kind],
        one_hot(graph, tokens, module.vocab_size),
        batch_of(graph, tokens),
        required_carry(graph, stack_zeros(stack)),
    )
    if module.mlp_size is None:
        logits = linear(x, params["h2o"])
    else:
        logits = linear(relu(linear(x, params["mlp_0"])), params["mlp_3"])
    shape = ("batch", "time", module.vocab_size)
    graph.output("logits", logits, np.float32, shape)
    output_carry(graph, carry, stack_zeros(stack))
