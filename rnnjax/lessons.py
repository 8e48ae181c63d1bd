"""Whole models: classifiers of names, and a character language model.

Every classifier is called as ``model.apply({"params": params}, tokens, seq_lengths,
initial_carry)`` and returns logits. What else happened inside comes out through Flax's
``sow``: with ``mutable=["intermediates"]`` the collection holds ``states`` (the outputs
of every step), ``carry`` (the final carry) and, with attention, ``attention``; under
the name of each recurrent layer ``carries`` and ``gates``, see
:class:`rnnjax.Recurrent`.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.affine import rows
from rnnjax.attention import AttentionPooling
from rnnjax.cells import ElmanCell, SumCell
from rnnjax.dropout import Dropout
from rnnjax.equations import Activation, Carry, hidden
from rnnjax.linear import Linear, torch_uniform
from rnnjax.loops import Backend
from rnnjax.masks import length_mask
from rnnjax.random.dropout_masks import TIME_BY_TIME, dropout_masks, numbered
from rnnjax.random.generator import TorchGenerator
from rnnjax.recurrent import GRU, LSTM, Elman, Recurrent, Stack
from rnnjax.weights.torch import (
    Entry,
    joint_entries,
    linear_entries,
    other_names,
    stack_entries,
    torch_layout,
    unused_names,
)

Kind = Literal["rnn", "gru", "lstm"]

STACKS: dict[str, type[Stack]] = {"rnn": Elman, "gru": GRU, "lstm": LSTM}


def stack_type(kind: str) -> type[Stack]:
    """The stack of this kind.

    Raises:
        ValueError: If it is not one of rnn, gru, lstm.

    Example:
        >>> stack_type("gru").__name__
        'GRU'
    """
    if kind not in STACKS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(STACKS)}")
    return STACKS[kind]


def joint_cell(
    features: int,
    activation: Activation,
    vocab_size: int,
    dtype: jnp.dtype | None = None,
) -> ElmanCell:
    """An Elman cell that is one ``nn.Linear`` on the input and the hidden, joined.

    Args:
        features: Width of the hidden vector.
        activation: A name or a function, as in :class:`rnnjax.ElmanCell`.
        vocab_size: Width of the (one-hot) input.
        dtype: Type of the operands of the products; None is float32.

    Returns:
        A cell with one bias and ``torch.nn.Linear(vocab_size + features, features)``'s
        initialisation, as the lessons' hand-made cells have.
    """
    init = torch_uniform(vocab_size + features)
    return ElmanCell(
        features,
        hh_bias=False,
        ih_init=init,
        hh_init=init,
        bias_init=init,
        vocab_size=vocab_size,
        activation=activation,
        dtype=dtype,
        parent=None,
    )


class NameClassifier(nn.Module):
    """The base of every classifier; see the module's docstring for the call.

    Attributes:
        vocab_size: Number of different characters.
        hidden_size: Width of the hidden vector.
        num_classes: Number of classes.
        dtype: Type of the operands of the products (say bfloat16); parameters, carries
            and results stay float32.
        backend: What runs the steps, see :class:`rnnjax.Recurrent`.

    Args:
        tokens: ``(*batch, time)`` characters; what stands in the padding is ignored.
        seq_lengths: ``(*batch,)`` number of characters; None is all.
        initial_carry: What the recurrence starts from; None is zeros.
        deterministic: False switches dropout on; it needs ``rngs={"dropout": key}``.

    Returns:
        Logits ``(*batch, num_classes)``.
    """

    vocab_size: int
    hidden_size: int
    num_classes: int
    dtype: jnp.dtype | None = None
    backend: Backend = "scan"

    def __call__(
        self,
        tokens: jax.Array,
        seq_lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        raise NotImplementedError

    def sow_run(self, carry: Carry, states: jax.Array) -> None:
        """Put the final carry and the states among the intermediates."""
        self.sow("intermediates", "carry", carry)
        self.sow("intermediates", "states", states)


class JointClassifier(NameClassifier):
    """Lessons 000 and 001: a hand-made cell, then the class from the last state.

    Attributes:
        activation: ``identity`` in lesson 000, whose cell has none; ``tanh`` in 001.
    """

    activation: Activation = "tanh"

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        seq_lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        cell = joint_cell(
            self.hidden_size, self.activation, self.vocab_size, self.dtype
        )
        recurrent = Recurrent(cell, backend=self.backend, name="i2h")
        carry, states = recurrent(tokens, seq_lengths, initial_carry)
        self.sow_run(carry, states)
        return Linear(self.num_classes, dtype=self.dtype, name="h2o")(carry)


@torch_layout.register
def _(module: JointClassifier) -> list[Entry]:
    return joint_entries("i2h", "i2h/cell") + linear_entries("h2o", "h2o")


class StackClassifier(NameClassifier):
    """Lessons 000, 001 and 003: a torch.nn stack, then the class from the last state.

    Attributes:
        kind: ``rnn``, ``gru`` or ``lstm``.
        num_layers: Number of layers.
        head: Name of the last map: ``h2o`` in lessons 000 and 001, ``fc`` in 003.
    """

    kind: Kind = "gru"
    num_layers: int = 1
    head: str = "h2o"

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        seq_lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        stack = stack_type(self.kind)(
            self.hidden_size,
            num_layers=self.num_layers,
            vocab_size=self.vocab_size,
            dtype=self.dtype,
            backend=self.backend,
            name=self.kind,
        )
        carry, states = stack(tokens, seq_lengths, initial_carry)
        self.sow_run(carry, states)
        return Linear(self.num_classes, dtype=self.dtype, name=self.head)(
            hidden(carry[-1])
        )


@torch_layout.register
def _(module: StackClassifier) -> list[Entry]:
    return stack_entries(module.kind, module.num_layers) + linear_entries(
        module.head, module.head
    )


class AttentionClassifier(NameClassifier):
    """Lesson 001: a GRU, attention over its states, then the class."""

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        seq_lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        gru = GRU(
            self.hidden_size,
            vocab_size=self.vocab_size,
            dtype=self.dtype,
            backend=self.backend,
            name="gru",
        )
        carry, states = gru(tokens, seq_lengths, initial_carry)
        mask = None
        if seq_lengths is not None:
            mask = length_mask(seq_lengths, tokens.shape[-1])
        summary, weights = AttentionPooling(name="att")(states, mask)
        self.sow_run(carry, states)
        self.sow("intermediates", "attention", weights)
        return Linear(self.num_classes, dtype=self.dtype, name="h2o")(summary)


@torch_layout.register
def _(module: AttentionClassifier) -> list[Entry]:
    return (
        stack_entries("gru", 1)
        + linear_entries("h2o", "h2o")
        + linear_entries("att", "att/score")
    )


class PreviousStateClassifier(NameClassifier):
    """Lesson 003: a sigmoid cell; the class from the last character and the state
    *before* it.

    The lesson starts every name from a random state, ``initial_carry``. A name without
    characters has its class from the initial state alone.

    Attributes:
        activation: ``sigmoid`` in the lesson; ``identity`` is the cell of PyTorch's
            classic tutorial.
    """

    activation: Activation = "sigmoid"

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        seq_lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        if seq_lengths is None:
            seq_lengths = jnp.full(tokens.shape[:-1], tokens.shape[-1])
        cell = joint_cell(
            self.hidden_size, self.activation, self.vocab_size, self.dtype
        )
        before = jnp.maximum(seq_lengths - 1, 0)
        # The state after the last character is never used, so it is not computed.
        recurrent = Recurrent(cell, backend=self.backend, name="in2hidden")
        carry, states = recurrent(tokens, before, initial_carry)
        self.sow_run(carry, states)
        last = jnp.take_along_axis(tokens, before[..., None], axis=-1)[..., 0]
        last = jnp.where(seq_lengths > 0, last, -1)
        head = JointLinear(
            self.num_classes, self.vocab_size, self.dtype, name="in2output"
        )
        return head(last, carry)


@torch_layout.register
def _(module: PreviousStateClassifier) -> list[Entry]:
    return joint_entries("in2hidden", "in2hidden/cell") + joint_entries(
        "in2output", "in2output"
    )


@other_names.register
def _(module: PreviousStateClassifier) -> dict[str, str]:
    # Those of PyTorch's own tutorial on names, whose cell has activation="identity".
    return {
        f"{theirs}.{part}": f"{ours}.{part}"
        for theirs, ours in (("i2h", "in2hidden"), ("i2o", "in2output"))
        for part in ("weight", "bias")
    }


class JointLinear(nn.Module):
    """One ``nn.Linear`` on tokens and a vector, joined.

    Attributes:
        features: Number of outputs.
        vocab_size: Number of different tokens.
        dtype: Type of the operands of the products; None is float32.

    Args:
        tokens: ``(*batch,)``.
        h: ``(*batch, hidden)``.

    Returns:
        ``(*batch, features)``.
    """

    features: int
    vocab_size: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, tokens: jax.Array, h: jax.Array) -> jax.Array:
        init = torch_uniform(self.vocab_size + h.shape[-1])
        ih = Linear(
            self.features,
            kernel_init=init,
            bias_init=init,
            vocab_size=self.vocab_size,
            name="ih",
        )
        hh = Linear(
            self.features,
            use_bias=False,
            kernel_init=init,
            dtype=self.dtype,
            name="hh",
        )
        return ih(tokens) + hh(h)


class PaddedClassifier(NameClassifier):
    """What lesson 004's models share: every name has ``max_length`` steps.

    Padding is a zero vector and counts as a step, so that ``seq_lengths`` only says
    where the zero vectors begin.

    Attributes:
        max_length: Number of steps of every name; longer ones are an error.
        mlp_size: Width of the layer before the last.
    """

    max_length: int = 18
    mlp_size: int = 256

    def zero_padded(
        self, tokens: jax.Array, seq_lengths: jax.Array | None
    ) -> jax.Array:
        """Tokens ``(*batch, max_length)``, -1 (the zero vector) at padding."""
        missing = self.max_length - tokens.shape[-1]
        if missing < 0:
            raise ValueError(
                f"tokens have {tokens.shape[-1]} steps; expected at most "
                f"{self.max_length} (max_length)"
            )
        tokens = tokens.astype(jnp.int32)
        if seq_lengths is not None:
            real = length_mask(seq_lengths, tokens.shape[-1])
            tokens = jnp.where(real, tokens, -1)
        padding = [(0, 0)] * (tokens.ndim - 1) + [(0, missing)]
        return jnp.pad(tokens, padding, constant_values=-1)


class MLPClassifier(PaddedClassifier):
    """Lesson 004's baseline: three linear layers on the one-hot name, no recurrence."""

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        seq_lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        tokens = self.zero_padded(tokens, seq_lengths)
        x = OneHotLinear(self.mlp_size, self.vocab_size, name="mlp_0")(tokens)
        x = Linear(self.mlp_size, dtype=self.dtype, name="mlp_2")(jax.nn.relu(x))
        return Linear(self.num_classes, dtype=self.dtype, name="mlp_4")(jax.nn.relu(x))


@torch_layout.register
def _(module: MLPClassifier) -> list[Entry]:
    first = linear_entries("mlp.0", "mlp_0/linear")
    return first + linear_entries("mlp.2", "mlp_2") + linear_entries("mlp.4", "mlp_4")


class OneHotLinear(nn.Module):
    """``nn.Linear`` on the one-hot vectors of all steps, flattened.

    Attributes:
        features: Number of outputs.
        vocab_size: Number of different tokens.

    Args:
        tokens: ``(*batch, time)``; -1 is the zero vector.

    Returns:
        ``(*batch, features)``.
    """

    features: int
    vocab_size: int

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        num_inputs = tokens.shape[-1] * self.vocab_size
        kernel, bias = Linear(self.features, name="linear").weights(num_inputs)
        assert bias is not None
        # Step t owns the rows from t * vocab_size on.
        first = jnp.arange(tokens.shape[-1]) * self.vocab_size
        known = (tokens >= 0) & (tokens < self.vocab_size)
        index = jnp.where(known, tokens + first, -1)
        return rows(kernel, index).sum(axis=-2) + bias


class AllStatesClassifier(PaddedClassifier):
    """Lesson 004's hand-made network: tanh(Wx x) + tanh(Wh h), all states to one head."""

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        seq_lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        tokens = self.zero_padded(tokens, seq_lengths)
        cell = SumCell(
            self.hidden_size,
            ih_init=torch_uniform(self.vocab_size),
            hh_init=torch_uniform(self.hidden_size),
            vocab_size=self.vocab_size,
            dtype=self.dtype,
            parent=None,
        )
        recurrent = Recurrent(cell, backend=self.backend, name="W")
        carry, states = recurrent(tokens, None, initial_carry)
        self.sow_run(carry, states)
        x = states.reshape(*states.shape[:-2], -1)
        x = jax.nn.relu(Linear(self.mlp_size, dtype=self.dtype, name="Wy")(x))
        return Linear(self.num_classes, dtype=self.dtype, name="output_layer")(x)


@torch_layout.register
def _(module: AllStatesClassifier) -> list[Entry]:
    cell = linear_entries("Wx", "W/cell/ih") + linear_entries("Wh", "W/cell/hh")
    return (
        cell
        + linear_entries("Wy", "Wy")
        + linear_entries("output_layer", "output_layer")
    )


@unused_names.register
def _(module: AllStatesClassifier) -> tuple[str, ...]:
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return tuple(f"bn.{part}" for part in parts)


class DropoutClassifier(PaddedClassifier):
    """Lesson 004's nn.RNN: two layers, dropout, all states to one head.

    Attributes:
        num_layers: Number of layers.
        dropout: Probability of dropping a state, between layers and before the head.
    """

    num_layers: int = 2
    dropout: float = 0.4

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        seq_lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        tokens = self.zero_padded(tokens, seq_lengths)
        stack = Elman(
            self.hidden_size,
            num_layers=self.num_layers,
            dropout=self.dropout,
            vocab_size=self.vocab_size,
            dtype=self.dtype,
            backend=self.backend,
            name="rnn",
        )
        carry, states = stack(tokens, None, initial_carry, deterministic=deterministic)
        self.sow_run(carry, states)
        states = Dropout(self.dropout)(states, deterministic=deterministic)
        x = states.reshape(*states.shape[:-2], -1)
        x = jax.nn.relu(Linear(self.mlp_size, dtype=self.dtype, name="linear_layer")(x))
        return Linear(self.num_classes, dtype=self.dtype, name="output_layer")(x)


@torch_layout.register
def _(module: DropoutClassifier) -> list[Entry]:
    head = linear_entries("linear_layer", "linear_layer")
    head += linear_entries("output_layer", "output_layer")
    return stack_entries("rnn", module.num_layers) + head


class CharLM(nn.Module):
    """A character language model: recurrent layers, then what comes next.

    The defaults are lesson 002's: an LSTM, then an MLP with one hidden layer.

    Attributes:
        vocab_size: Number of different characters.
        hidden_size: Width of the recurrence.
        mlp_size: Width of the MLP's hidden layer; None is one linear map, without it.
        num_layers: Number of recurrent layers.
        dropout: Probability of dropping a state after each layer, and a unit of the MLP.
        dtype: Type of the operands of the products (say bfloat16).
        kind: ``rnn``, ``gru`` or ``lstm``.
        backend: What runs the steps, see :class:`rnnjax.Recurrent`.

    Args:
        tokens: ``(*batch, time)``.
        carry: What the recurrence starts from; None is zeros.
        deterministic: False switches dropout on; it needs ``rngs={"dropout": key}``.
        reset: ``(*batch, time)``, True where a new document begins: the carry goes back
            to zeros before that character.

    Returns:
        ``(carry, logits)``: the final carry, and logits ``(*batch, time, vocab_size)``
        of each step's next character.

    Example:
        >>> model = CharLM(vocab_size=5, hidden_size=4, mlp_size=6)
        >>> tokens = jnp.array([[0, 1, 2]])
        >>> params = model.init(jax.random.key(0), tokens)
        >>> carry, logits = model.apply(params, tokens)
        >>> logits.shape
        (1, 3, 5)
    """

    vocab_size: int
    hidden_size: int = 1024
    mlp_size: int | None = 2048
    num_layers: int = 1
    dropout: float = 0.4
    dtype: jnp.dtype | None = None
    kind: Kind = "lstm"
    backend: Backend = "scan"

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        carry: Carry | None = None,
        deterministic: bool = True,
        *,
        reset: jax.Array | None = None,
    ) -> tuple[Carry, jax.Array]:
        stack = stack_type(self.kind)(
            self.hidden_size,
            num_layers=self.num_layers,
            dropout=self.dropout,
            vocab_size=self.vocab_size,
            dtype=self.dtype,
            backend=self.backend,
            name=self.kind,
        )
        carry, states = stack(
            tokens, initial_carry=carry, reset=reset, deterministic=deterministic
        )
        self.sow("intermediates", "states", states)
        x = Dropout(self.dropout)(states, deterministic=deterministic)
        if self.mlp_size is None:
            return carry, Linear(self.vocab_size, dtype=self.dtype, name="h2o")(x)
        x = jax.nn.relu(Linear(self.mlp_size, dtype=self.dtype, name="mlp_0")(x))
        x = Dropout(self.dropout)(x, deterministic=deterministic)
        return carry, Linear(self.vocab_size, dtype=self.dtype, name="mlp_3")(x)


@torch_layout.register
def _(module: CharLM) -> list[Entry]:
    if module.mlp_size is None:
        head = linear_entries("h2o", "h2o")
    else:
        head = linear_entries("mlp.0", "mlp_0") + linear_entries("mlp.3", "mlp_3")
    return stack_entries(module.kind, module.num_layers) + head


class BidirectionalClassifier(NameClassifier):
    """Recipe best: characters in context, a bidirectional GRU, three summaries of it.

    Each step sees the character with its two neighbours. The class comes from the two
    final states, an attention-weighted mean of all states and their maximum.

    Attributes:
        embedding_size: Width of what stands for a character and its neighbours.
        dropout: Probability of dropping a number of the summary.
        embedding_dropout: Probability of dropping a number of the embedding.
    """

    embedding_size: int = 128
    dropout: float = 0.5
    embedding_dropout: float = 0.2

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        seq_lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        if seq_lengths is None:
            seq_lengths = jnp.full(tokens.shape[:-1], tokens.shape[-1])
        mask = length_mask(seq_lengths, tokens.shape[-1])
        window = OneHotLinear(self.embedding_size, self.vocab_size, name="window")
        x = jax.nn.relu(window(with_neighbours(jnp.where(mask, tokens, -1))))
        x = Dropout(self.embedding_dropout)(x, deterministic=deterministic)
        gru = GRU(
            self.hidden_size,
            bidirectional=True,
            dtype=self.dtype,
            backend=self.backend,
            name="gru",
        )
        carry, states = gru(x, seq_lengths, initial_carry)
        mean, weights = AttentionPooling(name="att")(states, mask)
        self.sow_run(carry, states)
        self.sow("intermediates", "attention", weights)
        # States lie in (-1, 1), so that padding, at -1, is never the maximum.
        highest = jnp.max(jnp.where(mask[..., None], states, -1), axis=-2)
        summary = jnp.concatenate([*carry, mean, highest], axis=-1)
        summary = Dropout(self.dropout)(summary, deterministic=deterministic)
        return Linear(self.num_classes, dtype=self.dtype, name="fc")(summary)


@torch_layout.register
def _(module: BidirectionalClassifier) -> list[Entry]:
    window = linear_entries("window", "window/linear")
    head = linear_entries("att", "att/score") + linear_entries("fc", "fc")
    return window + stack_entries("gru", 1, bidirectional=True) + head


def with_neighbours(tokens: jax.Array) -> jax.Array:
    """Every token between its neighbours.

    Args:
        tokens: ``(*batch, time)``.

    Returns:
        ``(*batch, time, 3)``; -1 stands beyond the two ends.

    Example:
        >>> with_neighbours(jnp.array([5, 6, 7])).tolist()
        [[-1, 5, 6], [5, 6, 7], [6, 7, -1]]
    """
    edge = [(0, 0)] * (tokens.ndim - 1) + [(1, 1)]
    padded = jnp.pad(tokens, edge, constant_values=-1)
    return jnp.stack([padded[..., :-2], tokens, padded[..., 2:]], axis=-1)


def _of_layers(
    module: Any, generator: TorchGenerator, batch_size: int, num_steps: int
) -> list[np.ndarray]:
    """Between a model's layers, then of the last one's outputs."""
    shape = (batch_size, num_steps, module.hidden_size)
    return [
        generator.dropout_mask(shape, module.dropout, TIME_BY_TIME)
        for _ in range(module.num_layers)
    ]


@dropout_masks.register
def _(
    module: DropoutClassifier,
    generator: TorchGenerator,
    batch_size: int,
    num_steps: int,
) -> dict[str, Any]:
    *between, last = _of_layers(module, generator, batch_size, module.max_length)
    return {"rnn": numbered(between)} | numbered([last])


@dropout_masks.register
def _(
    module: CharLM, generator: TorchGenerator, batch_size: int, num_steps: int
) -> dict[str, Any]:
    *between, last = _of_layers(module, generator, batch_size, num_steps)
    stack = {module.kind: numbered(between)} if between else {}
    if module.mlp_size is None:
        return stack | numbered([last])
    # The lesson gives its MLP one row for each step of each sequence.
    shape = (batch_size, num_steps, module.mlp_size)
    return stack | numbered([last, generator.dropout_mask(shape, module.dropout)])
