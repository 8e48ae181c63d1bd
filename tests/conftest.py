"""What every test may use."""

import jax
import numpy as np
import pytest

pytest.register_assert_rewrite("helpers")

# No tests are in them, and without torch they cannot be imported.
collect_ignore_glob = ["torch_*.py", "reference/*.py", "campaign/*.py"]

# A key used twice is an error in the tests.
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Programs that tests start keep what they compile here, not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
