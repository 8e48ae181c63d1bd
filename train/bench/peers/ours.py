"""rnnjax, as its programs and its users run it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import from_torch
from rnnjax.sampling import Choice, generate, read, sample_keys
from train.bench.peers.work import LayerWork, NamesWork, SampleWork, TextWork
from train.charlm import training as charlm_training
from train.charlm import update as charlm_update
from train.charlm.task import CALL_UPDATES
from train.names import training as names_training
from train.runs.loop import advance

Run = Callable[[int], np.ndarray]


def names(work: NamesWork) -> Run:
    """``train.names``: many updates in one call, validation if it belongs to a round."""
    training = names_training.Training(work.task)
    progress = training.start()
    params = from_torch(work.task.trainer.model, work.weights)
    progress = progress._replace(state=progress.state._replace(params=params))

    def run(round_):
        nonlocal progress
        progress = progress._replace(recorded=progress.step)
        num_batches = training.batches(progress).num_batches
        while progress.step - progress.recorded < num_batches:
            progress = advance(training, progress, training.room(progress))
        losses = progress.unrecorded.loss[:, 0].copy()
        if work.validates:
            names_training.evaluation(work.task, progress)
        return losses

    return run


def lab(work: TextWork) -> Run:
    """``train.charlm --recipe lab``."""
    task = work.task
    params = from_torch(task.trainer.model, work.weights)
    state = charlm_training.start(task).state._replace(params=params)
    rates = np.full(CALL_UPDATES, task.settings.learning_rate, np.float32)

    def run(round_):
        nonlocal state
        tokens = task.windows.cut(task.train, round_ * work.updates, CALL_UPDATES)
        state, metrics, _ = charlm_update.update_many(
            state, tokens, rates, work.updates, task.key, trainer=task.trainer
        )
        return np.asarray(metrics.loss)[: work.updates]

    return run


def layer(work: LayerWork) -> Run:
    """``rnnjax.Recurrent``, as it is by default."""
    return _layer(work, "scan")


def reference_layer(work: LayerWork) -> Run:
    """``nn.scan`` over the same cell."""
    return _layer(work, "reference")


def pallas_layer(work: LayerWork) -> Run:
    """The kernel for TPUs."""
    return _layer(work, "pallas")


def cudnn_layer(work: LayerWork) -> Run:
    """cuDNN's LSTM."""
    return _layer(work, "cudnn")


def _layer(work, backend):
    module = work.layer.clone(backend=backend)
    tokens = jnp.asarray(work.inputs)

    def loss(params):
        _, ys = module.apply({"params": params}, tokens)
        return jnp.mean(ys**2)

    gradient = jax.jit(jax.value_and_grad(loss))

    def run(round_):
        value, grads = jax.block_until_ready(gradient(work.weights))
        kernel = np.asarray(grads["cell"]["hh"]["kernel"])
        return np.array([value, np.linalg.norm(kernel)])

    return run


def sample(work: SampleWork) -> Run:
    """``train.sample --temperature 0``."""
    task = work.task
    model = task.trainer.model
    params = from_torch(model, work.weights)
    prompt = jnp.asarray(task.codec.encode(work.prompt), jnp.int32)
    prompts = jnp.tile(prompt, (work.samples, 1))
    keys = sample_keys(jax.random.key(0), work.samples)
    greedy = Choice(temperature=0)

    def run(round_):
        point = read(model, params, prompts)
        _, tokens = generate(model, params, point, keys, work.chars, greedy)
        return np.asarray(tokens)[0]

    return run
