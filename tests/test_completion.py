"""What the shells complete."""

import shutil
import subprocess

import pytest

from train import completion

ASK = """
COMP_WORDS=({words} "{last}"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_rnnjax; echo "${{COMPREPLY[*]}}"
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "script"
    path.write_text(completion.script())
    return path


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_parses(shell, path):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    subprocess.run([shell, "-n", path], check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "last", "found"),
    [
        ("python -m", "train.na", "train.names"),
        ("python -m train.names", "--learn", "--learning-rate"),
        ("python -m train.names --recipe", "b", "best blog binary"),
        ("python -m train.charlm --recipe", "", "lab shakespeare"),
        ("python -m train.sample --recipe", "", ""),
        ("python -m train.charlm --recipe lab", "--qu", "--quiet"),
        ("python -m train.predict", "--name", ""),
        # Files, then: what the shell completes by itself.
        ("python", "train/na", ""),
        ("python -m pytest", "-", ""),
        ("python -m train.names --data", "da", ""),
    ],
)
def test_bash_completes(words, last, found, path):
    script = path.read_text() + ASK.format(words=words, last=last)
    done = subprocess.run(
        ["bash", "-c", script], check=True, capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == (found, "")
