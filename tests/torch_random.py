"""PyTorch's own random numbers: what `rnnjax.random` has to draw, too.

`DRAWS` has the names of `random_draws.DRAWS`; each draws from torch's global generator.
`MODULES` makes the modules of `random_draws.MODULES`.
"""

import warnings
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import data

from tests.random_draws import STACK
from tests.torch_lessons import LESSONS


def strided(n: int) -> torch.Tensor:
    """Ones ``(n, 3, 2)``, of which the second axis is the slowest, the first fastest."""
    return torch.ones(3, 2, n).permute(2, 0, 1)


def batches(n, early=(False,), own=False, **options):
    generator = torch.Generator().manual_seed(7) if own else None
    loader = data.DataLoader(range(n), 4, generator=generator, **options)
    taken = []
    for leave in early:
        for batch in loader:
            taken.append(batch)
            if leave:
                break
    return torch.cat(taken) if taken else torch.empty(0, dtype=torch.int64)


def split(n, lengths):
    # PyTorch warns of empty parts, which small sizes have.
    warnings.filterwarnings("ignore", "Length of split", UserWarning)
    return torch.tensor(
        [i for part in data.random_split(range(n), lengths) for i in part.indices]
    )


def stack_mask(n):
    """All masks of a stack at once: what passes through layers that copy their input."""
    with torch.random.fork_rng(devices=[]):
        rnn = nn.RNN(1, STACK["features"], nonlinearity="relu", batch_first=True,
                     num_layers=STACK["num_layers"], dropout=STACK["dropout"],
                     bidirectional=True)  # fmt: skip
    with torch.no_grad():
        for name, weight in rnn.named_parameters():
            weight.zero_()
            if "weight_ih" in name and "l0" not in name:
                offset = STACK["features"] * name.endswith("reverse")
                weight[:, offset : offset + STACK["features"]].fill_diagonal_(1)
        rnn.bias_ih_l0.fill_(1)
        rnn.bias_ih_l0_reverse.fill_(1)
        return rnn(torch.ones(3, n, 1))[0] != 0


def lesson_masks(recipe, model, n):
    """The masks of a lesson's own dropout modules, of ones in the place of the states."""
    with torch.random.fork_rng(devices=[]):
        twin = LESSONS[recipe, model].twin(hidden_size=5)
    masks = []
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_pre_hook(lambda _, args: torch.ones_like(args[0]))
            module.register_forward_hook(lambda _, __, y: masks.append(y != 0))
    if recipe == "lab":
        twin(torch.zeros(3, n, dtype=torch.int64))
    else:
        twin(torch.zeros(3, 18, dtype=torch.int64), torch.full((3,), 18))
    return torch.cat([mask.flatten() for mask in masks])


def weights(n, rows):
    return torch.tensor(np.arange(rows * n).reshape(rows, n) % 7 + 1, dtype=torch.float)


DRAWS = {
    "rand": torch.rand,
    "rand float64": partial(torch.rand, dtype=torch.float64),
    "uniform_": lambda n: torch.empty(n).uniform_(-0.37, 0.37),
    "uniform_ float64": lambda n: torch.empty(n, dtype=torch.float64).uniform_(
        0.1, 3.7
    ),
    "uniform_ strided": lambda n: strided(n).uniform_(-0.37, 0.37),
    "randn": torch.randn,
    "normal_": lambda n: torch.empty(n).normal_(0.3, 0.02),
    "normal_ strided": lambda n: strided(n).normal_(),
    "randint": lambda n: torch.randint(-5, 1000, (n,)),
    "randint below 2**28": lambda n: torch.randint(0, 2**28 - 1, (n,)),
    "randint from 2**28": lambda n: torch.randint(0, 2**28, (n,)),
    "randint of 64 bits": lambda n: torch.randint(-(2**63), 2**63 - 1, (n,)),
    "random_": lambda n: torch.empty(n, dtype=torch.int64).random_(),
    "randperm": torch.randperm,
    "bernoulli_": lambda n: torch.empty(n).bernoulli_(0.3) != 0,
    "bernoulli_ of 1": lambda n: torch.empty(n).bernoulli_(1.0) != 0,
    "bernoulli": lambda n: torch.bernoulli(torch.arange(n) % 8 / 7) != 0,
    "bernoulli float64": lambda n: torch.bernoulli(torch.arange(n).double() / n) != 0,
    "dropout": lambda n: F.dropout(torch.ones(n), 0.4) != 0,
    "dropout of 0": lambda n: F.dropout(torch.ones(n), 0.0) != 0,
    "dropout of 1": lambda n: F.dropout(torch.ones(n), 1.0) != 0,
    "dropout strided": lambda n: F.dropout(strided(n), 0.4) != 0,
    "exponential_": lambda n: torch.empty(n).exponential_(1.5),
    "multinomial": lambda n: torch.multinomial(weights(n, 3), 1),
    "multinomial without replacement": lambda n: torch.multinomial(
        weights(n, 1)[0], min(n, 5)
    ),
    "multinomial with replacement": lambda n: torch.multinomial(weights(n, 3), 9, True),
    "kaiming_uniform_": lambda n: nn.init.kaiming_uniform_(torch.empty(3, n)),
    "xavier_uniform_": lambda n: nn.init.xavier_uniform_(torch.empty(3, n)),
    "nn.Embedding": lambda n: nn.Embedding(n, 3, padding_idx=0).weight.detach(),
    "stack's dropout": stack_mask,
    "lab's dropout": partial(lesson_masks, "lab", "lstm"),
    "binary rnn's dropout": partial(lesson_masks, "binary", "rnn"),
    "DataLoader": batches,
    "DataLoader shuffled": partial(batches, early=(False, True, False), shuffle=True),
    "DataLoader, last dropped": partial(batches, shuffle=True, drop_last=True),
    "DataLoader, own generator": partial(
        batches, early=(False, False, True, False), own=True, shuffle=True
    ),
    "random_split by numbers": lambda n: split(n, (n // 3, n - n // 3)),
    "random_split by shares": lambda n: split(n, (0.5, 0.3, 0.2)),
}

MODULES = {
    "Linear": partial(nn.Linear, 3, 5),
    "Linear without bias": partial(nn.Linear, 3, 5, bias=False),
    "RNN": partial(nn.RNN, 3, 5),
    "RNN, 2 layers, 2 directions": partial(nn.RNN, 3, 5, 2, bidirectional=True),
    "GRU, 3 layers, no bias": partial(nn.GRU, 3, 5, 3, bias=False),
    "LSTM of 1024": partial(nn.LSTM, 65, 1024),
    "LSTM projected": partial(nn.LSTM, 3, 5, 2, bidirectional=True, proj_size=4),
    "RNNCell": partial(nn.RNNCell, 3, 5),
    "GRUCell": partial(nn.GRUCell, 3, 5),
    "LSTMCell without bias": partial(nn.LSTMCell, 3, 5, bias=False),
    "MultiheadAttention": partial(nn.MultiheadAttention, 6, 2),
} | {f"{recipe} {model}": lesson.twin for (recipe, model), lesson in LESSONS.items()}


def state_dict(name: str) -> dict[str, np.ndarray]:
    """What PyTorch's constructor draws."""
    return {key: value.numpy() for key, value in MODULES[name]().state_dict().items()}


def orthogonal(shape: tuple[int, int]) -> np.ndarray:
    return nn.init.orthogonal_(torch.empty(shape)).numpy()


def seed(value: int) -> None:
    torch.manual_seed(value)


def state() -> np.ndarray:
    return torch.get_rng_state().numpy()
