"""What happens inside a trained model while it reads one text.

The states and gates are those that the model sows. The gradient of its answer with
respect to the state after each step is that with respect to a perturbation of zeros,
which :class:`rnnjax.Recurrent` adds to the carry there.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rnnjax.equations import Carry, GRUGates, LSTMCarry, LSTMGates
from rnnjax.lessons import NameClassifier

_PART = re.compile(r"layer_(\d+)(_reverse)?")


class Layer(NamedTuple):
    """One layer and direction of a recurrent network, step by step.

    Attributes:
        name: Its place in the network, for people.
        reverse: Whether it reads from the end to the beginning.
        states: ``(steps, features)``, an LSTM's h and c.
        gates: ``(steps, features)`` each, or None for a cell without gates.
        gradients: Of the answer's log-probability with respect to the states.
    """

    name: str
    reverse: bool
    states: Carry
    gates: GRUGates | LSTMGates | None
    gradients: Carry

    def gradient_norms(self) -> dict[str, np.ndarray]:
        """The norm at each step, ``(steps,)``: of the whole state and of its parts."""
        norms = {"state": self.gradients}
        if isinstance(self.gradients, LSTMCarry):
            norms |= self.gradients._asdict()
        return {name: _norm(gradient) for name, gradient in norms.items()}

    def panels(self) -> dict[str, np.ndarray]:
        """Gates and states by the names of the equations, ``(steps, features)``."""
        gates = {} if self.gates is None else self.gates._asdict()
        if isinstance(self.states, LSTMCarry):
            return {**gates, "c": self.states.c, "h": self.states.h}
        return {**gates, "h": self.states}

    def neurons(self) -> np.ndarray:
        """A value from -1 to 1 for each neuron and step, ``(steps, features)``.

        Of an LSTM that is the cell, squashed as the output sees it; else the state.

        Source:
            Karpathy et al., 2015, https://arxiv.org/abs/1506.02078, section 4.2.
        """
        if isinstance(self.states, LSTMCarry):
            return np.tanh(self.states.c)
        return self.states


class Trace(NamedTuple):
    """A model's way through one text.

    Attributes:
        answer: Index of the likeliest class, or of the likeliest next token.
        probability: What the model gives it.
        layers: The layers, from the input on.
    """

    answer: int
    probability: float
    layers: tuple[Layer, ...]


def trace(
    model: nn.Module, params: Any, tokens: np.ndarray, start: Carry | None = None
) -> Trace:
    """Read one text.

    Args:
        model: A classifier, or a language model, whose answer is the character that it
            expects after the text.
        params: Its parameters.
        tokens: ``(time,)``, not empty.
        start: What the recurrence starts from; None is zeros.

    Returns:
        The trace; it has no layers if the model has no recurrence.
    """
    (log_prob, (answer, sown)), gradients = jax.device_get(
        _read_and_differentiate(model, params, jnp.asarray(tokens, jnp.int32), start)
    )
    states, gates = _named("carries", sown), _named("gates", sown)
    gradients = flatten_dict(gradients)
    paths = {_place(path): path for path in states}
    layers = tuple(
        Layer(
            _described(place, set(paths)),
            place[1],
            states[path],
            gates.get(path),
            gradients[*path, "carries"],
        )
        for place, path in sorted(paths.items())
    )
    return Trace(int(answer), float(np.exp(log_prob)), layers)


@functools.partial(jax.jit, static_argnums=0)
def _read_and_differentiate(model, params, tokens, start):
    classifies = isinstance(model, NameClassifier)

    def read(perturbations):
        result, sown = model.apply(
            {"params": params, "perturbations": perturbations},
            *((tokens, None, start) if classifies else (tokens, start)),
            mutable=["intermediates"],
        )
        log_probs = jax.nn.log_softmax(result if classifies else result[1][-1])
        answer = jnp.argmax(log_probs)
        return log_probs[answer], (answer, sown.get("intermediates", {}))

    _, (_, sown) = jax.eval_shape(read, {})
    zeros = {
        (*path, "carries"): jax.tree.map(jnp.zeros_like, carries)
        for path, carries in _named("carries", sown).items()
    }
    return jax.value_and_grad(read, has_aux=True)(unflatten_dict(zeros))


def _named(name: str, sown: Mapping) -> dict[tuple[str, ...], Any]:
    """What was sown under a name, by the module that did it."""
    return {
        path[:-1]: values[0]
        for path, values in flatten_dict(sown).items()
        if path[-1] == name
    }


def _place(path: tuple[str, ...]) -> tuple[int, bool]:
    """Number and direction of a layer; a network of one layer may not say them."""
    match = _PART.fullmatch(path[-1])
    return (int(match[1]), bool(match[2])) if match else (0, False)


def _described(place: tuple[int, bool], places: set) -> str:
    """The place of a layer among the others, for people; a single one has no name."""
    number, reverse = place
    layers, directions = map(set, zip(*places, strict=True))
    words = []
    if len(layers) > 1:
        words.append(f"layer {number + 1} of {len(layers)}")
    if len(directions) > 1:
        words.append("backwards" if reverse else "forwards")
    return ", ".join(words)


def _norm(gradient: Carry) -> np.ndarray:
    parts = jax.tree.leaves(gradient)
    return np.sqrt(sum(np.square(part, dtype=np.float64).sum(-1) for part in parts))
