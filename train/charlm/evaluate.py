"""What a character language model predicts and writes."""

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.sampling import Choice, generate, read, sample_keys
from train.charlm.task import Task
from train.codec import LINE_END
from train.likelihood import Likelihood, likelihood


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
