"""Export a trained run as StableHLO, for programs that have JAX but not rnnjax.

    python -m train.export --run runs/best-gru-…
    python -m train.export --run runs/shakespeare-lstm-… --out served

It writes two files: model.stablehlo, the computation with its weights, for any number of
rows and characters, for CPU, CUDA and TPU alike; and model.json, which says what goes in
and what comes out. To run it:

    program = jax.export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
    logits = program.call(tokens, seq_lengths)
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
from jax import export

from rnnjax.truncated import zero_carry
from train import compilation_cache, predict, sample
from train.cli import InputError, default, run
from train.forward import forward
from train.runs.directory import (
    RunDirectory,
    count,
    open_trained,
    write_bytes,
    write_json,
)

FILE = "model.stablehlo"


@dataclasses.dataclass(frozen=True)
class Config:
    """Export a trained run as StableHLO."""

    run: Path
    """Run directory that python -m train.names or python -m train.charlm made."""
    out: Annotated[Path | None, default("export inside the run")] = None
    """Directory to write to."""
    platforms: tuple[Literal["cpu", "cuda", "rocm", "tpu"], ...] = (
        "cpu",
        "cuda",
        "tpu",
    )
    """Where the program shall run."""


class Array(NamedTuple):
    """What goes in or comes out.

    Attributes:
        name: Its name.
        shape: Numbers, and the names of dimensions that may be of any size.
        dtype: Type of its elements.
        meaning: What it is, for people.
    """

    name: str
    shape: tuple[str | int, ...]
    dtype: str
    meaning: str


class Computation(NamedTuple):
    """What is exported.

    Attributes:
        function: Takes one array for each input and returns a tuple.
        inputs: What it takes.
        outputs: What it returns.
        num_params: Number of parameters that it contains.
        about: What else a caller has to know.
    """

    function: Callable[..., tuple[jax.Array, ...]]
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    num_params: int
    about: dict[str, Any]


def classifier(directory: RunDirectory) -> Computation:
    """Names to logits, and to attention where the model has it."""
    known = predict.load(directory)
    time_axis = known.max_length or "time"

    def logits(tokens, seq_lengths):
        found = forward(known.model, known.params, tokens, seq_lengths, known.carry)
        return tuple(array for array in found if array is not None)

    outputs = [
        Array(
            "logits",
            ("batch", len(known.languages)),
            "float32",
            "unnormalised log-probabilities of the languages",
        ),
        Array(
            "attention",
            ("batch", time_axis),
            "float32",
            "where the model looked; every row sums to 1",
        ),
    ]
    row = jax.ShapeDtypeStruct((1, known.max_length or 8), np.int32)
    number = len(jax.eval_shape(logits, row, jax.ShapeDtypeStruct((1,), np.int32)))
    return Computation(
        logits,
        (
            Array(
                "tokens",
                ("batch", time_axis),
                "int32",
                "places of the characters in the alphabet; anything at padding",
            ),
            Array("seq_lengths", ("batch",), "int32", "real characters of each row"),
        ),
        tuple(outputs[:number]),
        count(known.params),
        {
            "alphabet": known.vocabulary.characters,
            "languages": list(known.languages),
        },
    )


def language_model(directory: RunDirectory) -> Computation:
    """Text and carry to the logits of what comes next, and the carry."""
    writer = sample.load(directory)
    empty = zero_carry(writer.model, (1,))
    leaves, structure = jax.tree.flatten(empty)

    def logits(tokens, *carry):
        before = jax.tree.unflatten(structure, carry)
        after, logits = writer.model.apply({"params": writer.params}, tokens, before)
        return logits, *jax.tree.leaves(after)

    carries = [
        Array(
            jax.tree_util.keystr(path, simple=True, separator="_"),
            ("batch", *leaf.shape[1:]),
            str(leaf.dtype),
            "the carry of a layer; zeros at the beginning of a text",
        )
        for (path, _), leaf in zip(
            jax.tree.leaves_with_path(empty), leaves, strict=True
        )
    ]
    carries = [array._replace(name=f"carry_{array.name}") for array in carries]
    alphabet = writer.codec.alphabet
    return Computation(
        logits,
        (
            Array(
                "tokens",
                ("batch", "time"),
                "int32",
                "bytes"
                if alphabet is None
                else "places of the characters in the alphabet",
            ),
            *carries,
        ),
        (
            Array(
                "logits",
                ("batch", "time", writer.codec.vocab_size),
                "float32",
                "unnormalised log-probabilities of the character after each one",
            ),
            *carries,
        ),
        count(writer.params),
        {"alphabet": alphabet, "line_end": writer.codec.line_end},
    )


EXPORTS = {"names": classifier, "charlm": language_model}
"""How the runs of each program are exported."""


def example(computation: Computation, sizes: dict[str, int]) -> list[np.ndarray]:
    """Random inputs.

    Args:
        computation: Tells what it takes.
        sizes: Of the dimensions that may be of any size.
    """
    rng = np.random.default_rng(0)
    highest = {
        "tokens": len(computation.about["alphabet"] or bytes(256)),
        "seq_lengths": sizes["time"] + 1,
    }
    arrays = []
    for array in computation.inputs:
        shape = [sizes[n] if isinstance(n, str) else n for n in array.shape]
        drawn = rng.random(shape) * highest.get(array.name, 1)
        arrays.append(drawn.astype(array.dtype))
    return arrays


def serialize(computation: Computation, platforms: tuple[str, ...]) -> bytes:
    """The computation for any number of rows and characters.

    Raises:
        InputError: If, read again, it computes other numbers than the model.
    """
    batch, steps = export.symbolic_shape("batch, time")
    sizes = {"batch": batch, "time": steps}
    shapes = [
        jax.ShapeDtypeStruct(
            [sizes[n] if isinstance(n, str) else n for n in array.shape], array.dtype
        )
        for array in computation.inputs
    ]
    compiled = jax.jit(computation.function)
    data = bytes(export.export(compiled, platforms=platforms)(*shapes).serialize())
    program = export.deserialize(bytearray(data))
    here = jax.default_backend()
    if {"gpu": {"cuda", "rocm"}}.get(here, {here}) & set(platforms):
        inputs = example(computation, {"batch": 3, "time": 7})
        pairs = zip(program.call(*inputs), compiled(*inputs), strict=True)
        if not all(np.array_equal(one, other) for one, other in pairs):
            raise InputError(
                "the exported program computes other numbers than the model; nothing "
                "was written"
            )
    return data


def main(config: Config) -> None:
    """Write the two files."""
    began = time.perf_counter()
    if not config.platforms:
        raise InputError("--platforms is empty; expected some of cpu, cuda, rocm, tpu")
    directory = open_trained(config.run, *EXPORTS)
    computation = EXPORTS[directory.config["program"]](directory)
    data = serialize(computation, config.platforms)
    out = config.out or config.run / "export"
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / FILE, data)
    write_json(
        out / "model.json",
        {
            "file": FILE,
            "format": "jax.export",
            "sha256": hashlib.sha256(data).hexdigest(),
            "platforms": list(config.platforms),
            "jax": jax.__version__,
            "recipe": directory.config["config"]["recipe"],
            "model": directory.config["config"]["model"],
            "num_params": computation.num_params,
            "inputs": [array._asdict() for array in computation.inputs],
            "outputs": [array._asdict() for array in computation.outputs],
            **computation.about,
        },
    )
    print(
        f"{out / FILE}: {len(data) / 1e6:.2f} MB for {', '.join(config.platforms)}, "
        f"{time.perf_counter() - began:.1f} s; {out / 'model.json'} describes it"
    )


if __name__ == "__main__":
    compilation_cache.switch_on()
    run(main, Config, __doc__)
