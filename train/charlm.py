"""Train a character language model.

python -m train.charlm                                # our own, for three minutes
python -m train.charlm --text novel.txt --minutes 20
python -m train.charlm --recipe lab                   # lesson 002
"""

from train import STARTED  # isort: skip (first, for it is the time)

import dataclasses
import functools
import math
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm.auto import tqdm

from rnnjax.sampling import Choice, generate, read, sample_keys
from rnnjax.truncated import Windows, window_losses, zero_carry
from train import compilation_cache, plots
from train.checkpoint import Checkpoints
from train.cli import InputError, printable, run
from train.interruption import CALL_SECONDS, Interruption, interruptible
from train.likelihood import Likelihood, crop_loss, likelihood
from train.recipes import build_model
from train.run_directory import (
    RunDirectory,
    count,
    default_path,
    device_line,
    write_json,
    write_text,
)
from train.streams import (
    LINE_END,
    Codec,
    Survey,
    Text,
    lesson_windows,
    read_text,
    stream_windows,
    survey,
    tokenize,
)
from train.tensorboard import scalar_writer
from train.updates import (
    is_finite,
    not_finite,
    repeat_while_good,
    skip_large_gradients,
    skipped,
)

CALL = 20
"""Updates in one call of the compiled loop, at most."""

GLANCE = 2**20
"""Tokens of the validation text that are measured during the training, at most; at the
end it is all of them."""

TRAIN_SHARE = 0.9
"""Of the text, from its beginning; the rest is for validation (but in lab)."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a recipe trains.

    Attributes:
        hidden_size: Width of the recurrence.
        mlp_size: Width of the MLP's hidden layer; None is no MLP.
        num_layers: Number of recurrent layers.
        dropout: Probability of dropping a state, and a unit of the MLP.
        batch_size: Number of streams.
        window: Characters that gradients go back.
        learning_rate: The optimiser's; with ``decays`` the highest of its schedule.
        epochs: Passes over the text; None is no limit.
        minutes: Training time; None is no limit.
        weight_decay: AdamW's, for the weight matrices.
        b2: Adam's.
        clip: Global norm that gradients are cut to; None is not at all.
        decays: Whether the learning rate rises at first and then falls to zero.
        every: Updates between validations; None is no validation.
        sample_every: Epochs between samples; None is only at the end.
        checkpoint_every: Updates between checkpoints.
    """

    hidden_size: int
    mlp_size: int | None
    num_layers: int
    dropout: float
    batch_size: int
    window: int
    learning_rate: float
    epochs: int | None = None
    minutes: float | None = None
    weight_decay: float = 0.0
    b2: float = 0.999
    clip: float | None = None
    decays: bool = False
    every: int | None = None
    sample_every: int | None = None
    checkpoint_every: int = 500


RECIPES = {
    "lab": Settings(
        hidden_size=1024,
        mlp_size=2048,
        num_layers=1,
        dropout=0.4,
        batch_size=64,
        window=50,
        learning_rate=1e-3,
        epochs=2000,
        sample_every=50,
    ),
    "shakespeare": Settings(
        hidden_size=384,
        mlp_size=None,
        num_layers=1,
        dropout=0.1,
        batch_size=16,
        window=16,
        learning_rate=6e-3,
        minutes=3.0,
        weight_decay=0.01,
        b2=0.99,
        clip=1.0,
        decays=True,
        every=2000,
        checkpoint_every=2000,
    ),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Train a character language model."""

    recipe: Literal["lab", "shakespeare"] = "shakespeare"
    """lab is lesson 002; shakespeare is our own."""
    text: Path | None = None
    """File in UTF-8, or builtin for the help topics inside Python."""
    tokens: Literal["chars", "bytes"] = "chars"
    """What the model reads and predicts."""
    out: Path | None = None
    """Run directory; the same command with the same directory continues the run."""
    seed: int = 0
    """Decides initial parameters and dropout."""
    epochs: int | None = None
    """Passes over the text (lab: 2000 if not given)."""
    minutes: float | None = None
    """Training time, compilation apart (shakespeare: 3 if neither this nor --epochs is
    given). The learning rate's schedule is fitted to it."""
    batch_size: int | None = None
    """Number of streams that are read side by side."""
    window: int | None = None
    """Characters that gradients go back."""
    learning_rate: float | None = None
    """Step size of the optimiser, the highest of its schedule."""
    hidden_size: int | None = None
    """Width of the recurrence."""
    mlp_size: int | None = None
    """Width of the MLP's hidden layer."""
    num_layers: int | None = None
    """Number of recurrent layers."""
    dropout: float | None = None
    """Probability of dropping a state, and a unit of the MLP."""
    checkpoint_every: int | None = None
    """Updates between checkpoints (500 in lab, 2000 in shakespeare if not given)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the operands of matrix products."""
    skip_gradients_above: float | None = None
    """Leave out updates whose gradient has this norm or a larger one."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            flag = f"--{field.name.replace('_', '-')}"
            if field.name in ("seed", "dropout"):
                if value is not None and value < 0:
                    raise InputError(f"{flag} is {value}; expected at least 0")
            elif isinstance(value, int | float) and not value > 0:
                raise InputError(f"{flag} is {value}; expected more than 0")
        if self.dropout is not None and not self.dropout < 1:
            raise InputError(f"--dropout is {self.dropout}; expected less than 1")

    @property
    def settings(self) -> Settings:
        """The recipe's settings with what the flags change."""
        settings = RECIPES[self.recipe]
        if self.epochs is not None and settings.epochs is None:
            settings = dataclasses.replace(settings, minutes=None)
        changes = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(Settings)
            if getattr(self, field.name, None) is not None
        }
        return dataclasses.replace(settings, **changes)


class State(NamedTuple):
    """All that training changes.

    Attributes:
        params: The model's parameters.
        opt_state: The optimiser's state.
        carry: What the next window starts from.
        step: Number of updates so far.
    """

    params: Any
    opt_state: Any
    carry: Any
    step: jax.Array


class Progress(NamedTuple):
    """How far a training is.

    Attributes:
        state: The newest state.
        losses: ``(CALL,)`` of the updates since the newest record.
        begin: Number of updates before them.
        train_seconds: Time spent in updates, without compilation.
    """

    state: State
    losses: np.ndarray
    begin: int
    train_seconds: float

    @property
    def step(self) -> int:
        """Number of updates so far."""
        return int(self.state.step)

    @property
    def mean_loss(self) -> float:
        """Of the updates since the newest record."""
        return float(self.losses[: self.step - self.begin].mean(dtype=np.float64))

    def to_tree(self) -> dict[str, Any]:
        """As arrays that can be saved."""
        begin, seconds = np.array(self.begin), np.array(self.train_seconds)
        return self._replace(begin=begin, train_seconds=seconds)._asdict()

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> "Progress":
        """The inverse of to_tree."""
        return cls(
            State(*tree["state"]),
            np.array(tree["losses"]),
            int(tree["begin"]),
            float(tree["train_seconds"]),
        )


class Trainer(NamedTuple):
    """What stays the same through a training: the model and its optimiser."""

    model: nn.Module
    tx: optax.GradientTransformation


class Task(NamedTuple):
    """All that one training needs.

    Attributes:
        config: The flags.
        settings: How to train.
        text: Where the text comes from.
        codec: How text becomes tokens.
        tokens: The whole text.
        train: The part to train on.
        windows: Its streams and windows.
        trainer: The model and its optimiser.
        key: Randomness of dropout: that of a step is ``fold_in(key, step)``.
    """

    config: Config
    settings: Settings
    text: Text
    codec: Codec
    tokens: np.ndarray
    train: np.ndarray
    windows: Windows
    trainer: Trainer
    key: jax.Array

    @property
    def epoch_steps(self) -> int:
        """Updates of an epoch: one for each window."""
        return len(self.windows.window_starts)

    @property
    def num_steps(self) -> float:
        """Updates of the whole training; infinite if only time ends it."""
        epochs = self.settings.epochs
        return math.inf if epochs is None else epochs * self.epoch_steps

    def next_stop(self, step: int) -> int:
        """The update, after this one, up to which one call of the loop may go."""
        every = [CALL, self.settings.checkpoint_every]
        if self.settings.every is not None:
            every.append(self.settings.every)
        if self.settings.sample_every is not None:
            every.append(self.settings.sample_every * self.epoch_steps)
        return int(min(self.num_steps, *(step - step % n + n for n in every)))


def make_model(config: Config, codec: Codec) -> nn.Module:
    """The model of a configuration."""
    settings = config.settings
    return build_model(
        config.recipe,
        "lstm",
        vocab_size=codec.vocab_size,
        hidden_size=settings.hidden_size,
        mlp_size=settings.mlp_size,
        num_layers=settings.num_layers,
        dropout=settings.dropout,
        dtype=None if config.dtype == "float32" else jnp.dtype(config.dtype),
    )


# One object for the same values: JAX compiles anew for an optimiser it has not seen.
@functools.cache
def make_optimizer(
    b2: float,
    clip: float | None,
    weight_decay: float,
    skip_gradients_above: float | None = None,
) -> optax.GradientTransformation:
    """Adam but for the learning rate, which is a number of each update.

    Args:
        b2: Adam's.
        clip: Global norm that gradients are cut to; None is not at all.
        weight_decay: AdamW's, for the weight matrices.
        skip_gradients_above: Global norm from which on an update is left out.

    Returns:
        An optax transformation whose updates are to be multiplied by minus the rate.
    """
    parts = [optax.scale_by_adam(b2=b2)]
    if clip is not None:
        parts.insert(0, optax.clip_by_global_norm(clip))
    if weight_decay:
        matrices = functools.partial(jax.tree.map, lambda leaf: leaf.ndim > 1)
        parts.append(optax.add_decayed_weights(weight_decay, matrices))
    tx = optax.chain(*parts)
    if skip_gradients_above is None:
        return tx
    return skip_large_gradients(tx, skip_gradients_above)


def make_windows(config: Config, num_tokens: int) -> Windows:
    """The streams and windows of the part of a text to train on.

    Raises:
        InputError: If the text is too short.
    """
    settings = config.settings
    if config.recipe == "lab":
        return lesson_windows(num_tokens, settings.batch_size, settings.window)
    border = int(TRAIN_SHARE * num_tokens)
    return stream_windows(border, settings.batch_size, settings.window)


def make_task(config: Config, text: Text, codec: Codec, tokens: np.ndarray) -> Task:
    """Divide a text, and build the model for it.

    Raises:
        InputError: If the text is too short.
    """
    settings = config.settings
    border = len(tokens)
    if config.recipe != "lab":
        border = int(TRAIN_SHARE * len(tokens))
    tx = make_optimizer(
        settings.b2, settings.clip, settings.weight_decay, config.skip_gradients_above
    )
    return Task(
        config,
        settings,
        text,
        codec,
        tokens,
        tokens[:border],
        make_windows(config, len(tokens)),
        Trainer(make_model(config, codec), tx),
        # XLA's own generator ("rbg") takes four times as long on a CPU.
        jax.random.key(config.seed + 1),
    )


def start(task: Task) -> State:
    """Before the first update."""
    model, tx = task.trainer
    tokens = jnp.zeros((1, 1), jnp.int32)
    params = jax.jit(model.init)(jax.random.key(task.config.seed), tokens)["params"]
    carry = zero_carry(model, (len(task.windows.stream_starts),))
    return State(params, tx.init(params), carry, jnp.array(0))


def update(
    trainer: Trainer, state: State, tokens: jax.Array, rate: jax.Array, key: jax.Array
) -> tuple[State, jax.Array]:
    """One update of the parameters.

    Args:
        trainer: The model and its optimiser.
        state: The state before.
        tokens: ``(streams, window + 1)``.
        rate: The learning rate.
        key: Randomness of dropout.

    Returns:
        The state after, and the mean loss before, in nats per character.
    """
    dropout_key = jax.random.fold_in(key, state.step)

    def mean_loss(params):
        losses, carry = window_losses(
            trainer.model, params, state.carry, tokens, dropout_key=dropout_key
        )
        return jnp.mean(losses), carry

    gradient = jax.value_and_grad(mean_loss, has_aux=True)
    (loss, carry), grads = gradient(state.params)
    steps, opt_state = trainer.tx.update(grads, state.opt_state, state.params)
    params = jax.tree.map(lambda p, s: p - rate * s, state.params, steps)
    return State(params, opt_state, carry, state.step + 1), loss


@functools.partial(jax.jit, static_argnames="trainer", donate_argnames="state")
def update_many(state: State, tokens, rates, num, key, *, trainer: Trainer):
    """The first ``num`` updates with ``tokens (CALL, streams, window + 1)``.

    They end after one in which the loss or a parameter is not finite.

    Returns:
        The state after, the losses ``(CALL,)``, and whether all is finite.
    """

    def body(index, loop):
        state, losses = loop
        state, loss = update(trainer, state, tokens[index], rates[index], key)
        return (state, losses.at[index].set(loss)), is_finite((state.params, loss))

    loop = (state, jnp.zeros(CALL))
    (state, losses), good = repeat_while_good(num, body, loop)
    return state, losses, good


def learning_rates(settings: Settings, progress: np.ndarray) -> np.ndarray:
    """The learning rates at some points of the training.

    Args:
        settings: Has the highest rate, and whether it decays.
        progress: ``(...,)`` 0 at the beginning, 1 at the end.

    Returns:
        ``(...,)`` float32: with ``decays``, a rise over the first 3 %, then a cosine
        down to zero.
    """
    if not settings.decays:
        return np.full(progress.shape, settings.learning_rate, np.float32)
    rise = np.minimum(progress / 0.03, 1)
    fall = 0.5 * (1 + np.cos(np.pi * np.clip(progress, 0, 1)))
    return (settings.learning_rate * rise * fall).astype(np.float32)


class Clock:
    """How far a training is, by updates and by time.

    Attributes:
        seconds: Time spent in updates, without compilation.
    """

    def __init__(self, task: Task, seconds: float):
        self.seconds = seconds
        self._task = task
        self._budget = 60 * (task.settings.minutes or math.inf)
        self._per_step = 0.0

    def is_over(self, step: int) -> bool:
        """Whether the training ends before this update."""
        return step >= self._task.num_steps or self.seconds >= self._budget

    def plan(self, step: int) -> tuple[int, np.ndarray]:
        """The next call: how many updates, and their learning rates ``(CALL,)``."""
        num = 1
        if self._per_step:
            num = self._task.next_stop(step) - step
            left = min(self._budget - self.seconds, CALL_SECONDS) / self._per_step
            num = max(1, min(num, math.ceil(left)))
        steps = np.arange(CALL)
        progress = np.maximum(
            (step + steps) / self._task.num_steps,
            (self.seconds + steps * self._per_step) / self._budget,
        )
        return num, learning_rates(self._task.settings, progress)

    def add(self, seconds: float, num: int) -> None:
        """Note the time spent so far, and the number of updates of the newest call."""
        self._per_step = (seconds - self.seconds) / num
        self.seconds = seconds


def train(
    task: Task, directory: RunDirectory, stop: Interruption
) -> tuple[Progress, float]:
    """Train to the end, from the newest checkpoint on if there is one.

    Args:
        task: What to train.
        directory: Where metrics, samples and checkpoints go.
        stop: Whether to stop before the end.

    Returns:
        The end of the training, and seconds spent on compilation.

    Raises:
        InputError: If the loss or a parameter is not finite, which is not saved; if no
            checkpoint can be used.
        Stopped: If it was to stop; all is saved.
    """
    progress, saved = Progress(start(task), np.zeros(CALL, np.float32), 0, 0.0), None
    checkpoints = Checkpoints(directory.path / "checkpoints", directory.config)
    if found := checkpoints.restore_newest(progress.to_tree()):
        saved, progress = found[0], Progress.from_tree(found[1])
    clock = Clock(task, progress.train_seconds)
    if clock.is_over(progress.step):
        return progress, 0.0
    if found:
        print(f"resuming after update {saved:,}")
    directory.keep_metrics(progress.begin)
    compile_seconds = warm_up(task, progress.state)
    writer = scalar_writer(directory.path / "tensorboard", progress.step)
    with writer, tqdm(total=None, unit=" updates", disable=None, leave=False) as bar:
        while not clock.is_over(progress.step):
            if stop.should_stop(progress.step):
                checkpoints.save(progress.step, progress.to_tree())
                raise stop.stopped(progress.step)
            num, rates = clock.plan(progress.step)
            num = min(num, stop.after - progress.step)
            progress = advance(task, progress, num, rates, saved)
            clock.add(progress.train_seconds, num)
            step, over = progress.step, clock.is_over(progress.step)
            bar.update(num)
            if not over and step < task.next_stop(progress.begin):
                continue
            record = {
                # How many updates came before.
                "round": progress.begin,
                "step": step,
                "epoch": step / task.epoch_steps,
                "train_loss": progress.mean_loss,
                "learning_rate": float(rates[num - 1]),
                "train_seconds": progress.train_seconds,
            }
            record |= skipped(progress.state) | look(task, progress.state, step, over)
            directory.append_metrics(record)
            for name in record.keys() - {"round", "step", "epoch", "sample"}:
                writer.add_scalar(name, record[name], step)
            bar.set_postfix(loss=f"{record['train_loss']:.3f}")
            say(task, record, bar, over)
            progress = progress._replace(begin=step)
            if over or step % task.settings.checkpoint_every == 0:
                checkpoints.save(step, progress.to_tree(), record.get("val_loss"))
                directory.write_params(task.trainer.model, progress.state.params)
                saved = step
    return progress, compile_seconds


def warm_up(task: Task, state: State) -> float:
    """Compile the updates without making any; seconds that it took."""
    began = time.perf_counter()
    copy = jax.tree.map(jnp.array, state)
    tokens = task.windows.cut(task.train, 0, CALL)
    rates = np.zeros(CALL, np.float32)
    done = update_many(copy, tokens, rates, 0, task.key, trainer=task.trainer)
    jax.block_until_ready(done)
    return time.perf_counter() - began


def advance(
    task: Task, progress: Progress, num: int, rates: np.ndarray, saved: int | None
) -> Progress:
    """Some updates.

    Args:
        task: What to train.
        progress: The state before.
        num: How many updates.
        rates: ``(CALL,)`` their learning rates.
        saved: Number of updates of the newest checkpoint, or None.

    Returns:
        The progress after.

    Raises:
        InputError: If the loss or a parameter is not finite.
    """
    step = progress.step
    tokens = task.windows.cut(task.train, step, CALL)
    began = time.perf_counter()
    state, losses, good = update_many(
        progress.state, tokens, rates, num, task.key, trainer=task.trainer
    )
    if not good:
        made = int(state.step) - step
        raise not_finite(state.params, losses[made - 1], step + made, saved)
    done = step - progress.begin
    progress.losses[done : done + num] = np.asarray(losses)[:num]
    seconds = time.perf_counter() - began
    return progress._replace(
        state=state, train_seconds=progress.train_seconds + seconds
    )


def look(task: Task, state: State, step: int, over: bool) -> dict[str, Any]:
    """What the recipe looks at during training: a sample, or the validation text."""
    settings, params = task.settings, state.params
    every = settings.sample_every and settings.sample_every * task.epoch_steps
    if every and step % every == 0:
        return {"sample": greedy_text(task, params, "They ", 150)}
    if settings.every and (over or step % settings.every == 0):
        return {"val_loss": validate(task, params, GLANCE).per_token}
    return {}


def validate(task: Task, params: Any, at_most: int | None = None) -> Likelihood:
    """The likelihood of the validation text, or of so many tokens from its beginning."""
    border = len(task.train)
    tokens = task.tokens if at_most is None else task.tokens[: border + at_most]
    return likelihood(task.trainer.model, params, tokens, border)


def greedy_text(task: Task, params: Any, prompt: str, num_chars: int) -> str:
    """Lesson 002's ``gen_text``: the prompt, and ``num_chars + 1`` likeliest characters.

    As there, the first of them is shown as it is even where it stands for a line's end.
    """
    model = task.trainer.model
    known, _ = task.codec.spell(prompt)
    tokens = jnp.asarray(task.codec.encode(known or LINE_END), jnp.int32)[None]
    point, keys = read(model, params, tokens), sample_keys(task.key, 1)
    _, drawn = generate(
        model, params, point, keys, num_chars + 1, Choice(temperature=0)
    )
    drawn = drawn[0].tolist()
    text = task.codec.decode(drawn)
    if task.codec.decode(drawn[:1]) == "\n":
        text = task.codec.line_end + text[1:]
    return prompt + text


def final_text(task: Task, params: Any) -> str:
    """What the program shows at its end."""
    if task.config.recipe == "lab":
        return greedy_text(task, params, "Professor ", 1000)
    model = task.trainer.model
    known, _ = task.codec.spell("\n")
    tokens = task.codec.encode(known) if known else task.tokens[:1]
    point = read(model, params, jnp.asarray(tokens, jnp.int32)[None])
    keys = sample_keys(jax.random.key(task.config.seed), 1)
    _, drawn = generate(model, params, point, keys, 500, Choice(temperature=0.8))
    return task.codec.decode(drawn[0].tolist())


def say(task: Task, record: dict[str, Any], bar, over: bool) -> None:
    """Print a sample or a validation; without them, the end of the training."""
    where = f"update {record['step']:,}  epoch {record['epoch']:.1f}"
    loss = f"loss {record['train_loss']:.4f}  {record['train_seconds']:.0f} s"
    if "sample" in record:
        line = "-" * 30
        sample = printable(record["sample"], keep="\n\t")
        bar.write(f"{line}\n{sample}\n{line}\n{where}  {loss}")
    elif "val_loss" in record:
        val = record["val_loss"]
        bits = val / math.log(2)
        bar.write(f"{where}  {loss}  validation {val:.4f} ({bits:.3f} bits)")
    elif over:
        bar.write(f"{where}  {loss}")


def best_state(task: Task, progress: Progress, directory: RunDirectory) -> State:
    """Of the states that are kept, the one that predicts the validation text best."""
    checkpoints = Checkpoints(directory.path / "checkpoints", directory.config)
    step = checkpoints.best()
    if step is None or step == progress.step:
        return progress.state
    tree = checkpoints.restore(step, progress.to_tree())
    return Progress.from_tree(tree).state


def finish(
    task: Task, progress: Progress, compile_seconds: float, directory: RunDirectory
) -> dict[str, Any]:
    """Measure, print and write all that a run leaves; return its summary."""
    best, model = best_state(task, progress, directory), task.trainer.model
    params = best.params
    directory.write_params(model, params)
    directory.write_model(model, params)
    records = directory.metrics()
    draw(records, directory.path / "plots" / "loss.png")

    text = final_text(task, params)
    samples = [
        f"epoch {record['epoch']:.0f}, loss {record['train_loss']:.4f}\n"
        f"{record['sample']}\n"
        for record in records
        if "sample" in record
    ] + [f"the end\n{text}\n"]
    write_text(directory.path / "samples.txt", f"{'-' * 30}\n".join(samples))
    print("\n" + printable(text, keep="\n\t") + "\n")

    if task.config.recipe == "lab":
        measured = {
            "val_nats_per_char": None,
            "val_bits_per_char": None,
            # Of the whole text in one pass: what it has memorised.
            "train_loss_without_dropout": likelihood(
                model, params, task.tokens
            ).per_token,
        }
    else:
        whole = validate(task, params)
        measured = {
            "val_nats_per_char": whole.per_token,
            "val_bits_per_char": whole.bits,
            "val_chars": whole.num_tokens,
            "val_nats_per_char_of_random_crops": crop_loss(
                model, params, task.tokens[len(task.train) :], task.config.seed
            ),
        }
    summary = {
        "recipe": task.config.recipe,
        "model": model.kind,
        "data": task.text.source,
        "seed": task.config.seed,
        "num_params": count(params),
        "steps": progress.step,
        "epochs": progress.step / task.epoch_steps,
        "best_step": int(best.step),
        **measured,
        "train_loss": records[-1]["train_loss"],
        "train_seconds": progress.train_seconds,
        "compile_seconds": compile_seconds,
        "wall_seconds": time.perf_counter() - STARTED,
        "device": device_line(),
    }
    write_json(directory.path / "summary.json", summary)
    return summary


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """The loss over the epochs."""
    lines = {"train": [(r["epoch"], r["train_loss"]) for r in records]}
    if points := [(r["epoch"], r["val_loss"]) for r in records if "val_loss" in r]:
        lines["validation"] = points
    curves = {name: tuple(zip(*line, strict=True)) for name, line in lines.items()}
    plots.curves(path, curves, "epoch", "loss (nats per character)")


def describe(config: Config, source: str, found: Survey) -> dict[str, Any]:
    """What config.json says: all that decides a run, and what sample needs."""
    flags, settings = dataclasses.asdict(config), dataclasses.asdict(config.settings)
    for name in ("out", "text", "checkpoint_every"):
        del flags[name]
    del settings["checkpoint_every"]
    model = make_model(config, found.codec)
    sizes = ("vocab_size", "hidden_size", "mlp_size", "num_layers", "dropout")
    return {
        "program": "charlm",
        "config": flags | {"model": model.kind},
        "settings": settings,
        "sizes": {name: getattr(model, name) for name in sizes},
        "alphabet": found.codec.alphabet,
        "line_end": found.codec.line_end,
        "text": {
            "source": source,
            "sha256": found.sha256,
            "num_tokens": found.num_tokens,
        },
    }


def main(config: Config, stop_after: float = math.inf) -> None:
    """Train what the flags say.

    Args:
        config: The flags.
        stop_after: Update after which to stop as if a signal had come.
    """
    print(f"device: {device_line()}")
    lab = config.recipe == "lab"
    text = read_text(config.text, "friends" if lab else "shakespeare", joined=lab)
    print(text.note)
    found = survey(text, config.tokens, LINE_END if lab else "\n")
    unit = "bytes" if found.codec.alphabet is None else "different characters"
    print(f"{found.num_tokens:,} tokens, {found.codec.vocab_size} {unit}")
    # Before anything is written, for the text may be too short.
    make_windows(config, found.num_tokens)
    path = config.out or default_path(config.recipe, "lstm")
    directory = RunDirectory.open(path, describe(config, text.source, found))
    with directory.lock(), interruptible(stop_after) as stop:
        tokens = tokenize(text, found.codec, path / "tokens.bin")
        task = make_task(config, text, found.codec, tokens)
        progress, compile_seconds = train(task, directory, stop)
        if directory.outcome(progress.step):
            print(f"{path} is complete; nothing to do")
            return
        summary = finish(task, progress, compile_seconds, directory)
    print(
        f"{summary['steps']:,} updates in {summary['train_seconds']:.1f} s, "
        f"{summary['wall_seconds']:.1f} s in all; training loss "
        f"{summary['train_loss']:.4f} nats per character"
    )
    if lab:
        print(
            f"{summary['train_loss_without_dropout']:.4f} with dropout off; lesson 002 "
            "trains on the whole text, so that there is no validation"
        )
    else:
        if summary["best_step"] != summary["steps"]:
            print(
                f"kept are the parameters after update {summary['best_step']:,}, which "
                "predict the validation text best"
            )
        print(
            f"validation ({summary['val_chars']:,} characters, carry never reset): "
            f"{summary['val_nats_per_char']:.4f} nats, "
            f"{summary['val_bits_per_char']:.4f} bits per character"
        )
        if summary["val_nats_per_char_of_random_crops"] is not None:
            print(
                "nanoGPT's estimate (random crops of 256): "
                f"{summary['val_nats_per_char_of_random_crops']:.4f} nats"
            )
    print(f"python -m train.sample --run {path}")


if __name__ == "__main__":
    compilation_cache.switch_on()
    run(main, Config, "Train a character language model.")
