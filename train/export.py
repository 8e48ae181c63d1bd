"""Export a trained run for programs without rnnjax: as StableHLO for JAX, or as ONNX.

    python -m train.export --run runs/best-gru-…
    python -m train.export --run runs/shakespeare-lstm-… --out served
    python -m train.export --run runs/best-gru-… --format onnx --out names.onnx

It writes two files: model.stablehlo, the computation with its weights, for any number of
rows and characters, for CPU, CUDA and TPU alike; and model.json, which says what goes in
and what comes out. To run it:

    program = jax.export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
    logits = program.call(tokens, seq_lengths)

As ONNX they are model.onnx, or what --out says, and beside it model.onnx.json. To run
it, in Python and without JAX:

    session = onnxruntime.InferenceSession("model.onnx")
    (logits, *_) = session.run(None, {"tokens": tokens, "seq_lengths": seq_lengths})
"""

import dataclasses
import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax import export

import rnnjax.onnx.lessons  # noqa: F401  (to_onnx knows them then)
from rnnjax.onnx import to_onnx
from rnnjax.onnx.graph import OPSET
from rnnjax.truncated import zero_carry
from train import trained
from train.cli import InputError, default, run
from train.forward import forward, start_of
from train.runs.directory import RunDirectory, count, open_trained
from train.runs.files import write_bytes, write_json

FILE = "model.stablehlo"


@dataclasses.dataclass(frozen=True)
class Config:
    """Export a trained run for programs without rnnjax."""

    run: Path
    """Run directory that python -m train.names or python -m train.charlm made."""
    format: Literal["stablehlo", "onnx"] = "stablehlo"
    """What to write."""
    out: Annotated[Path | None, default("export inside the run")] = None
    """Directory to write to; with --format onnx, the file."""
    platforms: tuple[Literal["cpu", "cuda", "rocm", "tpu"], ...] = (
        "cpu",
        "cuda",
        "tpu",
    )
    """Where a StableHLO program shall run; an ONNX file runs anywhere."""


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
        model: The Flax module in it.
        params: Its parameters.
        start: The carry of one row that it starts from; None is zeros, or the caller's.
        about: What else a caller has to know.
    """

    function: Callable[..., tuple[jax.Array, ...]]
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    model: nn.Module
    params: Any
    start: jax.Array | None
    about: dict[str, Any]


def classifier(directory: RunDirectory) -> Computation:
    """Names to logits, and to attention where the model has it."""
    known = trained.load_classifier(directory)
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
    start = start_of(known.model, known.carry)
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
        known.model,
        known.params,
        None if start is None else start[None],
        {
            "alphabet": known.vocabulary.characters,
            "languages": list(known.languages),
        },
    )


def language_model(directory: RunDirectory) -> Computation:
    """Text and carry to the logits of what comes next, and the carry."""
    writer = trained.load_writer(directory)
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
        writer.model,
        writer.params,
        None,
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


def as_onnx(computation: Computation) -> tuple[bytes, Computation]:
    """The computation as an ONNX file, and described as it is there.

    Raises:
        InputError: If the package onnx is missing, or the file would be too large.
    """

    def changed(array, carry="carry"):
        if array.name == "tokens":
            return array._replace(shape=("batch", "time"), dtype="int64")
        return array._replace(name=re.sub("^carry", carry, array.name))

    try:
        data = to_onnx(computation.model, computation.params, computation.start)
    except (ImportError, ValueError) as error:
        raise InputError(str(error)) from None
    return data, computation._replace(
        inputs=tuple(changed(array, "initial_carry") for array in computation.inputs),
        outputs=tuple(map(changed, computation.outputs)),
    )


def place_of(config: Config) -> Path:
    """The file that is written.

    Raises:
        InputError: If the flags do not go together.
    """
    if config.format == "stablehlo":
        if not config.platforms:
            raise InputError(
                "--platforms is empty; expected some of cpu, cuda, rocm, tpu"
            )
        if config.out is not None and config.out.suffix == ".onnx":
            raise InputError(
                f"--out {config.out} is the name of an ONNX file; add --format onnx"
            )
        return (config.out or config.run / "export") / FILE
    if config.platforms != Config.platforms:
        raise InputError("an ONNX file runs anywhere; leave out --platforms")
    if config.out is not None and config.out.is_dir():
        raise InputError(
            f"--out {config.out} is a directory; expected a file, such as "
            f"{config.out / 'model.onnx'}"
        )
    return config.out or config.run / "export" / "model.onnx"


def main(config: Config) -> None:
    """Write the two files."""
    began = time.perf_counter()
    path = place_of(config)
    directory = open_trained(config.run, *EXPORTS)
    computation = EXPORTS[directory.config["program"]](directory)
    if config.format == "onnx":
        data, computation = as_onnx(computation)
        description, where = path.with_name(f"{path.name}.json"), "onnxruntime"
        made: dict[str, Any] = {"format": "onnx", "opset": OPSET}
    else:
        data = serialize(computation, config.platforms)
        description, where = path.with_name("model.json"), ", ".join(config.platforms)
        made = {"format": "jax.export", "jax": jax.__version__}
        made["platforms"] = list(config.platforms)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)
    write_json(
        description,
        {
            "file": path.name,
            **made,
            "sha256": hashlib.sha256(data).hexdigest(),
            "recipe": directory.config["config"]["recipe"],
            "model": directory.config["config"]["model"],
            "num_params": count(computation.params),
            "inputs": [array._asdict() for array in computation.inputs],
            "outputs": [array._asdict() for array in computation.outputs],
            **computation.about,
        },
    )
    print(
        f"{path}: {len(data) / 1e6:.2f} MB for {where}, "
        f"{time.perf_counter() - began:.1f} s; {description} describes it"
    )


if __name__ == "__main__":
    run(main, Config, __doc__)
