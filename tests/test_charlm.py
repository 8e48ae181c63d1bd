"""The character language model: parity with lesson 002, resuming, both recipes."""

import dataclasses
import itertools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import from_torch, to_torch, truncated
from rnnjax.lessons import CharLM
from rnnjax.sampling import Choice, generate, read, sample_keys
from rnnjax.truncated import zero_carry
from tests.helpers import assert_close, from_states, under
from train import likelihood as likelihoods
from train.charlm import __main__ as charlm
from train.charlm import evaluate as charlm_evaluation
from train.charlm import finish as charlm_outcome
from train.charlm import settings as charlm_config
from train.charlm import task as charlm_task
from train.charlm import text as streams
from train.charlm import training as charlm_training
from train.charlm.text import Text, survey, tokenize
from train.charlm.update import State, Trainer, update_many
from train.cli import InputError, Stopped
from train.codec import join_lines
from train.likelihood import crop_loss, likelihood
from train.recipes import build_model
from train.runs.checkpoint import Checkpoints
from train.runs.directory import RunDirectory
from train.runs.interruption import Interruption
from train.runs.loop import train

REFERENCE = dict(np.load(Path(__file__).parent / "reference" / "lab_lstm.npz"))
TOKENS = np.concatenate([REFERENCE["tokens"], REFERENCE["targets"][..., -1:]], axis=-1)

# Otherwise each of its operations is compiled on its own.
window_losses = jax.jit(truncated.window_losses, static_argnums=0)


@pytest.fixture(scope="module")
def model() -> CharLM:
    return build_model("lab", "lstm", **json.loads(str(REFERENCE["sizes"])))


def make_task(config: charlm.Config, written: str) -> charlm_task.Task:
    text = Text(lambda: [written], "a test", "the text of a test")
    line_end = "$" if config.recipe == "lab" else "\n"
    codec = survey(text, config.tokens, line_end).codec
    return charlm_task.make_task(config, text, codec, tokenize(text, codec, Path()))


def test_one_window_equals_the_lesson(model):
    params = from_torch(model, under("init", REFERENCE))
    _, logits = jax.jit(model.apply)({"params": params}, REFERENCE["tokens"][0])
    assert_close(logits, REFERENCE["logits"])

    def mean_loss(params):
        losses, carry = window_losses(model, params, None, jnp.asarray(TOKENS[0]))
        return losses.mean(), (losses, carry)

    gradient = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))
    (loss, (losses, carry)), grads = gradient(params)
    np.testing.assert_allclose(loss, REFERENCE["losses"][0], rtol=1e-6)
    log_probs = np.take_along_axis(
        REFERENCE["log_probs"], REFERENCE["targets"][0][..., None], axis=-1
    )
    assert_close(losses, -log_probs[..., 0])
    first = under("carry_out/first", REFERENCE)
    assert_close(carry, from_states(None, first["h"], first["c"]))
    assert_close(to_torch(model, grads), under("grads", REFERENCE), 1e-5)


def test_sixty_windows_equal_the_lesson(model):
    """Losses, parameters, carry and the greedy text, over two epochs."""
    trainer = Trainer(model, charlm_task.make_optimizer(0.999, None, 0.0))
    params = from_torch(model, under("init", REFERENCE))
    state = State(
        params, trainer.tx.init(params), zero_carry(model, (4,)), jnp.array(0)
    )
    rates = np.full(charlm_task.CALL_UPDATES, REFERENCE["learning_rate"], np.float32)
    key, losses = jax.random.key(0), []
    for tokens in TOKENS.reshape(-1, charlm_task.CALL_UPDATES, *TOKENS.shape[1:]):
        state, new, _ = update_many(
            state, tokens, rates, charlm_task.CALL_UPDATES, key, trainer=trainer
        )
        losses.extend(new.loss)
    assert len(losses) == 60
    np.testing.assert_allclose(losses, REFERENCE["losses"], rtol=1e-4, atol=1e-4)
    final = under("final", REFERENCE)
    assert_close(to_torch(model, state.params), final, 1e-4)
    last = under("carry_out/last", REFERENCE)
    assert_close(state.carry, from_states(None, last["h"], last["c"]), 1e-4)
    for params in (state.params, from_torch(model, final)):
        point = read(model, params, REFERENCE["greedy/prompt"][None])
        keys = sample_keys(jax.random.key(0), 1)
        _, drawn = generate(model, params, point, keys, 40, Choice(temperature=0))
        np.testing.assert_array_equal(drawn[0], REFERENCE["greedy/tokens"])


LESSON_TEXT = (
    "Monica: There's nothing to tell! \n\nJoey: C'mon, you're going out with him!\n"
    "They all look at him.\nChandler: So does he have a hump? Professor $5!\n"
) * 4


def lesson_training(task: charlm_task.Task, state: State):
    """Lesson 002's own loop in PyTorch, dropout off, from the same weights."""
    torch = pytest.importorskip("torch")
    from tests.torch_lessons import CharLM

    torch.set_num_threads(1)
    settings = task.settings
    twin = CharLM(
        task.codec.vocab_size, settings.hidden_size, settings.mlp_size, dropout=0.0
    )
    arrays = to_torch(task.trainer.model, state.params)
    twin.load_state_dict({name: torch.tensor(arrays[name]) for name in arrays})
    training_data = "$".join(
        line.rstrip() for line in LESSON_TEXT.split("\n") if line.rstrip() != ""
    )
    char2idx = {c: i for i, c in enumerate(dict.fromkeys(training_data))}
    size, length = len(training_data) // settings.batch_size, settings.window
    begins = range(0, len(training_data) - size, size)
    trainset = [training_data[begin : begin + size] for begin in begins]
    optimiser = torch.optim.Adam(twin.parameters(), lr=settings.learning_rate)
    state, losses = None, []
    for _ in range(settings.epochs):
        for begin in range(0, size - length - 1, length + 1):
            rows = [
                [char2idx[c] for c in row[begin : begin + length + 1]]
                for row in trainset
            ]
            data = torch.tensor(rows)
            optimiser.zero_grad()
            log_probs, state = twin(data[:, :-1], state)
            state = tuple(part.detach() for part in state)
            loss = torch.nn.NLLLoss()(log_probs.flatten(0, 1), data[:, 1:].reshape(-1))
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    return twin, char2idx, losses


def lesson_gen_text(twin, seed: str, char2idx: dict[str, int], num_chars: int) -> str:
    """Lesson 002's ``gen_text``."""
    import torch

    from tests.torch_lessons import generate as generate_in_torch

    prompt = torch.tensor([char2idx[c] for c in seed])
    drawn = generate_in_torch(twin, prompt, num_chars).tolist()
    first, *others = ("".join(char2idx)[token] for token in drawn)
    return seed + first + "".join(others).replace("$", "\n")


def test_training_equals_the_lessons_own_loop(tmp_path):
    """From the text on: streams, windows, carry over epochs, 1e-3 Adam, samples."""
    config = charlm.Config(
        recipe="lab",
        hidden_size=24,
        mlp_size=20,
        batch_size=5,
        window=10,
        epochs=6,
        dropout=0.0,
    )
    task = make_task(config, join_lines(LESSON_TEXT))
    state = charlm_training.start(task).state
    twin, char2idx, expected = lesson_training(task, state)
    directory = RunDirectory.open(tmp_path / "run", {"config": {}, "sizes": {}})
    progress, _ = train(charlm_training.Training(task), directory, Interruption())
    state = progress.state
    assert task.codec.alphabet == "".join(char2idx)
    assert int(state.step) == len(expected) >= 60
    steps = [0, *(record["step"] for record in directory.metrics())]
    means = [np.mean(expected[a:b]) for a, b in itertools.pairwise(steps)]
    losses = [record["train_loss"] for record in directory.metrics()]
    np.testing.assert_allclose(losses, means, rtol=1e-4)
    arrays = {name: array.numpy() for name, array in twin.state_dict().items()}
    assert_close(to_torch(task.trainer.model, state.params), arrays, 1e-4)
    params = from_torch(task.trainer.model, arrays)
    assert charlm_evaluation.greedy_text(task, params, "They ", 90) == lesson_gen_text(
        twin, "They ", char2idx, 90
    )


def test_the_first_character_of_a_sample_is_shown_as_it_is():
    """The lesson turns "$" into a line's end, but for the first character."""
    task = make_task(lab(epochs=1), "ab$" * 40)
    state = charlm_training.start(task).state
    head = state.params["mlp_3"]
    state.params["mlp_3"] = jax.tree.map(jnp.zeros_like, head) | {
        "bias": jnp.array([0.0, 0.0, 9.0])
    }
    assert charlm_evaluation.greedy_text(task, state.params, "ab", 3) == "ab$\n\n\n"


def lab(**changes) -> charlm.Config:
    sizes = {"hidden_size": 8, "mlp_size": 6, "batch_size": 3, "window": 15}
    return charlm.Config(recipe="lab", **(sizes | {"seed": 3} | changes))


def shakespeare(**changes) -> charlm.Config:
    sizes = {"hidden_size": 8, "batch_size": 3, "window": 5, "dropout": 0.1}
    return charlm.Config(**(sizes | {"seed": 3} | changes))


WRITTEN = "".join(
    f"Line {i}: the carry of window {i * i} goes on.\n" for i in range(30)
)


@pytest.fixture
def written(tmp_path) -> Path:
    path = tmp_path / "written.txt"
    path.write_text(WRITTEN)
    return path


def without_times(records):
    return [
        {name: value for name, value in record.items() if name != "train_seconds"}
        for record in records
    ]


@pytest.mark.parametrize(
    "config",
    [
        lab(epochs=2, checkpoint_every=15),
        shakespeare(epochs=1, checkpoint_every=15),
    ],
    ids=["lab", "shakespeare"],
)
def test_stopped_and_resumed_is_bitwise_the_same(
    config, tmp_path, written, monkeypatch, no_pictures
):
    settings = dataclasses.replace(config.settings, epochs=None, minutes=None)
    changes = {"sample_every": 1} if config.recipe == "lab" else {"every": 30}
    monkeypatch.setitem(
        charlm_config.SETTINGS, config.recipe, dataclasses.replace(settings, **changes)
    )
    whole = dataclasses.replace(config, out=tmp_path / "whole", text=written)
    charlm.main(whole)
    steps = RunDirectory(whole.out).summary["steps"]
    stopped = dataclasses.replace(whole, out=tmp_path / "stopped")
    # Every kind of place once.
    stops = (1, 17, 30, steps - 1)
    for after in stops if config.recipe == "lab" else stops[1::2]:
        with pytest.raises(Stopped, match=f"after update {after}; saved"):
            charlm.main(stopped, after)
    charlm.main(stopped)

    runs = [RunDirectory(path.out) for path in (whole, stopped)]
    assert without_times(runs[0].metrics()) == without_times(runs[1].metrics())
    for name in ("params.safetensors", "samples.txt", "model.txt"):
        assert (whole.out / name).read_bytes() == (stopped.out / name).read_bytes()
    trees = [newest(config, run) for run in runs]
    jax.tree.map(np.testing.assert_array_equal, *trees)


def newest(config, run):
    """The newest checkpoint but for its seconds: optimiser and carry too."""
    task = make_task(config, written_for(config))
    like = charlm_training.start(task)
    checkpoints = Checkpoints(run.path / "checkpoints", run.config)
    step, tree = checkpoints.restore_newest(like.to_tree())
    assert step == tree["state"].step == run.summary["steps"]
    assert any(np.any(leaf) for leaf in jax.tree.leaves(tree["state"].carry))
    return tree | {"train_seconds": 0}


def written_for(config) -> str:
    if config.recipe == "lab":
        return "$".join(WRITTEN.rstrip().split("\n"))
    return WRITTEN


def test_a_run_directory_has_everything(tmp_path, written, capsys):
    config = shakespeare(epochs=1, out=tmp_path / "run", text=written)
    charlm.main(config)
    run = RunDirectory(config.out)
    names = {path.name for path in config.out.iterdir()}
    assert names >= {
        "config.json",
        "env.json",
        "model.txt",
        "metrics.jsonl",
        "tensorboard",
        "plots",
        "checkpoints",
        "params.safetensors",
        "summary.json",
        "samples.txt",
        "report.html",
    }
    assert (config.out / "plots" / "loss.png").stat().st_size > 1000
    assert run.config["program"] == "charlm"
    assert run.config["alphabet"] == "".join(dict.fromkeys(WRITTEN))
    summary = run.summary
    assert summary["recipe"] == "shakespeare" and summary["model"] == "lstm"
    assert summary["data"] == str(written) and summary["seed"] == 3
    assert summary["val_chars"] == len(WRITTEN) - int(0.9 * len(WRITTEN))
    nats = summary["val_nats_per_char"]
    assert summary["val_bits_per_char"] == pytest.approx(nats / math.log(2))
    assert summary["wall_seconds"] > summary["train_seconds"] > 0
    assert "validation" in capsys.readouterr().out

    charlm.main(config)
    assert "is complete; nothing to do" in capsys.readouterr().out
    with pytest.raises(InputError, match="another configuration .*seed: 3 there, 4"):
        charlm.main(dataclasses.replace(config, seed=4))
    written.write_text(WRITTEN + "!")
    with pytest.raises(InputError, match=r"another configuration .*num_tokens"):
        charlm.main(config)
    written.write_text(WRITTEN)
    charlm.main(dataclasses.replace(config, epochs=2))
    assert run.summary["epochs"] == 2


def test_a_large_text_is_trained_on_from_a_file(
    tmp_path, written, monkeypatch, no_pictures
):
    config = shakespeare(epochs=1, out=tmp_path / "small", text=written)
    charlm.main(config)
    monkeypatch.setattr(streams, "LARGE", 100)
    monkeypatch.setattr(streams, "CHARACTERS_AT_ONCE", 64)
    charlm.main(dataclasses.replace(config, out=tmp_path / "large"))
    assert (tmp_path / "large" / "tokens.bin").stat().st_size == len(WRITTEN)
    small, large = (RunDirectory(tmp_path / name) for name in ("small", "large"))
    assert without_times(small.metrics()) == without_times(large.metrics())


def test_lab_has_no_validation(tmp_path, written, no_pictures):
    config = lab(epochs=1, out=tmp_path / "run", text=written)
    charlm.main(config)
    summary = RunDirectory(config.out).summary
    assert summary["val_nats_per_char"] is summary["val_bits_per_char"] is None


def test_the_parameters_that_predict_best_are_kept(tmp_path):
    config = shakespeare()
    task = make_task(config, written_for(config))
    directory = RunDirectory(tmp_path)
    (tmp_path / "config.json").write_text('{"config": {}, "sizes": {}}')
    first = charlm_training.start(task)
    assert charlm_outcome.best_state(task, first, directory) is first.state
    checkpoints = Checkpoints(tmp_path / "checkpoints", directory.config)
    better = jax.tree.map(lambda leaf: leaf + 1, first.state.params)
    for step, params, loss in ((1, better, 2.0), (2, first.state.params, 3.0)):
        state = first.state._replace(params=params, step=jnp.array(step))
        last = first._replace(state=state)
        checkpoints.save(step, last.to_tree(), loss)
    best = charlm_outcome.best_state(task, last, directory)
    assert int(best.step) == 1
    assert_close(best.params, better, 0.0)


def test_minutes_end_the_training(tmp_path, written, no_pictures):
    config = shakespeare(minutes=0.004, out=tmp_path / "run", text=written)
    charlm.main(config)
    run = RunDirectory(config.out)
    assert run.summary["train_seconds"] >= 0.24
    rates = [record["learning_rate"] for record in run.metrics()]
    assert rates[-1] < 0.1 * max(rates)


def test_learning_rates():
    settings = charlm_config.SETTINGS["shakespeare"]
    rates = charlm_training.learning_rates(settings, np.array([0, 0.03, 0.5, 1, 1.2]))
    high = settings.learning_rate
    np.testing.assert_allclose(rates / high, [0, 0.998, 0.5, 0, 0], atol=1e-3)
    constant = charlm_training.learning_rates(
        charlm_config.SETTINGS["lab"], np.array([0, 0.5])
    )
    np.testing.assert_array_equal(constant, np.float32(1e-3))


@pytest.mark.parametrize("num_tokens", [2, 60, 700])
@pytest.mark.parametrize("first", [1, 30])
def test_likelihood_is_that_of_one_pass(model, num_tokens, first, monkeypatch, rng):
    """In several streams with a long warm-up too."""
    if first >= num_tokens:
        return
    params = from_torch(model, under("final", REFERENCE))
    tokens = rng.integers(11, size=num_tokens)
    losses, _ = window_losses(model, params, None, jnp.asarray(tokens))
    expected = np.asarray(losses, np.float64)[first - 1 :]
    for least_stream in (4096, 50):
        monkeypatch.setattr(likelihoods, "LEAST_STREAM", least_stream)
        found = likelihood(model, params, tokens, first)
        assert found.num_tokens == num_tokens - first
        np.testing.assert_allclose(found.nats, expected.sum(), rtol=1e-5)
    assert found.bits == pytest.approx(found.per_token / math.log(2))


def test_crops_begin_from_nothing(model, rng):
    params = from_torch(model, under("final", REFERENCE))
    tokens = rng.integers(11, size=8)
    losses, _ = window_losses(model, params, None, jnp.asarray(tokens))
    found = crop_loss(model, params, tokens, seed=0, num_batches=1, length=7)
    assert found == pytest.approx(float(losses.mean()), rel=1e-5)
    assert crop_loss(model, params, tokens, seed=0, length=8) is None


def test_reset_forgets_what_came_before(model):
    params = from_torch(model, under("final", REFERENCE))
    tokens = jnp.asarray(TOKENS[0][0])
    reset = jnp.arange(6) == 3
    losses, carry = window_losses(model, params, None, tokens, reset=reset)
    alone, last = window_losses(model, params, None, tokens[3:])
    assert_close(losses[3:], alone)
    assert_close(carry, last)


def test_no_gradient_goes_into_the_carry(model):
    params = from_torch(model, under("final", REFERENCE))
    tokens = jnp.asarray(TOKENS[0])

    def total(carry):
        return window_losses(model, params, carry, tokens)[0].sum()

    grads = jax.jit(jax.grad(total))(zero_carry(model, (4,)))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_every_model_has_torch_names(kind):
    model = CharLM(5, hidden_size=4, mlp_size=None, num_layers=2, kind=kind)
    tokens = jnp.zeros((1, 1), jnp.int32)
    params = jax.jit(model.init)(jax.random.key(0), tokens)["params"]
    arrays = to_torch(model, params)
    assert list(arrays)[-2:] == ["h2o.weight", "h2o.bias"]
    assert f"{kind}.weight_hh_l1" in arrays
    assert_close(from_torch(model, arrays), params, 0.0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"epochs": 0}, "--epochs is 0; expected more than 0"),
        ({"minutes": -1.0}, "--minutes is -1.0; expected more than 0"),
        ({"learning_rate": math.nan}, "--learning-rate is nan; expected more than 0"),
        ({"dropout": 1.0}, "--dropout is 1.0; expected less than 1"),
        ({"dropout": -0.1}, "--dropout is -0.1; expected at least 0"),
        ({"seed": -1}, "--seed is -1; expected 0 to 2,147,483,647"),
        ({"seed": 2**31}, "--seed is 2147483648; expected 0 to 2,147,483,647"),
        ({"checkpoint_every": 0}, "--checkpoint-every is 0; expected more than 0"),
    ],
    ids=str,
)
def test_wrong_flags(flags, message):
    with pytest.raises(InputError, match=message):
        charlm.Config(**flags)


def test_texts_that_are_too_short(tmp_path, written):
    for config in (lab(batch_size=400), shakespeare(batch_size=400)):
        config = dataclasses.replace(config, text=written, out=tmp_path / "run")
        with pytest.raises(InputError, match=r"need at least .* smaller --batch-size"):
            charlm.main(config)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite(tmp_path, written):
    config = lab(epochs=9, learning_rate=1e30, out=tmp_path / "run", text=written)
    with pytest.raises(InputError) as error:
        charlm.main(config)
    assert "is not finite after update " in str(error.value)
    assert "try a smaller --learning-rate" in str(error.value)
