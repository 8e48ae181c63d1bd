"""What the tests of the layers share: stacks from arguments, runs, comparisons."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rnnjax import GRU, LSTM, Elman, LSTMCarry, torch_layout
from rnnjax.affine import is_tokens
from rnnjax.equations import hidden
from rnnjax.recurrent import Stack

STACKS = {"rnn": Elman, "gru": GRU, "lstm": LSTM}
OPTIONS = ("num_layers", "bidirectional", "use_bias", "activation", "projection")

AS_USERS = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
    "xla_cpu_use_fusion_emitters": True,
    "xla_cpu_parallel_codegen_split_count": 32,
}
"""For ``jax.jit(compiler_options=…)``: as users compile, not as cheaply as tests do."""
# What conftest did not set, this jaxlib may not have.
for name in tuple(AS_USERS):
    if name.startswith("xla_cpu") and name not in os.environ.get("XLA_FLAGS", ""):
        del AS_USERS[name]

VALUES = 2e-6
GRADIENTS = 1e-5


def make_stack(kind: str, features: int, **arguments) -> Stack:
    """The stack of a case's arguments; those that are not the stack's are left out."""
    options = {name: arguments[name] for name in OPTIONS if name in arguments}
    return STACKS[kind](features, **options)


def random_params(module, *inputs, seed: int = 0):
    """Parameters of a module's shapes, and biases that are not 0, as NumPy arrays.

    Compiling its initialisers would take longer than most tests' own program.
    """
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.uniform(-0.5, 0.5, leaf.shape).astype(np.float32), shapes
    )


def normal(seed: int, *shape: int) -> np.ndarray:
    """Random numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def results_and_gradients(module, inputs, seq_lengths=None, **masks):
    """What a module returns, and the gradients of a randomly weighted sum of it.

    The gradients are of the parameters, the inputs (unless they are tokens) and the
    initial carry, which is not zero.
    """
    params = random_params(module, inputs)
    carry, ys = jax.eval_shape(module.apply, {"params": params}, inputs)
    initial = jax.tree.map(lambda x: normal(1, *x.shape), carry)
    leaves, tree = jax.tree.flatten((carry, ys))
    weights = tree.unflatten([normal(i, *x.shape) for i, x in enumerate(leaves)])

    def run(differentiated, tokens):
        params, initial, inputs = differentiated
        inputs = tokens if inputs is None else inputs
        out = module.apply({"params": params}, inputs, seq_lengths, initial, **masks)
        parts = jax.tree.map(jnp.vdot, out, weights)
        return sum(jax.tree.leaves(parts)), out

    floats = None if is_tokens(inputs) else inputs
    gradient = jax.jit(jax.grad(run, has_aux=True))
    grads, out = gradient((params, initial, floats), inputs)
    return out, grads


def error(actual, expected) -> float:
    """The largest difference, relative to the largest number expected."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    scale = max(np.abs(expected).max(initial=0), 1e-3)
    return float(np.abs(actual - expected).max(initial=0) / scale)


def assert_close(actual, expected, tolerance: float = VALUES) -> None:
    """Compare two pytrees leaf by leaf, each relative to its own scale."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    errors = jax.tree.map(error, actual, expected)
    worst = max(jax.tree.leaves(errors), default=0.0)
    assert worst <= tolerance, errors  # a NaN fails too


def from_states(stack: Stack, h0, c0=None):
    """A carry from torch's ``(layers * directions, batch, ·)``."""
    if c0 is None:
        return tuple(h0)
    return tuple(LSTMCarry(h, c) for h, c in zip(h0, c0, strict=True))


def to_states(carry) -> dict[str, jax.Array]:
    """torch's ``h_n`` and, for an LSTM, ``c_n``."""
    states = {"h_n": jnp.stack([hidden(part) for part in carry])}
    if isinstance(carry[0], LSTMCarry):
        states["c_n"] = jnp.stack([part.c for part in carry])
    return states


@functools.cache
def compiled(stack: Stack, as_users: bool):
    """``(params, case) -> ((loss, results), gradients)``, compiled once for a stack.

    The loss is that of ``torch_layers.make_case``; the gradients are of the parameters,
    the inputs and the initial states.
    """

    def loss(params, variables, case):
        states = {name: variables[name] for name in ("h0", "c0") if name in variables}
        carry, outputs = stack.apply(
            {"params": params},
            variables["inputs"],
            case["seq_lengths"],
            from_states(stack, **states),
        )
        results = {"outputs": outputs} | to_states(carry)
        total = sum(
            jnp.vdot(results[name], case[f"loss_weights/{name}"]) for name in results
        )
        return total, results

    return jax.jit(
        jax.value_and_grad(loss, argnums=(0, 1), has_aux=True),
        compiler_options=AS_USERS if as_users else None,
    )


def run_case(
    stack: Stack, case: dict[str, np.ndarray], as_users: bool
) -> dict[str, np.ndarray]:
    """What rnnjax makes of a case of ``torch_layers.make_case``, under the same names.

    Initial states and lengths that the case does not have are zeros and all steps, so
    that a stack is compiled once; `test_recurrent` has the calls without them.
    """
    batch, time, _ = case["inputs"].shape
    weights = under("weights", case)
    # By the table alone: from_torch, which also checks, takes most of a case's time.
    paths = {entry.name: entry.paths[0] for entry in torch_layout(stack)}
    params = {paths[name]: weights[name].T for name in weights}
    states = {"h0": np.zeros_like(case["h_n"])}
    if "c_n" in case:
        states["c0"] = np.zeros_like(case["c_n"])
    variables = {"inputs": case["inputs"]} | {
        name: case.get(name, zeros) for name, zeros in states.items()
    }
    fixed = {name: case[name] for name in case if name.startswith("loss_weights/")}
    fixed["seq_lengths"] = case.get("seq_lengths", np.full(batch, time, np.int32))
    (_, results), (grads, others) = compiled(stack, as_users)(
        unflatten_dict(params, sep="/"), variables, fixed
    )
    grads = flatten_dict(grads, sep="/")
    grads = {name: grads[paths[name]].T for name in paths} | others
    return results | {f"grads/{name}": grads[name] for name in grads}


def errors_of_case(
    stack: Stack, case: dict[str, np.ndarray], as_users: bool
) -> dict[str, float]:
    """The error of every value and gradient of a case."""
    actual = run_case(stack, case, as_users)
    names = [name for name in actual if name in case]
    assert {"outputs", "h_n", "grads/inputs"} <= set(names)
    assert all(f"grads/{name}" in names for name in under("weights", case))
    return {name: error(actual[name], case[name]) for name in names}


def assert_matches(
    stack: Stack, case: dict[str, np.ndarray], as_users: bool = False
) -> None:
    """Compare a case with PyTorch's: values to `VALUES`, gradients to `GRADIENTS`."""
    errors = errors_of_case(stack, case, as_users)
    off = {
        name: worst
        for name, worst in errors.items()
        if not worst <= (GRADIENTS if name.startswith("grads/") else VALUES)
    }
    assert not off, off


def under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The entries ``<prefix>/<name>``, under ``<name>``."""
    return {
        name.removeprefix(f"{prefix}/"): array
        for name, array in arrays.items()
        if name.startswith(f"{prefix}/")
    }
