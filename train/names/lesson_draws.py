"""What a lesson's own program draws between two records of ours: order, noise, masks."""

from typing import Any, NamedTuple

import jax
import numpy as np

from rnnjax.random import DataLoader
from rnnjax.random.dropout_masks import dropout_masks
from rnnjax.random.init import kaiming_uniform
from train.names import batches as plans
from train.names.task import Task
from train.names.update import Given
from train.runs.seeded import Draws, Generators


class Drawn(NamedTuple):
    """All that is random in the updates between two records.

    Attributes:
        batches: The batches, for one replica.
        given: The random numbers inside the model.
        after: Where the generators are after them, and after what is evaluated then.
    """

    batches: plans.Batches
    given: Given
    after: Draws


def draw_record(task: Task, index: int, before: Draws) -> Drawn:
    """Draw for the updates of one record, as the lesson's program does.

    Args:
        task: What to train; it has a lesson.
        index: Number of the record, from 0.
        before: Where the generators are.

    Returns:
        What was drawn.
    """
    assert task.lesson is not None
    generators = task.lesson.generators(before)
    if task.recipe == "workshop":
        batches = _examples(task, index, generators)
        return Drawn(batches, Given(), generators.draws())
    order = np.arange(len(task.replicas[0].train.labels))
    kept = None
    if task.recipe == "practical":
        # An epoch begins with the loader's four words, and the validation takes two.
        loader = DataLoader(len(order), generators.torch, shuffle=True)
        order = np.concatenate(list(loader))
        iter(DataLoader(len(order), generators.torch))
    elif task.recipe == "blog":
        # The list stays as the epoch before has shuffled it.
        places = np.asarray(before.order).tolist()
        generators.python.shuffle(places)
        order = kept = np.array(places)
    else:
        iter(DataLoader(len(order), generators.torch))
    batches = plans.in_order(
        task.replicas[0].train,
        order,
        task.settings.batch_size,
        task.trainer.widths,
        task.settings.drop_last,
    )
    given = _inside(task, batches, generators)
    if task.settings.test_every and (index + 1) % task.settings.test_every == 0:
        iter(DataLoader(len(task.replicas[0].test.labels), generators.torch))
    return Drawn(batches, given, generators.draws(kept))


def _examples(task: Task, index: int, generators: Generators) -> plans.Batches:
    """Lesson 001's ``randomTrainingExample``, again and again."""
    train, python = task.replicas[0].train, generators.python
    sizes = np.bincount(train.labels).tolist()
    first = np.cumsum([0, *sizes]).tolist()
    num = min(task.record_updates, task.num_updates - index * task.record_updates)
    places, suffixes = [], []
    for _ in range(num * task.settings.batch_size):
        label = python.randint(0, len(sizes) - 1)
        places.append(first[label] + python.randint(0, sizes[label] - 1))
        length = python.randint(0, task.noise + 1) if task.noise else 0
        suffixes.append("".join(python.choice(plans.NOISE) for _ in range(length)))
    batches = plans.in_order(
        train, np.array(places), task.settings.batch_size, task.trainer.widths
    )
    return plans.add_suffixes(batches, suffixes, task.vocabulary, task.trainer.widths)


def _inside(task: Task, batches: plans.Batches, generators: Generators) -> Given:
    """What the model itself draws: initial states, or masks."""
    num, rows = batches.labels.shape
    model = task.trainer.model
    if task.trainer.carry == "random":
        carries = initial_states(task, num * rows, generators)
        return Given(carries=carries.reshape(num, rows, -1))
    if not getattr(model, "dropout", 0):
        return Given()
    steps = batches.tokens.shape[-1]
    each = [dropout_masks(model, generators.torch, rows, steps) for _ in range(num)]
    masks: Any = jax.tree.map(lambda *arrays: np.stack(arrays), *each)
    return Given(masks=masks)


def initial_states(task: Task, num: int, generators: Generators) -> np.ndarray:
    """Lesson 003's ``init_hidden`` of so many names, one after the other."""
    return kaiming_uniform(generators.torch, (num, task.trainer.model.hidden_size))


def states_of_test(task: Task, draws: Draws) -> np.ndarray | None:
    """The states that the test names of the end start from; None is zeros."""
    if task.lesson is None or task.trainer.carry != "random":
        return None
    generators = task.lesson.generators(draws)
    return initial_states(task, len(task.replicas[0].test.labels), generators)
