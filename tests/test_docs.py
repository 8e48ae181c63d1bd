"""Everything that the pages tell a reader to type, typed.

Python blocks run, in one namespace for each page. A command's flags go through the
program's own parser, so that a misspelt one fails; then the program does the same with
less work, in a directory of the page's own. A block that cannot run here says so behind
its language: ``sh not-run``.
"""

import collections
import contextlib
import dataclasses
import importlib
import io
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import pytest
from packaging.requirements import Requirement
from safetensors.numpy import save_file
from sybil import Document, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

import rnnjax
from train import cli
from train.charlm import __main__ as charlm
from train.cli import run
from train.names import __main__ as names
from train.names.settings import SETTINGS
from train.recipes import models_of
from train.runs.directory import default_path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
AT_THE_TOP = [
    path
    for name in ("README", "CONTRIBUTING", "PERFORMANCE", "RELIABILITY", "CHANGELOG")
    if (path := ROOT / f"{name}.md").exists()
]
PAGES = [*AT_THE_TOP, *sorted(DOCS.rglob("*.md"))]

RUN = {"python", "sh"}
NOT_RUN = {"python not-run", "sh not-run", "text"}
"""Code of others, commands that need another machine, and what programs print."""

ONLY_PARSED = {"train.bench", "train.fetch", "train.results", "tests.campaign"}
"""They measure for a long time, or need a network."""

Command = tuple[str, ...]


def commands_in(block: str) -> Iterator[Command]:
    """The commands of a block; of a shell's grammar it may have comments and ``&&``."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, "&&"]:
            if not command and re.fullmatch(r"[A-Z_]+=\S+", word):
                continue  # A variable of the environment, for this command.
            if word != "&&":
                assert not set(word) <= set("&|;<>"), f"not understood: {line}"
                command.append(word)
            elif command:
                yield tuple(command)
                command = []


def do(command: Command, kept: Path) -> None:
    """Do what a command says, as far as it can be done here.

    Args:
        command: Its words.
        kept: Where trained runs are kept from one command to the next.
    """
    match command:
        case ("python", "-m", "pytest", *flags):
            # That is where we are.
            assert all((ROOT / flag).exists() for flag in flags if "/" in flag)
        case ("ruff", "check" | "format", *_) | ("mypy",):
            pass
        case ("python", "-m", module, *flags):
            run_program(module, flags, kept)
        case ("pip", "install", *requirements):
            for requirement in requirements:
                check_requirement(requirement)
        case ("sphinx-build", *arguments):
            assert arguments == BUILD  # test_the_site_builds_without_a_warning
        case ("bash", script):
            assert (ROOT / script).exists()
        case _:
            raise AssertionError(f"nobody knows how to do {shlex.join(command)}")


def run_program(module: str, flags: list[str], kept: Path) -> None:
    """Run a program in this process: its own parser, its own errors, less work."""
    if module == "tests.campaign":
        program = importlib.import_module("tests.campaign.__main__")
    else:
        program = cli.load_program(module.removeprefix("train."))

    def main(config):
        if getattr(config, "distributed", None) or getattr(config, "devices", None):
            return  # There is one device here.
        if module in ("train.names", "train.charlm"):
            train(program, config, kept)
        elif module == "train.sample":
            program.main(dataclasses.replace(config, length=min(config.length, 10)))
        elif module not in ONLY_PARSED:
            program.main(config)

    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()) as printed,
        contextlib.redirect_stderr(io.StringIO()) as said,
    ):
        patch.setattr(sys, "argv", [module, *map(newest, flags)])
        try:
            run(main, program.Config, program.__doc__)
        except SystemExit as end:
            asked = "--help" in flags and end.code == 0
            assert asked, printed.getvalue() + said.getvalue()


def newest(word: str) -> str:
    """A run that a page writes as ``runs/best-gru-…``, as it is called here."""
    if not word.endswith("…"):
        return word
    runs = list(Path().glob(word.replace("…", "*")))
    assert runs, f"no command of this page has made {word}"
    return str(max(runs, key=lambda path: path.stat().st_mtime_ns))


def train(program: ModuleType, config, kept: Path) -> None:
    """Train, once for recipes that are alike: a later command gets a copy of that run.

    Every command's flags are parsed and checked before this; test_names and test_charlm
    train every model.
    """
    is_names = program is names
    alike = names.Config(recipe="practical")
    shared = alike if config.recipe in ("practical", "blog", "binary") else config
    first = kept / shared.recipe
    if not first.exists():
        program.main(with_less_work(program, shared, first))
    models = models_of(config.recipe)
    out = config.out or default_path(config.recipe, models[0])
    comparing = is_names and config.compare
    for target in [out / model for model in models] if comparing else [out]:
        if not target.exists():
            shutil.copytree(first, target)


def with_less_work(program: ModuleType, config, out: Path):
    """The same command with less to do; of a comparison, the first model."""
    less = {"out": out, "hidden_size": 4, "minutes": None}
    if program is charlm:
        less |= {"text": Path("novel.txt"), "epochs": 1, "batch_size": 4, "window": 8}
        less |= {"mlp_size": 4 if config.recipe == "lab" else None}
        return dataclasses.replace(config, **less)
    iterates = SETTINGS[config.recipe, models_of(config.recipe)[0]].epochs is None
    less |= {"iterations": 20} if iterates else {"epochs": 1}
    less |= {"compare": False, "seeds": 1, "data": Path("few-names")}
    if config.recipe == "best":
        less["protocol"] = "blog"
    return dataclasses.replace(config, **less)


def check_requirement(word: str) -> None:
    """What pip is asked for is a requirement; an extra of ours exists."""
    if word in ("-e", "-c", "-U"):
        return
    if not word.startswith("."):
        Requirement(word)
        return
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.fullmatch(r"\.(?:\[([\w,-]+)\])?", word)[1] or ""
    assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"])


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """A directory with what the pages suppose that a reader has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RNNJAX_OFFLINE", "1")
    Path("data").symlink_to(ROOT / "data")
    few = Path("few-names")
    few.mkdir()
    for language in ("German", "Italian", "Polish"):
        known = (ROOT / f"data/sample/names/{language}.txt").read_text("utf-8").split()
        # All of one length: one bucket, one compilation.
        cut = dict.fromkeys(name[:6] for name in known if len(name) >= 6)
        (few / f"{language}.txt").write_text("\n".join([*cut][:60]), "utf-8")
    script = (ROOT / "data/sample/script.txt").read_text("utf-8")[:4000]
    for name in ("novel.txt", "other.txt"):
        Path(name).write_text(script, "utf-8")
    gru = rnnjax.GRU(2)
    params = gru.init(jax.random.key(0), jnp.ones((1, 3)))["params"]
    save_file(rnnjax.to_torch(gru, params), "model.safetensors")
    return tmp_path


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """Language and text of every block, Sphinx's own directives apart."""
    document = Document(page.read_text("utf-8"), str(page))
    regions = FencedCodeBlockLexer(".*")(document)
    blocks = [(r.lexemes["language"], r.lexemes["source"]) for r in regions]
    return [block for block in blocks if not block[0].startswith("{")]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Where trained runs are kept from one page to the next."""
    return tmp_path_factory.mktemp("kept")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_example_and_command(page, desk, kept):
    done = []

    def evaluate(example):
        for command in commands_in(example.parsed):
            do(command, kept)
        done.append(example)

    parsers = [PythonCodeBlockParser(), CodeBlockParser("sh", evaluate)]
    for example in Sybil(parsers).parse(page).examples():
        example.evaluate()
    assert len(done) == sum(language == "sh" for language, _ in blocks_of(page))


def test_every_block_says_what_it_is():
    found = collections.Counter()
    for page in PAGES:
        for language, source in blocks_of(page):
            assert language in RUN | NOT_RUN, f"{name_of(page)}: {language!r}\n{source}"
            if language.startswith("python") and ">>>" not in source:
                compile(source, name_of(page), "exec")
            found[language] += 1
            if language == "sh":
                found["commands"] += len(list(commands_in(source)))
    run_here = sum(found[language] for language in RUN)
    print(f"{run_here} of {run_here} blocks run here; {dict(found)}")
    assert found["python"] >= 40
    assert found["commands"] >= 40
    assert found["sh not-run"] <= 2


@pytest.mark.parametrize(
    "wrong",
    [
        "python -m train.names --recipes blog",
        "python -m train.names --recipe blogs",
        "python -m train.predict --run runs/none-… Ada",
        "python -m train.nothing",
        "pip install -e '.[tests]'",
        "python -m train.sample --run novel.txt",
        "python -m train.names | head",
        "make docs",
    ],
)
def test_a_wrong_command_is_noticed(wrong, desk):
    with pytest.raises((AssertionError, ImportError)):
        for command in commands_in(wrong):
            do(command, desk / "kept")


BUILD = ["-W", "--keep-going", "docs", "site"]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The pages as Sphinx builds them, or an error of each warning."""
    target = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "sphinx", *BUILD[:-1], str(target)]
    built = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    return target


def test_the_site_builds_without_a_warning(site):
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert all((site / page).exists() for page in pages)


def test_the_site_needs_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loads = re.findall(
            r"<(?:script|img|iframe|link rel=\"(?:stylesheet|preload)\")[^>]*"
            r"(?:src|href)=\"([^\"]*)\"",
            page.read_text("utf-8"),
        )
        assert loads
        assert not [url for url in loads if "//" in url]


def test_every_link_leads_somewhere(site):
    """Those of the site, anchors included, and those of the pages at the top."""
    anchors = {
        page.resolve(): set(re.findall(r'\bid="([^"]+)"', page.read_text("utf-8")))
        for page in site.rglob("*.html")
    }
    for page in anchors:
        article = page.read_text("utf-8")
        for link in re.findall(r'<a [^>]*href="([^"]+)"', article):
            if re.match(r"https?:|mailto:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors[target], f"{page.name}: {link}"
    for page in AT_THE_TOP:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
            is_address = re.match(r"https?:", link)
            assert is_address or (ROOT / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize(
    ("quoted", "row"),
    [
        ("an update is", "workshop `rnn`: an update"),
        ("padded names", "flax `nn.RNN`, padded"),
        ("a large LSTM", "lesson 002: LSTM 1024"),
    ],
)
def test_the_readme_quotes_what_was_measured(quoted, row):
    readme = (ROOT / "README.md").read_text("utf-8")
    measured = (ROOT / "PERFORMANCE.md").read_text("utf-8")
    (ratio,) = re.findall(rf"{quoted}\s+\*\*([\d.]+)\s+times\*\*", readme)
    (line,) = (line for line in measured.splitlines() if row in line)
    found = line.split("|")[4].strip(" *")
    assert found.startswith(ratio)


def test_the_map_leads_to_files():
    written = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    paths = re.findall(r"`((?:rnnjax|train|tests|docs)/[^` ]*)`", written)
    assert len(paths) >= 100
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_reference_has_every_public_name():
    written = (DOCS / "api.md").read_text("utf-8")
    public = [name for name in vars(rnnjax) if not name.startswith("_")]
    things = [name for name in public if hasattr(getattr(rnnjax, name), "__module__")]
    missing = [
        name for name in things if not re.search(rf":: {name}$", written, re.MULTILINE)
    ]
    assert len(things) >= 25
    assert not missing
