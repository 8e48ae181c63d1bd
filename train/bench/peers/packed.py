"""Batched ``torch.nn``: PyTorch as one writes it for speed, with packed sequences."""

from collections.abc import Callable

import numpy as np

from train.bench.peers.work import LayerWork, NamesWork
from train.names.batches import ABSENT


def names(work: NamesWork) -> Callable[[int], np.ndarray]:
    """A ``torch.nn.GRU`` over packed batches, the class from its last state."""
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence

    model = work.task.trainer.model
    vocab_size = model.vocab_size

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(
                vocab_size, model.hidden_size, model.num_layers, batch_first=True
            )
            self.fc = nn.Linear(model.hidden_size, model.num_classes)

        def forward(self, tokens, seq_lengths):
            x = F.one_hot(tokens, vocab_size).float()
            packed = pack_padded_sequence(
                x, seq_lengths, batch_first=True, enforce_sorted=False
            )
            _, hidden = self.gru(packed)
            return self.fc(hidden[-1])

    classifier = Classifier()
    weights = {name: torch.tensor(w) for name, w in work.weights.items()}
    classifier.load_state_dict(weights)
    learning_rate = work.task.settings.learning_rate
    optimizer = torch.optim.Adam(classifier.parameters(), lr=learning_rate)

    def run(round_):
        losses = []
        for tokens, seq_lengths, labels, _ in zip(*work.batches(round_), strict=True):
            real = labels != ABSENT
            width = seq_lengths.max()
            logits = classifier(
                torch.tensor(tokens[real, :width], dtype=torch.long),
                torch.tensor(seq_lengths[real]),
            )
            loss = F.cross_entropy(logits, torch.tensor(labels[real], dtype=torch.long))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return np.array(losses)

    return run


def layer(work: LayerWork) -> Callable[[int], np.ndarray]:
    """A ``torch.nn.LSTM`` alone, forward and backward."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from rnnjax import LSTM, to_torch

    hidden_size = work.layer.cell.features
    vocab_size = len(work.weights["cell"]["ih"]["kernel"])
    lstm = nn.LSTM(vocab_size, hidden_size, batch_first=True)
    weights = to_torch(LSTM(hidden_size), {"layer_0": work.weights})
    lstm.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})
    tokens = torch.tensor(work.inputs, dtype=torch.long)

    def run(round_):
        lstm.zero_grad()
        ys, _ = lstm(F.one_hot(tokens, vocab_size).float())
        loss = ys.square().mean()
        loss.backward()
        gradient = lstm.weight_hh_l0.grad
        return np.array([loss.item(), np.linalg.norm(gradient.numpy())])

    return run
