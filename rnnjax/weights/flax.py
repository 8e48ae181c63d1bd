"""Parameters of Flax's own recurrent cells in and out.

Flax keeps one bias where PyTorch and rnnjax keep two. The two only ever act as a sum,
except for the candidate :math:`n` of a GRU, whose hidden bias is inside the product
with the reset gate; Flax has that one too. So the *function* is the same both ways,
to rounding. *Training* goes on as in Flax only with one bias: an ``ElmanCell`` or
``LSTMCell`` with ``hh_bias=False``. With two, their sum moves twice as far at each
update. A GRU needs its second bias for :math:`n`, so that further training differs.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp

from rnnjax.cells import Cell, ElmanCell, GRUCell, LSTMCell
from rnnjax.recurrent import Recurrent
from rnnjax.weights.torch import Params, check_entries

Maps = tuple[list[str], list[str], set[str]]


@functools.singledispatch
def _names(cell: Cell) -> Maps:
    """Flax's maps of the input and of the hidden, by gate, and those with a bias."""
    raise TypeError(
        f"Flax has no cell like {type(cell).__name__}; expected an ElmanCell, a "
        "GRUCell or an LSTMCell without projection, or a Recurrent of one"
    )


@_names.register
def _(cell: ElmanCell) -> Maps:
    return ["i"], ["h"], {"i"}


@_names.register
def _(cell: GRUCell) -> Maps:
    return ["ir", "iz", "in"], ["hr", "hz", "hn"], {"ir", "iz", "in", "hn"}


@_names.register
def _(cell: LSTMCell) -> Maps:
    if cell.projection is not None:
        return _names.dispatch(object)(cell)
    hidden = ["hi", "hf", "hg", "ho"]
    return ["ii", "if", "ig", "io"], hidden, set(hidden)


def from_flax(module: Cell | Recurrent, params: Params) -> Params:
    """Parameters for ``module`` from those of Flax's cell, or of ``nn.RNN`` over it.

    Args:
        module: An ``ElmanCell`` (for Flax's ``SimpleCell``), ``GRUCell`` or
            ``LSTMCell`` (for ``LSTMCell`` and ``OptimizedLSTMCell``), or a
            ``Recurrent`` of one (for ``nn.RNN``).
        params: Flax's parameters.

    Returns:
        Parameters of ``module``; biases that Flax does not have are 0.

    Raises:
        TypeError: If Flax has no such cell.
        ValueError: If an entry is missing, extra or misshapen (all of them are listed),
            or ``module`` has no place for Flax's biases.

    Example:
        >>> import flax.linen as nn
        >>> import jax
        >>> inputs = jnp.ones((2, 7, 3))
        >>> rnn = nn.RNN(nn.OptimizedLSTMCell(4))
        >>> theirs = rnn.init(jax.random.key(0), inputs)["params"]
        >>> ours = Recurrent(LSTMCell(4, hh_bias=False))
        >>> params = from_flax(ours, theirs)
        >>> _, ys = ours.apply({"params": params}, inputs)
        >>> bool(jnp.allclose(ys, rnn.apply({"params": theirs}, inputs), atol=1e-6))
        True

    Source:
        ``flax.linen.recurrent``.
    """
    if isinstance(module, Recurrent):
        if set(params) != {"cell"}:
            raise ValueError(f"nn.RNN has the entry cell; got {', '.join(params)}")
        # What is no cell of rnnjax's is refused in there.
        cell = cast(Cell, module.cell)
        return {"cell": from_flax(cell, params["cell"])}
    ih, hh, biased = _names(module)
    hh_bias = module.use_bias and module.hh_bias
    if not (module.use_bias and (hh_bias or isinstance(module, ElmanCell | LSTMCell))):
        raise ValueError(
            f"Flax's cell has biases that {type(module).__name__} with "
            f"use_bias={module.use_bias}, hh_bias={module.hh_bias} has no place for"
        )
    _check(module, params, ih + hh, biased)

    def side_by_side(names, part):
        zeros = jnp.zeros(module.features)
        return jnp.concatenate(
            [jnp.asarray(params[name].get(part, zeros)) for name in names], axis=-1
        )

    ours = {
        "ih": {"kernel": side_by_side(ih, "kernel"), "bias": side_by_side(ih, "bias")},
        "hh": {"kernel": side_by_side(hh, "kernel"), "bias": side_by_side(hh, "bias")},
    }
    if not hh_bias:
        # The one bias is ours of the input, whichever map it has in Flax.
        ours["ih"]["bias"] = ours["ih"]["bias"] + ours["hh"].pop("bias")
    return ours


def to_flax(module: Cell | Recurrent, params: Params) -> Params:
    """Parameters of Flax's cell from those of ``module``; the inverse of from_flax.

    Args:
        module: See :func:`from_flax`.
        params: Its parameters; two biases that act as a sum become their sum.

    Returns:
        Parameters for Flax's ``SimpleCell``, ``GRUCell``, ``LSTMCell`` or
        ``OptimizedLSTMCell``, or for ``nn.RNN`` over it.

    Raises:
        TypeError: If Flax has no such cell.

    Example:
        >>> import jax
        >>> cell = ElmanCell(4)
        >>> params = cell.init(jax.random.key(0), jnp.zeros(4), jnp.ones(3))["params"]
        >>> jax.tree.map(jnp.shape, to_flax(cell, params))
        {'h': {'kernel': (4, 4)}, 'i': {'bias': (4,), 'kernel': (3, 4)}}
    """
    if isinstance(module, Recurrent):
        return {"cell": to_flax(cast(Cell, module.cell), params["cell"])}
    ih, hh, biased = _names(module)
    theirs: dict[str, Any] = {}
    biases: dict[str, jax.Array] = {}
    for names, part in ((ih, params["ih"]), (hh, params["hh"])):
        bias = part.get("bias", jnp.zeros(part["kernel"].shape[-1]))
        kernels = jnp.split(part["kernel"], len(names), axis=-1)
        theirs |= {n: {"kernel": k} for n, k in zip(names, kernels, strict=True)}
        biases |= dict(zip(names, jnp.split(bias, len(names)), strict=True))
    for i, h in zip(ih, hh, strict=True):
        if {i, h} <= biased:
            theirs[i]["bias"], theirs[h]["bias"] = biases[i], biases[h]
        else:
            theirs[i if i in biased else h]["bias"] = biases[i] + biases[h]
    return theirs


def _check(cell, params, names, biased):
    given = {
        f"{name}/{part}": jnp.shape(array)
        for name, parts in params.items()
        for part, array in parts.items()
    }
    kernel: tuple[Any, ...] = given.get(f"{names[0]}/kernel", ("input",))
    (inputs, *_) = kernel
    expected: dict[str, tuple[Any, ...]] = {}
    for name in names:
        width = inputs if name.startswith("i") else cell.features
        expected[f"{name}/kernel"] = (width, cell.features)
        if name in biased:
            expected[f"{name}/bias"] = (cell.features,)
    check_entries(expected, given, f"Flax's cell for {type(cell).__name__}")
