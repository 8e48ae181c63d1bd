"""Write ``<recipe>_<model>.npz``: every lesson's model, trained at small sizes.

Run as ``python -m tests.reference.make_references``. Each file has

- ``sizes`` (JSON: the twin's arguments), ``learning_rate``, ``clip`` (where the lesson
  clips), ``torch_version``;
- ``tokens (K, batch, time)`` padded with 0, ``seq_lengths (K, batch)`` and ``labels (K,
  batch)``: the batches of K updates; lab: ``tokens`` and ``targets (K, batch, time)``;
  blog's rnn: ``initial_carry (K, batch, hidden)``;
- for the first batch at the initial weights: ``logits`` (lab: and ``log_probs``),
  ``grads/<torch name>`` (before clipping), ``attention`` (workshop's),
  ``carry_out/first`` (binary's rnn; lab: ``carry_out/first/h`` and ``…/c``);
- ``losses (K,)``, each before its update; ``init/<torch name>`` and ``final/<torch
  name>``, the whole state dicts; ``carry_out/last`` after the last batch;
- lab: ``greedy/prompt`` and ``greedy/tokens``, drawn with the final weights.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.torch_layers import as_arrays, prefixed
from tests.torch_lessons import (
    LESSONS,
    AttentionClassifier,
    CharLM,
    Lesson,
    generate,
    train,
)

# All dimensions differ, so that a swapped axis cannot fit.
NAMES = {"vocab_size": 11, "hidden_size": 6, "num_classes": 4}
CHARS = {"vocab_size": 11, "hidden_size": 8, "mlp_size": 13, "dropout": 0.0}
BINARY = {"vocab_size": 11, "hidden_size": 6, "num_classes": 2, "max_length": 7}
TIME = 7
UPDATES = 220
EXAMPLES = 30  # names that the batches draw from: few enough to be learnt

CASES = {
    ("practical", "linear"): NAMES,
    ("practical", "rnn"): NAMES,
    ("practical", "gru"): NAMES,
    ("practical", "lstm"): NAMES,
    ("workshop", "rnn"): NAMES,
    ("workshop", "gru"): NAMES,
    ("workshop", "attention"): NAMES,
    ("workshop", "lstm"): NAMES,
    ("blog", "rnn"): NAMES,
    ("blog", "gru"): NAMES,
    ("binary", "mlp"): BINARY,
    ("binary", "linear"): BINARY,
    ("binary", "rnn"): BINARY | {"head_size": 5, "dropout": 0.0},
    ("lab", "lstm"): CHARS,
}
# Smaller than the lessons'; one where the lesson takes one name at a time.
MAX_BATCH_SIZE = {"practical": 5, "workshop": 1, "blog": 1, "binary": 3, "lab": 4}
# The lessons' 5e-6 and 1e-3 would hardly move a small model in so few updates.
LEARNING_RATES = {"binary": 5e-3, "lab": 2e-2}
# Lab: the windows of one epoch, run through twice with the carry kept.
SENTENCE, WINDOW, WINDOWS, EPOCHS = 17, 6, 30, 2
PROMPT, GREEDY = 5, 40


def draw_names(
    rng: np.random.Generator, batch_size: int, vocab_size: int, num_classes: int
) -> dict[str, np.ndarray]:
    """Draw `UPDATES` batches of names of 1 to `TIME` tokens with random labels."""
    seq_lengths = rng.integers(1, TIME, size=EXAMPLES, endpoint=True)
    seq_lengths[:3] = TIME - 2, 1, TIME
    tokens = rng.integers(vocab_size, size=(EXAMPLES, TIME))
    tokens[np.arange(TIME) >= seq_lengths[:, None]] = 0
    labels = rng.integers(num_classes, size=EXAMPLES)
    rows = rng.integers(EXAMPLES, size=(UPDATES, batch_size))
    rows.flat[:3] = 0, 1, 2
    return {
        "tokens": tokens[rows],
        "seq_lengths": seq_lengths[rows],
        "labels": labels[rows],
    }


def draw_windows(
    rng: np.random.Generator, batch_size: int, vocab_size: int
) -> dict[str, np.ndarray]:
    """Cut a sentence, told over and over, into streams and windows as the lesson does.

    The last token of a window is a target and never an input.
    """
    stride = WINDOW + 1
    sentence = rng.integers(vocab_size, size=SENTENCE)
    text = np.resize(sentence, batch_size * WINDOWS * stride)
    windows = text.reshape(batch_size, WINDOWS, stride).swapaxes(0, 1)
    windows = np.tile(windows, (EPOCHS, 1, 1))
    return {"tokens": windows[..., :-1], "targets": windows[..., 1:]}


def make_reference(recipe: str, model: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Train one twin; return what its file holds."""
    lesson = LESSONS[recipe, model]
    sizes = CASES[recipe, model]
    batch_size = min(lesson.batch_size, MAX_BATCH_SIZE[recipe])
    learning_rate = LEARNING_RATES.get(recipe, lesson.learning_rate)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    twin = lesson.twin(**sizes)
    initial = as_arrays(twin.state_dict())

    if recipe == "lab":
        data = draw_windows(rng, batch_size, sizes["vocab_size"])
    else:
        data = draw_names(rng, batch_size, sizes["vocab_size"], sizes["num_classes"])
    data = {name: torch.from_numpy(array) for name, array in data.items()}
    if (recipe, model) == ("blog", "rnn"):
        rows = twin.random_carry(UPDATES * batch_size)
        data["initial_carry"] = rows.unflatten(0, (UPDATES, batch_size))
    labels = data["targets" if recipe == "lab" else "labels"]
    arguments = ("tokens", "seq_lengths", "initial_carry")
    inputs = zip(*(data[name] for name in arguments if name in data), strict=True)
    batches = list(zip(inputs, labels, strict=True))

    first = first_batch(twin, *batches[0], lesson)
    optimiser = lesson.optimiser(twin.parameters(), lr=learning_rate)
    losses, carry = train(
        twin, batches, optimiser, lesson.loss, lesson.clip, lesson.carried
    )
    arrays = {
        "sizes": np.array(json.dumps(sizes)),
        "learning_rate": np.array(learning_rate),
        "torch_version": np.array(torch.__version__),
        **{name: compact(array) for name, array in as_arrays(data).items()},
        **prefixed("init", initial),
        **as_arrays(first),
        "losses": np.array(losses, np.float32),
        **prefixed("final", as_arrays(twin.state_dict())),
    }
    if lesson.clip is not None:
        arrays["clip"] = np.array(lesson.clip)
    if lesson.carried:
        arrays |= as_arrays(carry_tensors("carry_out/last", carry))
    if recipe == "lab":
        prompt = batches[0][0][0][0, :PROMPT]
        tokens = generate(twin, prompt, num_chars=GREEDY - 1)
        drawn = as_arrays({"prompt": prompt, "tokens": tokens})
        arrays |= prefixed("greedy", {n: compact(array) for n, array in drawn.items()})
    return arrays


def first_batch(
    twin: nn.Module, inputs: tuple, labels: torch.Tensor, lesson: Lesson
) -> dict[str, torch.Tensor]:
    """Return values and gradients of one batch, without an update."""
    tensors = {}
    outputs = twin(*inputs)
    if lesson.carried:
        outputs, carry = outputs
        tensors |= carry_tensors("carry_out/first", carry)
    lesson.loss(outputs, labels).backward()
    tensors["logits"] = outputs
    if isinstance(twin, CharLM):
        tensors["log_probs"] = outputs
        tensors["logits"], _ = twin.logits(*inputs)
    if isinstance(twin, AttentionClassifier):
        _, tensors["attention"] = twin.attend(*inputs)
    grads = {name: weight.grad for name, weight in twin.named_parameters()}
    used = {name: grad for name, grad in grads.items() if grad is not None}
    return tensors | prefixed("grads", used)


def carry_tensors(prefix: str, carry) -> dict[str, torch.Tensor]:
    """Name a carry: itself, or the ``h`` and ``c`` of an LSTM."""
    if isinstance(carry, tuple):
        return prefixed(prefix, dict(zip("hc", carry, strict=True)))
    return {prefix: carry}


def compact(array: np.ndarray) -> np.ndarray:
    """Store torch's int64 tokens, lengths and labels as int32."""
    return array.astype(np.int32) if array.dtype == np.int64 else array


def main() -> None:
    torch.set_num_threads(1)
    for recipe, model in CASES:
        arrays = make_reference(recipe, model)
        path = Path(__file__).with_name(f"{recipe}_{model}.npz")
        np.savez_compressed(path, **arrays)
        losses = arrays["losses"]
        print(
            f"{path.name}: {path.stat().st_size} bytes, {len(losses)} updates, "
            f"loss {losses[:20].mean():.4f} -> {losses[-20:].mean():.4f}"
        )


if __name__ == "__main__":
    main()
