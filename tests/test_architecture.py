"""Where things lie, and who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = sorted((ROOT / "rnnjax").rglob("*.py"))
PROGRAMS = sorted((ROOT / "train").rglob("*.py"))
TRAINERS = ("train.names", "train.charlm")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in LIBRARY + PROGRAMS}


def imports_of(path: Path) -> set[str]:
    """The modules of ours that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else str(node.module))
    return {
        each for each in found if each.split(".")[0] in ("rnnjax", "train", "tests")
    }


def is_program(path: Path) -> bool:
    return "\nif __name__ ==" in path.read_text(encoding="utf-8")


def inside(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in packages)


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_the_library_imports_no_program(path):
    assert not {each for each in imports_of(path) if not each.startswith("rnnjax")}


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_the_core_imports_no_lesson(path):
    lessons = ("rnnjax.lessons", "rnnjax.onnx.lessons", "rnnjax.random.lessons")
    if name_of(path) not in lessons:
        assert not imports_of(path) & set(lessons)


PURE = ("affine", "equations", "loops.job", "loops.scan", "loops.columns")
PURE += ("loops.cudnn", "loops.pallas", "loops.pallas_kernels")


@pytest.mark.parametrize("name", PURE)
def test_the_pure_functions_import_no_flax(name):
    path = ROOT / "rnnjax" / f"{name.replace('.', '/')}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {
        module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in [getattr(node, "module", None), *(a.name for a in node.names)]
    }
    assert not {each for each in names if each and each.split(".")[0] == "flax"}
    pure = {f"rnnjax.{each}" for each in (*PURE, "loops")} | {"rnnjax"}
    assert imports_of(path) <= pure


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_no_program_imports_a_program(path):
    programs = {name_of(each) for each in PROGRAMS if is_program(each)}
    assert not (imports_of(path) & programs) - {name_of(path)}
    assert not {each for each in imports_of(path) if each.startswith("tests")}


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_only_a_trainer_and_the_benchmark_know_a_trainer(path):
    """names and charlm do not know each other; what they share knows neither."""
    own, imported = name_of(path), imports_of(path)
    for trainer in TRAINERS:
        if not inside(own, (trainer, "train.bench")):
            assert not {each for each in imported if inside(each, (trainer,))}


def test_twins_have_twin_files():
    names, charlm = (
        {path.name for path in (ROOT / "train" / each).glob("*.py")}
        for each in ("names", "charlm")
    )
    twins = {"__init__", "__main__", "settings", "task", "update", "training"}
    twins |= {"evaluate", "finish"}
    assert {f"{each}.py" for each in twins} <= names & charlm


def test_few_files_lie_directly_in_train():
    assert len(list((ROOT / "train").glob("*.py"))) <= 16
