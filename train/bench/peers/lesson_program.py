"""A lesson's program as a process of its own, for its start counts as well.

python -m train.bench.peers.lesson_program workshop DIRECTORY UPDATES

prints, as JSON, how many updates it has made and the seconds that they took.
"""

import itertools
import json
import random
import string
import sys
import time
import unicodedata
from pathlib import Path

from train.bench.peers import lessons

LETTERS = {
    "workshop": string.ascii_letters + " .,;'",
    "blog": string.ascii_letters + " .,:;-'",
}


def read_names(directory: Path, lesson: str) -> list[tuple[str, int]]:
    """Names and labels: at most 50 of each language in the workshop."""
    letters, examples = set(LETTERS[lesson]), []
    for label, path in enumerate(sorted(directory.glob("*.txt"))):
        lines = path.read_text(encoding="utf-8").strip().split("\n")
        random.shuffle(lines)
        for line in lines[:50] if lesson == "workshop" else lines:
            name = "".join(
                c for c in unicodedata.normalize("NFD", line) if c in letters
            )
            examples.append((name, label))
    return examples


def train(lesson: str, directory: Path, num_updates: int) -> float:
    """Seconds of the updates."""
    import torch

    letters, examples = LETTERS[lesson], read_names(directory, lesson)
    num_classes = examples[-1][1] + 1
    if lesson == "workshop":
        by_class = [[e for e in examples if e[1] == n] for n in range(num_classes)]
        model = lessons.workshop_model("rnn", len(letters), 32, num_classes)
        update = lessons.workshop_update("rnn", model, 0.005)
        began = time.perf_counter()
        for _ in range(num_updates):
            line, label = random.choice(random.choice(by_class))
            update(line, label, letters)
        return time.perf_counter() - began
    random.shuffle(examples)
    tensors = [
        (lessons.line_to_tensor(n, letters), torch.tensor([c])) for n, c in examples
    ]
    model = lessons.blog_model(len(letters), 256, num_classes)
    update = lessons.blog_update(model, 1e-3)
    began = time.perf_counter()
    for name, label in itertools.islice(itertools.cycle(tensors), num_updates):
        update(name, label)
    return time.perf_counter() - began


if __name__ == "__main__":
    lesson, directory, num_updates = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    seconds = train(lesson, directory, num_updates)
    print(json.dumps({"updates": num_updates, "seconds": seconds}))
