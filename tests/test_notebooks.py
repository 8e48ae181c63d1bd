"""The notebooks, run from the first cell to the last, and what they show."""

import base64
import io
import json
import os
import random
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import matplotlib.image
import nbclient
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"][
    "Repository"
]
SMALL_LOOPS = "xla_cpu_small_while_loop_byte_threshold"
BADGE = re.compile(
    r"\[!\[[^]]+\]\(https://colab\.research\.google\.com/assets/colab-badge\.svg\)\]"
    r"\(https://colab\.research\.google\.com/github/([^)]+)\)"
)


class Shown(NamedTuple):
    """What a notebook showed, cell by cell.

    Attributes:
        text: What was printed.
        pictures: The pictures as arrays ``(height, width, 4)``.
        cells: The text and the number of pictures of each cell, by its source.
    """

    text: str
    pictures: list
    cells: list[tuple[str, str, int]]

    def after(self, source: str) -> str:
        """What the cell that has this in its source printed."""
        (printed,) = [text for code, text, _ in self.cells if source in code]
        return printed

    def numbers(self, words: str) -> list[float]:
        """The numbers that stand behind these words."""
        found = re.findall(rf"{words}\D*?(\d[\d.]*(?:e-\d+)?)", self.text)
        return [float(number) for number in found]


def run(name: str, cwd: Path, **paths: Path) -> Shown:
    """Run a notebook.

    Args:
        name: Its name.
        cwd: Where it runs.
        **paths: What a reader would write in place of the None of ``DATA = None``.
    """
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for constant, path in paths.items():
        (cell,) = [c for c in codes if f"\n{constant} = None\n" in c.source]
        given = f"{constant} = Path({str(path)!r})"
        cell.source = cell.source.replace(f"{constant} = None", given)
    flags = os.environ.get("XLA_FLAGS", "")
    env = os.environ | {
        "RNNJAX_SMOKE": "1",
        "RNNJAX_OFFLINE": "1",
        "JAX_PLATFORMS": "cpu",
        # Loops compiled whole run faster, but nothing here runs for long.
        "XLA_FLAGS": f"{flags} --xla_backend_extra_options={SMALL_LOOPS}=0",
    }
    client = nbclient.NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=120,
        resources={"metadata": {"path": cwd}},
    )
    client.execute(env=env)
    cells, pictures = [], []
    for cell in codes:
        printed, before = "", len(pictures)
        for output in cell.outputs:
            if output.output_type == "stream":
                # A reader of the notebook would see a warning in red.
                assert output.name == "stdout", output.text
                printed += output.text
            elif "image/png" in output.data:
                png = io.BytesIO(base64.b64decode(output.data["image/png"]))
                pictures.append(matplotlib.image.imread(png))
        cells.append((cell.source, printed, len(pictures) - before))
    return Shown("".join(text for _, text, _ in cells), pictures, cells)


@pytest.fixture(scope="module")
def few_names(tmp_path_factory) -> Path:
    """Names of four languages, all of one length: one compilation for all."""
    folder = tmp_path_factory.mktemp("few-names")
    for language in ("Greek", "Japanese", "Polish", "Russian"):
        known = (ROOT / f"data/sample/names/{language}.txt").read_text("utf-8").split()
        ends = dict.fromkeys(name[-6:].capitalize() for name in known if len(name) >= 6)
        (folder / f"{language}.txt").write_text("\n".join(ends), "utf-8")
    return folder


@pytest.fixture(scope="module")
def short_text(tmp_path_factory) -> Path:
    """A text that is learnt in seconds."""
    path = tmp_path_factory.mktemp("text") / "talk.txt"
    rng = random.Random(0)
    lines = (
        f"{rng.choice(['Anna', 'Otto', 'Mimi'])}: "
        f"{rng.choice(['What is', 'I like', 'Who has'])} the "
        f"{rng.choice(['cat', 'old dog', 'house'])}.\n"
        for _ in range(100)
    )
    path.write_text("".join(lines), "utf-8")
    return path


def check_pictures(shown: Shown, number: int) -> None:
    """So many pictures were shown, none of them empty."""
    assert len(shown.pictures) == number
    for picture in shown.pictures:
        assert min(picture.shape[:2]) > 100
        assert picture[..., :3].std() > 0.05


def test_names(few_names, tmp_path):
    shown = run("names", tmp_path, DATA=few_names)
    assert shown.numbers("largest difference")[0] < 1e-6
    assert shown.numbers("nonsense in the padding changes") == [0]
    # Percent; a guess is right in 25.
    assert shown.numbers(r"test loss [\d.]+, accuracy")[-1] > 60
    assert shown.numbers("the recipe") == pytest.approx(
        shown.numbers("test accuracy"), abs=0.1
    )
    assert shown.numbers("the recipe")[0] > 60
    check_pictures(shown, 5)
    answers = shown.after("predict.main")
    assert "Ślusàrski (read as 'Slusarski')" in answers
    assert answers.count("attention  ") == 6
    assert "report.html" in shown.after("run.iterdir")
    assert len(list(tmp_path.glob("runs/best-gru-*/summary.json"))) == 1


def test_attention(few_names):
    # In its own folder, as somebody with a checkout runs it; it writes nothing there.
    shown = run("attention", ROOT / "notebooks", DATA=few_names)
    assert shown.numbers("largest difference")[0] < 1e-6
    assert re.search(
        r"[A-Z][a-z]{5}[.,;']+$", shown.after("draw(5, noise"), re.MULTILINE
    )
    rows = re.findall(
        r"^(.*?) +([\d.]+)% +([\d.]+)% +([\d.]+)% +([\d.]+)%$",
        shown.after("held-out names"),
        re.MULTILINE,
    )
    accuracy = {name: [float(number) for number in rest] for name, *rest in rows}
    clean, spoilt, _, _ = accuracy["plain cell"]
    assert spoilt < clean - 20
    _, _, clean, spoilt = accuracy["GRU with attention"]
    assert min(clean, spoilt) > 50
    assert abs(clean - spoilt) < 10
    without, with_noise = shown.numbers(r"trained with noise \d:")
    assert with_noise < without - 10  # percent of the attention that is on the noise
    check_pictures(shown, 5)


def test_charlm(short_text, tmp_path):
    shown = run("charlm", tmp_path, TEXT=short_text)
    assert max(shown.numbers("largest difference")) < 1e-5
    (uniform,) = shown.numbers("log V =")
    assert shown.numbers("loss before training")[0] == pytest.approx(uniform, rel=0.05)
    assert shown.numbers("carry never reset.:")[0] < 0.3 * uniform
    written = shown.after("def write")
    # The likeliest is one of the things that the text talks about.
    assert re.search(r"temperature 0\nWhat is the (cat|old dog|house)\.\n", written)
    assert written.count("What is the ") >= 4
    assert "norm of the gradient" in shown.after("inspect.main")
    check_pictures(shown, 6)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_is_kept_is_the_source_alone(name):
    text = NOTEBOOKS[name].read_text("utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.metadata
        assert cell.source.strip()
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert not re.search(r"/(home|tmp|work|usr|root|Users|opt)/", text)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_colab_opens_it_on_a_tpu(name):
    notebook = json.loads(NOTEBOOKS[name].read_text("utf-8"))
    metadata = notebook["metadata"]
    assert metadata["accelerator"] == "TPU"
    assert metadata["colab"]["gpuType"] == "V5E1"
    assert metadata["kernelspec"]["name"] == "python3"
    first = "".join(notebook["cells"][0]["source"])
    assert [badge.split("/")[-1] for badge in BADGE.findall(first)] == [f"{name}.ipynb"]
    assert "colab_tpu" not in str(notebook)
    assert "tensorflow" not in str(notebook).lower()


def test_every_address_is_that_of_pyproject():
    owner_and_name = REPOSITORY.removeprefix("https://github.com/")
    known = {f"{owner_and_name}/blob/main/notebooks/{name}.ipynb" for name in NOTEBOOKS}
    assert len(known) == 3
    pages = [*NOTEBOOKS.values(), *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    opened, cloned = set(), set()
    for page in pages:
        text = page.read_text("utf-8")
        assert text.count("colab-badge.svg") == len(BADGE.findall(text)), page
        opened |= set(
            re.findall(r"colab\.research\.google\.com/github/([^)\s]+)", text)
        )
        cloned |= set(re.findall(r"git clone (?:--\S+ (?:\d+ )?)*(http\S+)", text))
    assert opened == known
    assert cloned == {REPOSITORY}


def setup_of(name: str) -> str:
    """The source of a notebook's first code cell."""
    cells = nbformat.read(NOTEBOOKS[name], as_version=4).cells
    return next(cell.source for cell in cells if cell.cell_type == "code")


def test_all_begin_with_the_same_cell():
    assert len({setup_of(name) for name in NOTEBOOKS}) == 1


class Shell:
    """IPython's, which notes the commands and does none of them."""

    def __init__(self):
        self.commands = []

    def system(self, command):
        self.commands.append(command)

    def run_line_magic(self, *words):
        self.commands.append(" ".join(words))


@pytest.fixture
def colab(monkeypatch) -> Shell:
    """A new Colab, which only listens."""
    exists = os.path.exists
    monkeypatch.setattr(
        "os.path.exists", lambda path: path != "/content/rnnjax" and exists(path)
    )
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    return Shell()


def execute(source: str, shell: Shell) -> None:
    code = TransformerManager().transform_cell(source)
    exec(code, {"get_ipython": lambda: shell})  # noqa: S102


def test_colab_keeps_its_jax(colab, capsys):
    execute(setup_of("names"), colab)
    clone, cd, freeze, install = colab.commands
    assert clone.startswith("git clone") and f" {REPOSITORY} " in clone
    assert cd == "cd -q /content/rnnjax"
    assert "jax" in freeze and "libtpu" in freeze
    assert install.startswith("pip install")
    assert f"-c {freeze.split()[-1]}" in install
    assert "jax 0." in (said := capsys.readouterr().out)
    assert "There is no TPU or GPU" in said


def test_an_older_jax_is_said_in_one_line(colab, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.9.2")
    with pytest.raises(
        SystemExit, match=r'has jax 0\.9\.2.*pip install -U "jax\[tpu\]"'
    ):
        execute(setup_of("names"), colab)
    assert colab.commands == []
