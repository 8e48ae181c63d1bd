"""What every test may use."""

import os
import tempfile

# Most of the tests' time is compiling. What runs for milliseconds need not be compiled
# well, and no program twice: one cache, not the user's, is shared by all workers and
# all programs that they start. These find it, and how to compile, in the environment.
if "PYTEST_XDIST_WORKER" not in os.environ:
    CACHE = tempfile.TemporaryDirectory(prefix="rnnjax-tests-")
    os.environ["XDG_CACHE_HOME"] = CACHE.name
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import jax
import numpy as np
import pytest

from train import compilation_cache

pytest.register_assert_rewrite("helpers")

# No tests are in them, and without torch they cannot be imported.
collect_ignore_glob = ["torch_*.py", "reference/*.py", "campaign/*.py"]

compilation_cache.switch_on()
jax.config.update("jax_disable_most_optimizations", True)
# A key used twice is an error in the tests.
jax.config.update("jax_debug_key_reuse", True)


def pytest_configure(config):
    # Another worker is writing the entry: JAX compiles the program itself.
    reading = "ignore:Error reading persistent compilation cache entry:UserWarning"
    config.addinivalue_line("filterwarnings", reading)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def optimised():
    """Compile as users do, here and in the programs that are started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
        jax.config.update("jax_disable_most_optimizations", False)
        jax.clear_caches()
        yield
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()


@pytest.fixture
def no_pictures(monkeypatch):
    """Runs without their pictures, which take half of a small run's time."""
    monkeypatch.setattr("train.names.finish.draw", lambda *args: None)
    monkeypatch.setattr("train.charlm.finish.draw", lambda *args: None)
