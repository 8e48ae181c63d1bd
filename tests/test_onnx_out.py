"""What `to_onnx` writes gives rnnjax's numbers in onnxruntime, which has no JAX.

onnx's own evaluator is no oracle: it ignores the lengths of the rows.
"""

import dataclasses
import functools
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
import rnnjax.onnx.lessons
from rnnjax import (
    GRU,
    LSTM,
    Elman,
    ElmanCell,
    GRUCell,
    LayerNormGRU,
    LayerNormLSTM,
    Recurrent,
)
from rnnjax.cells import SumCell
from rnnjax.lessons import CharLM, PaddedClassifier
from rnnjax.onnx import graph as onnx_graph
from rnnjax.onnx import to_onnx
from rnnjax.onnx.cells import check_attributes
from tests.helpers import error, normal, random_params
from train.recipes import MODELS, build_model

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

BATCH, TIME, INPUT, FEATURES = 5, 7, 3, 4
LENGTHS = np.array([4, 0, TIME, 1, 6], np.int32)

VALUES = 2e-6
"""Relative to the largest number of an array: float32, summed in another order."""

NORMALISED = 6e-6
"""The same behind normalisations of four numbers, which divide by how far they differ."""


def open_session(data: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    # It remarks on inputs that may be left out.
    options.log_severity_level = 3
    return ort.InferenceSession(data, options, ["CPUExecutionProvider"])


def run(session: ort.InferenceSession, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def assert_equal(
    found: dict[str, np.ndarray], expected: dict, most: float = VALUES
) -> None:
    assert found.keys() == expected.keys()
    errors = {name: error(found[name], expected[name]) for name in expected}
    assert max(errors.values()) <= most, errors  # a NaN fails too


def named(name: str, carry) -> dict[str, np.ndarray]:
    """The arrays of a carry by the names that they have in the file."""
    leaves = jax.tree.leaves_with_path(carry)
    keystr = functools.partial(jax.tree_util.keystr, simple=True, separator="_")
    return {
        "_".join(filter(None, (name, keystr(path)))): np.asarray(leaf)
        for path, leaf in leaves
    }


STACKS = [
    Elman(FEATURES),
    Elman(FEATURES, activation="relu", num_layers=2, bidirectional=True),
    Elman(FEATURES, activation="sigmoid", use_bias=False),
    Elman(FEATURES, activation="identity", bidirectional=True),
    GRU(FEATURES),
    GRU(FEATURES, num_layers=2, bidirectional=True),
    GRU(FEATURES, use_bias=False, dropout=0.5, num_layers=3),
    LSTM(FEATURES),
    LSTM(FEATURES, num_layers=2, bidirectional=True),
    LSTM(FEATURES, use_bias=False, bidirectional=True),
    LSTM(FEATURES, projection=2, num_layers=2, bidirectional=True),
    LayerNormGRU(FEATURES, bidirectional=True),
    LayerNormLSTM(FEATURES, use_bias=False, num_layers=2),
    Recurrent(SumCell(FEATURES)),
    Recurrent(ElmanCell(FEATURES, hh_bias=False), reverse=True),
    Recurrent(SumCell(FEATURES), reverse=True),
]


@pytest.mark.parametrize("module", STACKS, ids=lambda module: type(module).__name__)
def test_stack(module):
    most = NORMALISED if "LayerNorm" in type(module).__name__ else VALUES
    inputs = normal(1, BATCH, TIME, INPUT)
    padding = np.arange(TIME) >= LENGTHS[:, None]
    inputs[padding] = np.nan
    params = random_params(module, inputs)
    session = open_session(to_onnx(module, params))
    assert [put.name for put in session.get_inputs()] == ["inputs", "seq_lengths"]
    compute = jax.jit(module.apply)
    shapes = jax.eval_shape(compute, {"params": params}, inputs, LENGTHS)[0]
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    for given in (zeros, jax.tree.map(lambda leaf: normal(2, *leaf.shape), shapes)):
        carry, ys = compute({"params": params}, inputs, LENGTHS, given)
        expected = {"ys": np.asarray(ys)} | named("carry", carry)
        starts = {} if given is zeros else named("initial_carry", given)
        found = run(session, inputs=inputs, seq_lengths=LENGTHS, **starts)
        assert not np.any(found["ys"][padding])
        assert_equal(found, expected, most)
        # Of any number of rows and steps.
        for row, length in enumerate(LENGTHS):
            one, steps = slice(row, row + 1), max(length, 1)
            found = run(
                session,
                inputs=inputs[one, :steps],
                seq_lengths=LENGTHS[one],
                **{name: start[one] for name, start in starts.items()},
            )
            alone = {name: array[one] for name, array in expected.items()}
            alone["ys"] = alone["ys"][:, :steps]
            assert_equal(found, alone, most)


@pytest.mark.parametrize(("kind", "op"), [(Elman, "RNN"), (GRU, "GRU"), (LSTM, "LSTM")])
def test_a_layer_is_one_operator(kind, op):
    stack = kind(FEATURES, num_layers=2, bidirectional=True)
    params = random_params(stack, normal(0, 1, 1, INPUT))
    model = onnx.load_model_from_string(to_onnx(stack, params))
    assert [opset.version for opset in model.opset_import] == [onnx_graph.OPSET]
    layers = [node for node in model.graph.node if node.op_type == op]
    assert len(layers) == 2
    assert "Scan" not in {node.op_type for node in model.graph.node}
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    assert shapes["layer_0.W"] == (2, gates * FEATURES, INPUT)
    assert shapes["layer_1.W"] == (2, gates * FEATURES, 2 * FEATURES)
    sizes = [
        [dim.dim_param or dim.dim_value for dim in put.type.tensor_type.shape.dim]
        for put in (*model.graph.input, *model.graph.output)
    ]
    assert sizes[:2] == [["batch", "time", INPUT], ["batch"]]
    assert ["batch", "time", 2 * FEATURES] in sizes
    assert ["batch", FEATURES] in sizes


def test_lengths_outside_are_none_or_all():
    gru = GRU(FEATURES, bidirectional=True)
    inputs = normal(1, 2, TIME, INPUT)
    params = random_params(gru, inputs)
    session = open_session(to_onnx(gru, params))
    strange, plain = np.int32([-3, TIME + 9]), np.int32([0, TIME])
    found = run(session, inputs=inputs, seq_lengths=strange)
    assert_equal(found, run(session, inputs=inputs, seq_lengths=plain))
    assert np.any(found["ys"][1])


@pytest.mark.parametrize(
    "stack", [GRU(FEATURES), LSTM(FEATURES), LSTM(FEATURES, projection=2)]
)
def test_no_rows_are_an_error(stack):
    """Of onnxruntime's own operators some end the process."""
    params = random_params(stack, normal(0, 1, 1, INPUT))
    session = open_session(to_onnx(stack, params))
    nothing = normal(0, 0, TIME, INPUT)
    with pytest.raises(Exception, match="Gather"):
        run(session, inputs=nothing, seq_lengths=np.zeros(0, np.int32))


def test_what_a_run_starts_from_by_default():
    lstm = LSTM(FEATURES)
    inputs = normal(1, BATCH, TIME, INPUT)
    params = random_params(lstm, inputs)
    start = (rnnjax.LSTMCarry(h=normal(3, 1, FEATURES), c=normal(4, 1, FEATURES)),)
    every = jax.tree.map(lambda leaf: jnp.repeat(leaf, BATCH, axis=0), start)
    carry, ys = lstm.apply({"params": params}, inputs, LENGTHS, every)
    session = open_session(to_onnx(lstm, params, start))
    found = run(session, inputs=inputs, seq_lengths=LENGTHS)
    assert_equal(found, {"ys": ys} | named("carry", carry))


VOCABULARY = 11
SIZES = {"hidden_size": FEATURES, "vocab_size": VOCABULARY}


@functools.cache
def lesson(recipe: str, name: str):
    """A small model, its parameters, and tokens and lengths for it."""
    model = build_model(recipe, name, **SIZES)
    padded = isinstance(model, PaddedClassifier)
    if padded:
        model = dataclasses.replace(model, max_length=TIME, mlp_size=6)
    if recipe == "lab":
        model = dataclasses.replace(model, mlp_size=6)
    tokens = np.random.default_rng(2).integers(-1, VOCABULARY, (BATCH, TIME))
    return model, random_params(model, tokens), tokens


@pytest.mark.parametrize(
    ("recipe", "name"),
    [key for key in MODELS if key[0] not in ("lab", "shakespeare")],
    ids=str,
)
def test_classifier(recipe, name):
    model, params, tokens = lesson(recipe, name)
    logits, sown = jax.jit(functools.partial(model.apply, mutable=["intermediates"]))(
        {"params": params}, tokens, LENGTHS
    )
    expected = {"logits": logits}
    if "attention" in sown.get("intermediates", {}):
        (expected["attention"],) = sown["intermediates"]["attention"]
    session = open_session(to_onnx(model, params))
    assert [put.name for put in session.get_inputs()] == ["tokens", "seq_lengths"]
    found = run(session, tokens=tokens, seq_lengths=LENGTHS)
    assert_equal(found, expected)
    assert np.ptp(found["logits"], axis=0).max() > 0.1
    for row, length in enumerate(LENGTHS):
        one, steps = slice(row, row + 1), max(length, 1)
        found = run(session, tokens=tokens[one, :steps], seq_lengths=LENGTHS[one])
        alone = {key: array[one] for key, array in expected.items()}
        if "attention" in alone:
            alone["attention"] = alone["attention"][:, :steps]
        assert_equal(found, alone)


@pytest.mark.parametrize("name", ["best-gru", "binary-mlp", "workshop-gru"])
def test_a_token_outside_is_the_zero_vector(name):
    model, params, tokens = lesson(*name.split("-"))
    session = open_session(to_onnx(model, params))
    strange, plain = tokens.copy(), tokens.copy()
    strange[:, ::2], plain[:, ::2] = VOCABULARY, -1
    strange[:, 1], plain[:, 1] = -7, -1
    full = np.full(BATCH, TIME, np.int32)
    found = run(session, tokens=strange, seq_lengths=full)
    assert_equal(found, run(session, tokens=plain, seq_lengths=full))
    logits = model.apply({"params": params}, plain, full)
    assert error(found["logits"], logits) <= VALUES


def test_another_activation_of_a_lessons_cell():
    model, params, tokens = lesson("blog", "rnn")
    model = dataclasses.replace(model, activation="identity")
    logits = model.apply({"params": params}, tokens, LENGTHS)
    session = open_session(to_onnx(model, params))
    found = run(session, tokens=tokens, seq_lengths=LENGTHS)
    assert_equal(found, {"logits": logits})


def test_a_classifier_starts_from_the_carry_that_it_was_given():
    model, params, tokens = lesson("blog", "rnn")
    start = normal(5, 1, FEATURES)
    every = jnp.repeat(start, BATCH, axis=0)
    logits = model.apply({"params": params}, tokens, LENGTHS, every)
    session = open_session(to_onnx(model, params, start))
    found = run(session, tokens=tokens, seq_lengths=LENGTHS)
    assert_equal(found, {"logits": logits})


def test_a_longer_name_than_the_model_takes_fails():
    model, params, _ = lesson("binary", "linear")
    session = open_session(to_onnx(model, params))
    with pytest.raises(Exception, match="Non-zero status code"):
        run(session, tokens=np.zeros((1, TIME + 1), int), seq_lengths=np.int32([3]))


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("lab", {}),
        ("shakespeare", {"num_layers": 2}),
        ("shakespeare", {"kind": "gru"}),
        ("shakespeare", {"kind": "rnn"}),
    ],
)
def test_a_language_model_hands_its_carry_on(recipe, changes):
    model = dataclasses.replace(lesson(recipe, "lstm")[0], **changes)
    tokens = lesson(recipe, "lstm")[2]
    params = random_params(model, tokens)
    session = open_session(to_onnx(model, params))
    shapes = jax.eval_shape(model.apply, {"params": params}, tokens)[0]
    given = jax.tree.map(lambda leaf: normal(3, *leaf.shape), shapes)
    carry, logits = jax.jit(model.apply)({"params": params}, tokens, given)
    expected = {"logits": np.asarray(logits)} | named("carry", carry)
    starts = named("initial_carry", given)
    assert [put.name for put in session.get_inputs()] == ["tokens", *starts]
    assert_equal(run(session, tokens=tokens, **starts), expected)
    # In two pieces, each of which starts where the one before ended.
    first = run(session, tokens=tokens[:, :3], **starts)
    after = {f"initial_{n}": a for n, a in first.items() if n != "logits"}
    second = run(session, tokens=tokens[:, 3:], **after)
    second["logits"] = np.concatenate([first["logits"], second["logits"]], axis=1)
    assert_equal(second, expected)


class OtherGRU(GRU):
    """A stack that may do anything."""

    temperature: float = 1.0


class OtherCell(GRUCell):
    """A cell that may do anything."""


def refused(module, params=None, carry=None):
    params = params or random_params(module, normal(0, 1, 1, INPUT))
    return module, params, carry


@pytest.mark.parametrize(
    ("module", "params", "carry", "kind", "message"),
    [
        (
            *refused(GRU(FEATURES, dtype=jnp.bfloat16)),
            ValueError,
            "GRU has dtype bfloat16; ONNX files are written in float32",
        ),
        (
            *refused(OtherGRU(FEATURES)),
            TypeError,
            "OtherGRU cannot be written as ONNX; expected one of .*Elman, GRU, ",
        ),
        (
            *refused(Recurrent(OtherCell(FEATURES))),
            TypeError,
            "the cell OtherCell cannot be written as ONNX; expected one of ElmanCell",
        ),
        (
            *refused(Recurrent(nn.GRUCell(FEATURES))),
            TypeError,
            "the cell GRUCell cannot be written as ONNX",
        ),
        (
            *refused(Elman(FEATURES, activation="gelu"), {"layer_0": {}}),
            ValueError,
            "activation is 'gelu'; expected one of tanh",
        ),
        (
            *refused(Elman(FEATURES, activation=jax.nn.gelu)),
            ValueError,
            "has activation=.*gelu.* be written as ONNX; expected one of tanh, relu",
        ),
        (
            *refused(rnnjax.DotAttention(), {"kernel": 1}),
            TypeError,
            "DotAttention cannot be written as ONNX; expected one of .*Recurrent",
        ),
        (
            *refused(GRU(FEATURES, use_bias=False), refused(GRU(FEATURES))[1]),
            ValueError,
            r"the parameters of GRU: extra layer_0/cell/\wh/bias \(12,\)",
        ),
        (
            *refused(GRU(FEATURES), refused(LSTM(FEATURES))[1]),
            ValueError,
            r"layer_0/cell/ih/kernel has shape \(3, 16\), expected \(3, 12\)",
        ),
        (
            *refused(GRU(FEATURES), {"layer_0": {}}),
            ValueError,
            "the parameters of GRU: missing layer_0/cell/",
        ),
        (
            *refused(GRU(FEATURES), carry=(np.zeros((BATCH, FEATURES)),)),
            ValueError,
            r"shapes \(\(5, 4\),\); expected those of one row, \(\(1, 4\),\)",
        ),
        (
            *refused(LSTM(FEATURES), carry=((np.zeros((1, 4)), np.zeros((1, 4))),)),
            ValueError,
            r"one row, \(LSTMCarry\(h=\(1, 4\), c=\(1, 4\)\),\)",
        ),
        (
            CharLM(VOCABULARY, FEATURES, None),
            {},
            (np.zeros((1, FEATURES)),),
            ValueError,
            "a CharLM is given its initial carry by whoever runs the file",
        ),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(
    module, params, carry, kind, message
):
    with pytest.raises(kind, match=message):
        to_onnx(module, params, carry)


def test_an_attribute_that_no_graph_follows_is_refused():
    check_attributes(OtherGRU(FEATURES), "features")
    message = r"^OtherGRU has temperature=2\.0, which cannot be written as ONNX$"
    with pytest.raises(ValueError, match=message):
        check_attributes(OtherGRU(FEATURES, temperature=2.0), "features")


def test_without_the_package_onnx(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r'pip install "rnnjax\[convert\]"$'):
        to_onnx(*refused(GRU(FEATURES))[:2])


def test_more_than_a_file_holds(monkeypatch):
    monkeypatch.setattr(onnx_graph, "MAX_BYTES", 500)
    with pytest.raises(ValueError, match=r"the weights have \d+ bytes; an ONNX file"):
        to_onnx(*refused(GRU(FEATURES))[:2])
