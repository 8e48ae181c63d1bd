"""The layers under the modes that people switch on to find their own mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import GRU, LSTM, Elman, Recurrent, SumCell
from rnnjax.lessons import AttentionClassifier, CharLM, PreviousStateClassifier
from tests.helpers import normal, random_params

ROOT = Path(__file__).resolve().parent.parent
LENGTHS = np.array([7, 2, 0], np.int32)

LAYERS = {
    "Elman": Elman(5, num_layers=2, dropout=0.5),
    "GRU": GRU(5, bidirectional=True),
    "LSTM": LSTM(5, projection=3),
    "reference": GRU(5, backend="reference"),
    "SumCell": Recurrent(SumCell(5)),
    "remat": LSTM(5, remat=True),
}


def gradient_of(layer, params, inputs):
    def loss(params, inputs):
        carry, ys = layer.apply({"params": params}, inputs, LENGTHS)
        return jnp.sin(ys).sum() + sum(jnp.sum(x) for x in jax.tree.leaves(carry))

    return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, inputs)


MODES = {
    "jax_numpy_rank_promotion": "raise",
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_check_tracer_leaks": True,
    "jax_disable_jit": True,
    "jax_numpy_dtype_promotion": "strict",
}


@pytest.fixture(params=MODES)
def mode(request):
    before = getattr(jax.config, request.param)
    jax.config.update(request.param, MODES[request.param])
    jax.clear_caches()
    yield request.param
    jax.config.update(request.param, before)
    jax.clear_caches()


def plain(layer, inputs):
    params = random_params(layer, inputs)
    return params, gradient_of(layer, params, inputs)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_and_their_gradients(name, mode, rng):
    inputs = np.asarray(normal(0, 3, 7, 4))
    layer = LAYERS[name]
    jax.config.update(
        mode,
        False
        if MODES[mode] is True
        else {
            "jax_numpy_rank_promotion": "allow",
            "jax_numpy_dtype_promotion": "standard",
        }[mode],
    )
    params, expected = plain(layer, inputs)
    jax.config.update(mode, MODES[mode])
    jax.clear_caches()
    found = gradient_of(layer, params, inputs)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6),
        found,
        expected,
    )


MODELS = {
    "attention": AttentionClassifier(6, 5, 4),
    "blog": PreviousStateClassifier(6, 5, 4),
    "charlm": CharLM(6, hidden_size=5, mlp_size=3),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name, mode):
    model, tokens = MODELS[name], np.array([[0, 5, 2, 1], [3, 3, 0, 0]], np.int32)
    variables = model.init(jax.random.key(0), tokens)
    jax.tree.map(lambda x: x.block_until_ready(), model.apply(variables, tokens))


DOUBLE = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from rnnjax import GRU, LSTM, Elman, from_torch

rng = np.random.default_rng(0)
found = {}
for name, layer, gates in (("RNN", Elman(5), 1), ("GRU", GRU(5), 3), ("LSTM", LSTM(5), 4)):
    state = {
        "weight_ih_l0": rng.normal(size=(gates * 5, 4)),
        "weight_hh_l0": rng.normal(size=(gates * 5, 5)),
        "bias_ih_l0": rng.normal(size=gates * 5),
        "bias_hh_l0": rng.normal(size=gates * 5),
    }
    inputs = rng.normal(size=(3, 7, 4))
    params = jax.tree.map(
        lambda x: x.astype(jnp.float64), from_torch(layer, {k: v for k, v in state.items()})
    )
    flat = {k: v for k, v in state.items()}
    exact = {"layer_0": {"cell": {
        "ih": {"kernel": jnp.asarray(flat["weight_ih_l0"].T), "bias": jnp.asarray(flat["bias_ih_l0"])},
        "hh": {"kernel": jnp.asarray(flat["weight_hh_l0"].T), "bias": jnp.asarray(flat["bias_hh_l0"])},
    }}}
    def run(params, inputs):
        return layer.apply({"params": params}, inputs, jnp.array([7, 2, 0]))
    def loss(params, inputs):
        carry, ys = run(params, inputs)
        return jnp.sin(ys).sum()
    carry, ys = run(exact, jnp.asarray(inputs))
    grads = jax.grad(loss, argnums=1)(exact, jnp.asarray(inputs))
    single = jax.tree.map(lambda x: x.astype(jnp.float32), exact)
    mixed = [
        str(run(p, x)[1].dtype)
        for p, x in (
            (single, jnp.asarray(inputs, jnp.float32)),
            (single, jnp.asarray(inputs)),
            (exact, jnp.asarray(inputs, jnp.float32)),
        )
    ]
    fresh = layer.init(jax.random.key(0), jnp.asarray(inputs, jnp.float32))
    found[name] = {
        "ys": ys.tolist(), "grads": grads.tolist(), "dtype": str(ys.dtype),
        "mixed": mixed,
        "fresh": sorted({str(x.dtype) for x in jax.tree.leaves(fresh)}),
        "state": {k: v.tolist() for k, v in state.items()}, "inputs": inputs.tolist(),
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def in_double():
    """What the layers give in a process with 64 bits."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DOUBLE],
        env=os.environ | {"JAX_ENABLE_X64": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_64_bits_are_used_where_all_numbers_have_them(name, in_double):
    found = in_double[name]
    assert found["dtype"] == "float64"
    assert found["mixed"] == ["float32"] * 3
    assert found["fresh"] == ["float32"]


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_in_double_they_equal_pytorch(name, in_double):
    torch = pytest.importorskip("torch")
    found = in_double[name]
    layer = getattr(torch.nn, name)(4, 5, batch_first=True).double()
    layer.load_state_dict(
        {k: torch.tensor(v, dtype=torch.float64) for k, v in found["state"].items()}
    )
    inputs = torch.tensor(found["inputs"], dtype=torch.float64, requires_grad=True)
    ys, _ = layer(inputs)
    mask = (torch.arange(7)[None] < torch.tensor([7, 2, 0])[:, None])[..., None]
    (torch.sin(ys) * mask).sum().backward()
    expected = (ys * mask).detach().numpy()
    np.testing.assert_allclose(found["ys"], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["grads"], inputs.grad.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["Elman", "GRU", "LSTM"])
def test_the_table_of_a_layer_counts_its_operations(name):
    inputs = jnp.ones((3, 7, 4))
    layer = {"Elman": Elman(5), "GRU": GRU(5), "LSTM": LSTM(5, projection=3)}[name]
    table = layer.tabulate(
        jax.random.key(0), inputs, compute_flops=True, compute_vjp_flops=True
    )
    assert "flops" in table
    assert name in table
