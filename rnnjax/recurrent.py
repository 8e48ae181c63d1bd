"""Cells over time, and PyTorch's stacks of them."""

import functools
from typing import Any, ClassVar, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnnjax.affine import Affine, is_tokens, result_type
from rnnjax.arguments import (
    Features,
    check_flag,
    check_lengths,
    check_projection,
    check_rate,
    check_size,
)
from rnnjax.cells import Cell, ElmanCell, GRUCell, LSTMCell
from rnnjax.dropout import Dropout
from rnnjax.equations import Activation, Carry, hidden
from rnnjax.linear import Initializer
from rnnjax.loops import Backend, loop_for, say_that_the_scan_runs
from rnnjax.loops.job import (
    Job,
    Static,
    Steps,
    hold_carry,
    perturbed,
    reset_carry,
    select,
)
from rnnjax.loops.remat import run_in_chunks
from rnnjax.masks import length_mask


class Recurrent(nn.Module):
    """Any cell over time, with padding that has no effect.

    The carry is held after the last real step of each row, outputs at padding are 0,
    and whatever stands in the padding, NaN included, changes neither values nor
    gradients. A row of length 0 returns its initial carry. A reversed run starts at
    each row's own last real step; its outputs stay at the place of their inputs.

    Attributes:
        cell: One of rnnjax's cells, or any module with Flax's interface
            ``cell(carry, x) -> (carry, y)`` and ``cell.initialize_carry(key, shape)``.
        reverse: Run from the end to the beginning.
        remat: Compute the steps a second time in the backward pass instead of keeping
            what they made, see :mod:`rnnjax.loops.remat`: for sequences that do not fit.
        backend: What runs the steps; parameters, call and results are the same.

            - ``"scan"``: a scan, with the derivative of all steps stated at once, see
              :mod:`rnnjax.loops.scan`; of wide layers on a CPU, with the rows of the
              batch as columns, see :mod:`rnnjax.loops.columns`.
            - ``"reference"``: ``nn.scan`` over ``cell(carry, x)``, against which the
              others are tested.
            - ``"pallas"``: a kernel for TPUs, of an LSTM without projection or a GRU,
              see :mod:`rnnjax.loops.pallas`; not with ``reset``.
            - ``"cudnn"``: cuDNN's LSTM for NVIDIA's GPUs, without projection and in
              float32, see :mod:`rnnjax.loops.cudnn`; not with ``mask``, ``reset`` or
              intermediates.

            Where one does not apply, to the device or to what is asked for, the scan
            runs instead, and a warning says why, once.

    Args:
        inputs: ``(*batch, time, input)``, or tokens ``(*batch, time)``, which stand
            for one-hot vectors.
        seq_lengths: ``(*batch,)`` number of real steps of each row; None is all.
        initial_carry: What the first step starts from; None is the cell's own zeros.
        mask: ``(*batch, time)``, False at steps to be skipped wherever they are (holes,
            padding on the left); the carry is held there, the output is 0, and a
            ``reset`` does nothing.
        reset: ``(*batch, time)``, True where a new sequence begins inside the row: the
            carry goes back to the cell's own zeros before that step (when reversed,
            after it).

    Returns:
        ``(carry, ys)``: the carry after the last real step, and the outputs ``(*batch,
        time, features)``.

    Variables:
        With ``mutable=["intermediates"]`` two things are sown, ``(*batch, time,
        features)`` each, 0 at padding: ``carries``, the carry after every step (an
        LSTM's :math:`c`, say), and ``gates``, what the gates let through at every step,
        by the names of the cell's equations. They are computed only then, from the
        carries and in one piece.

        What stands in the collection ``perturbations`` under ``carries``, in the shape
        of those sown, is added to the carry after each real step (of a cell that is not
        rnnjax's: to the carry, not to the output). The gradient with respect to it, at
        0, is that with respect to the carry.

    Raises:
        ValueError: If a shape does not agree with that of ``inputs``, or there is no
            such backend.

    Example:
        >>> rnn = Recurrent(GRUCell(features=4))
        >>> inputs, seq_lengths = jnp.ones((2, 7, 3)), jnp.array([7, 5])
        >>> params = rnn.init(jax.random.key(0), inputs, seq_lengths)
        >>> carry, ys = rnn.apply(params, inputs, seq_lengths)
        >>> carry.shape, ys.shape, float(jnp.abs(ys[1, 5:]).sum())
        ((2, 4), (2, 7, 4), 0.0)

    Source:
        The semantics of ``torch.nn.utils.rnn.pack_padded_sequence`` with
        ``enforce_sorted=False``; length 0, which it refuses, is ours.
    """

    cell: Cell | nn.Module
    reverse: bool = False
    backend: Backend = "scan"
    remat: bool = False

    def __call__(
        self,
        inputs: jax.Array,
        seq_lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        *,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
    ) -> tuple[Carry, jax.Array]:
        if self.backend not in get_args(Backend):
            raise ValueError(
                f"backend is {self.backend!r}; expected one of "
                f"{', '.join(get_args(Backend))}"
            )
        inputs = jnp.asarray(inputs)
        tokens = is_tokens(inputs)
        is_packed = mask is None
        batch_time = inputs.shape if tokens else inputs.shape[:-1]
        mask = _combine(batch_time, seq_lengths, mask)
        reset = _check("reset", reset, batch_time, bool)
        if mask is not None and reset is not None:
            reset = reset & mask
        if mask is not None and not tokens:
            # Zeroed before the cell sees it: selecting afterwards would still give NaN
            # gradients for NaN in the padding.
            inputs = jnp.where(mask[..., None], inputs, 0)

        batch = batch_time[:-1]
        fresh = _fresh(self.cell, batch)
        if isinstance(self.cell, Cell):
            num_inputs = self.cell.ih.num_inputs(inputs)
            if tokens and inputs.ndim > 2 and inputs.shape[-1] == num_inputs:
                raise ValueError(
                    f"inputs are whole numbers {inputs.shape}, which would be tokens with "
                    f"{inputs.ndim - 1} batch axes, and the last axis is as long as the "
                    f"{num_inputs} inputs of the layer: for vectors give floats, as in "
                    "inputs.astype(jnp.float32); for tokens use one batch axis"
                )
            kernels = (
                self.cell.ih.weights(num_inputs)[0],
                self.cell.hh.weights(hidden(fresh).shape[-1])[0],
            )
            of_numbers = result_type(inputs, *kernels)
            fresh = jax.tree.map(lambda zero: zero.astype(of_numbers), fresh)
            if inputs.dtype == jnp.float64:
                inputs = inputs.astype(of_numbers)
        carry = fresh if initial_carry is None else _checked(initial_carry, fresh)

        if reset is not None and self.reverse:
            # "Begins here" is, read backwards, a border before the step to the left.
            last = jnp.zeros_like(reset[..., :1])
            reset = jnp.concatenate([reset[..., 1:], last], axis=-1)
        time_axis = len(batch)
        perturbation: Carry | None = self.get_variable("perturbations", "carries")
        xs, *parts = jax.tree.map(
            lambda x: jnp.moveaxis(x, time_axis, 0), (inputs, mask, reset, perturbation)
        )
        steps, first = Steps(*parts), carry
        sows = self.is_mutable_collection("intermediates")
        run = functools.partial(Recurrent._run, is_packed=is_packed, sows=sows)
        if self.remat:
            carry, outputs = run_in_chunks(run, self, carry, xs, steps)
        else:
            carry, outputs = run(self, carry, xs, steps)
        gates = None
        if sows:
            gates = self._gates(first, outputs[1], xs, steps)
        outputs = (*outputs, gates)
        if steps.mask is not None:
            zeros = jax.tree.map(jnp.zeros_like, outputs)
            outputs = select(steps.mask, outputs, zeros)
        ys, carries, gates = jax.tree.map(
            lambda x: jnp.moveaxis(x, 0, time_axis), outputs
        )
        self.sow("intermediates", "carries", carries)
        if gates is not None:
            self.sow("intermediates", "gates", gates)
        return carry, ys

    def _run(
        self, carry: Carry, xs: jax.Array, steps: Steps, is_packed: bool, sows: bool
    ) -> tuple[Carry, tuple[jax.Array, Carry]]:
        """``(carry, (ys, carries))``: the last carry, and what each step made."""
        cell = self.cell
        if not isinstance(cell, Cell):
            say_that_the_scan_runs(
                self.backend, f"{type(cell).__name__} is no cell of rnnjax's"
            )
            return self._scan(type(cell).__call__, carry, xs, steps)
        if self.backend == "reference":
            return self._scan(type(cell).__call__, carry, xs, steps)
        # Before `update`, for a cell checks its attributes in its setup.
        ih_linear = cell.ih
        if not cell.has_pure_update:
            say_that_the_scan_runs(
                self.backend, f"a step of {type(cell).__name__} has more than an update"
            )
            return self._scan(type(cell).step, carry, ih_linear(xs), steps)
        job = Job(
            Static(cell.update, cell.sums_preactivations, self.reverse, cell.dtype),
            ih=Affine(*ih_linear.weights(ih_linear.num_inputs(xs))),
            hh=Affine(*cell.hh.weights(cell.features)),
            xs=xs,
            carry=carry,
            steps=steps,
            is_packed=is_packed,
            wants_carries=sows,
        )
        last, carries = loop_for(self.backend, job).run(job)
        return last, (hidden(carries), carries)

    def _gates(self, first, carries, xs, steps):
        """The gates of all steps, side by side, from what each began with."""
        if not isinstance(self.cell, Cell):
            return None

        def before(first, carries):
            if self.reverse:
                return jnp.concatenate([carries, first[None]])[1:]
            return jnp.concatenate([first[None], carries])[:-1]

        carries = reset_carry(steps.reset, jax.tree.map(before, first, carries))
        return self.cell.gate_values(carries, self.cell.ih(xs))

    def _scan(self, step, carry, xs, steps):
        def body(cell, carry, x_and_steps):
            x, (mask, reset, perturbation) = x_and_steps
            if reset is not None:
                carry = select(reset, _fresh(cell, reset.shape), carry)
            new, y = step(cell, carry, x)
            if perturbation is not None:
                new = perturbed(new, perturbation)
                y = hidden(new) if isinstance(cell, Cell) else y
            carry = hold_carry(mask, new, carry)
            return carry, (y, carry)

        scan = nn.scan(
            body,
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
            reverse=self.reverse,
        )
        return scan(self.cell, carry, (xs, steps))


def _fresh(cell, batch):
    return cell.initialize_carry(jax.random.key(0), (*batch, 1))


def _combine(batch_time, seq_lengths, mask):
    mask = _check("mask", mask, batch_time, bool)
    if seq_lengths is None:
        return mask
    seq_lengths = _check("seq_lengths", seq_lengths, batch_time[:-1])
    check_lengths(seq_lengths, batch_time[-1])
    real = length_mask(seq_lengths, batch_time[-1])
    return real if mask is None else real & mask


def _check(name, array, shape, dtype=None):
    if array is None:
        return None
    array = jnp.asarray(array, dtype)
    if array.shape != shape:
        raise ValueError(
            f"{name} has shape {array.shape}; expected {shape}, from the shape of inputs"
        )
    return array


def _checked(carry, fresh):
    """The carry, in the types of a fresh one; the shapes have to agree already."""
    given, expected = (jax.tree.map(jnp.shape, tree) for tree in (carry, fresh))
    if (type(given), given) != (type(expected), expected):
        raise ValueError(f"initial_carry has shapes {given}; expected {expected}")
    return jax.tree.map(lambda x, zero: jnp.asarray(x, zero.dtype), carry, fresh)


class Stack(Features, kw_only=True):
    """What Elman, GRU and LSTM share; they say what each argument is."""

    num_layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    use_bias: bool = True
    vocab_size: int | None = None
    dtype: jnp.dtype | None = None
    backend: Backend = "scan"
    ih_init: Initializer | None = None
    hh_init: Initializer | None = None
    bias_init: Initializer | None = None
    variational: bool = False
    remat: bool = False

    cell_type: ClassVar[type[Cell]]

    def __post_init__(self) -> None:
        check_size("num_layers", self.num_layers)
        check_rate("dropout", self.dropout)
        for name in ("bidirectional", "use_bias", "variational", "remat"):
            check_flag(name, getattr(self, name))
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        seq_lengths: jax.Array | None = None,
        initial_carry: tuple[Carry, ...] | None = None,
        *,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
        deterministic: bool = True,
    ) -> tuple[tuple[Carry, ...], jax.Array]:
        names = self.layer_names()
        if initial_carry is None:
            initial_carry = (None,) * len(names)
        elif len(initial_carry) != len(names):
            raise ValueError(
                f"initial_carry has {len(initial_carry)} entries; expected "
                f"{len(names)}: {', '.join(names)}"
            )
        directions = 2 if self.bidirectional else 1
        carries, ys = [], inputs
        same_steps = (-2,) if self.variational else ()
        for layer in range(self.num_layers):
            if layer > 0:
                drop = Dropout(self.dropout, broadcast_dims=same_steps)
                ys = drop(ys, deterministic=deterministic)
            outputs = []
            for direction in range(directions):
                index = layer * directions + direction
                recurrent = Recurrent(
                    self._cell(),
                    reverse=bool(direction),
                    backend=self.backend,
                    remat=self.remat,
                    name=names[index],
                )
                carry, y = recurrent(
                    ys, seq_lengths, initial_carry[index], mask=mask, reset=reset
                )
                carries.append(carry)
                outputs.append(y)
            ys = outputs[0] if directions == 1 else jnp.concatenate(outputs, axis=-1)
        return tuple(carries), ys

    def step(
        self, carry: tuple[Carry, ...] | None, x: jax.Array
    ) -> tuple[tuple[Carry, ...], jax.Array]:
        """One step of all layers, with the same parameters: for streams.

        Args:
            carry: What the step before returned; None at the first step.
            x: ``(*batch, input)``, or tokens ``(*batch,)``.

        Returns:
            ``(carry, y)``: the carries, and the output ``(*batch, features)``.

        Raises:
            ValueError: If the stack is bidirectional.

        Example:
            >>> gru, inputs = GRU(4, num_layers=2), jnp.ones((2, 7, 3))
            >>> params = gru.init(jax.random.key(0), inputs)
            >>> carry = None
            >>> for x in inputs.swapaxes(0, 1):
            ...     carry, y = gru.apply(params, carry, x, method="step")
            >>> bool(jnp.allclose(y, gru.apply(params, inputs)[1][:, -1], atol=1e-6))
            True
        """
        if self.bidirectional:
            raise ValueError(
                "a bidirectional stack has no single step: its backward layers begin "
                "at the end of the sequence"
            )
        time_axis = x.ndim if is_tokens(x) else x.ndim - 1
        carry, ys = self(jnp.expand_dims(x, time_axis), None, carry)
        return carry, ys[..., 0, :]

    @nn.nowrap
    def layer_names(self) -> tuple[str, ...]:
        """Names of the parts, in the order of the carry, which is PyTorch's."""
        ends = ("", "_reverse") if self.bidirectional else ("",)
        return tuple(
            f"layer_{layer}{end}" for layer in range(self.num_layers) for end in ends
        )

    @nn.nowrap
    def _cell(self) -> Cell:
        return self.cell_type(
            self.features,
            use_bias=self.use_bias,
            ih_init=self.ih_init,
            hh_init=self.hh_init,
            bias_init=self.bias_init,
            vocab_size=self.vocab_size,
            dtype=self.dtype,
            parent=None,
            **self._cell_options(),
        )

    @nn.nowrap
    def _cell_options(self) -> dict[str, Any]:
        return {}


class Elman(Stack):
    r"""Elman network, ``torch.nn.RNN``; the step is :class:`ElmanCell`.

    .. math:: h_t = \phi(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})

    Attributes:
        features: Width of the hidden vector (``hidden_size`` in PyTorch); all else is
            given by name.
        num_layers: Number of layers; each runs over the outputs of the one below.
        bidirectional: Whether each layer also runs backwards; its outputs are then the
            forward and the backward ones, side by side.
        dropout: Probability of dropping an output between two layers, from 0 to 1;
            never after the last one.
        use_bias: False leaves out both biases of every cell (``bias`` in PyTorch).
        activation: :math:`\phi` (``nonlinearity`` in PyTorch): one of tanh, relu, sigmoid,
            identity, or any hashable function of an array, say ``nn.tanh``.
        vocab_size: Number of different tokens; needed only to initialise from tokens.
        dtype: Type of the operands of the products (say bfloat16); parameters, carries
            and sums stay float32.
        backend: What runs the steps, see :class:`Recurrent`.
        ih_init, hh_init, bias_init: Initialisers, see :mod:`rnnjax.initializers`; None
            is PyTorch's, :math:`U(\pm 1/\sqrt{features})`.
        variational: Whether the dropout draws one mask for all steps of a sequence, as
            in Gal & Ghahramani, 2016, https://arxiv.org/abs/1512.05287; PyTorch draws a
            fresh one for every step.
        remat: Save memory over long sequences, see :class:`Recurrent`.

    Args:
        inputs: ``(*batch, time, input)``, or tokens ``(*batch, time)``, which stand for
            one-hot vectors.
        seq_lengths: ``(*batch,)`` number of real steps of each row, from 0 to ``time``;
            None is all.
        initial_carry: One carry for each layer and direction, in PyTorch's order: layer
            0 forward, layer 0 backward, layer 1 forward, and so on; None is zeros.
        mask: ``(*batch, time)``, False at steps to be skipped, see :class:`Recurrent`.
        reset: ``(*batch, time)``, True where a new sequence begins inside the row, see
            :class:`Recurrent`.
        deterministic: False switches dropout on; it needs ``rngs={"dropout": key}``.

    Returns:
        ``(carry, ys)``: the carries after each row's last real step, in the same order,
        ``(*batch, features)`` each; and the outputs of the last layer,
        ``(*batch, time, features)``, twice as wide when bidirectional.

    Raises:
        TypeError: On PyTorch's name for an attribute; the message says ours.
        ValueError: If an attribute is out of range, a shape does not agree with that of
            ``inputs``, or the number of initial carries is wrong.

    Example:
        >>> rnn = Elman(features=4, num_layers=2, bidirectional=True)
        >>> params = rnn.init(jax.random.key(0), jnp.ones((2, 7, 3)))
        >>> carry, ys = rnn.apply(params, jnp.ones((2, 7, 3)), jnp.array([7, 5]))
        >>> len(carry), carry[0].shape, ys.shape
        (4, (2, 4), (2, 7, 8))

    Source:
        Elman, 1990; ``torch.nn.RNN``.
    """

    activation: Activation = "tanh"

    cell_type: ClassVar = ElmanCell

    @nn.nowrap
    def _cell_options(self):
        return {"activation": self.activation}


class GRU(Stack):
    r"""Gated recurrent units, ``torch.nn.GRU``; the step is :class:`GRUCell`.

    .. math::
        r &= \sigma(W_{ir} x + b_{ir} + W_{hr} h + b_{hr}) \\
        z &= \sigma(W_{iz} x + b_{iz} + W_{hz} h + b_{hz}) \\
        n &= \tanh(W_{in} x + b_{in} + r \odot (W_{hn} h + b_{hn})) \\
        h' &= (1 - z) \odot n + z \odot h

    Attributes:
        features: Width of the hidden vector (``hidden_size`` in PyTorch); all else is
            given by name.
        num_layers: Number of layers; each runs over the outputs of the one below.
        bidirectional: Whether each layer also runs backwards; its outputs are then the
            forward and the backward ones, side by side.
        dropout: Probability of dropping an output between two layers, from 0 to 1;
            never after the last one.
        use_bias: False leaves out both biases of every cell (``bias`` in PyTorch).
        vocab_size: Number of different tokens; needed only to initialise from tokens.
        dtype: Type of the operands of the products (say bfloat16); parameters, carries
            and sums stay float32.
        backend: What runs the steps, see :class:`Recurrent`.
        ih_init, hh_init, bias_init: Initialisers, see :mod:`rnnjax.initializers`; None
            is PyTorch's, :math:`U(\pm 1/\sqrt{features})`.
        variational: Whether the dropout draws one mask for all steps of a sequence, as
            in Gal & Ghahramani, 2016, https://arxiv.org/abs/1512.05287; PyTorch draws a
            fresh one for every step.
        remat: Save memory over long sequences, see :class:`Recurrent`.

    Args:
        inputs: ``(*batch, time, input)``, or tokens ``(*batch, time)``, which stand for
            one-hot vectors.
        seq_lengths: ``(*batch,)`` number of real steps of each row, from 0 to ``time``;
            None is all.
        initial_carry: One carry for each layer and direction, in PyTorch's order: layer
            0 forward, layer 0 backward, layer 1 forward, and so on; None is zeros.
        mask: ``(*batch, time)``, False at steps to be skipped, see :class:`Recurrent`.
        reset: ``(*batch, time)``, True where a new sequence begins inside the row, see
            :class:`Recurrent`.
        deterministic: False switches dropout on; it needs ``rngs={"dropout": key}``.

    Returns:
        ``(carry, ys)``: the carries after each row's last real step, in the same order,
        ``(*batch, features)`` each; and the outputs of the last layer,
        ``(*batch, time, features)``, twice as wide when bidirectional.

    Raises:
        TypeError: On PyTorch's name for an attribute; the message says ours.
        ValueError: If an attribute is out of range, a shape does not agree with that of
            ``inputs``, or the number of initial carries is wrong.

    Example:
        >>> gru = GRU(features=4, vocab_size=9)
        >>> params = gru.init(jax.random.key(0), jnp.array([3, 8, 0]))
        >>> carry, ys = gru.apply(params, jnp.array([3, 8, 0]))
        >>> len(carry), carry[0].shape, ys.shape
        (1, (4,), (3, 4))

    Source:
        Cho et al., 2014, https://arxiv.org/abs/1406.1078; ``torch.nn.GRU``.
    """

    cell_type: ClassVar = GRUCell


class LSTM(Stack):
    r"""Long short-term memory, ``torch.nn.LSTM``; the step is :class:`LSTMCell`.

    .. math::
        i &= \sigma(W_{ii} x + b_{ii} + W_{hi} h + b_{hi}) \\
        f &= \sigma(W_{if} x + b_{if} + W_{hf} h + b_{hf}) \\
        g &= \tanh(W_{ig} x + b_{ig} + W_{hg} h + b_{hg}) \\
        o &= \sigma(W_{io} x + b_{io} + W_{ho} h + b_{ho}) \\
        c' &= f \odot c + i \odot g \\
        h' &= o \odot \tanh(c')

    Attributes:
        features: Width of the hidden vector (``hidden_size`` in PyTorch); all else is
            given by name.
        num_layers: Number of layers; each runs over the outputs of the one below.
        bidirectional: Whether each layer also runs backwards; its outputs are then the
            forward and the backward ones, side by side.
        dropout: Probability of dropping an output between two layers, from 0 to 1;
            never after the last one.
        use_bias: False leaves out both biases of every cell (``bias`` in PyTorch).
        projection: Width of :math:`h` (``proj_size`` in PyTorch), below ``features``; None
            leaves it as wide as :math:`c`.
        hr_init: Initialiser of the projection; None is PyTorch's.
        vocab_size: Number of different tokens; needed only to initialise from tokens.
        dtype: Type of the operands of the products (say bfloat16); parameters, carries
            and sums stay float32.
        backend: What runs the steps, see :class:`Recurrent`.
        ih_init, hh_init, bias_init: Initialisers, see :mod:`rnnjax.initializers`; None
            is PyTorch's, :math:`U(\pm 1/\sqrt{features})`.
        variational: Whether the dropout draws one mask for all steps of a sequence, as
            in Gal & Ghahramani, 2016, https://arxiv.org/abs/1512.05287; PyTorch draws a
            fresh one for every step.
        remat: Save memory over long sequences, see :class:`Recurrent`.

    Args:
        inputs: ``(*batch, time, input)``, or tokens ``(*batch, time)``, which stand for
            one-hot vectors.
        seq_lengths: ``(*batch,)`` number of real steps of each row, from 0 to ``time``;
            None is all.
        initial_carry: One carry for each layer and direction, in PyTorch's order: layer
            0 forward, layer 0 backward, layer 1 forward, and so on; None is zeros.
        mask: ``(*batch, time)``, False at steps to be skipped, see :class:`Recurrent`.
        reset: ``(*batch, time)``, True where a new sequence begins inside the row, see
            :class:`Recurrent`.
        deterministic: False switches dropout on; it needs ``rngs={"dropout": key}``.

    Returns:
        ``(carry, ys)``: the carries after each row's last real step, in the same order,
        an :class:`LSTMCarry` ``(h, c)`` each; and the outputs of the last layer,
        ``(*batch, time, features or projection)``, twice as wide when bidirectional.

    Raises:
        TypeError: On PyTorch's name for an attribute; the message says ours.
        ValueError: If an attribute is out of range, a shape does not agree with that of
            ``inputs``, or the number of initial carries is wrong.

    Example:
        >>> lstm = LSTM(features=4, projection=2)
        >>> params = lstm.init(jax.random.key(0), jnp.ones((2, 7, 3)))
        >>> (carry,), ys = lstm.apply(params, jnp.ones((2, 7, 3)))
        >>> carry.h.shape, carry.c.shape, ys.shape
        ((2, 2), (2, 4), (2, 7, 2))

        The :math:`c` of every step:

        >>> _, sown = lstm.apply(params, jnp.ones((2, 7, 3)), mutable=["intermediates"])
        >>> sown["intermediates"]["layer_0"]["carries"][0].c.shape
        (2, 7, 4)

    Source:
        Hochreiter & Schmidhuber, 1997; ``torch.nn.LSTM``; projection: Sak et al., 2014,
        https://arxiv.org/abs/1402.1128.
    """

    projection: int | None = None
    hr_init: Initializer | None = None

    cell_type: ClassVar = LSTMCell

    def __post_init__(self) -> None:
        super().__post_init__()
        check_projection(self.projection, self.features)

    @nn.nowrap
    def _cell_options(self):
        return {"projection": self.projection, "hr_init": self.hr_init}
