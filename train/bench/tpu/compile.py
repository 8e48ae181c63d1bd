"""Compile the programs for a TPU on a machine that has none: nothing is run.

Each program is compiled in a process of its own, so that neither a crash of the compiler
nor its settings reach the others; as many at once as there are cores.
"""

import concurrent.futures
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import Mesh

from train.bench.tpu.hlo import Module
from train.bench.tpu.programs import PROGRAMS, Call, Dtype, Program
from train.cli import InputError
from train.runs.devices import GATES, ROWS, Layout
from train.runs.files import first_line, write_json

TOPOLOGY = "v5e:2x2"
CLOCK = 1.5e9
"""Cycles in a second of a v5e: 197e12 FLOP/s on four arrays of 128 x 128 multipliers."""

DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16")
CHIPS = {"1 chip": 1, "2x2": 4}

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    # libtpu is not to ask Google's cloud what machine this is.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_LOG_DIR": "disabled",
    # Its lock guards the chips, and here is none.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    # What a cache gives back took no time and was not traced.
    "JAX_ENABLE_COMPILATION_CACHE": "0",
}


CHILD = """\
import pathlib, sys
from train.bench.tpu import compile as tpu_compile
tpu_compile.main(sys.argv[1], pathlib.Path(sys.argv[2]))"""

REFUSALS = (jax.errors.JaxRuntimeError, NotImplementedError, ValueError)
"""What the compiler raises, or what prepares a kernel for it."""

LEGEND = """\
HBM: arguments, results and temporaries on each chip.
GFLOP: matrix products of one update (one call) on all chips, every step counted.
estimate: the compiler's own, in cycles at 1.5 GHz, of what it fused.
forward, backward: where the recurrent weights live inside the loops over time, and as
what; XLA rounds the operands of a float32 product to bf16 on a TPU.
together: what the chips do together in one update: reductions of gradients + all else;
none of it inside the loops over time, unless it is said.
All of it was compiled, not run."""


def machine() -> dict[str, Any]:
    """What compiles, and for what.

    Raises:
        InputError: If there is no compiler for a TPU here.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            "the compiler for a TPU is not installed; on Linux with an x86-64 processor: "
            'pip install -e ".[tpu-compile]"'
        )
    packages = ("jax", "jaxlib", "libtpu", "flax")
    return {
        "target": f"TPU {TOPOLOGY}, compiled, not run",
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def compile_all(
    names: Sequence[str], done: Callable[[str, dict[str, Any]], object]
) -> None:
    """Compile programs, each in a process of its own.

    Args:
        names: Which ones.
        done: Is told of each, with its name and its record, when it is compiled.

    Raises:
        InputError: If the compiler cannot be used at all.
    """
    pool = concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        waiting = {pool.submit(in_process, name): name for name in names}
        for future in concurrent.futures.as_completed(waiting):
            done(waiting[future], future.result())
    finally:
        pool.shutdown(cancel_futures=True)


def in_process(name: str) -> dict[str, Any]:
    """Compile a program in a fresh process.

    Raises:
        InputError: If the compiler cannot be used at all.
    """
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "compiled.json")
        ended = subprocess.run(
            [sys.executable, "-c", CHILD, name, str(out)],
            env=os.environ | ENVIRONMENT,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        if out.exists():
            record = json.loads(out.read_text(encoding="utf-8"))
        else:
            record = blank(PROGRAMS[name])
    if "refused" in record:
        raise InputError(f"libtpu cannot be used: {record['refused']}")
    if ended.returncode:
        last = (ended.stderr.strip() or "it said nothing").splitlines()[-1]
        record["error"] = (
            f"the compiler's process ended with {ended.returncode}: {last}"
        )
    return record


def blank(program: Program) -> dict[str, Any]:
    """A program's record before anything is compiled."""
    return {
        "title": program.title,
        "undivided": program.undivided,
        "error": None,
        "compiled": [],
    }


def compiled(program: Program) -> Iterator[dict[str, Any]]:
    """Compile a program for every type and number of chips, one after the other.

    Yields:
        For each, what came of it: the error, or what the compiler says of the program.
    """
    devices = topologies.get_topology_desc(TOPOLOGY, platform="tpu").devices
    for dtype in DTYPES:
        for chips, number in CHIPS.items():
            if number > 1 and program.undivided:
                continue
            mesh = Mesh(np.array(devices[:number]).reshape(-1, 1), (ROWS, GATES))
            layout = Layout(mesh, program.replicas)
            found = {"dtype": dtype, "chips": chips}
            try:
                yield found | figures(program, dtype, layout)
            except REFUSALS as error:
                yield found | {"compiled": False, "error": first_line(error)}


def figures(program: Program, dtype: Dtype, layout: Layout) -> dict[str, Any]:
    """Compile a program once, and read what became of it."""
    traces: Counter[str] = Counter()

    def count(event: str, duration_secs: float, **more: Any) -> None:
        if event.endswith("/jaxpr_trace_duration"):
            traces[more["fun_name"]] += 1

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        # Twice, as in a process that trains twice: the second one is to find the first.
        calls = [program.call(dtype, layout) for _ in range(2)]
        traced = [call.function.trace(*call.args, **call.static) for call in calls]
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    lowered = traced[0].lower()
    began = time.perf_counter()
    done = lowered.compile()
    seconds = time.perf_counter() - began
    module, memory = Module(done.as_text()), done.memory_analysis()
    cost = done.cost_analysis()
    cycles, together = module.cycles(), module.collectives()
    return {
        "compiled": True,
        "compile_seconds": seconds,
        "traces": traces[calls[0].function.__name__],
        "hbm_bytes": memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        "product_flops": count_flops(traced[0].jaxpr.jaxpr),
        "compilers_flops": cost["flops"],
        # Below zero where it has none for some part; every loop counts once.
        "compilers_seconds": max(cost.get("optimal_seconds", 0), 0) or None,
        "cycles": cycles,
        "cycles_seconds": cycles / CLOCK,
        "weights": where_weights_live(module, calls[0]),
        "collectives": Counter(each.kind for each in together),
        "gradient_reductions": sum(each.is_of_gradients for each in together),
        "collectives_in_time_loops": sum(
            len(module.collectives(loop.body)) for loop in module.time_loops
        ),
    }


def where_weights_live(module: Module, call: Call) -> dict[str, dict[str, int]]:
    """The memories that the recurrent weights are in, inside the loops over time.

    Returns:
        For ``forward`` and ``backward``, in how many loops they are of which type in which
        memory, such as ``{"bf16 VMEM": 4}``.
    """
    found: dict[str, Counter[str]] = {"forward": Counter(), "backward": Counter()}
    recurrent = {_sizes(shape) for shape in call.recurrent}
    for loop in module.time_loops:
        for array in loop.arrays:
            if _sizes(array.shape) in recurrent:
                which = "backward" if loop.is_backward else "forward"
                found[which][f"{array.dtype} {array.space}"] += 1
    return {which: dict(places) for which, places in found.items()}


def _sizes(shape: tuple[int, ...]) -> tuple[int, ...]:
    # The compiler transposes as it likes, and adds axes of one.
    return tuple(sorted(size for size in shape if size > 1))


def count_flops(jaxpr: Jaxpr) -> int:
    """Operations of a program's matrix products, every step of its loops counted.

    A loop whose turns depend on the input, that of the updates, counts once; of the
    branches of a choice, the largest.

    Example:
        >>> def power(x):
        ...     return jax.lax.scan(lambda y, _: (y @ x, None), x, length=5)[0]
        >>> count_flops(jax.make_jaxpr(power)(np.ones((2, 2))).jaxpr)
        80
    """
    total = 0
    for equation in jaxpr.eqns:
        inner = [
            count_flops(each.jaxpr if isinstance(each, ClosedJaxpr) else each)
            for each in jax.tree.leaves(list(equation.params.values()))
            if isinstance(each, ClosedJaxpr | Jaxpr)
        ]
        match equation.primitive.name:
            case "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                left: Any = equation.invars[0].aval
                result: Any = equation.outvars[0].aval
                depth = math.prod(left.shape[axis] for axis in contracted)
                total += 2 * depth * result.size
            case "scan":
                total += equation.params["length"] * sum(inner)
            case "cond":
                total += max(inner)
            case _:
                total += sum(inner)
    return total


COLUMNS = (
    *("type", "chips", "HBM MiB", "GFLOP", "estimate"),
    *("forward", "backward", "together", "traces", "compiled in"),
)


def table(record: Mapping[str, Any]) -> str:
    """A program's figures for people.

    Args:
        record: What :func:`compile_all` returns for it.
    """
    lines = [COLUMNS, *map(cells, record["compiled"])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    notes = [
        f"{each['dtype']}, {each['chips']}: not compiled: {each['error']}"
        for each in record["compiled"]
        if not each["compiled"]
    ]
    notes += [
        f"{each['dtype']}, {each['chips']}: {number} of what the chips do together is "
        "inside the loops over time"
        for each in record["compiled"]
        if (number := each.get("collectives_in_time_loops"))
    ]
    if record["error"]:
        notes.append(record["error"])
    if record["undivided"]:
        notes.append(f"2x2: {record['undivided']}")
    return "\n".join([record["title"], *text, *notes])


def cells(found: Mapping[str, Any]) -> tuple[str, ...]:
    """A line, cell by cell."""
    begin = (found["dtype"], found["chips"])
    if not found["compiled"]:
        return *begin, *[""] * (len(COLUMNS) - len(begin))
    weights, gradients = found["weights"], found["gradient_reductions"]
    return (
        *begin,
        f"{found['hbm_bytes'] / 2**20:,.1f}",
        f"{found['product_flops'] / 1e9:,.3f}",
        f"{1e3 * found['cycles_seconds']:,.2f} ms",
        *(_places(weights[which]) for which in ("forward", "backward")),
        f"{gradients} + {sum(found['collectives'].values()) - gradients}",
        f"{found['traces']}",
        f"{found['compile_seconds']:,.0f} s",
    )


def _places(places: Mapping[str, int]) -> str:
    """Such as ``bf16 VMEM``, or ``3 f32 HBM, 1 f32 VMEM``; a dash for no loop."""
    if len(places) == 1:
        return next(iter(places))
    return ", ".join(f"{number} {place}" for place, number in places.items()) or "-"


def main(name: str, out: Path) -> None:
    """Compile one program, and write what came of it."""
    program = PROGRAMS[name]
    record = blank(program)
    try:
        for found in compiled(program):
            record["compiled"].append(found)
            # Each time, for the next one may take the process with it.
            write_json(out, record)
    except jax.errors.JaxRuntimeError as error:
        write_json(out, {"refused": first_line(error)})
