"""The directory of compiled programs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

COMPILE = """
from train import compilation_cache
import jax, jax.numpy as jnp

compilation_cache.switch_on()
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
