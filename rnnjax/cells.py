"""One step of a recurrent network: Elman, GRU, LSTM, with PyTorch's equations.

Every cell here is two linear maps, ``ih`` of the input and ``hh`` of the hidden vector,
and an update without parameters. :mod:`rnnjax.recurrent` uses that split: it computes
``ih`` for all steps at once, outside the loop over time.
"""

import functools
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnnjax import equations
from rnnjax.arguments import Features, check_flag, check_projection
from rnnjax.equations import (
    Activation,
    Carry,
    GRUGates,
    LSTMCarry,
    LSTMGates,
    activation_function,
    hidden,
    preactivations,
)
from rnnjax.linear import Initializer, Linear, torch_uniform


class Cell(Features, nn.RNNCellBase, kw_only=True):
    """Two linear maps and an update without parameters; see the module's docstring.

    Attributes:
        features: Width of the hidden vector and of the output.
        use_bias: False leaves out both biases, as ``bias=False`` does in PyTorch.
        hh_bias: False leaves out the second bias, as hand-made cells do. The two biases
            only ever act as a sum, but training sees the difference: each receives the
            whole gradient, so that their sum moves twice as far as one bias would.
        ih_init, hh_init, bias_init: Initialisers; None is torch's for all three,
            ``torch_uniform(features)``.
        vocab_size: Number of different tokens; needed only to initialise from tokens.
        dtype: Type of the operands of the products (say bfloat16); parameters, carry
            and sums stay float32.
    """

    use_bias: bool = True
    hh_bias: bool = True
    ih_init: Initializer | None = None
    hh_init: Initializer | None = None
    bias_init: Initializer | None = None
    vocab_size: int | None = None
    dtype: jnp.dtype | None = None

    gates: ClassVar[int] = 1
    sums_preactivations: ClassVar[bool] = False
    """Whether only the sum of the two maps counts: ``update`` is given that."""

    def __post_init__(self) -> None:
        for name in ("use_bias", "hh_bias"):
            check_flag(name, getattr(self, name))
        super().__post_init__()

    def setup(self):
        self.ih = self.linear(self.ih_init, self.use_bias)
        self.hh = self.linear(self.hh_init, self.use_bias and self.hh_bias)

    @nn.nowrap
    def linear(self, kernel_init: Initializer | None, use_bias: bool) -> Linear:
        """A map to all gates, side by side."""
        default = torch_uniform(self.features)
        return Linear(
            self.gates * self.features,
            use_bias=use_bias,
            kernel_init=kernel_init or default,
            bias_init=self.bias_init or default,
            vocab_size=self.vocab_size,
            dtype=self.dtype,
        )

    def __call__(self, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        return self.step(carry, self.ih(x))

    def step(self, carry: Carry, ih: jax.Array) -> tuple[Carry, jax.Array]:
        """One step, given what ``ih`` makes of the input."""
        maps = preactivations(self.sums_preactivations, ih, self.hh(hidden(carry)))
        carry = self.update(carry, *maps)
        return carry, hidden(carry)

    def gate_values(self, carry: Carry, ih: jax.Array) -> GRUGates | LSTMGates | None:
        """What the gates of one step, or of many side by side, let through.

        Args:
            carry: What the step begins with, ``(*batch, ...)``.
            ih: What ``ih`` makes of the input, ``(*batch, gates * features)``.

        Returns:
            Arrays ``(*batch, features)`` by the names of the equations; None for a cell
            without gates.
        """
        return None

    @property
    def update(self) -> Callable[..., Carry]:
        """The pure function ``(carry, ih(x), hh(h)) -> carry``, or of their sum."""
        raise NotImplementedError

    @property
    def has_pure_update(self) -> bool:
        """Whether ``update`` is all there is to a step besides ``ih`` and ``hh``."""
        return True

    @property
    def num_feature_axes(self) -> int:
        return 1

    @nn.nowrap
    def initialize_carry(
        self, rng: jax.Array | None, input_shape: tuple[int, ...]
    ) -> Carry:
        """Zeros, as in PyTorch.

        Args:
            rng: Unused; it is there because Flax's cells have it.
            input_shape: ``(*batch, input)``; only the batch axes count.
        """
        return jnp.zeros((*input_shape[:-1], self.features), jnp.float32)


class ElmanCell(Cell):
    r"""One step of an Elman network, ``torch.nn.RNNCell``.

    .. math:: h' = \phi(W_{ih} x + b_{ih} + W_{hh} h + b_{hh})

    Attributes:
        activation: :math:`\phi`, one of tanh, relu, sigmoid, identity, or any
            hashable function of an array, say ``nn.tanh``.

    Parameters:
        ``ih/kernel (input, features)``, ``hh/kernel (features, features)``, each with a
        ``bias``.

    Args:
        carry: :math:`h`, ``(*batch, features)``.
        x: ``(*batch, input)``, or tokens ``(*batch,)``.

    Returns:
        ``(carry, y)``, both :math:`h'`.

    Raises:
        ValueError: If ``activation`` is neither one of the four nor a function.

    Example:
        >>> cell = ElmanCell(features=4)
        >>> carry, x = jnp.zeros(4), jnp.ones(3)
        >>> params = cell.init(jax.random.key(0), carry, x)
        >>> carry, y = cell.apply(params, carry, x)
        >>> y.shape
        (4,)

    Source:
        Elman, 1990, "Finding structure in time"; ``torch.nn.RNNCell``.
    """

    activation: Activation = "tanh"

    sums_preactivations: ClassVar[bool] = True

    def setup(self):
        activation_function(self.activation)  # Refuses what it does not know.
        super().setup()

    @property
    def update(self) -> Callable[..., Carry]:
        return _elman_update(self.activation)


@functools.lru_cache(maxsize=128)
def _elman_update(activation: Activation) -> Callable[..., Carry]:
    # One object for each activation: JAX compiles anew for a function it has not seen.
    return functools.partial(equations.elman, activation)


class SumCell(Cell):
    r"""Two squashed maps, added: the hand-made cell of lesson 004.

    .. math:: h' = \tanh(W_{ih} x + b_{ih}) + \tanh(W_{hh} h + b_{hh})

    An Elman cell would add before it squashes; this state ranges over (-2, 2).

    Parameters:
        ``ih/kernel (input, features)``, ``hh/kernel (features, features)``, each with a
        ``bias``.

    Args:
        carry: :math:`h`, ``(*batch, features)``.
        x: ``(*batch, input)``, or tokens ``(*batch,)``.

    Returns:
        ``(carry, y)``, both :math:`h'`.

    Example:
        >>> cell = SumCell(features=4)
        >>> params = cell.init(jax.random.key(0), jnp.zeros(4), jnp.ones(3))
        >>> cell.apply(params, jnp.zeros(4), jnp.ones(3))[1].shape
        (4,)
    """

    @property
    def update(self) -> Callable[..., Carry]:
        return equations.sum_of_two


class GRUCell(Cell):
    r"""One step of a gated recurrent unit, ``torch.nn.GRUCell``.

    .. math::
        r &= \sigma(W_{ir} x + b_{ir} + W_{hr} h + b_{hr}) \\
        z &= \sigma(W_{iz} x + b_{iz} + W_{hz} h + b_{hz}) \\
        n &= \tanh(W_{in} x + b_{in} + r \odot (W_{hn} h + b_{hn})) \\
        h' &= (1 - z) \odot n + z \odot h

    The reset gate :math:`r` acts after the hidden product, as in PyTorch and cuDNN;
    Cho et al. apply it before.

    Parameters:
        ``ih/kernel (input, 3 * features)``, ``hh/kernel (features, 3 * features)``,
        each with a ``bias``; gates in the order r, z, n.

    Args:
        carry: :math:`h`, ``(*batch, features)``.
        x: ``(*batch, input)``, or tokens ``(*batch,)``.

    Returns:
        ``(carry, y)``, both :math:`h'`.

    Example:
        >>> cell = GRUCell(features=4)
        >>> params = cell.init(jax.random.key(0), jnp.zeros(4), jnp.ones(3))
        >>> carry, y = cell.apply(params, jnp.zeros(4), jnp.ones(3))
        >>> y.shape
        (4,)

    Source:
        Cho et al., 2014, https://arxiv.org/abs/1406.1078; ``torch.nn.GRUCell`` for the
        place of the reset gate.
    """

    gates: ClassVar[int] = 3

    def gate_values(self, carry: jax.Array, ih: jax.Array) -> GRUGates:
        return equations.gru_gates(ih, self.hh(carry))

    @property
    def update(self) -> Callable[..., Carry]:
        return equations.gru


class LSTMCell(Cell):
    r"""One step of a long short-term memory, ``torch.nn.LSTMCell``.

    .. math::
        i &= \sigma(W_{ii} x + b_{ii} + W_{hi} h + b_{hi}) \\
        f &= \sigma(W_{if} x + b_{if} + W_{hf} h + b_{hf}) \\
        g &= \tanh(W_{ig} x + b_{ig} + W_{hg} h + b_{hg}) \\
        o &= \sigma(W_{io} x + b_{io} + W_{ho} h + b_{ho}) \\
        c' &= f \odot c + i \odot g \\
        h' &= o \odot \tanh(c')

    With a projection, :math:`h' = W_{hr} (o \odot \tanh(c'))`, at every step.

    Attributes:
        projection: Width of :math:`h` (``proj_size`` in PyTorch); None leaves it as
            wide as :math:`c`.
        hr_init: Initialiser of the projection; None is torch's, ``torch_uniform(features)``.

    Parameters:
        ``ih/kernel (input, 4 * features)``, ``hh/kernel (features, 4 * features)``,
        each with a ``bias``; gates in the order i, f, g, o. With a projection
        ``hh/kernel (projection, 4 * features)`` and ``hr/kernel (features,
        projection)``, which has no bias.

    Args:
        carry: :class:`LSTMCarry`.
        x: ``(*batch, input)``, or tokens ``(*batch,)``.

    Returns:
        ``(carry, y)``; :math:`y` is :math:`h'`.

    Example:
        >>> cell = LSTMCell(features=4, projection=2)
        >>> carry = cell.initialize_carry(None, (3,))
        >>> params = cell.init(jax.random.key(0), carry, jnp.ones(3))
        >>> carry, y = cell.apply(params, carry, jnp.ones(3))
        >>> carry.h.shape, carry.c.shape, y.shape
        ((2,), (4,), (2,))

    Source:
        Hochreiter & Schmidhuber, 1997; Gers et al., 2000, for the forget gate;
        ``torch.nn.LSTMCell``; projection: Sak et al., 2014,
        https://arxiv.org/abs/1402.1128.
    """

    projection: int | None = None
    hr_init: Initializer | None = None

    gates: ClassVar[int] = 4
    sums_preactivations: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_projection(self.projection, self.features)

    def setup(self):
        super().setup()
        if self.projection is not None:
            self.hr = Linear(
                self.projection,
                use_bias=False,
                kernel_init=self.hr_init or torch_uniform(self.features),
                dtype=self.dtype,
            )

    def step(self, carry: LSTMCarry, ih: jax.Array) -> tuple[LSTMCarry, jax.Array]:
        carry, y = super().step(carry, ih)
        if self.projection is not None:
            y = self.hr(y)
            carry = LSTMCarry(h=y, c=carry.c)
        return carry, y

    def gate_values(self, carry: LSTMCarry, ih: jax.Array) -> LSTMGates:
        return equations.lstm_gates(ih + self.hh(carry.h))

    @property
    def update(self) -> Callable[..., Carry]:
        return equations.lstm

    @property
    def has_pure_update(self) -> bool:
        return self.projection is None

    @nn.nowrap
    def initialize_carry(
        self, rng: jax.Array | None, input_shape: tuple[int, ...]
    ) -> LSTMCarry:
        batch = input_shape[:-1]
        return LSTMCarry(
            h=jnp.zeros((*batch, self.projection or self.features), jnp.float32),
            c=jnp.zeros((*batch, self.features), jnp.float32),
        )
