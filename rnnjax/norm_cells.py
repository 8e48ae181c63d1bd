"""Cells with layer normalisation, and stacks of them; PyTorch has none."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnnjax.cells import Cell
from rnnjax.equations import GRUGates, LSTMCarry, LSTMGates, lstm_gates
from rnnjax.recurrent import Stack


def _norm(use_bias: bool) -> nn.LayerNorm:
    """``torch.nn.LayerNorm``, with its epsilon and its two-pass variance."""
    return nn.LayerNorm(1e-5, use_bias=use_bias, use_fast_variance=False)


class LayerNormGRUCell(Cell):
    r"""One step of a gated recurrent unit with layer normalisation.

    .. math::
        (r, z) &= \sigma(LN(W_{i,rz} x) + LN(W_{h,rz} h)) \\
        n &= \tanh(LN(W_{in} x) + r \odot LN(W_{hn} h)) \\
        h' &= (1 - z) \odot n + z \odot h

    :math:`LN` has a scale and a bias of its own at each place; the maps have none.

    Parameters:
        ``ih/kernel (input, 3 * features)``, ``hh/kernel (features, 3 * features)``;
        ``ih_norm`` and ``hh_norm`` with ``scale`` and ``bias (2 * features,)``,
        ``in_norm`` and ``hn_norm`` with ``(features,)``.

    Args:
        carry: :math:`h`, ``(*batch, features)``.
        x: ``(*batch, input)``, or tokens ``(*batch,)``.

    Returns:
        ``(carry, y)``, both :math:`h'`.

    Example:
        >>> cell = LayerNormGRUCell(features=4)
        >>> params = cell.init(jax.random.key(0), jnp.zeros(4), jnp.ones(3))
        >>> carry, y = cell.apply(params, jnp.zeros(4), jnp.ones(3))
        >>> y.shape
        (4,)

    Source:
        Ba et al., 2016, https://arxiv.org/abs/1607.06450, supplementary material; the
        roles of :math:`z` and :math:`1 - z` are PyTorch's.
    """

    gates: ClassVar[int] = 3

    def setup(self):
        self.ih = self.linear(self.ih_init, use_bias=False)
        self.hh = self.linear(self.hh_init, use_bias=False)
        self.ih_norm, self.hh_norm = _norm(self.use_bias), _norm(self.use_bias)
        self.in_norm, self.hn_norm = _norm(self.use_bias), _norm(self.use_bias)

    def step(self, carry: jax.Array, ih: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, z, n = self.gate_values(carry, ih)
        carry = (1 - z) * n + z * carry
        return carry, carry

    def gate_values(self, carry: jax.Array, ih: jax.Array) -> GRUGates:
        irz, in_ = jnp.split(ih, [2 * self.features], axis=-1)
        hrz, hn = jnp.split(self.hh(carry), [2 * self.features], axis=-1)
        rz = jax.nn.sigmoid(self.ih_norm(irz) + self.hh_norm(hrz))
        r, z = jnp.split(rz, 2, axis=-1)
        return GRUGates(r=r, z=z, n=jnp.tanh(self.in_norm(in_) + r * self.hn_norm(hn)))

    @property
    def has_pure_update(self) -> bool:
        return False


class LayerNormLSTMCell(Cell):
    r"""One step of a long short-term memory with layer normalisation.

    .. math::
        (i, f, g, o) &= LN(W_i x) + LN(W_h h) \\
        c' &= \sigma(f) \odot c + \sigma(i) \odot \tanh(g) \\
        h' &= \sigma(o) \odot \tanh(LN(c'))

    :math:`LN` has a scale and a bias of its own at each place; the maps have none. What
    the carry holds is :math:`c'`, not :math:`LN(c')`.

    Parameters:
        ``ih/kernel (input, 4 * features)``, ``hh/kernel (features, 4 * features)``;
        ``ih_norm`` and ``hh_norm`` with ``scale`` and ``bias (4 * features,)``,
        ``c_norm`` with ``(features,)``.

    Args:
        carry: :class:`rnnjax.LSTMCarry`.
        x: ``(*batch, input)``, or tokens ``(*batch,)``.

    Returns:
        ``(carry, y)``; :math:`y` is :math:`h'`.

    Example:
        >>> cell = LayerNormLSTMCell(features=4)
        >>> carry = cell.initialize_carry(None, (3,))
        >>> params = cell.init(jax.random.key(0), carry, jnp.ones(3))
        >>> carry, y = cell.apply(params, carry, jnp.ones(3))
        >>> carry.c.shape, y.shape
        ((4,), (4,))

    Source:
        Ba et al., 2016, https://arxiv.org/abs/1607.06450, supplementary material; the
        biases of its normalisations stand for its :math:`b`.
    """

    gates: ClassVar[int] = 4

    def setup(self):
        self.ih = self.linear(self.ih_init, use_bias=False)
        self.hh = self.linear(self.hh_init, use_bias=False)
        self.ih_norm, self.hh_norm = _norm(self.use_bias), _norm(self.use_bias)
        self.c_norm = _norm(self.use_bias)

    def step(self, carry: LSTMCarry, ih: jax.Array) -> tuple[LSTMCarry, jax.Array]:
        i, f, g, o = self.gate_values(carry, ih)
        c = f * carry.c + i * g
        h = o * jnp.tanh(self.c_norm(c))
        return LSTMCarry(h, c), h

    def gate_values(self, carry: LSTMCarry, ih: jax.Array) -> LSTMGates:
        return lstm_gates(self.ih_norm(ih) + self.hh_norm(self.hh(carry.h)))

    @property
    def has_pure_update(self) -> bool:
        return False

    @nn.nowrap
    def initialize_carry(
        self, rng: jax.Array | None, input_shape: tuple[int, ...]
    ) -> LSTMCarry:
        zeros = super().initialize_carry(rng, input_shape)
        return LSTMCarry(h=zeros, c=zeros)


class LayerNormGRU(Stack):
    """A stack of :class:`LayerNormGRUCell`."""

    cell_type: ClassVar = LayerNormGRUCell


class LayerNormLSTM(Stack):
    """A stack of :class:`LayerNormLSTMCell`."""

    cell_type: ClassVar = LayerNormLSTMCell
