"""Lesson 002's dropout masks, as its own program draws them."""

from typing import Any, NamedTuple

import jax
import numpy as np

from rnnjax.random.dropout_masks import dropout_masks
from train.charlm.task import Task
from train.runs.seeded import Draws


class Drawn(NamedTuple):
    """The masks of the updates between two records.

    Attributes:
        step: Number of updates before them.
        masks: The collection ``dropout_masks``, with an axis of updates in front.
        after: Where the generators are after them.
    """

    step: int
    masks: Any
    after: Draws


def draw_masks(task: Task, step: int, num: int, before: Draws) -> Drawn:
    """Draw the masks of some updates.

    Args:
        task: What to train; it has a lesson.
        step: Number of updates before them.
        num: Number of updates.
        before: Where the generators are.

    Returns:
        The masks.
    """
    assert task.lesson is not None
    generators = task.lesson.generators(before)
    streams, model = len(task.windows.stream_starts), task.trainer.model
    each = [
        dropout_masks(model, generators.torch, streams, task.settings.window)
        for _ in range(num)
    ]
    masks = jax.tree.map(lambda *arrays: np.stack(arrays), *each)
    return Drawn(step, masks, generators.draws())
