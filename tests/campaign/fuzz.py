"""Give the programs nonsense, by the thousand: names, prompts, files, folders, runs.

A case passes if the program answers or refuses in one line, writes nothing outside the
folder that it was given, and lets nothing through that a terminal would obey.
"""

import contextlib
import json
import os
import resource
import signal
import struct
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from safetensors.numpy import save

from train import convert, predict, sample
from train.charlm import __main__ as charlm
from train.charlm.text import read_text, survey, tokenize
from train.cli import InputError
from train.datasets import load_names
from train.names import __main__ as names
from train.names.settings import SETTINGS
from train.names.task import make_task

from . import programs
from .faults import is_change
from .programs import SAMPLE, Done
from .results import Plan, Row, listed

SECONDS = 60
"""A case that takes longer hangs."""

MEGABYTES = 1024
"""All cases of one kind together may take so much more memory than there was."""

# What a terminal obeys: colours, titles, the bell, a cleared screen; and what reorders
# or hides text, is not text at all, or is far too much of it.
ODD = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "\x1bc",
    "a\rb",
    "a\x00b",
    "\u202egnp.exe",
    "\u2066a\u2069",
    "\udce9",
    "\ud800\udfff",
    "\ufeffa",
    "e" + 1000 * "\u0301",
    "👩\u200d🔬",
    "a\u2028b",
    "A" * 100_000,
    "{}",
    "%s%n",
    "../../etc/passwd",
    "-",
    "--json",
    "@/dev/null",
    "@/",
    " ",
    "",
]

characters = st.characters(exclude_categories=[])
"""All of Unicode, lone surrogates included."""

words = st.text(st.sampled_from("abcdezABCéßłÖ 'x-") | characters, max_size=12)

texts = st.one_of(
    words,
    st.sampled_from(ODD),
    st.builds(str.__add__, words, st.sampled_from(ODD)),
)


def obeyed(done: Done, allowed: str = "\n") -> str:
    """The characters of the output that a terminal would obey."""
    return "".join(
        c
        for c in dict.fromkeys(done.out + done.err)
        if c not in allowed + "\u200c\u200d"
        and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    )


def problem_of(done: Done, allowed: str = "\n") -> str:
    """What is wrong with what a program did; "" is nothing."""
    if not done.is_plain:
        return f"exit {done.code}, {len(done.errors)} error lines"
    if done.code == 1:
        return f"exit 1: {done.err[:100]!r}"
    if found := obeyed(done, allowed):
        return f"let {found!r} through"
    if len(done.err) > 4000:
        return f"{len(done.err):,} characters of error"
    return ""


# The runs that are asked.


def train_names(folder: Path, recipe: str, model: str) -> Path:
    """A short run of names."""
    length = {"workshop": ("--iterations", "200")}.get(recipe, ("--epochs", "1"))
    flags = ["--recipe", recipe, "--model", model, "--hidden-size", "8", *length]
    flags += ["--protocol", "blog"] * (recipe == "best")
    out = folder / f"{recipe}-{model}"
    data = ["--data", str(SAMPLE / "names"), "--out", str(out)]
    done = programs.call(names, *flags, *data)
    assert done.code == 0, done
    return out


def train_charlm(folder: Path, *flags: str) -> Path:
    """A short run of charlm."""
    out = folder / "-".join(["charlm", *(flag.strip("-") for flag in flags)])
    small = ["--hidden-size", "8", "--epochs", "1", "--window", "64"]
    data = ["--text", str(SAMPLE / "script.txt"), "--out", str(out)]
    done = programs.call(charlm, *flags, *small, *data)
    assert done.code == 0, done
    return out


# One case each: a function of what was drawn to what is wrong.


def ask_predict(run: Path, drawn: list[str], as_json: bool, top: int) -> str:
    """Names as a person types them, one a line."""
    flags = ["--run", str(run), "--top", str(top), *["--json"] * as_json]
    done = programs.call(predict, *flags, stdin="\n".join(drawn) + "\n")
    return problem_of(done._replace(err="")) or obeyed(done)


def ask_predict_flags(run: Path, drawn: list[str]) -> str:
    """Names as flags."""
    return problem_of(programs.call(predict, "--run", str(run), "--", *drawn))


def ask_sample(run: Path, drawn: dict[str, str]) -> str:
    """Prompts and numbers."""
    flags = [f"--{name}={value}" for name, value in drawn.items()]
    return problem_of(programs.call(sample, "--run", str(run), *flags), "\n\t")


sample_flags = st.fixed_dictionaries(
    {"prompt": texts, "length": st.sampled_from(["1", "7"])},
    optional={
        "temperature": st.sampled_from(["0", "1", "1e-40", "1e38", "nan", "-1", "x"]),
        "top-k": st.sampled_from(["1", "3", "1000000000000", "0", "-1"]),
        "top-p": st.sampled_from(["0.5", "1e-30", "0", "nan", "2"]),
        "samples": st.sampled_from(["1", "2", "0"]),
        "stop": st.sampled_from(["e", "\n", "", "\x1b", "日本"]),
        "seed": st.sampled_from(["1", "-1", str(2**70)]),
    },
)


def torch_layer(gates: int, layers: int, hidden: int, width: int) -> dict:
    """The arrays of a layer of torch.nn."""
    rng = np.random.default_rng([gates, layers, hidden, width])
    shapes = {}
    for layer in range(layers):
        shapes |= {
            f"weight_ih_l{layer}": (gates * hidden, hidden if layer else width),
            f"weight_hh_l{layer}": (gates * hidden, hidden),
            f"bias_ih_l{layer}": (gates * hidden,),
            f"bias_hh_l{layer}": (gates * hidden,),
        }
    return {name: rng.random(shape, np.float32) for name, shape in shapes.items()}


@st.composite
def weight_files(draw: Any) -> bytes:
    """A safetensors file: a good one, damaged in its header or its numbers, or noise."""
    gates = draw(st.sampled_from([1, 2, 3, 4]))
    content = save(torch_layer(gates, draw(st.integers(1, 2)), 3, 2))
    size = struct.unpack("<Q", content[:8])[0]
    header, payload = json.loads(content[8 : 8 + size]), content[8 + size :]
    kind = draw(st.sampled_from(["entry", "name", "bits", "cut", "size", "noise"]))
    name = draw(st.sampled_from(sorted(header)))
    if kind == "entry":
        field = draw(st.sampled_from(["dtype", "shape", "data_offsets", "new"]))
        header[name][field] = draw(
            st.sampled_from(["F16", "BF16", "I64", "F64", "BOOL", "F8_E4M3", "U8", ""])
            | st.lists(st.integers(-3, 2**64) | st.integers(0, 40), max_size=3)
            | st.none()
        )
    elif kind == "name":
        header[draw(texts | st.just("weight_ih_l9"))] = header.pop(name)
    content = json.dumps(header).encode()
    content = struct.pack("<Q", len(content)) + content + payload
    if kind == "bits":
        place = draw(st.integers(0, 8 * len(content) - 1))
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        content = bytes(changed)
    elif kind == "cut":
        content = content[: draw(st.integers(0, len(content)))]
    elif kind == "size":
        content = struct.pack("<Q", draw(st.integers(0, 2**64 - 1))) + content[8:]
    elif kind == "noise":
        content = draw(st.binary(max_size=200))
    return content


def ask_convert(folder: Path, content: bytes, to_file: bool) -> str:
    """A file of weights."""
    source, target = folder / "in.safetensors", folder / "out.safetensors"
    source.write_bytes(content)
    target.unlink(missing_ok=True)
    done = programs.call(convert, str(source), *[str(target)] * to_file)
    if done.code and target.exists():
        return "refused, and wrote"
    return problem_of(done)


lines = st.lists(
    st.one_of(
        words.map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.binary(max_size=20),
        st.sampled_from([b"\xff\xfe", b"\xef\xbb\xbfA", b"a\r", b"x" * 5000, b"\x00"]),
        st.just(b"Smith"),
    ),
    max_size=8,
).map(b"\n".join)

file_names = st.sampled_from(
    ["German.txt", "Italian.txt", "A.txt", "._A.txt", "a b.txt", "\u202eB.txt", ".txt"]
    + ["\x1b[31m.txt", "C.TXT", "notes.md", "$(id).txt", "\udce9.txt", "-.txt"]
)

kinds = st.sampled_from(["file"] * 12 + ["folder", "pipe", "link", "loop", "nowhere"])

folders = st.dictionaries(file_names, st.tuples(kinds, lines), max_size=5)


def make_folder(folder: Path, drawn: dict[str, tuple[str, bytes]]) -> None:
    """Make a folder of data as drawn."""
    folder.mkdir()
    for name, (kind, content) in drawn.items():
        path = folder / name
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to(SAMPLE / "names" / "Greek.txt")
        elif kind == "loop":
            path.symlink_to(path.name)
        elif kind == "nowhere":
            path.symlink_to("nowhere")
        else:
            path.write_bytes(content)


def ask_names_loader(folder: Path, recipe: tuple[str, str]) -> str:
    """A folder of names, and the split of a recipe."""
    try:
        data = load_names(folder)
        make_task(*recipe, SETTINGS[recipe], data, [0])
    except InputError as error:
        return "" if len(str(error)) < 4000 else "a very long message"
    except OSError as error:
        return f"OSError: {error.strerror}"
    return ""


def ask_text_loader(path: Path, content: bytes, joined: bool, as_bytes: bool) -> str:
    """A text for charlm."""
    path.write_bytes(content)
    try:
        text = read_text(path, "shakespeare", joined)
        found = survey(text, "bytes" if as_bytes else "chars", "$" if joined else "\n")
        tokens = tokenize(text, found.codec, path.with_suffix(".bin"))
    except InputError:
        return ""
    if len(tokens) != found.num_tokens:
        return f"{len(tokens)} tokens where {found.num_tokens} were counted"
    return ""


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([0, 1, 10**6, 10**9, 2**31, "lstm", "\x1b[31m", "float8", []]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


def change_at(value: Any, path: list[float], new: Any) -> Any:
    """A copy of a JSON value with another one put deep inside it; `...` removes it."""
    if not path or not value or not isinstance(value, dict | list):
        return new
    keys = sorted(value) if isinstance(value, dict) else range(len(value))
    key = list(keys)[int(path[0] * len(keys))]
    changed = change_at(value[key], path[1:], new)
    if isinstance(value, list):
        kept = [] if changed is ... else [changed]
        return [*value[:key], *kept, *value[key + 1 :]]
    copy = {**value, key: changed}
    if changed is ...:
        del copy[key]
    return copy


places = st.lists(st.floats(0, 0.999), min_size=1, max_size=3)
changes = st.tuples(places, json_values | st.just(...))


def ask_changed_config(run: Path, config: Any, program: Any) -> str:
    """A run whose config.json somebody has changed; `...` is nothing left of it."""
    config = {} if config is ... else config
    written = config if isinstance(config, bytes) else json.dumps(config).encode()
    (run / "config.json").write_bytes(written)
    question = ["--", "Anna"] if program is predict else ["--length", "1"]
    return problem_of(programs.call(program, "--run", str(run), *question), "\n\t")


# All of them, many times.


class Found(NamedTuple):
    """What many cases came to.

    Attributes:
        problems: What was wrong with each case that failed.
        tried: Number of cases.
        slowest: Seconds that the slowest one took.
        memory: Megabytes by which the process grew meanwhile.
        outside: Files that were changed outside the scratch folder.
    """

    problems: list[str]
    tried: int
    slowest: float
    memory: float
    outside: list[str]


_outside: list[str] | None = None
_allowed: tuple[str, ...] = ()


def _watch(event: str, args: tuple) -> None:
    if _outside is None or not is_change(event, args, "/"):
        return
    path = os.path.abspath(os.fsdecode(args[0]))
    if not path.startswith(_allowed):
        _outside.append(path)


@contextlib.contextmanager
def watched(*allowed: Path) -> Iterator[list[str]]:
    """Collect the files that this process changes anywhere but in some folders."""
    global _outside, _allowed
    if not hasattr(watched, "hook"):
        # There is no way to take a hook away again.
        sys.addaudithook(_watch)
        watched.hook = True
    _outside, _allowed = [], ("/dev/null", *(str(path.resolve()) for path in allowed))
    try:
        yield _outside
    finally:
        _outside = None


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError after some seconds."""

    def stop(*args: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def try_many(
    strategy: st.SearchStrategy, ask: Callable[[Any], str], plan: Plan, number: int
) -> Found:
    """Draw so many cases and ask about each."""
    problems, times = [], []

    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @seed(plan.seed)
    @given(strategy)
    def try_one(drawn: Any) -> None:
        began = time.perf_counter()
        try:
            with time_limit(SECONDS):
                problem = ask(drawn)
        except Exception as error:  # noqa: BLE001  (any at all is a finding)
            problem = f"{type(error).__name__}: {str(error)[:100]}"
        times.append(time.perf_counter() - began)
        if problem:
            problems.append(problem)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # What JAX compiles is kept where everybody's programs keep it.
    cache = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    with watched(plan.scratch, cache) as outside:
        try_one()
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return Found(problems, len(times), max(times), memory, list(outside))


def run(plan: Plan) -> list[Row]:
    """Ask all programs and loaders."""
    folder = plan.scratch
    set_hypothesis_home_dir(folder / "hypothesis")
    asked = [
        train_names(folder, "practical", "lstm"),
        train_names(folder, "workshop", "attention"),
        train_names(folder, "binary", "linear"),
        train_names(folder, "best", "gru"),
    ]
    writers = [train_charlm(folder), train_charlm(folder, "--tokens", "bytes")]
    configs = {run: json.loads((run / "config.json").read_text()) for run in
               (asked[1], asked[3], writers[0])}  # fmt: skip
    drawn_folders = iter(range(10**9))

    def ask_folder(drawn: tuple) -> str:
        path = folder / f"data{next(drawn_folders)}"
        make_folder(path, drawn[0])
        return ask_names_loader(path, drawn[1])

    def ask_config(drawn: tuple) -> str:
        run, (path, new) = drawn
        config = change_at(configs[run], path, new)
        program = predict if run in asked else sample
        problem = ask_changed_config(run, config, program)
        (run / "config.json").write_text(json.dumps(configs[run]))
        return problem

    name_lists = st.lists(texts, min_size=1, max_size=3)
    kinds_of_case = {
        "names typed at `train.predict`": (
            st.tuples(
                st.sampled_from(asked), name_lists, st.booleans(), st.integers(1, 30)
            ),
            lambda drawn: ask_predict(*drawn),
            plan.few(20, 500),
        ),
        "names as flags of `train.predict`": (
            st.tuples(st.sampled_from(asked), name_lists),
            lambda drawn: ask_predict_flags(*drawn),
            plan.few(20, 250),
        ),
        "prompts and numbers for `train.sample`": (
            st.tuples(st.sampled_from(writers), sample_flags),
            lambda drawn: ask_sample(*drawn),
            plan.few(20, 300),
        ),
        "files of weights for `train.convert`": (
            st.tuples(weight_files(), st.booleans()),
            lambda drawn: ask_convert(folder, *drawn),
            plan.few(20, 600),
        ),
        "folders of names": (
            st.tuples(folders, st.sampled_from(sorted(SETTINGS))),
            ask_folder,
            plan.few(20, 350),
        ),
        "texts for `train.charlm`": (
            st.tuples(lines, st.booleans(), st.booleans()),
            lambda drawn: ask_text_loader(folder / "text.txt", *drawn),
            plan.few(20, 250),
        ),
        "run directories with another config.json": (
            st.tuples(st.sampled_from(list(configs)), changes),
            ask_config,
            plan.few(20, 250),
        ),
    }
    rows = []
    for what, (strategy, ask, number) in kinds_of_case.items():
        found = try_many(strategy, ask, plan, number)
        problems = [*found.problems, *(f"wrote {path}" for path in found.outside)]
        if found.memory > MEGABYTES:
            problems.append(f"{found.memory:.0f} MB more memory")
        rows.append(
            Row(
                what,
                found.tried,
                found.tried - len(found.problems),
                f"slowest {found.slowest:.1f} s; {found.memory:.0f} MB more memory; "
                f"{len(found.outside)} files outside; wrong: "
                f"{listed(problems)}",
            )
        )
    return rows
