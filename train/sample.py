"""Draw text from a trained run.

    python -m train.sample --run runs/shakespeare-lstm-… --prompt "ROMEO:"
    python -m train.sample --run runs/lab-lstm-… --temperature 0 --prompt @start.txt
    python -m train.sample --run runs/shakespeare-lstm-… --score sonnets.txt

The text goes to the standard output, all else to the standard error.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.sampling import Choice, generate, read, sample_keys
from train.cli import InputError, Quiet, check_seed, default, note, printable, run
from train.codec import join_lines
from train.datasets import load_text
from train.likelihood import likelihood, num_streams_for
from train.runs.directory import device_line, open_trained
from train.trained import Writer, encode, load_writer

TOKENS_AT_ONCE = 16
"""Characters that appear at once on a terminal."""

TOKENS_WHEN_STOPPING = 128
"""Characters between looks for the stop string where nobody watches."""


@dataclasses.dataclass(frozen=True)
class Text:
    """What is continued, or judged."""

    run: Path
    """Run directory that python -m train.charlm made."""
    prompt: Annotated[str, default("a line break")] = "\n"
    """What the text begins with; @FILE reads it from a file."""
    score: Annotated[Path | None, default("none")] = None
    """Draw nothing; print how probable this file's text is (after a prompt if given)."""


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How text is drawn."""

    length: int = 500
    """Characters to draw (bytes, if the run's tokens are bytes)."""
    temperature: float = 1.0
    """Below 1 is more careful, above 1 is wilder; 0 always takes the likeliest."""
    top_k: Annotated[int | None, default("all")] = None
    """Draw only from so many of the likeliest characters."""
    top_p: Annotated[float | None, default("1")] = None
    """Draw only from the fewest likeliest characters that are together so probable."""
    samples: int = 1
    """Number of texts, drawn side by side."""
    seed: int = 0
    """Decides what is drawn."""
    stop: Annotated[str | None, default("none")] = None
    """End a text before this string."""


@dataclasses.dataclass(frozen=True)
class Printing(Quiet):
    """What is said beside the text, to the standard error."""


@dataclasses.dataclass(frozen=True)
class Config(Printing, Drawing, Text):
    """Draw text from a trained run."""

    def __post_init__(self):
        check_seed(self.seed)
        for name, least in [("length", 1), ("samples", 1), ("top_k", 1)]:
            value = getattr(self, name)
            if value is not None and value < least:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} is {value}; expected at least {least}")
        if not 0 <= self.temperature < math.inf:
            raise InputError(
                f"--temperature is {self.temperature}; expected at least 0"
            )
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(
                f"--top-p is {self.top_p}; expected more than 0, at most 1"
            )
        if self.stop == "":
            raise InputError("--stop is empty; expected at least one character")

    @property
    def choice(self) -> Choice:
        """How each character is chosen."""
        return Choice(self.temperature, self.top_k, self.top_p)


def read_prompt(prompt: str) -> str:
    """The prompt, from its file if it is one; ``@@`` begins a text with ``@``.

    Raises:
        InputError: If it is empty, or there is no such file.
    """
    if prompt.startswith("@@"):
        return prompt[1:]
    if prompt.startswith("@"):
        return load_text(Path(prompt[1:])).text
    if not prompt:
        raise InputError("--prompt is empty; expected at least one character")
    return prompt


def pieces(writer: Writer, config: Config, point, size: int) -> Iterator[np.ndarray]:
    """The tokens of all samples, ``(samples, size)`` at a time."""
    keys = sample_keys(jax.random.key(config.seed), config.samples)
    for _ in range(0, config.length, size):
        point, tokens = generate(
            writer.model, writer.params, point, keys, size, config.choice
        )
        yield np.asarray(tokens)


class Cut:
    """A text up to the stop string, while it comes in pieces.

    Args:
        stop: Where the text ends; None is nowhere.

    Attributes:
        is_over: Whether the stop string has come.
    """

    def __init__(self, stop: str | None):
        self.is_over = False
        self._stop = stop
        self._held = ""

    def add(self, piece: str) -> str:
        """What is now certain to be before the stop string."""
        if self._stop is None or self.is_over:
            return "" if self.is_over else piece
        text = self._held + piece
        place = text.find(self._stop)
        if place >= 0:
            self.is_over = True
            return text[:place]
        # The end may be the beginning of the stop string.
        lengths = range(min(len(self._stop), len(text) + 1) - 1, 0, -1)
        held = next((n for n in lengths if self._stop.startswith(text[-n:])), 0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """What was held back, at the end of the text."""
        return "" if self.is_over else self._held


def write(writer: Writer, config: Config, show: Callable[[str], None]) -> None:
    """Draw texts and show them; say how long it took.

    Args:
        writer: The trained run.
        config: The flags.
        show: Takes text as it comes.
    """
    prompt = read_prompt(config.prompt)
    if config.prompt == Config.prompt and not writer.codec.spell(prompt)[0]:
        # The text had no line break: as at the end of its training, its first sign.
        prompt = (writer.codec.alphabet or prompt)[0]
    tokens = encode(prompt, "the prompt", writer).astype(np.int32)
    live = config.samples == 1 and sys.stdout.isatty()
    size = config.length
    if live or config.stop is not None:
        size = min(size, TOKENS_AT_ONCE if live else TOKENS_WHEN_STOPPING)

    began = time.perf_counter()
    batch = jnp.asarray(np.tile(tokens, (config.samples, 1)))
    point = read(writer.model, writer.params, batch)
    cuts = [Cut(config.stop) for _ in range(config.samples)]
    decoders = [writer.codec.decoder() for _ in range(config.samples)]
    texts, left, arrivals = [prompt] * config.samples, config.length, []
    if live:
        show(prompt)
    for piece in pieces(writer, config, point, size):
        arrivals.append(time.perf_counter())
        for sample, (cut, decode) in enumerate(zip(cuts, decoders, strict=True)):
            new = cut.add(decode(piece[sample, :left].tolist()))
            texts[sample] += new
            if live:
                show(new)
        left -= size
        if all(cut.is_over for cut in cuts):
            break
    ends = [cut.rest() for cut in cuts]
    if live:
        show(ends[0] + "\n")
    else:
        line = "\n" + "-" * 30 + "\n"
        show(line.join(map("".join, zip(texts, ends, strict=True))) + "\n")
    say_speed(config, began, arrivals, size)


def say_speed(config: Config, began: float, arrivals: list[float], size: int) -> None:
    """Say how long the first characters and all of them took."""
    first = arrivals[0] - began
    note(
        f"first {size} characters after {first:.2f} s, compilation included"
        if size > 1
        else f"first character after {first:.2f} s, compilation included"
    )
    if len(arrivals) > 1:
        speed = (
            config.samples * size * (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])
        )
        note(f"then {speed:,.0f} characters a second")


def score(writer: Writer, config: Config, path: Path) -> None:
    """Print how probable a text is.

    Raises:
        InputError: If the text has too few characters that the model knows.
    """
    text = load_text(path).text
    if writer.joins_lines:
        text = join_lines(text)
    tokens = encode(text, str(path), writer)
    first = 1
    if config.prompt != Config.prompt:
        prompt = encode(read_prompt(config.prompt), "the prompt", writer)
        first = len(prompt)
        tokens = np.concatenate([prompt, tokens])
    if len(tokens) <= first:
        raise InputError(
            f"{path} has one character; the first is only read, for nothing is "
            "before it; give a longer text or a --prompt"
        )
    found = likelihood(writer.model, writer.params, tokens, first)
    streams = num_streams_for(found.num_tokens)
    if streams > 1:
        note(f"read as {streams} streams, each after 512 characters that do not count")
    unit = "byte" if writer.codec.alphabet is None else "character"
    print(f"log-probability {-found.nats:.4f} nats")
    print(f"{found.num_tokens} {unit}s")
    print(f"{found.per_token:.6f} nats per {unit}")
    print(f"{found.bits:.6f} bits per {unit}")


def show(text: str) -> None:
    """Print text as it comes; nothing in it commands the terminal."""
    print(printable(text, keep="\n\t"), end="", flush=True)


def main(config: Config) -> None:
    """Write, or score."""
    note(f"device: {device_line()}")
    writer = load_writer(open_trained(config.run, "charlm"))
    if config.score is not None:
        score(writer, config, config.score)
    else:
        write(writer, config, show)


if __name__ == "__main__":
    run(main, Config, __doc__)
