"""What every test may use, and how cheaply they compile."""

import ctypes
import gc
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

# XLA's former emitter for CPUs compiles fused loops in half the time; in one part a
# program compiles sooner than in 32, unless it is large.
CHEAP = (
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
MUCH_MEMORY = 620 * 2**20  # A fresh worker has 350 MiB, and a test needs up to 300.
MORE_MEMORY = 100 * 2**20
PEAKS: list[int] = []  # MiB, of the workers that have ended.


def known_to_xla(flags: Iterable[str]) -> list[str]:
    """The flags that this jaxlib has; XLA ends a process that sets another."""

    def starts_with(flags):
        command = [sys.executable, "-c", "import jax; jax.devices()"]
        environment = os.environ | {"XLA_FLAGS": " ".join(flags)}
        done = subprocess.run(
            command, env=environment, capture_output=True, check=False
        )
        return done.returncode == 0

    flags = list(flags)
    return flags if starts_with(flags) else [f for f in flags if starts_with([f])]


# Most of the tests' time is compiling. What runs for milliseconds need not be compiled
# well, and no program twice: one cache, not the user's, is shared by all workers and
# all programs that they start. These find it, and how to compile, in the environment.
if "PYTEST_XDIST_WORKER" not in os.environ:
    CACHE = tempfile.TemporaryDirectory(prefix="rnnjax-tests-")
    os.environ["XDG_CACHE_HOME"] = CACHE.name
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    # glibc's threads would keep what others have freed.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    flags = [os.environ.get("XLA_FLAGS", ""), *known_to_xla(CHEAP)]
    os.environ["XLA_FLAGS"] = " ".join(flags)

import jax
import numpy as np
import pytest

from train import startup

pytest.register_assert_rewrite("tests.helpers")

# No tests are in them, and without torch they cannot be imported.
collect_ignore_glob = [
    "torch_*.py",
    "lesson_programs.py",
    "reference/*.py",
    "campaign/*.py",
]

startup.keep_compiled()
jax.config.update("jax_disable_most_optimizations", True)
# A key used twice is an error in the tests.
jax.config.update("jax_debug_key_reuse", True)


# Tracing makes many objects that are soon gone: looking through them took 6 %.
gc.set_threshold(100_000, 50, 100)

# Those of more than 15 s of a core.
SLOW_FILES = {
    "test_bench.py",
    "test_charlm.py",
    "test_distributed.py",
    "test_docs.py",
    "test_layers_reference.py",
    "test_lesson_parity.py",
    "test_names.py",
    "test_notebooks.py",
    "test_random.py",
    "test_recurrent.py",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Begin with the slow files, so that no worker is left alone with one."""
    for item in items:
        if item.path.name in SLOW_FILES:
            item.add_marker("slow")
    items.sort(key=lambda item: item.path.name not in SLOW_FILES)


def pytest_configure(config):
    # pytest-xdist would begin with the files of many tests.
    config.option.loadscopereorder = False
    # For the examples in rnnjax and train, too, which are not below this folder.
    config.pluginmanager.register(Memory())
    # Another worker is writing the entry: JAX compiles the program itself.
    reading = "ignore:Error reading persistent compilation cache entry:UserWarning"
    config.addinivalue_line("filterwarnings", reading)


class Memory:
    """Gives memory back where there is much: compiled programs live in JAX's caches.

    What is needed again is read from the disk. What remains, PyTorch and Keras among
    it, is no reason to do so after every test.
    """

    limit = MUCH_MEMORY

    def pytest_runtest_teardown(self, nextitem):
        if nextitem is not None and resident_memory() > self.limit:
            jax.clear_caches()
            gc.collect()
            if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
                trim(0)
            self.limit = max(MUCH_MEMORY, resident_memory() + MORE_MEMORY)


def resident_memory() -> int:
    """Bytes that this process holds now; 0 where the system does not say."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        return 0
    return int(pages.read_text().split()[1]) * resource.getpagesize()


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peak"] = peak_memory()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    PEAKS.append(getattr(node, "workeroutput", {}).get("peak", 0))


def peak_memory() -> int:
    """The most MiB that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 2 ** (20 if sys.platform == "darwin" else 10)


def pytest_terminal_summary(terminalreporter):
    peak = max(PEAKS, default=peak_memory())
    terminalreporter.write_line(f"the largest process of the tests had {peak:,} MiB")


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture
def no_pictures(monkeypatch):
    """Runs without their pictures, which take half of a small run's time."""
    monkeypatch.setattr("train.names.finish.draw", lambda *args: None)
    monkeypatch.setattr("train.charlm.finish.draw", lambda *args: None)
