"""What is inside a model: sown gates, gradients of every state, `train.inspect`."""

import functools
import json
import operator
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import (
    ElmanCell,
    GRUCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LSTMCarry,
    LSTMCell,
    Recurrent,
    SumCell,
)
from rnnjax.equations import hidden
from rnnjax.text import Vocabulary
from tests.helpers import AS_USERS, assert_close, normal
from train import trained
from train.cli import InputError
from train.inspect import __main__ as inspect
from train.inspect import plots as gate_plots
from train.inspect.traces import trace
from train.recipes import build_model
from train.runs.directory import RunDirectory

ROOT = Path(__file__).resolve().parent.parent
BATCH, TIME, INPUT, FEATURES = 3, 5, 4, 6
LENGTHS = np.array([5, 0, 3])

CELLS = {
    "elman": ElmanCell(FEATURES),
    "sum": SumCell(FEATURES),
    "gru": GRUCell(FEATURES),
    "lstm": LSTMCell(FEATURES),
    "projection": LSTMCell(FEATURES, projection=4),
    "norm gru": LayerNormGRUCell(FEATURES),
    "norm lstm": LayerNormLSTMCell(FEATURES),
}


# The equations, once more and plainly: (weights, carry, x) -> (carry, gates)


def sigmoid(x):
    return 1 / (1 + jnp.exp(-x))


def affine(weights, x):
    return x @ weights["kernel"] + weights.get("bias", 0)


def normed(weights, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return weights["scale"] * (x - mean) / jnp.sqrt(variance + 1e-5) + weights["bias"]


def maps(w, h, x, parts):
    ih, hh = affine(w["ih"], x), affine(w["hh"], h)
    return jnp.split(ih, parts, axis=-1), jnp.split(hh, parts, axis=-1)


def elman_step(w, h, x):
    return jnp.tanh(affine(w["ih"], x) + affine(w["hh"], h)), {}


def gru_step(w, h, x):
    (ir, iz, in_), (hr, hz, hn) = maps(w, h, x, 3)
    r, z = sigmoid(ir + hr), sigmoid(iz + hz)
    n = jnp.tanh(in_ + r * hn)
    return (1 - z) * n + z * h, {"r": r, "z": z, "n": n}


def lstm_step(w, carry, x):
    ih, hh = maps(w, carry.h, x, 4)
    i, f, g, o = (a + b for a, b in zip(ih, hh, strict=True))
    i, f, g, o = sigmoid(i), sigmoid(f), jnp.tanh(g), sigmoid(o)
    c = f * carry.c + i * g
    h = o * jnp.tanh(c)
    if "hr" in w:
        h = affine(w["hr"], h)
    return LSTMCarry(h, c), {"i": i, "f": f, "g": g, "o": o}


def norm_gru_step(w, h, x):
    ih, hh = affine(w["ih"], x), affine(w["hh"], h)
    two = 2 * FEATURES
    rz = normed(w["ih_norm"], ih[..., :two]) + normed(w["hh_norm"], hh[..., :two])
    r, z = jnp.split(sigmoid(rz), 2, axis=-1)
    new, old = normed(w["in_norm"], ih[..., two:]), normed(w["hn_norm"], hh[..., two:])
    n = jnp.tanh(new + r * old)
    return (1 - z) * n + z * h, {"r": r, "z": z, "n": n}


def norm_lstm_step(w, carry, x):
    ih, hh = affine(w["ih"], x), affine(w["hh"], carry.h)
    gates = normed(w["ih_norm"], ih) + normed(w["hh_norm"], hh)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    i, f, g, o = sigmoid(i), sigmoid(f), jnp.tanh(g), sigmoid(o)
    c = f * carry.c + i * g
    return LSTMCarry(o * jnp.tanh(normed(w["c_norm"], c)), c), dict(
        zip("ifgo", (i, f, g, o), strict=True)
    )


STEPS = {
    "elman": elman_step,
    "gru": gru_step,
    "lstm": lstm_step,
    "projection": lstm_step,
    "norm gru": norm_gru_step,
    "norm lstm": norm_lstm_step,
}


@functools.cache
def weights_of(name):
    """Random weights, with biases, far enough from 0 that every gate moves."""
    cell = CELLS[name]
    shapes = jax.eval_shape(
        lambda: Recurrent(cell).init(jax.random.key(0), jnp.ones((1, INPUT)))
    )["params"]
    leaves, structure = jax.tree.flatten(shapes)
    return jax.tree.unflatten(
        structure, [0.6 * normal(i, *leaf.shape) for i, leaf in enumerate(leaves)]
    )


def start_of(name, *batch):
    carry = CELLS[name].initialize_carry(None, (*batch, INPUT))
    return jax.tree.map(lambda zeros: 0.5 * normal(7, *zeros.shape), carry)


class ByHand(NamedTuple):
    ys: jax.Array
    carries: object
    gates: dict[str, jax.Array]


@functools.partial(jax.jit, static_argnums=(0, 1))
def by_hand(name, reverse, inputs, carry, perturbations):
    """One sequence without padding, a step after the other."""
    order = range(len(inputs))[::-1] if reverse else range(len(inputs))
    steps = [None] * len(inputs)
    for t in order:
        carry, gates = STEPS[name](weights_of(name)["cell"], carry, inputs[t])
        perturbation = jax.tree.map(operator.itemgetter(t), perturbations)
        carry = jax.tree.map(jnp.add, carry, perturbation)
        steps[t] = carry, gates
    carries, gates = jax.tree.map(lambda *each: jnp.stack(each), *steps)
    return ByHand(hidden(carries), carries, gates)


def no_perturbations(name):
    return jax.tree.map(lambda x: jnp.zeros((TIME, *x.shape)), start_of(name))


@functools.cache
def sown_of(name, **options):
    """What a padded batch returns and sows."""
    module = Recurrent(CELLS[name], **options)
    run = jax.jit(functools.partial(module.apply, mutable=["intermediates"]))
    return run(
        {"params": weights_of(name)},
        normal(3, BATCH, TIME, INPUT),
        LENGTHS,
        start_of(name, BATCH),
    )


@pytest.mark.parametrize(
    ("name", "reverse"),
    [
        ("gru", False),
        ("gru", True),
        ("lstm", False),
        ("projection", False),
        ("norm gru", False),
        ("norm lstm", False),
    ],
)
def test_sown_gates_are_those_of_the_equations(name, reverse):
    _, sown = sown_of(name, reverse=reverse)
    (gates,), (carries,) = (sown["intermediates"][key] for key in ("gates", "carries"))
    row, n = 2, 3
    start = jax.tree.map(operator.itemgetter(row), start_of(name, BATCH))
    inputs = normal(3, BATCH, TIME, INPUT)[row, :n]
    expected = by_hand(name, reverse, inputs, start, no_perturbations(name))
    real, of_row = np.arange(n), operator.itemgetter((row, slice(n)))
    assert len(real) == LENGTHS[row]
    assert_close(jax.tree.map(of_row, carries), expected.carries)
    assert_close(jax.tree.map(of_row, gates._asdict()), expected.gates)
    for padded in jax.tree.leaves((gates, carries)):
        assert not padded[1].any() and not padded[row, n:].any()


def test_gates_after_a_reset_are_those_of_a_new_sequence():
    module, inputs = Recurrent(GRUCell(FEATURES)), normal(3, TIME, INPUT)
    sow = jax.jit(functools.partial(module.apply, mutable=["intermediates"]))
    variables = {"params": weights_of("gru")}
    _, whole = sow(variables, inputs, reset=np.arange(TIME) == 2)
    _, second = sow(variables, inputs[2:])
    (gates,), (expected,) = (s["intermediates"]["gates"] for s in (whole, second))
    assert_close(jax.tree.map(lambda x: x[2:], gates), expected)


def test_cells_without_gates_sow_none():
    for name in ("elman", "sum"):
        _, sown = sown_of(name)
        assert list(sown["intermediates"]) == ["carries"]


@pytest.mark.parametrize("option", [{"backend": "reference"}, {"remat": True}])
def test_every_path_sows_the_same(option):
    assert_close(sown_of("lstm", **option), sown_of("lstm", reverse=False))


def test_sowing_changes_no_number(name="lstm"):
    module, inputs = Recurrent(CELLS[name]), normal(3, BATCH, TIME, INPUT)
    variables = {"params": weights_of(name)}
    jit = functools.partial(jax.jit, compiler_options=AS_USERS)
    silent = jit(module.apply)(variables, inputs, LENGTHS)
    sow = functools.partial(module.apply, mutable=["intermediates"])
    aloud, sown = jit(sow)(variables, inputs, LENGTHS)
    assert_close(silent, aloud, 0.0)
    zeros = jax.tree.map(jnp.zeros_like, sown["intermediates"]["carries"][0])
    perturbed = variables | {"perturbations": {"carries": zeros}}
    assert_close(jit(module.apply)(perturbed, inputs, LENGTHS), silent, 0.0)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_gates_are_computed_only_when_they_are_asked_for(name, monkeypatch):
    def refuse(*_):
        raise AssertionError("asked for")

    monkeypatch.setattr(type(CELLS[name]), "gate_values", refuse)
    module, inputs = Recurrent(CELLS[name]), normal(3, BATCH, TIME, INPUT)
    variables = jax.eval_shape(module.init, jax.random.key(0), inputs, LENGTHS)
    assert list(variables) == ["params"]

    def loss(params, **how):
        result = module.apply({"params": params}, inputs, LENGTHS, **how)
        return sum(leaf.sum() for leaf in jax.tree.leaves(result))

    program = str(jax.make_jaxpr(jax.grad(loss))(weights_of(name)))
    assert "scan" in program
    with pytest.raises(AssertionError, match="asked for"):
        jax.make_jaxpr(lambda p: loss(p, mutable=["intermediates"]))(weights_of(name))


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_an_ordinary_call_traces_nothing_for_perturbations(name):
    """With them there is one more addition for each part of the carry."""
    module, inputs = Recurrent(CELLS[name]), normal(3, BATCH, TIME, INPUT)

    def additions(variables):
        program = jax.make_jaxpr(module.apply)(variables, inputs)
        return str(program).count(" add ")

    params = {"params": weights_of(name)}
    zeros = jax.tree.map(
        lambda x: jnp.zeros((BATCH, TIME, *x.shape[1:])), start_of(name, BATCH)
    )
    perturbed = params | {"perturbations": {"carries": zeros}}
    parts = len(jax.tree.leaves(zeros))
    assert additions(perturbed) == additions(params) + parts


# The gradient with respect to the state after each step


def weighed(ys, last):
    """A loss of all outputs and of the last carry."""
    leaves = jax.tree.leaves(last)
    return jnp.vdot(jnp.sin(ys), normal(4, *ys.shape)) + sum(
        jnp.vdot(jnp.sin(leaf), normal(5, *leaf.shape)) for leaf in leaves
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("elman", {}),
        ("gru", {"reverse": True}),
        ("gru", {"remat": True}),
        ("lstm", {}),
        ("projection", {}),
    ],
)
def test_gradients_of_states_are_those_of_a_loop_by_hand(name, options):
    n, reverse = 3, options.get("reverse", False)
    inputs, start = normal(3, TIME, INPUT), start_of(name)
    module, weights = Recurrent(CELLS[name], **options), weights_of(name)

    @jax.jit
    @jax.grad
    def ours(perturbations):
        variables = {"params": weights, "perturbations": {"carries": perturbations}}
        last, ys = module.apply(variables, inputs, jnp.array(n), start)
        return weighed(ys[:n], last)

    @jax.jit
    @jax.grad
    def theirs(perturbations):
        found = by_hand(name, reverse, inputs[:n], start, perturbations)
        end = 0 if reverse else n - 1
        return weighed(found.ys, jax.tree.map(operator.itemgetter(end), found.carries))

    gradients = ours(no_perturbations(name))
    assert_close(gradients, theirs(no_perturbations(name)), 1e-5)
    for leaf in jax.tree.leaves(gradients):
        assert leaf[:n].any(axis=-1).all() and not leaf[n:].any()


def test_gradients_of_states_are_finite_differences(name="lstm"):
    """In forward mode too, which the perturbation's tangent passes through."""
    module, inputs = Recurrent(CELLS[name]), normal(3, TIME, INPUT)
    direction = jax.tree.map(lambda x: normal(8, *x.shape), no_perturbations(name))

    def loss(size):
        perturbations = jax.tree.map(lambda x: size * x, direction)
        variables = {
            "params": weights_of(name),
            "perturbations": {"carries": perturbations},
        }
        last, ys = module.apply(variables, inputs)
        return weighed(ys, last)

    step = 0.01
    after, before = jax.jit(jax.vmap(loss))(jnp.array([step, -step]))
    slope = float(after - before) / (2 * step)
    assert jax.jit(jax.grad(loss))(0.0) == pytest.approx(slope, rel=5e-3)
    assert jax.jit(jax.jacfwd(loss))(0.0) == pytest.approx(slope, rel=5e-3)


# Whole models


TEXT = "The carry goes on.\nThe gradient does not."
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz .,;'"
SIZES = {"vocab_size": len(LETTERS), "hidden_size": 6, "num_classes": 3}


def random_params(model):
    tokens = jax.ShapeDtypeStruct((4,), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    leaves, structure = jax.tree.flatten(shapes)
    arrays = [0.4 * normal(i, *leaf.shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, arrays)


@pytest.mark.parametrize("kind", ["linear", "rnn", "gru", "lstm"])
def test_a_classifiers_gradients_are_those_of_a_run_from_each_state(kind):
    """What is read after a step is a run that starts from the state there."""
    model = build_model("practical", kind, **SIZES)
    params, tokens = random_params(model), Vocabulary(LETTERS).encode("Satoshi")
    found = trace(model, params, tokens)
    (layer,) = found.layers

    def answer(state, rest):
        start = state if kind == "linear" else (state,)
        logits = model.apply({"params": params}, rest, None, start)
        return jax.nn.log_softmax(logits)[found.answer]

    state, taken = jax.tree.map(operator.itemgetter(2), (layer.states, layer.gradients))
    log_prob, expected = jax.jit(jax.value_and_grad(answer))(state, tokens[3:])
    assert found.probability == pytest.approx(float(jnp.exp(log_prob)))
    assert_close(taken, jax.device_get(expected), 1e-5)


def test_a_language_models_gradients_are_those_of_a_run_from_each_state():
    vocabulary = Vocabulary("".join(sorted(set(TEXT))))
    model = build_model(
        "shakespeare", "lstm", vocab_size=len(vocabulary), hidden_size=10
    )
    params, tokens = random_params(model), vocabulary.encode(TEXT)
    found = trace(model, params, tokens)
    (layer,) = found.layers

    def answer(state, rest):
        _, logits = model.apply({"params": params}, rest, (state,))
        return jax.nn.log_softmax(logits[-1])[found.answer]

    state, taken = jax.tree.map(operator.itemgetter(9), (layer.states, layer.gradients))
    expected = jax.jit(jax.grad(answer))(state, tokens[10:])
    assert_close(taken, jax.device_get(expected), 1e-5)
    norms = layer.gradient_norms()
    np.testing.assert_allclose(norms["state"], np.hypot(norms["h"], norms["c"]))


# The program


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Runs before their first update: what they answer is noise."""
    directory = tmp_path_factory.mktemp("runs")

    @functools.cache
    def run(recipe: str, model_name: str) -> Path:
        path = directory / f"{recipe}-{model_name}"
        writes = recipe == "shakespeare"
        alphabet, sizes = LETTERS, SIZES
        if writes:
            alphabet = "".join(sorted(set(TEXT)))
            sizes = {"vocab_size": len(alphabet), "hidden_size": 10}
        if recipe == "binary":
            sizes = sizes | {"max_length": 9, "mlp_size": 5}
        config = {
            "program": "charlm" if writes else "names",
            "config": {"recipe": recipe, "model": model_name, "dtype": "float32"},
            "sizes": sizes,
            "alphabet": alphabet,
            "languages": ["German", "Italian", "Other"],
            "line_end": "\n",
        }
        model = build_model(recipe, model_name, **sizes)
        RunDirectory.open(path, config).write_params(model, random_params(model))
        return path

    return run


@pytest.mark.parametrize(
    ("recipe", "model", "steps", "names"),
    [
        ("blog", "rnn", "Satosh", [""]),
        ("blog", "gru", "Satoshi", ["layer 1 of 2", "layer 2 of 2"]),
        ("binary", "linear", "Satoshi··", [""]),
    ],
)
def test_other_classifiers(run_of, recipe, model, steps, names):
    found = inspect.inspect(run_of(recipe, model), "Satoshi")
    assert "".join(found.labels) == steps
    assert [layer.name for layer in found.trace.layers] == names
    classifier = trained.load_classifier(RunDirectory(run_of(recipe, model)))
    probs = trained.ask("Satoshi", classifier).probs
    assert found.answer == classifier.languages[probs.argmax()]
    assert found.trace.probability == pytest.approx(probs.max(), rel=1e-5)
    for layer in found.trace.layers:
        norms = layer.gradient_norms()["state"]
        assert norms.shape == (len(steps),) and (norms > 0).all()
        for values in layer.panels().values():
            assert values.shape == (len(steps), 6)


def test_one_run_of_names_from_the_command_line(run_of, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "train.inspect",
            "--run",
            run_of("best", "gru"),
            "Ròssi",
        ],
        capture_output=True,
        check=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONWARNINGS": "error", "PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("best-gru: Rossi is ")
    files = ["states-forwards.png", "states-backwards.png", "gradient.png"]
    assert lines[-3:] == [f"inspection/{name}" for name in files]
    for name in files:
        assert is_png(tmp_path / "inspection" / name)


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


@pytest.fixture
def look(capsys):
    """Run the program here, and return what it prints."""

    def run(*paths: Path, **flags) -> str:
        capsys.readouterr()
        inspect.main(inspect.Config(paths, **flags))
        return capsys.readouterr().out

    return run


def test_several_runs_are_one_picture_and_json_has_the_figures(
    run_of, tmp_path, look, monkeypatch
):
    drawn = []
    monkeypatch.setattr(
        gate_plots, "gradients", lambda *arguments: drawn.append(arguments)
    )
    runs = [run_of("practical", kind) for kind in ("rnn", "gru", "lstm")]
    out = tmp_path / "new" / "vanishing.png"
    records = [
        json.loads(line)
        for line in look(*runs, text="Satoshi", out=out, json=True).splitlines()
    ]
    ((path, lines, labels, _),) = drawn
    answers = [
        f"{run.name}: {record['answer']}"
        for run, record in zip(runs, records, strict=True)
    ]
    assert path == out and list(lines) == answers
    assert "".join(labels) == "Satoshi"
    for record, norms in zip(records, lines.values(), strict=True):
        (layer,) = record["layers"]
        assert layer["gradient_norms"]["state"] == norms["state"].tolist()
        assert record["pictures"] == [str(out)]
    assert list(records[2]["layers"][0]["means"]) == list("ifgoch")
    assert list(records[1]["layers"][0]["means"]) == list("rznh")
    assert list(records[0]["layers"][0]["means"]) == ["h"]


def test_a_language_model_colours_its_text(run_of, tmp_path, look, monkeypatch):
    drawn = []
    original = gate_plots.neurons

    def neurons(path, values, signs, title):
        drawn.append((list(values), "".join(signs)))
        original(path, values, signs, title)

    monkeypatch.setattr(gate_plots, "neurons", neurons)
    run = run_of("shakespeare", "lstm")
    said = look(run, text=TEXT, out=tmp_path, neurons=(3, 0))
    assert drawn == [
        (["neuron 3", "neuron 0"], "The␣carry␣goes␣on.↵The␣gradient␣does␣not.")
    ]
    names = ["states.png", "gradient.png", "neurons.png"]
    assert said.splitlines()[-3:] == [str(tmp_path / name) for name in names]
    assert all(is_png(tmp_path / name) for name in names)


def test_neurons_are_those_that_the_text_moves_most():
    values = np.zeros((4, 9))
    values[:, 5], values[:, 2] = [1, -1, 1, -1], [0.1, 0, 0.1, 0]
    assert inspect._moved_most(values)[:2] == [5, 2]


def test_of_a_long_text_the_end_is_shown(run_of, tmp_path, look, monkeypatch):
    drawn = []
    monkeypatch.setattr(gate_plots, "MOST_COLUMNS", 4)
    monkeypatch.setattr(gate_plots, "gates", lambda *given: drawn.append(given))
    look(run_of("practical", "gru"), text="Satoshi", out=tmp_path)
    ((_, panels, labels, title),) = drawn
    assert {values.shape for values in panels.values()} == {(4, 6)}
    assert "".join(labels) == "oshi" and "the last 4 of 7 steps" in title
    assert is_png(tmp_path / "gradient.png")


def test_signs_are_one_column_each():
    assert "".join(map(gate_plots.sign, "aé \n\t中\x1b$")) == "aé␣↵⇥□□$"
    assert gate_plots.sign("\ufffd") == "\ufffd" and gate_plots.sign("") == "□"
    lines = gate_plots._rows("ab↵↵c" + "d" * gate_plots.LINE)
    assert [len(line) for line in lines] == [4, gate_plots.LINE, 1]


@pytest.mark.parametrize(
    ("run", "text", "flags", "message"),
    [
        (("practical", "gru"), "", {}, "the name is empty"),
        (("practical", "gru"), "中国", {}, "has no letter that the model knows"),
        (("practical", "gru"), "a" * 1001, {}, "the text has 1,001 characters; expe"),
        (("practical", "gru"), "Satoshi", {"neurons": (1,)}, "--neurons is for runs"),
        (("binary", "mlp"), "Rossi", {}, "has no recurrence"),
        (("binary", "linear"), "Rossi Bianchi", {}, "takes at most 9"),
        (("blog", "rnn"), "A", {}, "'A' has one letter"),
        (("shakespeare", "lstm"), "", {}, "the text is empty"),
        (("shakespeare", "lstm"), "中", {}, "the text has no character that the mod"),
        (("shakespeare", "lstm"), TEXT, {"neurons": (3, 10)}, "has 10; this model has"),
        (("shakespeare", "lstm"), TEXT, {"neurons": (-1,)}, "has -1; this model has 10"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_at(run_of, tmp_path, look, run, text, flags, message):
    with pytest.raises(InputError, match=message):
        look(run_of(*run), text=text, out=tmp_path / "out", **flags)
    assert not (tmp_path / "out").exists()


def test_runs_that_do_not_go_together(run_of, tmp_path, look):
    ours, theirs = run_of("practical", "gru"), run_of("binary", "linear")
    with pytest.raises(InputError, match="do not read the same steps .'Satoshi' and"):
        look(ours, theirs, text="Satoshi", out=tmp_path / "out")
    found = inspect.inspect(ours, "Satoshi")
    pair = found, found._replace(program="charlm")
    with pytest.raises(InputError, match="expected runs of one program"):
        inspect.check(pair, inspect.Config((ours, theirs), "Satoshi"))
    with pytest.raises(InputError, match="no run directory .no config.json.; expected"):
        look(tmp_path, text="Satoshi")


def test_runs_of_one_name_are_told_apart(run_of, tmp_path, look):
    run = run_of("practical", "gru")
    other = tmp_path / run.name
    other.symlink_to(run)
    said = look(run, other, text="Satoshi", out=tmp_path / "a.png")
    assert f"{run}: Satoshi is" in said and f"{other}: Satoshi is" in said


def test_flags(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").touch()
    parsed = inspect.Config((run, Path("Rossi")))
    assert parsed.asked() == ((run,), "Rossi")
    assert inspect.Config((run, Path("a" * 500))).asked() == ((run,), "a" * 500)
    file = tmp_path / "file"
    file.touch()
    for flags, message in [
        ({"run": (run,)}, "expected --run, one run directory or more, and after it"),
        ({"run": (run, run)}, "expected --run"),
        ({"run": ()}, "expected --run"),
        ({"run": (run, run), "text": "a"}, "--run names a directory twice"),
        ({"run": (run, file), "text": "a", "neurons": (1,)}, "--neurons is for one"),
        ({"run": (run,), "text": "a", "out": file}, "a file; expected a directory"),
        (
            {"run": (run,), "text": "a", "neurons": (1,), "out": Path("a.png")},
            "--neurons needs a directory",
        ),
    ]:
        with pytest.raises(InputError, match=message):
            inspect.Config(**flags)
