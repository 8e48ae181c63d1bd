"""PyTorch twins of the lessons' models, and the lessons' training.

A twin has the name of its model in `rnnjax.lessons`, and its modules have the parameter
names of the lessons (the names a student's checkpoint has) and the lessons' sizes by
default. Every names twin is called as ``twin(tokens, seq_lengths, initial_carry=None)``
with ``tokens (batch, time)`` int64, anything at padding, and returns logits; a twin
whose lesson carries the state from batch to batch returns ``(logits, carry)``.
`LESSONS` lists them with their losses and optimisers.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from tests.torch_layers import KINDS, run_packed


def one_hot(
    tokens: torch.Tensor, seq_lengths: torch.Tensor, vocab_size: int
) -> torch.Tensor:
    """Encode ``tokens`` as one-hot vectors, zero vectors at padding."""
    mask = torch.arange(tokens.shape[1]) < seq_lengths[:, None]
    encoded = F.one_hot(torch.where(mask, tokens, 0), vocab_size)
    return (encoded * mask[..., None]).to(torch.get_default_dtype())


def last_real(steps: torch.Tensor, seq_lengths: torch.Tensor) -> torch.Tensor:
    """Return each row's last real step of ``steps (batch, time, out)``."""
    return steps[torch.arange(len(steps)), seq_lengths - 1]


class JointClassifier(nn.Module):
    """The hand-made RNN of lessons 000 (no activation) and 001 (tanh)."""

    def __init__(self, activation, vocab_size=57, hidden_size=57, num_classes=18):
        super().__init__()
        self.activation = activation
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(vocab_size + hidden_size, hidden_size)
        self.h2o = nn.Linear(hidden_size, num_classes)

    def forward(self, tokens, seq_lengths, initial_carry=None):
        inputs = one_hot(tokens, seq_lengths, self.vocab_size)
        hidden = initial_carry
        if hidden is None:
            hidden = inputs.new_zeros(len(tokens), self.hidden_size)
        outputs = []
        for x in inputs.unbind(1):
            hidden = self.activation(self.i2h(torch.cat((x, hidden), 1)))
            outputs.append(self.h2o(hidden))
        return last_real(torch.stack(outputs, 1), seq_lengths)


class StackClassifier(nn.Module):
    """``nn.RNN``, ``nn.GRU`` or ``nn.LSTM`` under its own name, then a linear head.

    Lesson 003 takes the last output of a name, which is the last layer's final state.
    """

    def __init__(
        self,
        kind,
        vocab_size=57,
        hidden_size=57,
        num_classes=18,
        num_layers=1,
        head="h2o",
    ):
        super().__init__()
        self.kind, self.head = kind, head
        self.vocab_size = vocab_size
        stack = KINDS[kind](vocab_size, hidden_size, num_layers, batch_first=True)
        self.add_module(kind, stack)
        self.add_module(head, nn.Linear(hidden_size, num_classes))

    def forward(self, tokens, seq_lengths, initial_carry=None):
        inputs = one_hot(tokens, seq_lengths, self.vocab_size)
        stack = getattr(self, self.kind)
        _, final = run_packed(stack, inputs, seq_lengths, initial_carry)
        hidden = final[0] if self.kind == "lstm" else final
        return getattr(self, self.head)(hidden[-1])


class AttentionClassifier(nn.Module):
    """Lesson 001's GRU with linear attention scores over all real states."""

    def __init__(self, vocab_size=57, hidden_size=32, num_classes=18):
        super().__init__()
        self.vocab_size = vocab_size
        self.gru = nn.GRU(vocab_size, hidden_size, batch_first=True)
        self.h2o = nn.Linear(hidden_size, num_classes)
        self.att = nn.Linear(hidden_size, 1)

    def forward(self, tokens, seq_lengths, initial_carry=None):
        logits, _ = self.attend(tokens, seq_lengths, initial_carry)
        return logits

    def attend(self, tokens, seq_lengths, initial_carry=None):
        """Return the logits and the attention weights ``(batch, time)``."""
        inputs = one_hot(tokens, seq_lengths, self.vocab_size)
        states, _ = run_packed(self.gru, inputs, seq_lengths, initial_carry)
        padding = torch.arange(tokens.shape[1]) >= seq_lengths[:, None]
        scores = self.att(states).squeeze(-1).masked_fill(padding, -torch.inf)
        weights = scores.softmax(-1)
        return self.h2o((weights[..., None] * states).sum(1)), weights


class PreviousStateClassifier(nn.Module):
    """Lesson 003's hand-made RNN: its output looks at the state before the step."""

    def __init__(self, vocab_size=59, hidden_size=256, num_classes=18):
        super().__init__()
        self.vocab_size = vocab_size
        self.in2hidden = nn.Linear(vocab_size + hidden_size, hidden_size)
        self.in2output = nn.Linear(vocab_size + hidden_size, num_classes)

    def forward(self, tokens, seq_lengths, initial_carry=None):
        hidden = initial_carry
        if hidden is None:
            hidden = self.random_carry(len(tokens))
        outputs = []
        for x in one_hot(tokens, seq_lengths, self.vocab_size).unbind(1):
            combined = torch.cat((x, hidden), 1)
            hidden = torch.sigmoid(self.in2hidden(combined))
            outputs.append(self.in2output(combined))
        return last_real(torch.stack(outputs, 1), seq_lengths)

    def random_carry(self, batch):
        """Draw initial states, each row as the lesson draws its ``(1, hidden)``."""
        rows = [torch.empty(1, self.in2hidden.out_features) for _ in range(batch)]
        return torch.cat([nn.init.kaiming_uniform_(row) for row in rows])


class MLPClassifier(nn.Module):
    """Lesson 004's baseline of three linear layers on the whole padded name."""

    def __init__(self, vocab_size=65, hidden_size=256, num_classes=2, max_length=18):
        super().__init__()
        self.vocab_size = vocab_size
        self.mlp = nn.Sequential(
            nn.Linear(max_length * vocab_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, num_classes),
        )

    def forward(self, tokens, seq_lengths, initial_carry=None):
        return self.mlp(one_hot(tokens, seq_lengths, self.vocab_size).flatten(1))


class AllStatesClassifier(nn.Module):
    """Lesson 004's RNN of linear layers: every state, padding's too, reaches ``Wy``."""

    def __init__(self, vocab_size=65, hidden_size=256, num_classes=2, max_length=18):
        super().__init__()
        self.vocab_size = vocab_size
        self.Wx = nn.Linear(vocab_size, hidden_size)
        self.Wh = nn.Linear(hidden_size, hidden_size)
        self.Wy = nn.Linear(max_length * hidden_size, hidden_size)
        self.output_layer = nn.Linear(hidden_size, num_classes)
        self.bn = nn.BatchNorm1d(hidden_size)  # the lesson never calls it

    def forward(self, tokens, seq_lengths, initial_carry=None):
        hidden = initial_carry
        if hidden is None:
            hidden = self.Wh.weight.new_zeros(len(tokens), self.Wh.in_features)
        states = []
        for x in one_hot(tokens, seq_lengths, self.vocab_size).unbind(1):
            hidden = torch.tanh(self.Wh(hidden)) + torch.tanh(self.Wx(x))
            states.append(hidden)
        return self.output_layer(F.relu(self.Wy(torch.cat(states, 1))))


class DropoutClassifier(nn.Module):
    """Lesson 004's ``nn.RNN``: runs over padding, hands its state to the next batch."""

    def __init__(
        self,
        vocab_size=65,
        hidden_size=256,
        num_classes=2,
        max_length=18,
        head_size=256,
        dropout=0.4,
    ):
        super().__init__()
        self.vocab_size = vocab_size
        self.rnn = nn.RNN(
            vocab_size, hidden_size, num_layers=2, batch_first=True, dropout=dropout
        )
        self.dropout_layer = nn.Dropout(dropout)
        self.linear_layer = nn.Linear(max_length * hidden_size, head_size)
        self.output_layer = nn.Linear(head_size, num_classes)

    def forward(self, tokens, seq_lengths, initial_carry=None):
        inputs = one_hot(tokens, seq_lengths, self.vocab_size)
        states, carry = self.rnn(inputs, initial_carry)
        head = F.relu(self.linear_layer(self.dropout_layer(states).flatten(1)))
        return self.output_layer(head), carry.detach()


class CharLM(nn.Module):
    """Lesson 002's language model: ``(tokens, carry=None) -> (log_probs, carry)``.

    ``log_probs`` has the shape ``(batch, time, vocab)``; the carry is torch's pair of
    ``h`` and ``c``, each ``(1, batch, hidden)``.
    """

    def __init__(self, vocab_size=65, hidden_size=1024, mlp_size=2048, dropout=0.4):
        super().__init__()
        self.vocab_size = vocab_size
        self.lstm = nn.LSTM(vocab_size, hidden_size, batch_first=True)
        self.dout = nn.Dropout(dropout)
        self.mlp = nn.Sequential(
            nn.Linear(hidden_size, mlp_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_size, vocab_size),
            nn.LogSoftmax(dim=-1),
        )

    def forward(self, tokens, carry=None):
        logits, carry = self.logits(tokens, carry)
        return self.mlp[-1](logits), carry

    def logits(self, tokens, carry=None):
        """Return what enters the log-softmax, and the carry."""
        full = torch.full((len(tokens),), tokens.shape[1])
        states, carry = self.lstm(one_hot(tokens, full, self.vocab_size), carry)
        return self.mlp[:-1](self.dout(states)), carry


@torch.no_grad()
def generate(twin: CharLM, prompt: torch.Tensor, num_chars: int) -> torch.Tensor:
    """Continue ``prompt (time,)`` greedily by ``num_chars + 1`` tokens, as the lesson.

    The lesson counts only the tokens fed back: one comes from the prompt, then
    ``num_chars`` more.
    """
    twin.eval()
    log_probs, carry = twin(prompt[None])
    generated = [log_probs[0, -1].argmax()]
    for _ in range(num_chars):
        log_probs, carry = twin(generated[-1][None, None], carry)
        generated.append(log_probs[0, -1].argmax())
    return torch.stack(generated)


def log_softmax_nll(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Lesson 001: log-softmax at the end of the model, then ``NLLLoss``."""
    return F.nll_loss(F.log_softmax(logits, dim=1), labels)


def double_softmax_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Lesson 004: softmax at the end of the model and again in ``CrossEntropyLoss``."""
    return F.cross_entropy(logits.softmax(1), labels)


def nll_of_all_positions(log_probs: torch.Tensor, targets: torch.Tensor):
    """Lesson 002: the mean over batch and time of the targets' negative log-probs."""
    return F.nll_loss(log_probs.flatten(0, 1), targets.flatten())


def train(
    twin: nn.Module,
    batches: Iterable[tuple[tuple[torch.Tensor, ...], torch.Tensor]],
    optimiser: torch.optim.Optimizer,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    clip: float | None = None,
    carried: bool = False,
):
    """Update ``twin`` once per batch, in place.

    Args:
        batches: Pairs of the twin's positional arguments and the labels.
        loss: From what the twin returns and the labels to a scalar.
        clip: Greatest global norm of the gradients (``clip_grad_norm_``).
        carried: Whether the twin returns ``(outputs, carry)``. The carry, with its
            gradient cut, is then its last argument for the next batch.

    Returns:
        The losses before each update, and the last carry (None unless ``carried``).
    """
    twin.train()
    losses, carry = [], None
    for inputs, labels in batches:
        outputs = twin(*inputs, carry) if carried else twin(*inputs)
        if carried:
            outputs, carry = outputs
            carry = _detached(carry)
        value = loss(outputs, labels)
        optimiser.zero_grad()
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(twin.parameters(), clip)
        optimiser.step()
        losses.append(value.item())
    return losses, carry


def _detached(carry):
    if isinstance(carry, tuple):
        return tuple(part.detach() for part in carry)
    return carry.detach()


class Lesson(NamedTuple):
    """One model of a lesson: how to build it and how the lesson trains it."""

    twin: Callable[..., nn.Module]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    optimiser: Callable[..., torch.optim.Optimizer]
    learning_rate: float
    batch_size: int
    clip: float | None = None
    carried: bool = False


def _practical(twin) -> Lesson:
    return Lesson(twin, F.cross_entropy, torch.optim.Adam, 1e-3, batch_size=16)


def _workshop(twin) -> Lesson:
    return Lesson(twin, log_softmax_nll, torch.optim.SGD, 5e-3, batch_size=1)


def _blog(twin, clip=None) -> Lesson:
    return Lesson(
        twin, F.cross_entropy, torch.optim.Adam, 1e-3, batch_size=1, clip=clip
    )


def _binary(twin, batch_size, carried=False) -> Lesson:
    loss, adam = double_softmax_cross_entropy, torch.optim.Adam
    return Lesson(twin, loss, adam, 5e-6, batch_size=batch_size, carried=carried)


LESSONS = {
    ("practical", "linear"): _practical(partial(JointClassifier, nn.Identity())),
    ("practical", "rnn"): _practical(partial(StackClassifier, "rnn")),
    ("practical", "gru"): _practical(partial(StackClassifier, "gru")),
    ("practical", "lstm"): _practical(partial(StackClassifier, "lstm")),
    ("workshop", "rnn"): _workshop(
        partial(JointClassifier, torch.tanh, hidden_size=32)
    ),
    ("workshop", "gru"): _workshop(partial(StackClassifier, "gru", hidden_size=32)),
    ("workshop", "attention"): _workshop(AttentionClassifier),
    ("workshop", "lstm"): _workshop(partial(StackClassifier, "lstm", hidden_size=32)),
    ("blog", "rnn"): _blog(PreviousStateClassifier, clip=1.0),
    ("blog", "gru"): _blog(
        partial(
            StackClassifier,
            "gru",
            vocab_size=59,
            hidden_size=256,
            num_layers=2,
            head="fc",
        )
    ),
    ("binary", "mlp"): _binary(MLPClassifier, batch_size=8),
    ("binary", "linear"): _binary(AllStatesClassifier, batch_size=1),
    ("binary", "rnn"): _binary(DropoutClassifier, batch_size=8, carried=True),
    ("lab", "lstm"): Lesson(
        CharLM,
        nll_of_all_positions,
        torch.optim.Adam,
        1e-3,
        batch_size=64,
        carried=True,
    ),
}
