"""The lessons' own PyTorch programs: models and loops as they are taught.

They are written anew from the lessons, line by line as slow or as fast; only where the
names come from is ours, so that both sides train on the same ones in the same order.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    # Not at run time: a process that only runs a lesson needs no JAX.
    from train.bench.peers.work import NamesWork, SampleWork, TextWork

Run = Callable[[int], np.ndarray]


def _load(module, weights):
    import torch

    module.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})
    return module


def line_to_tensor(line: str, letters: str):
    """Lessons 000 and 001: ``lineToTensor``; 003: ``name2tensor``."""
    import torch

    tensor = torch.zeros(len(line), 1, len(letters))
    for index, letter in enumerate(line):
        tensor[index][0][letters.find(letter)] = 1
    return tensor


def workshop(work: "NamesWork") -> Run:
    """Lesson 001: one example at a time, SGD; the hand-made cell or a GRU."""
    model_name = work.task.model_name
    letters = work.task.vocabulary.characters
    sizes = len(letters), work.task.settings.hidden_size, len(work.task.languages)
    model = _load(workshop_model(model_name, *sizes), work.weights)
    train = workshop_update(model_name, model, work.task.settings.learning_rate)

    def run(round_):
        losses = []
        for ((line, label),) in work.names(round_):
            losses.append(train(line, label, letters))
        return np.array(losses)

    return run


def workshop_model(name: str, input_size: int, hidden_size: int, output_size: int):
    """``RNNClassifier``, ``GRUClassifier`` or ``AttentionalGRUClassifier``."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    class RNNClassifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.i2h = nn.Linear(input_size + hidden_size, hidden_size)
            self.h2o = nn.Linear(hidden_size, output_size)
            self.activation = nn.Tanh()
            self.softmax = nn.LogSoftmax(dim=1)

        def forward(self, input, hidden):
            combined = torch.cat((input, hidden), 1)
            hidden = self.activation(self.i2h(combined))
            output = self.softmax(self.h2o(hidden))
            return output, hidden

        def initHidden(self):
            return torch.zeros(1, hidden_size)

    class GRUClassifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(input_size, hidden_size)
            self.h2o = nn.Linear(hidden_size, output_size)

        def forward(self, input_sequence):
            _, hidden = self.gru(input_sequence)
            return F.log_softmax(self.h2o(hidden.view(1, -1)), dim=1)

    class AttentionalGRUClassifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(input_size, hidden_size)
            self.h2o = nn.Linear(hidden_size, output_size)
            self.att = nn.Linear(hidden_size, 1)

        def forward(self, input_sequence):
            states, _ = self.gru(input_sequence)
            alpha = F.softmax(self.att(states), dim=0)
            c = (alpha * states).sum(dim=0)
            return F.log_softmax(self.h2o(c.view(1, -1)), dim=1)

    models = {
        "rnn": RNNClassifier,
        "gru": GRUClassifier,
        "attention": AttentionalGRUClassifier,
    }
    return models[name]()


def workshop_update(name: str, model, learning_rate: float):
    """What the lesson does for one example: ``(line, label, letters) -> loss``."""
    import torch
    from torch import nn

    criterion = nn.NLLLoss()
    if name != "rnn":
        optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)

    def train_rnn(line, label, letters):
        category_tensor = torch.tensor([label], dtype=torch.long)
        line_tensor = line_to_tensor(line, letters)
        hidden = model.initHidden()
        model.zero_grad()
        for i in range(line_tensor.size()[0]):
            output, hidden = model(line_tensor[i], hidden)
        loss = criterion(output, category_tensor)
        loss.backward()
        for p in model.parameters():
            p.data.add_(p.grad.data, alpha=-learning_rate)
        return loss.item()

    def train_layer(line, label, letters):
        category_tensor = torch.tensor([label], dtype=torch.long)
        line_tensor = line_to_tensor(line, letters)
        model.zero_grad()
        output = torch.squeeze(model.forward(line_tensor), 1)
        loss = criterion(output, category_tensor)
        value = loss.item()
        loss.backward()
        optimizer.step()
        return value

    return train_rnn if name == "rnn" else train_layer


def practical(work: "NamesWork") -> Run:
    """Lesson 000: batches of 16 through a ``Dataset``, training and validation."""
    import torch
    from torch import nn

    letters = work.task.vocabulary.characters
    hidden_size, num_classes = work.task.settings.hidden_size, len(work.task.languages)
    (replica,) = work.task.replicas
    max_line_len = replica.train.tokens.shape[1]

    class RNN(nn.Module):
        def __init__(self):
            super().__init__()
            self.i2h = nn.Linear(len(letters) + hidden_size, hidden_size)
            self.h2o = nn.Linear(hidden_size, num_classes)

        def forward(self, input, hidden):
            hidden = self.i2h(torch.cat((input, hidden), 1))
            return self.h2o(hidden), hidden

    class CustomDataset(torch.utils.data.Dataset):
        def __init__(self, samples):
            self.samples = samples

        def __len__(self):
            return len(self.samples)

        def __getitem__(self, index):
            name, label = self.samples[index]
            name = line_to_tensor(name, letters)
            mask = torch.zeros(max_line_len)
            mask[: name.shape[0]] = 1
            missing = max_line_len - name.shape[0]
            rest = torch.zeros((missing, name.shape[1], name.shape[2]))
            name = torch.cat([name, rest], dim=0)
            return {"name": name, "label": torch.Tensor([label]), "mask": mask}

    model = _load(RNN(), work.weights)
    criterion = nn.CrossEntropyLoss()
    learning_rate = work.task.settings.learning_rate
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)

    def forward_pass(name, mask):
        out = [None] * name.shape[0]
        hidden = torch.zeros(name.shape[0], hidden_size)
        for i in range(name.shape[1]):
            out_, hidden = model(name[:, i].squeeze(1), hidden)
            for batch_id in range(name.shape[0]):
                if mask[batch_id, i] == 1:
                    out[batch_id] = out_[batch_id].unsqueeze(0)
        return torch.cat(out, dim=0)

    def train_val(run_type, dataloader):
        losses, correct = [], []
        for batch in dataloader:
            label = batch["label"].squeeze(1).long()
            if run_type == "train":
                optimizer.zero_grad()
                out = forward_pass(batch["name"], batch["mask"])
            else:
                with torch.no_grad():
                    out = forward_pass(batch["name"], batch["mask"])
            loss = criterion(out, label)
            if run_type == "train":
                loss.backward()
                optimizer.step()
            losses.append(loss.item())
            correct.extend((out.argmax(dim=1) == label).tolist())
        return losses

    validation = replica.split.validation
    batch_size = work.task.settings.batch_size
    val_dataloader = torch.utils.data.DataLoader(
        CustomDataset(list(zip(validation.names, validation.labels, strict=True))),
        batch_size=batch_size,
    )

    def run(round_):
        samples = [name for batch in work.names(round_) for name in batch]
        # Shuffled already, as our side has them.
        dataset = CustomDataset(samples)
        losses = train_val(
            "train", torch.utils.data.DataLoader(dataset, batch_size=batch_size)
        )
        if work.validates:
            train_val("val", val_dataloader)
        return np.array(losses)

    return run


def blog(work: "NamesWork") -> Run:
    """Lesson 003's GRU: one name at a time, Adam."""
    import torch

    letters = work.task.vocabulary.characters
    model = _load(
        blog_model(
            len(letters), work.task.settings.hidden_size, len(work.task.languages)
        ),
        work.weights,
    )
    update = blog_update(model, work.task.settings.learning_rate)
    # As in the post, the names are tensors before the training begins.
    (replica,) = work.task.replicas
    tensors = {
        name: line_to_tensor(name, letters) for name in replica.split.train.names
    }

    def run(round_):
        losses = []
        for ((name, label),) in work.names(round_):
            losses.append(update(tensors[name], torch.tensor([label])))
        return np.array(losses)

    return run


def blog_update(model, learning_rate: float):
    """What the post does for one name: ``(tensor, label) -> loss``."""
    import torch

    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)

    def update(name, label):
        loss = criterion(model(name), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return update


def blog_model(num_letters: int, hidden_size: int, num_langs: int, num_layers: int = 2):
    """Lesson 003's ``GRUModel``."""
    import torch
    from torch import nn

    class GRUModel(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(
                input_size=num_letters, hidden_size=hidden_size, num_layers=num_layers
            )
            self.fc = nn.Linear(hidden_size, num_langs)

        def forward(self, x):
            hidden_state = torch.zeros(num_layers, 1, hidden_size)
            output, hidden_state = self.gru(x, hidden_state)
            return self.fc(output[-1])

    return GRUModel()


def char_lstm(vocab_size: int, rnn_size: int, mlp_size: int, dropout: float):
    """Lesson 002's ``CharLSTM``."""
    from torch import nn

    class CharLSTM(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(vocab_size, rnn_size, batch_first=True)
            self.dout = nn.Dropout(dropout)
            self.mlp = nn.Sequential(
                nn.Linear(rnn_size, mlp_size),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(mlp_size, vocab_size),
                nn.LogSoftmax(dim=-1),
            )

        def forward(self, sentence, state=None):
            ht, state = self.lstm(sentence, state)
            h = self.dout(ht).contiguous().view(-1, rnn_size)
            return self.mlp(h), state

    return CharLSTM()


def _prepare_sequence(seq, char2idx, onehot=True):
    """Lesson 002's ``prepare_sequence``."""
    import torch
    import torch.nn.functional as F

    idxs = torch.tensor([char2idx[c] for c in seq], dtype=torch.long)
    return F.one_hot(idxs, len(char2idx)).float() if onehot else idxs


def _char_lstm(task, weights):
    settings = task.settings
    sizes = task.codec.vocab_size, settings.hidden_size, settings.mlp_size
    return _load(char_lstm(*sizes, settings.dropout), weights)


def lab(work: "TextWork") -> Run:
    """Lesson 002's training."""
    import torch
    from torch import nn

    task = work.task
    char2idx = {c: index for index, c in enumerate(task.codec.alphabet)}
    alphabet = np.array(list(task.codec.alphabet))
    model = _char_lstm(task, work.weights)
    loss_function = nn.NLLLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=task.settings.learning_rate)
    state = None

    def run(round_):
        nonlocal state
        model.train()
        losses = []
        for window in alphabet[work.windows(round_)]:
            optimizer.zero_grad()
            dataX, dataY = [], []
            for chunk in map("".join, window):
                X = _prepare_sequence(chunk[:-1], char2idx)
                Y = _prepare_sequence(chunk[1:], char2idx, onehot=False)
                dataX.append(X.unsqueeze(0))
                dataY.append(Y.unsqueeze(0))
            dataX, dataY = torch.cat(dataX, dim=0), torch.cat(dataY, dim=0)
            y_, state = model(dataX, state)
            state = (state[0].detach(), state[1].detach())
            loss = loss_function(y_, dataY.view(-1))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return np.array(losses)

    return run


def sample(work: "SampleWork") -> Run:
    """Lesson 002's ``gen_text``, one sample after the other."""
    import torch

    task = work.task
    char2idx = {c: index for index, c in enumerate(task.codec.alphabet)}
    idx2char = dict(enumerate(task.codec.alphabet))
    model = _char_lstm(task, work.weights)

    def gen_text(seed, num_chars):
        model.eval()
        with torch.no_grad():
            inputs = _prepare_sequence(seed, char2idx)
            seed_pred, state = model(inputs.unsqueeze(0))
            curr_pred = idx2char[torch.argmax(seed_pred[-1, :]).item()]
            preds = seed + curr_pred
            for _ in range(num_chars):
                inputs = _prepare_sequence(curr_pred, char2idx).unsqueeze(0)
                curr_pred, state = model(inputs, state)
                curr_pred = idx2char[torch.argmax(curr_pred[-1, :]).item()]
                # The lesson shows "$" as a line's end, and feeds back what it drew.
                preds += curr_pred
            return preds

    def run(round_):
        # It draws one character more than it is asked for.
        for _ in range(work.samples):
            drawn = gen_text(work.prompt, work.chars - 1)[len(work.prompt) :]
        return np.array([char2idx[c] for c in drawn])

    return run
