"""Drawing text from a language model, one compiled loop for all of it.

A model is called as ``model.apply({"params": params}, tokens, carry) -> (carry,
logits)``, such as :class:`rnnjax.lessons.CharLM`. :func:`read` takes in a prompt,
:func:`generate` goes on from there, as often as wanted:

    >>> from rnnjax.lessons import CharLM
    >>> model = CharLM(vocab_size=5, hidden_size=4, mlp_size=6)
    >>> prompt = jnp.array([[0, 3, 1]])
    >>> params = model.init(jax.random.key(0), prompt)["params"]
    >>> point, keys = read(model, params, prompt), sample_keys(jax.random.key(1), 1)
    >>> point, tokens = generate(model, params, point, keys, 7, Choice(top_k=3))
    >>> point, more = generate(model, params, point, keys, 2, Choice(top_k=3))
    >>> tokens.shape, more.shape
    ((1, 7), (1, 2))
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnnjax.equations import Carry


class Choice(NamedTuple):
    """How the next token is chosen.

    Attributes:
        temperature: Logits are divided by it; 0 always takes the likeliest token.
        top_k: Only so many of the likeliest tokens can be drawn; None is all.
        top_p: Only the fewest likeliest tokens whose probability is at least this can
            be drawn (of those that temperature and ``top_k`` leave); None is all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None


class Drawn(NamedTuple):
    """How far texts have come, side by side.

    Attributes:
        carry: The model's carry.
        logits: ``(samples, vocab)`` of the token to be drawn next.
        num_drawn: Number of tokens drawn so far.
    """

    carry: Carry
    logits: jax.Array
    num_drawn: jax.Array


def candidates(logits: jax.Array, choice: Choice) -> tuple[jax.Array, jax.Array]:
    """The tokens that can be drawn, likeliest first.

    Args:
        logits: ``(vocab,)``.
        choice: How the next token is chosen, with a temperature above 0.

    Returns:
        ``(logits, tokens)``: the logits to draw by, minus infinity where ``top_p``
        leaves a token out, and which tokens they belong to.

    Source:
        Fan et al., 2018, https://arxiv.org/abs/1805.04833, for top-k; Holtzman et al.,
        2020, https://arxiv.org/abs/1904.09751, for top-p.
    """
    vocab_size = logits.shape[-1]
    num = vocab_size if choice.top_k is None else min(choice.top_k, vocab_size)
    logits, tokens = jax.lax.top_k(logits / choice.temperature, num)
    if choice.top_p is not None:
        probs = jax.nn.softmax(logits)
        likelier = jnp.cumsum(probs) - probs
        # The likeliest always stays, whatever rounding makes of top_p.
        keep = (likelier < choice.top_p).at[0].set(True)
        logits = jnp.where(keep, logits, -jnp.inf)
    return logits, tokens


def choose(key: jax.Array, logits: jax.Array, choice: Choice) -> jax.Array:
    """Choose one token.

    Args:
        key: Randomness; not used at temperature 0.
        logits: ``(vocab,)``.
        choice: How.

    Returns:
        The token.

    Example:
        >>> logits = jnp.array([0.0, 3.0, 1.0])
        >>> int(choose(jax.random.key(0), logits, Choice(temperature=0)))
        1
    """
    if choice.temperature == 0:
        return jnp.argmax(logits)
    if choice.top_k is None and choice.top_p is None:
        return jax.random.categorical(key, logits / choice.temperature)
    logits, tokens = candidates(logits, choice)
    return tokens[jax.random.categorical(key, logits)]


def sample_keys(key: jax.Array, num_samples: int) -> jax.Array:
    """One key for each sample; the first ones do not depend on how many there are."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(num_samples))


@functools.partial(jax.jit, static_argnames="model")
def read(
    model: nn.Module, params: Any, tokens: jax.Array, carry: Carry | None = None
) -> Drawn:
    """Take in a prompt, in one scan.

    Args:
        model: The model.
        params: Its parameters.
        tokens: ``(samples, time)``, at least one step.
        carry: What comes before the prompt; None is nothing.

    Returns:
        The point after the prompt.
    """
    logits: Any  # Flax declares what apply returns with ``mutable``, too
    carry, logits = model.apply({"params": params}, tokens, carry)
    return Drawn(carry, logits[:, -1], jnp.array(0))


@functools.partial(jax.jit, static_argnames=("model", "length", "choice"))
def generate(
    model: nn.Module,
    params: Any,
    point: Drawn,
    keys: jax.Array,
    length: int,
    choice: Choice,
) -> tuple[Drawn, jax.Array]:
    """Draw tokens, each fed back to draw the next, in one loop.

    Token number n of sample i is drawn with ``fold_in(keys[i], n)``: neither how many
    samples there are nor in how many calls a text is drawn changes the text.

    Args:
        model: The model.
        params: Its parameters.
        point: Where to go on.
        keys: ``(samples,)`` randomness of each sample.
        length: Number of tokens.
        choice: How each is chosen.

    Returns:
        ``(point, tokens)``: where to go on after ``tokens (samples, length)``.
    """

    def step(point, _):
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, point.num_drawn)
        draw = jax.vmap(functools.partial(choose, choice=choice))
        tokens = draw(step_keys, point.logits)
        logits: Any
        carry, logits = model.apply({"params": params}, tokens[:, None], point.carry)
        return Drawn(carry, logits[:, 0], point.num_drawn + 1), tokens

    point, tokens = jax.lax.scan(step, point, length=length)
    return point, tokens.swapaxes(0, 1)
