"""The lessons' own programs, taken from their pages when they are run, never copied.

Of a page only what trains is run: its data, the model in question and the loop around
it. What shows something in between (lesson 001's five examples, lesson 002's exercises)
would draw random numbers, too.
"""

import contextlib
import io
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

PAGES = Path(__file__).parents[2] / "shared" / "seeds"
DATA = Path(__file__).parents[2] / "shared" / "data"


class Ran(NamedTuple):
    """What a lesson's program did.

    Attributes:
        losses: ``(updates,)`` float32.
        printed: Its lines.
        start: The parameters before the first update, by PyTorch's names.
        torch_state: The generator's state at the end.
        python_words: That of ``random``.
        seconds: How long the loop took.
    """

    losses: np.ndarray
    printed: list[str]
    start: Mapping[str, np.ndarray]
    torch_state: np.ndarray
    python_words: np.ndarray
    seconds: float


def page(number: str) -> str:
    """The text of a lesson."""
    (path,) = PAGES.glob(f"{number}_*.md")
    return path.read_text("utf-8")


def blocks(number: str, *needles: str) -> list[str]:
    """The blocks of a page in which these texts are first found."""
    text = page(number)
    if "```python" in text:
        found = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    else:
        cells = re.split(r"^In \[[^\]]*\]:[ ]*\n", text, flags=re.MULTILINE)[1:]
        prose = (
            r"^(?:#{2,} |As you can|Epoch: 0|No exist|Test how|Prepare the|Now that)"
        )
        found = [
            re.split(prose, cell, maxsplit=1, flags=re.MULTILINE)[0] for cell in cells
        ]
    return [next(b for b in found if needle in b) for needle in needles]


def filled(code: str, changes: Mapping[str, str]) -> str:
    """A block with its gaps and its sizes filled in."""
    for old, new in changes.items():
        code = code.replace(old, new)
    return code


def practical(updates: Any) -> tuple[list[str], dict[str, str], dict[str, Any]]:
    needles = ("def findFiles", "self.samples = samples", "train_dataloader =")
    needles += ("class RNN", "criterion =", "def train_val")
    changes = {
        "epochs = 10": f"epochs = {updates}",
        "output_size=18": 'output_size=len(findFiles("data/names/*.txt"))',
    }
    return blocks("000", *needles), changes, {}


def workshop(model: str, updates: int, noise: int = 0):
    needles = ["import glob", "def findFiles", "def lineToTensor"]
    needles += ["def randomTrainingExample", "n_iters ="]
    needles += {
        "rnn": ["class RNNClassifier", "def timeSince"],
        "gru": ["class GRUClassifier", "all_losses_gru = []"],
        "attention": ["class AttentionalGRU", "all_losses_att = []"],
    }[model]
    changes = {
        "n_iters = 80000": f"n_iters = {updates}",
        "noise_level = 0": f"noise_level = {noise}",
        "states, _ = ...": "states, _ = self.gru(input_sequence)",
        "att_scores = ...": "att_scores = self.att(states)",
        "alpha = ...": "alpha = torch.softmax(att_scores, dim=0)",
        "c = ...": "c = (alpha * states).sum(0)",
    }
    return blocks("001", *needles), changes, {"timeSince": lambda since: "0m 0s"}


def lab(epochs: int, rnn_size: int = 1024, mlp_size: int = 2048):
    code = blocks("002", "def prepare_sequence", "class CharLSTM", "CHUNK_SIZE =",
                  "NUM_EPOCHS =")  # fmt: skip
    model = code[1]
    gap = model[model.index("          # Linear layer") : model.index("        )\n\n")]
    changes = {
        "self.lstm = ...": "self.lstm = nn.LSTM(vocab_size, rnn_size, batch_first=True)",
        gap: "nn.Linear(rnn_size, mlp_size), nn.ReLU(), nn.Dropout(0.4),"
        "nn.Linear(mlp_size, vocab_size), nn.LogSoftmax(dim=-1)\n",
        "X = ...": "X = chunk[:-1]",
        "Y = ...": "Y = chunk[1:]",
        "NUM_EPOCHS = 2000": f"NUM_EPOCHS = {epochs}",
        "RNN_SIZE = 1024": f"RNN_SIZE = {rnn_size}",
        "MLP_SIZE = 2048": f"MLP_SIZE = {mlp_size}",
        "plt.": "pass  # ",
    }
    names = {"nn": torch.nn, "optim": torch.optim, "F": torch.nn.functional,
             "np": np, "torch": torch, "device": "cpu",
             "timer": time.perf_counter}  # fmt: skip
    return code, changes, names


def blog(model: str, epochs: int):
    needles = ["from unidecode", "data_dir =", "num_langs =", "char2idx =",
               "def name2tensor", "tensor_names = []", "train_test_split",
               "train_dataset = ["]  # fmt: skip
    needles = needles[:-1]
    names: dict[str, Any] = {}
    if model == "rnn":
        needles += ["class MyRNN", "model = MyRNN", "nn.utils.clip_grad_norm_"]
        needles += ["num_samples = len"]
        code = blocks("003", *needles)
    else:
        code = blocks("003", *needles, "class GRUModel", "model = GRUModel")
        text = page("003")
        rest = text[text.index("model = GRUModel") :]
        loop, test = re.findall(r"```python\n(.*?)```", rest, re.DOTALL)[:2]
        code += [loop, test]
        names = {"hidden_size": 256, "learning_rate": 0.001, "num_epochs": epochs,
                 "print_interval": 3000, "criterion": torch.nn.CrossEntropyLoss(),
                 "num_samples": 0}  # fmt: skip
        code[-1] = "num_samples = len(test_dataset)\n" + code[-1]
    changes = {
        "num_epochs = 2": f"num_epochs = {epochs}",
        "torch.manual_seed(42)": "None",
    }
    return code, changes, names


def binary(model: str, epochs: int):
    needles = ["from torch.nn import functional as F", "class NameDataset",
               "split_ratio ="]  # fmt: skip
    text = page("004")
    names: dict[str, Any] = {"MODEL_PATH": "", "num_epochs": epochs}
    code = blocks("004", *needles)
    # The rest of its cell shows one name.
    code.insert(2, "names = NameDataset()")
    names["max_accuracy"] = 0.0
    changes = {
        "num_epochs = 30": f"num_epochs = {epochs}",
        "Projects/NameClassifier/data": "data",
        # Softmax over the classes, as PyTorch once guessed.
        "F.softmax(self.output_layer(res))": "F.softmax(self.output_layer(res), dim=1)",
        "F.softmax(self.output_layer(linear_output))": (
            "F.softmax(self.output_layer(linear_output), dim=1)"
        ),
        "F.tanh(": "torch.tanh(",
        "self.input_size = 65": "self.input_size = len(names.stoi)",
        "input_size=65": "input_size=len(names.stoi)",
    }
    if model == "rnn":
        code += blocks("004", "class NameClassifier", "model = NameClassifier",
                       "train_loader = DataLoader(train_dataset, batch_size=batch_size)"
                       )[:2]  # fmt: skip
        cells = re.split(r"^In \[[^\]]*\]:[ ]*\n", text, flags=re.MULTILINE)[1:]
        code += [next(c for c in cells if c.startswith("batch_size = 8"))]
        code[-1] = code[-1].split("\n\n")[0]
        loop = next(c for c in cells if "in train_loader:" in c)
    else:
        code += blocks("004", "class LinearRNN", "linear_train_loader =",
                       "model = LinearRNN()")  # fmt: skip
        cells = re.split(r"^In \[[^\]]*\]:[ ]*\n", text, flags=re.MULTILINE)[1:]
        loop = next(c for c in cells if "in linear_train_loader:" in c)
        if model == "mlp":
            # The page has only its figures: three linear layers in the same loop.
            code[4] = (
                "class LinearRNN(nn.Module):\n"
                "    def __init__(self):\n"
                "        super().__init__()\n"
                "        sizes = nn.Linear(len(names.stoi) * 18, 256), nn.ReLU()\n"
                "        more = nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2)\n"
                "        self.mlp = nn.Sequential(*sizes, *more)\n"
                "    def forward(self, x):\n"
                "        return F.softmax(self.mlp(x.flatten(1)), dim=1)\n"
            )
            changes["batch_size = 1\n"] = "batch_size = 8\n"
    code += [re.split(r"^Epoch: 0", loop, maxsplit=1, flags=re.MULTILINE)[0]]
    return code, changes, names


PROGRAMS = {
    "practical": lambda model, length, **options: practical(length),
    "workshop": workshop,
    "lab": lambda model, length, **options: lab(length, **options),
    "blog": blog,
    "binary": binary,
}


def run(
    recipe: str,
    model: str,
    length: int,
    seed: int,
    data: Path = DATA,
    **options: Any,
) -> Ran:
    """Run a lesson's program with a seed at its top.

    Args:
        recipe: Which lesson.
        model: Which of its models.
        length: Epochs, or iterations of lesson 001.
        seed: That of all its generators.
        data: A folder with ``names/`` and ``episode1_english.txt``.
        **options: Noise of lesson 001, sizes of lesson 002.

    Returns:
        What it did.
    """
    code, changes, names = PROGRAMS[recipe](model, length, **options)
    losses: list[float] = []
    start: dict[str, np.ndarray] = {}
    original = torch.Tensor.backward

    def backward(self, *args, **kwargs):
        if not losses:
            module = names.get("model", names.get("rnn"))
            start.update({n: p.numpy().copy() for n, p in module.state_dict().items()})
        losses.append(self.item())
        return original(self, *args, **kwargs)

    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    printed, here = io.StringIO(), Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").symlink_to(data)
        text = data / "episode1_english.txt"
        (Path(folder) / text.name).symlink_to(text)
        os.chdir(folder)
        torch.Tensor.backward = backward
        began = time.perf_counter()
        try:
            with contextlib.redirect_stdout(printed):
                for block in code:
                    exec(filled(block, changes), names)  # noqa: S102
        finally:
            torch.Tensor.backward = original
            os.chdir(here)
    return Ran(
        np.array(losses, np.float32),
        printed.getvalue().splitlines(),
        start,
        torch.get_rng_state().numpy(),
        np.array(random.getstate()[1], np.uint32),
        time.perf_counter() - began,
    )


if __name__ == "__main__":
    recipe, model, length, seed, out, *rest = sys.argv[1:]
    ran = run(recipe, model, int(length), int(seed))
    np.savez(
        out,
        losses=ran.losses,
        printed=np.array(ran.printed),
        torch_state=ran.torch_state,
        python_words=ran.python_words,
        seconds=ran.seconds,
        **{f"start/{name}": array for name, array in ran.start.items()},
    )
    print(recipe, model, len(ran.losses), "updates", f"{ran.seconds:.1f} s")
