"""The programs that train.bench compiles for a TPU: calls with shapes for arrays."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.sampling import Choice, Drawn, generate, sample_keys
from rnnjax.truncated import zero_carry
from train.charlm import settings as charlm_config
from train.charlm import task as charlm_task
from train.charlm import training as charlm_training
from train.charlm.text import Text
from train.charlm.update import update_many as update_text
from train.codec import Codec
from train.datasets import SAMPLE_NAMES, load_names
from train.likelihood import MAX_STREAMS, WINDOW, summed_losses
from train.names import training as names_training
from train.names.batches import Batches
from train.names.evaluate import BATCH_SIZE, batch_logits
from train.names.settings import settings_of
from train.names.task import CALL_UPDATES, make_task
from train.names.update import update_many as update_names
from train.runs.devices import Layout

Dtype = Literal["float32", "bfloat16"]
TextRecipe = Literal["lab", "shakespeare"]

SEEDS = 8
"""Replicas of the programs with ``--seeds``."""

VOCAB = 65
"""Characters of lesson 002's text, and of Shakespeare's."""

TOKENS = 1_115_394
"""Length of Shakespeare's text; it decides nothing but the number of the lab's streams."""


class Call(NamedTuple):
    """A call of a compiled function, with shapes in place of arrays.

    Attributes:
        function: What ``jax.jit`` returned.
        args: Its arguments; every leaf says on which devices it is.
        static: The arguments that are known when it is compiled.
        recurrent: Shapes of the weights that the loops over time multiply by, as each
            device has them.
    """

    function: Any
    args: tuple[Any, ...]
    static: Mapping[str, Any]
    recurrent: set[tuple[int, ...]]


class Program(NamedTuple):
    """Something that is compiled.

    Attributes:
        title: What one round of it is, with its sizes.
        call: ``(dtype, layout) -> Call``.
        undivided: Why it is not divided among devices; None if it is.
        replicas: Whether several models are trained, which are then what is divided.
    """

    title: str
    call: Callable[[Dtype, Layout], Call]
    undivided: str | None = None
    replicas: bool = False


def shaped(tree: Any, shardings: Any) -> Any:
    """The shapes of a tree's arrays on devices.

    Args:
        tree: Arrays or their shapes.
        shardings: One for each leaf, or one for all.
    """
    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda leaf: shardings, tree)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding
        ),
        tree,
        shardings,
    )


def array(shape: tuple[int, ...], dtype: Any, sharding: Any) -> Any:
    """The shape of one array."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def recurrent_shapes(params: Any) -> set[tuple[int, ...]]:
    """Shapes of the recurrent weights among parameters, as each device has them."""
    return {
        leaf.sharding.shard_shape(leaf.shape)
        for path, leaf in jax.tree.leaves_with_path(params)
        if jax.tree_util.keystr(path, simple=True, separator="/").endswith(
            "cell/hh/kernel"
        )
    }


def given(layout: Layout) -> Layout | None:
    """What a program on these devices is told: one alone needs no layout."""
    return None if layout.mesh.size == 1 else layout


def names_task(recipe: str, model: str, dtype: Dtype, seeds: int = 1):
    """A recipe's training at its own sizes, on the bundled names."""
    settings = dataclasses.replace(settings_of(recipe, model), dtype=dtype)
    return make_task(recipe, model, settings, load_names(SAMPLE_NAMES), range(seeds))


def names_update(
    recipe: str, model: str, seeds: int = 1
) -> Callable[[Dtype, Layout], Call]:
    """Many updates of a classifier, or of several at once."""

    def call(dtype: Dtype, layout: Layout) -> Call:
        task = names_task(recipe, model, dtype, seeds)
        state = jax.eval_shape(lambda: names_training.start(task).state)
        state = shaped(state, layout.of_state(state))
        time, batch_size = task.trainer.widths[-1], task.settings.batch_size
        rows = (CALL_UPDATES, seeds, batch_size)
        shapes = [(*rows, time), rows, rows, (CALL_UPDATES,)]
        divided = names_training.shardings(layout)
        batches = Batches._make(
            array(shape, np.int32, sharding)
            for shape, sharding in zip(shapes, divided, strict=True)
        )
        return Call(
            update_names,
            (
                state,
                batches,
                array((), np.int32, layout.everywhere),
            ),
            {
                "trainer": task.trainer,
                "replicas": seeds > 1,
                "layout": given(layout),
            },
            recurrent_shapes(state.params),
        )

    return call


def names_evaluation(recipe: str, model: str) -> Callable[[Dtype, Layout], Call]:
    """The logits of a batch of names."""

    def call(dtype: Dtype, layout: Layout) -> Call:
        task = names_task(recipe, model, dtype)
        here = layout.everywhere
        params = jax.eval_shape(lambda: names_training.start(task).state.params)
        params = shaped(params, here)
        return Call(
            batch_logits,
            (
                task.trainer,
                params,
                array((BATCH_SIZE, task.trainer.widths[-1]), np.int32, here),
                array((BATCH_SIZE,), np.int32, here),
                None,
            ),
            {},
            recurrent_shapes(params),
        )

    return call


def text_task(recipe: TextRecipe, dtype: Dtype) -> charlm_task.Task:
    """A language model's training at its recipe's own sizes, on a text without content."""
    config = charlm_config.Config(recipe=recipe, dtype=dtype)
    codec = Codec("".join(map(chr, range(ord("0"), ord("0") + VOCAB))))
    tokens = np.broadcast_to(np.uint8(0), TOKENS)
    text = Text(tuple, source="none", note="")
    return charlm_task.make_task(config, text, codec, tokens)


def text_update(recipe: TextRecipe) -> Callable[[Dtype, Layout], Call]:
    """Some updates of a language model."""

    def call(dtype: Dtype, layout: Layout) -> Call:
        task = text_task(recipe, dtype)
        state = jax.eval_shape(lambda: charlm_training.start(task).state)
        state = shaped(state, layout.of_state(state))
        tokens = task.windows.cut(task.train, 0, charlm_task.CALL_UPDATES)
        here = layout.everywhere
        return Call(
            update_text,
            (
                state,
                array(tokens.shape, tokens.dtype, layout.along(1)),
                array((charlm_task.CALL_UPDATES,), np.float32, here),
                array((), np.int32, here),
                shaped(task.key, here),
            ),
            {"trainer": task.trainer, "layout": given(layout)},
            recurrent_shapes(state.params),
        )

    return call


def text_evaluation(recipe: TextRecipe) -> Callable[[Dtype, Layout], Call]:
    """The likelihood of a window of many streams."""

    def call(dtype: Dtype, layout: Layout) -> Call:
        task, here = text_task(recipe, dtype), layout.everywhere
        model, streams = task.trainer.model, MAX_STREAMS
        params = jax.eval_shape(lambda: charlm_training.start(task).state.params)
        params = shaped(params, here)
        carry = jax.eval_shape(lambda: zero_carry(model, (streams,)))
        return Call(
            summed_losses,
            (
                model,
                params,
                shaped(carry, here),
                array((streams, WINDOW + 1), task.tokens.dtype, here),
                array((streams, WINDOW), bool, here),
                array((streams, WINDOW), np.float32, here),
            ),
            {},
            recurrent_shapes(params),
        )

    return call


def generation(
    recipe: TextRecipe, samples: int, length: int, choice: Choice
) -> Callable[[Dtype, Layout], Call]:
    """Drawing text."""

    def call(dtype: Dtype, layout: Layout) -> Call:
        task, here = text_task(recipe, dtype), layout.everywhere
        model = task.trainer.model
        params = jax.eval_shape(lambda: charlm_training.start(task).state.params)
        params = shaped(params, here)
        point = jax.eval_shape(
            lambda: Drawn(
                zero_carry(model, (samples,)),
                jnp.zeros((samples, VOCAB)),
                jnp.array(0),
            )
        )
        keys = jax.eval_shape(lambda: sample_keys(jax.random.key(0), samples))
        return Call(
            generate,
            (model, params, shaped(point, here), shaped(keys, here)),
            {"length": length, "choice": choice},
            recurrent_shapes(params),
        )

    return call


ONE_NAME = "one name per update: nothing to divide"
ONE_CHIP = "the programs do this on one chip"

PROGRAMS: dict[str, Program] = {
    "best": Program(
        "best gru: updates, 64 names, bidirectional GRU 160",
        names_update("best", "gru"),
    ),
    "best-seeds": Program(
        f"best gru --seeds {SEEDS}: updates, 64 names for each",
        names_update("best", "gru", SEEDS),
        replicas=True,
    ),
    "practical": Program(
        "practical lstm: updates, 16 names, LSTM 57", names_update("practical", "lstm")
    ),
    "workshop": Program(
        "workshop attention: updates, 1 name, GRU 32",
        names_update("workshop", "attention"),
        ONE_NAME,
    ),
    "workshop-seeds": Program(
        f"workshop attention --seeds {SEEDS}: updates, 1 name for each",
        names_update("workshop", "attention", SEEDS),
        replicas=True,
    ),
    "blog": Program(
        "blog gru: updates, 1 name, GRU 2 x 256", names_update("blog", "gru"), ONE_NAME
    ),
    "binary": Program(
        "binary rnn: updates, 8 names, RNN 2 x 256, carry kept",
        names_update("binary", "rnn"),
    ),
    "lab": Program(
        "lab: updates, 64 streams x 50, LSTM 1024, MLP 2048 (lesson 002)",
        text_update("lab"),
    ),
    "shakespeare": Program(
        "shakespeare: updates, 16 streams x 16, LSTM 384", text_update("shakespeare")
    ),
    "names-evaluation": Program(
        f"best gru: logits of {BATCH_SIZE} names",
        names_evaluation("best", "gru"),
        ONE_CHIP,
    ),
    "text-evaluation": Program(
        f"shakespeare: likelihood, {MAX_STREAMS} streams x {WINDOW}",
        text_evaluation("shakespeare"),
        ONE_CHIP,
    ),
    "generation": Program(
        "lab: 150 characters, one sample, greedy",
        generation("lab", 1, 150, Choice(temperature=0)),
        ONE_CHIP,
    ),
    "generation-64": Program(
        "shakespeare: 500 characters, 64 samples, temperature 0.8, top 40",
        generation("shakespeare", 64, 500, Choice(0.8, top_k=40)),
        ONE_CHIP,
    ),
}
"""By name; an update's figures are those of one update."""
