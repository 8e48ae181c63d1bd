"""Every backend gives what the scan gives, wherever it runs; or it is the scan."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.experimental import rnn

from rnnjax import GRU, LSTM, Elman, GRUCell, LSTMCell, Recurrent, equations, loops
from rnnjax.lessons import CharLM
from rnnjax.loops import cudnn as cudnn_loop
from rnnjax.loops import pallas_kernels
from rnnjax.loops.job import Static
from tests.helpers import assert_close, normal, random_params, results_and_gradients
from train import codec
from train.charlm import __main__ as charlm
from train.charlm import task as charlm_task
from train.cli import InputError
from train.datasets import SAMPLE_NAMES, load_names
from train.names import __main__ as names
from train.names.task import make_task
from train.runs.devices import make_layout

TIME, INPUTS, FEATURES = 4, 3, 5
VALUES, GRADIENTS = 1e-5, 1e-4
LENGTHS = np.array([2, 0, 4, 3, 1], np.int32)
CELLS = {"lstm": LSTMCell(FEATURES), "gru": GRUCell(FEATURES)}

# What is asked for here mostly does not apply to a CPU; one test sees what is said then.
pytestmark = pytest.mark.filterwarnings("ignore:backend '(pallas|cudnn)':UserWarning")


@pytest.fixture
def interpreted(monkeypatch):
    """Runs the kernels for TPUs here, step by step, on two blocks of rows."""
    monkeypatch.setattr(pallas_kernels, "INTERPRET", True)
    monkeypatch.setattr(pallas_kernels, "ROWS", 4)
    monkeypatch.setattr(pallas_kernels, "rows_that_fit", lambda *_: 4)


@functools.cache
def results(module, batch=LENGTHS.shape, padded=True):
    """What it makes of random inputs, and gradients."""
    inputs = normal(0, *batch, TIME, INPUTS)
    return results_and_gradients(module, inputs, LENGTHS if padded else None)


def assert_as_scanned(module, *args, values=VALUES, gradients=GRADIENTS):
    """Compare a backend with the scan."""
    expected = results(module.clone(backend="scan"), *args)
    # Not out of the cache: how the kernels run is not among the arguments.
    out, grads = results.__wrapped__(module, *args)
    assert_close(out, expected[0], values)
    assert_close(grads, expected[1], gradients)


def jaxpr_of(module, *args, **kwargs):
    inputs = jax.ShapeDtypeStruct((2, TIME, INPUTS), jnp.float32)
    init = module.clone(backend="scan").init
    params = jax.eval_shape(init, jax.random.key(0), inputs)
    return str(jax.make_jaxpr(module.apply)(params, inputs, *args, **kwargs))


# Kernels for a TPU, interpreted


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_kernels_give_what_the_scan_gives(kind, interpreted):
    """Both directions, lengths down to 0, sizes that no tile divides, two blocks."""
    assert_as_scanned(kind(FEATURES, bidirectional=True, backend="pallas"))


def test_kernels_with_two_batch_axes_and_no_padding(interpreted):
    recurrent = Recurrent(CELLS["gru"], reverse=True, backend="pallas")
    assert_as_scanned(recurrent, (2, 3), False)


def test_kernels_without_biases_in_bfloat16(interpreted):
    lstm = LSTM(FEATURES, use_bias=False, dtype=jnp.bfloat16, backend="pallas")
    # Forward they round at the same places, backward not.
    assert_as_scanned(lstm, gradients=0.02)


def test_layers_and_intermediates(interpreted):
    """The kernels give every carry, so that a look inside sees the same."""
    stack = GRU(FEATURES, num_layers=2)
    inputs = normal(0, len(LENGTHS), TIME, INPUTS)
    params = {"params": random_params(stack, inputs)}
    sown = [
        jax.jit(functools.partial(each.apply, mutable=["intermediates"]))(
            params, inputs, LENGTHS
        )
        for each in (stack, stack.clone(backend="pallas"))
    ]
    assert_close(*sown, VALUES)


@functools.cache
def vmapped(backend, mapped):
    """Gradients of rows one by one, with weights for all or for each."""
    recurrent = Recurrent(CELLS["lstm"], backend=backend)
    inputs = normal(0, len(LENGTHS), TIME, INPUTS)
    params = random_params(recurrent, inputs[0])
    weights = normal(1, TIME, FEATURES)
    axes = (None, 0, 0)
    if mapped == "weights":
        params = jax.tree.map(lambda x: normal(2, len(LENGTHS), *x.shape), params)
        axes = (0, 0, 0)

    def loss(params, inputs, length):
        (_, c), ys = recurrent.apply({"params": params}, inputs, length)
        return jnp.vdot(ys, weights) + c.sum()

    if mapped == "gradients":
        run = jax.vmap(jax.grad(loss, (0, 1)), axes)
    else:
        rows = jax.vmap(loss, axes)
        run = jax.grad(lambda *args: rows(*args).sum(), (0, 1))
    return jax.jit(run)(params, inputs, LENGTHS)


@pytest.mark.parametrize("mapped", ["rows", "gradients", "weights"])
def test_kernels_under_vmap(mapped, interpreted):
    assert_close(vmapped("pallas", mapped), vmapped("scan", mapped), GRADIENTS)


def test_vmap_makes_rows_of_one_batch(interpreted):
    """Not a kernel for each row, nor a weight's gradient."""
    recurrent = Recurrent(CELLS["gru"], backend="pallas")
    inputs = normal(0, 7, TIME, INPUTS)
    params = random_params(recurrent, inputs[0])

    def loss(params):
        run = jax.vmap(lambda row: recurrent.apply({"params": params}, row)[1])
        return run(inputs).sum()

    program = str(jax.make_jaxpr(jax.grad(loss))(params))
    assert "grid=(2, 4)" in program  # two blocks of four rows
    assert f"f32[7,{FEATURES},{3 * FEATURES}]" not in program


def test_what_the_kernels_cannot_do_is_scanned(interpreted):
    pallas = functools.partial(Recurrent, backend="pallas")
    gru = pallas(CELLS["gru"])
    reset = jax.ShapeDtypeStruct((2, TIME), jnp.bool_)
    assert "pallas_call" in jaxpr_of(gru)
    assert "pallas_call" not in jaxpr_of(gru, reset=reset)
    assert "pallas_call" not in jaxpr_of(pallas(LSTMCell(5, projection=3)))
    assert "pallas_call" not in jaxpr_of(Elman(5, backend="pallas"))
    empty = jnp.ones((2, 0, INPUTS))
    params = random_params(gru, empty)
    _, ys = gru.apply({"params": params}, empty)
    assert ys.shape == (2, 0, FEATURES)


def test_what_does_not_fit_is_scanned(monkeypatch):
    monkeypatch.setattr(pallas_kernels, "INTERPRET", True)
    monkeypatch.setattr(pallas_kernels, "VMEM", 2**19)
    assert "pallas_call" in jaxpr_of(Recurrent(GRUCell(128), backend="pallas"))
    assert "pallas_call" not in jaxpr_of(Recurrent(GRUCell(129), backend="pallas"))


def test_rows_fill_the_memory_but_do_not_overflow_it():
    for kind, dtype in ((LSTMCell, None), (GRUCell, jnp.bfloat16)):
        cell = kind(1024, dtype=dtype)
        static = Static(cell.update, cell.sums_preactivations, False, dtype)
        rows = pallas_kernels.rows_that_fit(static, 1024)
        assert rows % 16 == 0 and rows >= 64
        assert rows == pallas_kernels.rows_that_fit(static, 1000)
        assert pallas_kernels.rows_that_fit(static, 8192) == 0


@pytest.mark.parametrize("backend", ["pallas", "cudnn"])
def test_on_another_device_it_is_the_scan(backend):
    """To the last bit."""
    assert jax.default_backend() == "cpu"
    lstm = LSTM(FEATURES, bidirectional=True, backend=backend)
    assert_as_scanned(lstm, values=0.0, gradients=0.0)


def test_a_backend_that_is_not_known():
    with pytest.raises(ValueError, match="backend is 'gpu'; expected one of scan, ref"):
        Recurrent(CELLS["gru"], backend="gpu").init(jax.random.key(0), normal(0, 2, 3))


# Programs for other devices, made here


@pytest.mark.parametrize("backend", ["scan", "reference", "pallas", "cudnn"])
def test_programs_for_every_platform(backend):
    """The gradient of a model, lowered for each of them on a machine without."""
    model = CharLM(5, hidden_size=6, mlp_size=None, dropout=0.0, backend=backend)
    tokens = np.array([[0, 1, 2, 3, 4]], np.int32)
    params = random_params(model, tokens)

    def loss(params, tokens):
        (carry,), logits = model.apply({"params": params}, tokens)
        return jnp.sin(logits).sum() + carry.c.sum()

    gradient = jax.jit(jax.grad(loss))
    for platform in ("cpu", "cuda", "tpu"):
        program = export.export(gradient, platforms=[platform])(params, tokens)
        kernels = program.mlir_module().count("@tpu_custom_call")
        assert kernels == (2 if (backend, platform) == ("pallas", "tpu") else 0)


def test_any_number_of_rows_is_scanned():
    (rows,) = export.symbolic_shape("rows")
    recurrent = Recurrent(CELLS["lstm"], backend="pallas")
    params = random_params(recurrent, normal(0, 2, TIME, INPUTS))
    inputs = jax.ShapeDtypeStruct((rows, TIME, INPUTS), jnp.float32)
    run = jax.jit(lambda inputs: recurrent.apply({"params": params}, inputs)[1])
    exported = export.export(run, platforms=["tpu"])(inputs)
    assert "tpu_custom_call" not in exported.mlir_module()


COMPILE = """
import jax, jax.numpy as jnp
from jax.experimental import topologies
from rnnjax import GRUCell, LSTMCell, Recurrent

device = topologies.get_topology_desc("v5e:2x2", platform="tpu").devices[0]
tokens = jnp.zeros((20, 6), int)
layers = [
    Recurrent(kind(200, vocab_size=65), backend="pallas") for kind in (GRUCell, LSTMCell)
]
params = [jax.eval_shape(each.init, jax.random.key(0), tokens) for each in layers]

def loss(params, tokens, seq_lengths):
    runs = zip(layers, params)
    return sum(each.apply(p, tokens, seq_lengths)[1].sum() for each, p in runs)

args = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=jax.sharding.SingleDeviceSharding(device)
    ),
    (params, tokens, tokens[:, 0]),
)
print(jax.jit(jax.grad(loss)).lower(*args).compile().as_text())
"""


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu, the TPU compiler"
)
def test_kernels_compile_for_a_tpu():
    from train.bench.tpu.compile import ENVIRONMENT

    program = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # For each one forward, one backward, and no loop over time beside them.
    assert program.count('custom_call_target="tpu_custom_call"') == 4
    assert " while(" not in program


# cuDNN, with JAX's own reference of it in its place


@pytest.fixture
def stood_in(monkeypatch):
    """Puts JAX's reference in the place of the calls to cuDNN."""

    def reference(x, h, c, weights, seq_lengths, *options):
        sizes = options[:3]
        assert seq_lengths.dtype == jnp.int32
        parts = rnn.unpack_lstm_weights(weights, *sizes, options[4])
        return rnn.lstm_ref(x, h, c, *parts, seq_lengths, *options[:5])

    def forward(*args):
        out = reference(*args)
        return out, (*args[:5], out[0], jnp.zeros(7))

    def backward(*args):
        *options, residuals, grads = args
        seq_lengths = residuals[4]
        _, pull = jax.vjp(
            lambda *args: reference(*args, seq_lengths, *options), *residuals[:4]
        )
        return *pull(grads), jnp.zeros_like(seq_lengths)

    monkeypatch.setattr(rnn, "lstm_fwd", forward)
    monkeypatch.setattr(rnn, "lstm_bwd", backward)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(
        jax.lax, "platform_dependent", lambda *args, cuda, default: cuda(*args)
    )


def test_cudnn_is_given_what_the_scan_is_given(stood_in):
    """Weights, lengths down to 0, directions, the initial carry, all gradients."""
    assert_as_scanned(LSTM(FEATURES, bidirectional=True, backend="cudnn"))


def test_cudnn_under_vmap(stood_in):
    assert_close(vmapped("cudnn", "weights"), vmapped("scan", "weights"), GRADIENTS)


def test_cudnn_reads_tokens_without_biases(stood_in):
    tokens = np.array([[3, 1, -1], [0, 4, 2]], np.int32)
    lstm = LSTM(FEATURES, use_bias=False, vocab_size=5)
    params = {"params": random_params(lstm, tokens)}
    results = [
        jax.jit(each.apply)(params, tokens, np.array([2, 3]))
        for each in (lstm, lstm.clone(backend="cudnn"))
    ]
    assert_close(*results, VALUES)


def test_a_backend_that_does_not_apply_says_so_once():
    loops._say_once.cache_clear()
    inputs = normal(0, 2, TIME, INPUTS)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for cell in (CELLS["lstm"], CELLS["lstm"], LSTMCell(5, projection=3)):
            for backend in ("cudnn", "pallas"):
                recurrent = Recurrent(cell, backend=backend)
                jax.eval_shape(recurrent.init, jax.random.key(0), inputs)
    scanned = "backend 'cudnn' does not apply: {}; the scan runs instead"
    for_tpus = (
        "backend 'pallas' is for TPUs, and the device is cpu; the scan runs here, the "
        "kernel in a program compiled for a TPU"
    )
    more = "a step of LSTMCell has more than an update"
    assert [str(each.message) for each in seen] == [
        scanned.format("it needs an NVIDIA GPU, and the device is cpu"),
        for_tpus,
        scanned.format(more),
        scanned.format(more).replace("cudnn", "pallas"),
    ]


def test_what_cudnn_cannot_do_is_scanned(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

    def refuse(*_):
        raise AssertionError("cuDNN was asked")

    monkeypatch.setattr(cudnn_loop, "run", refuse)
    cudnn = functools.partial(Recurrent, backend="cudnn")
    lstm = cudnn(CELLS["lstm"])
    steps = jax.ShapeDtypeStruct((2, TIME), jnp.bool_)
    with pytest.raises(AssertionError, match="cuDNN was asked"):
        jaxpr_of(lstm)
    for recurrent, asked in (
        (cudnn(CELLS["gru"]), {}),
        (cudnn(LSTMCell(5, projection=3)), {}),
        (cudnn(LSTMCell(5, dtype=jnp.bfloat16)), {}),
        (lstm, {"mask": steps}),
        (lstm, {"reset": steps}),
    ):
        assert "scan" in jaxpr_of(recurrent, **asked)
    inputs = normal(0, 2, TIME, INPUTS)
    params = {"params": random_params(Recurrent(CELLS["lstm"]), inputs)}
    _, sown = lstm.apply(params, inputs, mutable=["intermediates"])
    assert sown["intermediates"]["carries"][0].c.shape == (2, TIME, FEATURES)


# The programs


def test_a_flag_chooses_the_backend_and_it_decides_nothing_about_a_run():
    config = names.Config(recipe="workshop", model="gru", backend="pallas")
    data = load_names(SAMPLE_NAMES)
    task = make_task("workshop", "gru", config.settings("gru"), data, [0], 0, "pallas")
    assert task.trainer.model.backend == "pallas"
    assert "pallas" not in json.dumps(names.describe(config, task))
    known = codec.Codec("abc")
    model = charlm_task.make_model(charlm.Config(backend="cudnn"), known)
    assert model.backend == "cudnn"


@pytest.mark.parametrize("backend", ["pallas", "cudnn"])
def test_kernels_are_not_divided_among_devices(backend):
    layout = functools.partial(make_layout, rows=64, replicas=1, hidden_size=8)
    assert layout(names.Config(backend=backend)) is None
    with pytest.raises(InputError, match=f"--backend {backend} runs on one device"):
        layout(names.Config(backend=backend, devices=2))


def test_the_kernels_know_their_updates():
    """Those of the cells are the ones that the backends look for."""
    assert CELLS["lstm"].update is equations.lstm
    assert CELLS["gru"].update is equations.gru
