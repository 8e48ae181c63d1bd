"""What every program sets up for its process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

COMPILE = """
from train import startup
import jax, jax.numpy as jnp

startup.keep_compiled()
jax.jit(lambda x: 2 * x + 1)(jnp.ones(3))
print(jax.config.jax_compilation_cache_dir)
"""


@pytest.fixture
def compile_with():
    """Compile something small in a process of its own; the cache's directory."""

    def compile_with(**variables) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", COMPILE],
            env={**os.environ, **{k: str(v) for k, v in variables.items()}},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.strip()

    return compile_with


def test_small_programs_are_kept_in_the_users_cache(compile_with, tmp_path):
    assert compile_with(XDG_CACHE_HOME=tmp_path) == str(tmp_path / "rnnjax")
    kept = set((tmp_path / "rnnjax").iterdir())
    assert any("lambda" in path.name for path in kept)
    compile_with(XDG_CACHE_HOME=tmp_path)
    assert set((tmp_path / "rnnjax").iterdir()) == kept


def test_a_directory_that_is_named_is_used(compile_with, tmp_path):
    named = tmp_path / "named"
    found = compile_with(XDG_CACHE_HOME=tmp_path, JAX_COMPILATION_CACHE_DIR=named)
    assert found == str(named)
    assert any(named.iterdir())


def test_a_cache_that_cannot_be_written_is_done_without(compile_with, tmp_path):
    (tmp_path / "file").write_text("")
    assert compile_with(XDG_CACHE_HOME=tmp_path / "file") == "None"


PROBE = """
import os, sys
from train import cli

program = cli.load_program(sys.argv[1])
assert "xla_cpu_small_while_loop" in os.environ["XLA_FLAGS"], os.environ["XLA_FLAGS"]
found = []

def main(config):
    import jax

    found.append(jax.config.jax_compilation_cache_dir)

sys.argv = [sys.argv[1], *sys.argv[2:]]
cli.run(main, program.Config, program.__doc__)
print(*found)
"""


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("names", ""),
        ("charlm", ""),
        ("predict", "--run r A"),
        ("sample", "--run r"),
        ("inspect", "--run r A"),
        ("page", "--run r"),
        ("export", "--run r"),
    ],
)
def test_every_program_starts_alike(name, flags, tmp_path):
    """Small loops compiled whole, and what is compiled kept, whoever imports what."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE, name, *flags.split()],
        env=os.environ | {"XLA_FLAGS": "", "XDG_CACHE_HOME": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "rnnjax")
