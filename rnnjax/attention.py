"""Attention over the steps of a sequence: which of them matter, and their mean.

Every module here takes a query, the states ``(*batch, time, features)`` and a mask, and
returns ``(context, weights)``; :class:`AttentionPooling` needs no query. The states are
keys and values both, as in the encoder and decoder that attention comes from. A query
``(*batch, query)`` is one step of a decoder; several queries at once are one more
axis, ``(*batch, queries, query)`` with ``states[..., None, :, :]`` and
``mask[..., None, :]``.
What stands at masked steps, NaN included, has no effect, and a row without any step has
a context of zeros.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnnjax.linear import Linear


def attention_weights(scores: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Softmax over the steps that the mask allows; a row without any gives zeros.

    Args:
        scores: ``(..., time)``.
        mask: ``(..., time)``, True at the steps to attend to; None is all.

    Returns:
        ``(..., time)`` weights that sum to 1, or to 0 in a row without steps.

    Example:
        >>> mask = jnp.array([[True, True, False], [False, False, False]])
        >>> attention_weights(jnp.zeros((2, 3)), mask).tolist()
        [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    if mask is None:
        return jax.nn.softmax(scores, axis=-1)
    # Zeroed first: a score of NaN at a masked step would reach the gradients.
    scores = jnp.where(mask, scores, 0)
    return jax.nn.softmax(scores, axis=-1, where=mask)


def attend(weights: jax.Array, states: jax.Array) -> jax.Array:
    """The states ``(..., time, features)`` added up by weights ``(..., time)``."""
    return jnp.einsum("...t,...tf->...f", weights, states)


def clean(states: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Zeros where the mask is False: NaN times a weight of 0 would be NaN."""
    return states if mask is None else jnp.where(mask[..., None], states, 0)


class AttentionPooling(nn.Module):
    r"""A weighted mean of the states, with linear scores: lesson 001's attention.

    .. math::
        e_j = w h_j + b, \qquad
        \alpha_j = \frac{\exp e_j}{\sum_k \exp e_k}, \qquad
        c = \sum_j \alpha_j h_j

    Args:
        states: ``(*batch, time, features)``.
        mask: ``(*batch, time)``, True at real steps; None is all.

    Returns:
        ``(c, weights)``: ``(*batch, features)`` and ``(*batch, time)``; an empty row
        gives zeros for both.

    Example:
        >>> pooling = AttentionPooling()
        >>> states = jnp.ones((2, 7, 4))
        >>> params = pooling.init(jax.random.key(0), states)
        >>> c, weights = pooling.apply(params, states)
        >>> c.shape, weights.shape
        ((2, 4), (2, 7))
    """

    @nn.compact
    def __call__(
        self, states: jax.Array, mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        states = clean(states, mask)
        scores = Linear(1, name="score")(states)[..., 0]
        weights = attention_weights(scores, mask)
        return attend(weights, states), weights


class AdditiveAttention(nn.Module):
    r"""Scores from one hidden layer on the query and the state: Bahdanau's attention.

    .. math:: e_j = v \tanh(W q + U h_j + b)

    Attributes:
        features: Width of the hidden layer.

    Parameters:
        ``query/kernel (query, features)`` with a ``bias``, ``key/kernel (features of
        the states, features)``, ``score/kernel (features, 1)``.

    Args:
        query: ``(*batch, query)``.
        states: ``(*batch, time, features)``.
        mask: ``(*batch, time)``, True at real steps; None is all.

    Returns:
        ``(context, weights)``: ``(*batch, features)`` and ``(*batch, time)``.

    Example:
        >>> attention = AdditiveAttention(features=6)
        >>> query, states = jnp.ones((2, 5)), jnp.ones((2, 7, 4))
        >>> params = attention.init(jax.random.key(0), query, states)
        >>> context, weights = attention.apply(params, query, states)
        >>> context.shape, weights.shape
        ((2, 4), (2, 7))

    Source:
        Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2.
    """

    features: int

    @nn.compact
    def __call__(
        self, query: jax.Array, states: jax.Array, mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        states = clean(states, mask)
        query = Linear(self.features, name="query")(query)
        keys = Linear(self.features, use_bias=False, name="key")(states)
        hidden = jnp.tanh(query[..., None, :] + keys)
        scores = Linear(1, use_bias=False, name="score")(hidden)[..., 0]
        weights = attention_weights(scores, mask)
        return attend(weights, states), weights


class DotAttention(nn.Module):
    r"""Scores from a product of the query and the state: Luong's attention.

    .. math:: e_j = s \, q \cdot h_j \quad \text{or} \quad e_j = s \, q \cdot (W h_j)

    Attributes:
        general: Whether there is a :math:`W` (Luong's *general*; without it *dot*). It
            is needed where query and states differ in width.
        scale: :math:`s`; 1 is Luong's, ``features**-0.5`` that of transformers.

    Parameters:
        None, or ``key/kernel (features, query)``.

    Args:
        query: ``(*batch, query)``.
        states: ``(*batch, time, features)``.
        mask: ``(*batch, time)``, True at real steps; None is all.

    Returns:
        ``(context, weights)``: ``(*batch, features)`` and ``(*batch, time)``.

    Raises:
        ValueError: If the widths differ and ``general`` is False.

    Example:
        >>> query, states = jnp.array([1.0, 0.0]), jnp.array([[9.0, 0.0], [0.0, 9.0]])
        >>> context, weights = DotAttention().apply({}, query, states)
        >>> weights.round(3).tolist()
        [1.0, 0.0]

    Source:
        Luong et al., 2015, https://arxiv.org/abs/1508.04025, section 3.1.
    """

    general: bool = False
    scale: float = 1.0

    @nn.compact
    def __call__(
        self, query: jax.Array, states: jax.Array, mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        keys = states = clean(states, mask)
        if self.general:
            keys = Linear(query.shape[-1], use_bias=False, name="key")(states)
        elif query.shape[-1] != states.shape[-1]:
            raise ValueError(
                f"the query has {query.shape[-1]} features and the states "
                f"{states.shape[-1]}; expected as many, or general=True"
            )
        scores = self.scale * jnp.einsum("...f,...tf->...t", query, keys)
        weights = attention_weights(scores, mask)
        return attend(weights, states), weights


class MultiHeadAttention(nn.Module):
    r"""Scaled dot products in several subspaces, ``torch.nn.MultiheadAttention``.

    .. math::
        \alpha^k = softmax_j(d^{-1/2} \, W_q^k q \cdot W_k^k h_j), \qquad
        c = W_o [\textstyle\sum_j \alpha^1_j W_v^1 h_j; \ldots] + b_o

    Every product with :math:`W_q, W_k, W_v` has a bias; :math:`d` is the width of a
    head. A row without steps has a context of zeros, where PyTorch has NaN.

    Attributes:
        num_heads: Number of heads, a divisor of the width of query and states.

    Parameters:
        ``in_proj/kernel (features, 3 * features)``, for query, keys and values in this
        order, and ``out_proj/kernel (features, features)``, each with a ``bias``.

    Args:
        query: ``(*batch, features)``.
        states: ``(*batch, time, features)``.
        mask: ``(*batch, time)``, True at real steps (in PyTorch's ``key_padding_mask``
            True is padding); None is all.

    Returns:
        ``(context, weights)``: ``(*batch, features)`` and ``(*batch, heads, time)``.
        PyTorch returns the mean of the weights over the heads.

    Raises:
        ValueError: If the widths differ or cannot be shared among the heads.

    Example:
        Every step attends to all steps:

        >>> attention, states = MultiHeadAttention(num_heads=2), jnp.ones((3, 7, 4))
        >>> params = attention.init(jax.random.key(0), states, states[:, None])
        >>> context, weights = attention.apply(params, states, states[:, None])
        >>> context.shape, weights.shape
        ((3, 7, 4), (3, 7, 2, 7))

    Source:
        Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.2.2; the
        parameters and their initialisation are PyTorch's.
    """

    num_heads: int

    @nn.compact
    def __call__(
        self, query: jax.Array, states: jax.Array, mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        features = query.shape[-1]
        if states.shape[-1] != features or features % self.num_heads:
            raise ValueError(
                f"the query has {features} features and the states "
                f"{states.shape[-1]}; expected as many, a multiple of "
                f"{self.num_heads} (num_heads)"
            )
        states = clean(states, mask)
        zeros = nn.initializers.zeros
        in_proj = Linear(
            3 * features,
            kernel_init=nn.initializers.xavier_uniform(),
            bias_init=zeros,
            name="in_proj",
        )
        kernel, bias = in_proj.weights(features)
        assert bias is not None
        in_query, in_states = slice(features), slice(features, None)
        query = query @ kernel[:, in_query] + bias[in_query]
        keys, values = jnp.split(
            states @ kernel[:, in_states] + bias[in_states], 2, axis=-1
        )
        query = self._heads(query)
        scores = jnp.einsum("...hf,...thf->...ht", query, self._heads(keys))
        any_step = None if mask is None else mask.any(axis=-1)
        mask = None if mask is None else mask[..., None, :]
        weights = attention_weights(scores * query.shape[-1] ** -0.5, mask)
        context = jnp.einsum("...ht,...thf->...hf", weights, self._heads(values))
        out_proj = Linear(features, bias_init=zeros, name="out_proj")
        context = out_proj(context.reshape(*context.shape[:-2], features))
        return clean(context, any_step), weights

    def _heads(self, x):
        return x.reshape(*x.shape[:-1], self.num_heads, -1)
