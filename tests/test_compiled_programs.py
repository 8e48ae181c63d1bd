"""What XLA makes of the fast path, read from the compiled program."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnjax import GRU, LSTM, Elman
from rnnjax.lessons import AttentionClassifier
from tests.helpers import AS_USERS, random_params
from train.bench.tpu.hlo import Module
from train.names import batches as plans
from train.names.training import call_batches
from train.names.update import Trainer, cross_entropy, update_many

# No two alike, so that a shape says what a product is.
BATCH, TIME, VOCAB, FEATURES = 3, 11, 13, 7
STACKS = {"rnn": Elman(FEATURES), "gru": GRU(FEATURES), "lstm": LSTM(FEATURES)}

CALLED = re.compile(r"(?:body|calls|to_apply)=%?([\w.\-]+)")
DOT = re.compile(r"= \w+\[([\d,]*)\]\S* dot\(")


def products_in_loops(program: str) -> set[tuple[int, ...]]:
    """Shapes of the products that the loops of a program make at every turn."""
    module = Module(program)
    found, waiting = module.computations, [loop.body for loop in module.loops]
    inside = set()
    while waiting:
        name = waiting.pop()
        if name not in inside:
            inside.add(name)
            waiting += CALLED.findall("\n".join(found[name]))
    shapes = [shape for name in inside for shape in DOT.findall("\n".join(found[name]))]
    return {tuple(int(size) for size in shape.split(",") if size) for shape in shapes}


def has_weight_gradient(shapes: set[tuple[int, ...]], gates: int) -> bool:
    """Whether one of the shapes is that of the recurrent weight, either way round."""
    weight = sorted((FEATURES, gates * FEATURES))
    return any(sorted(shape[-2:]) == weight for shape in shapes if len(shape) > 1)


def lowered_gradient(stack, vmapped: bool = False):
    """The gradient of a loss of a padded batch, or of its rows under vmap."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(VOCAB, size=(BATCH, TIME))
    seq_lengths = np.array([TIME, 0, 5])
    stack = stack.clone(vocab_size=VOCAB)
    params = random_params(stack, tokens)

    def loss(params, tokens, seq_lengths):
        _, ys = stack.apply({"params": params}, tokens, seq_lengths)
        return jnp.sum(jnp.sin(ys))

    def mean_loss(params, tokens, seq_lengths):
        if not vmapped:
            return loss(params, tokens, seq_lengths)
        return jnp.sum(jax.vmap(loss, (None, 0, 0))(params, tokens, seq_lengths))

    return jax.jit(jax.grad(mean_loss)).lower(params, tokens, seq_lengths)


def gradient_program(stack, vmapped: bool = False) -> str:
    """The same, as XLA compiled it."""
    return lowered_gradient(stack, vmapped).compile(AS_USERS).as_text()


@pytest.mark.parametrize("vmapped", [False, True], ids=["batch", "vmap"])
@pytest.mark.parametrize("name", STACKS)
def test_no_loop_adds_up_the_recurrent_weights_gradient(name, vmapped):
    gates = STACKS[name]._cell().gates
    program = gradient_program(STACKS[name], vmapped)
    shapes = products_in_loops(program)
    # The forward and the backward loop each make their product with the hidden state.
    assert {shape for shape in shapes if shape[-1:] == (FEATURES,)}
    assert not has_weight_gradient(shapes, gates)


def test_the_reference_does_add_it_up_in_the_loop():
    """The check above can fail."""
    program = gradient_program(STACKS["lstm"].clone(backend="reference"))
    assert has_weight_gradient(products_in_loops(program), gates=4)


def test_the_gradient_of_the_look_up_is_no_scatter():
    # Read before XLA compiles it, which writes a scatter as a loop.
    assert "stablehlo.scatter" not in lowered_gradient(STACKS["gru"]).as_text()
    look_up = jax.jit(jax.grad(lambda kernel, rows: jnp.sin(kernel[rows]).sum()))
    lowered = look_up.lower(jnp.ones((VOCAB, FEATURES)), jnp.arange(BATCH))
    assert "stablehlo.scatter" in lowered.as_text()


def test_no_more_traces_than_buckets():
    rng = np.random.default_rng(0)
    widths, traces = (3, 6, TIME), Counter()
    num = 20
    seq_lengths = rng.integers(1, TIME, size=(num, BATCH), endpoint=True)
    batches = plans.Batches(
        tokens=rng.integers(VOCAB, size=(num, 1, BATCH, TIME)).astype(np.int32),
        seq_lengths=seq_lengths.astype(np.int32)[:, None],
        labels=rng.integers(4, size=(num, 1, BATCH)).astype(np.int32),
        buckets=plans.bucket_of(seq_lengths.max(axis=1), widths),
    )
    assert len(set(batches.buckets.tolist())) > 1

    def loss(logits, labels):
        traces["loss"] += 1  # The body of a traced function runs once for each trace.
        return cross_entropy(logits, labels)

    model = AttentionClassifier(VOCAB, 5, 4)
    trainer = Trainer(model, optax.sgd(0.1), loss, "zeros", widths)
    state = trainer.init(jax.random.key(3), BATCH)
    piece = call_batches(batches, 0, num)
    for count in (num, num - 5, 5):
        state, *_ = update_many(state, piece, count, trainer=trainer, replicas=False)
    assert int(state.step) == 2 * num
    assert 0 < traces["loss"] <= len(widths)
