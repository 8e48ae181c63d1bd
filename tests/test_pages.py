"""The examples of the pages beside the code."""

import doctest
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("page", "least"), [("README.md", 8), ("COMING_FROM_TORCH.md", 40)]
)
def test_every_example(page, least):
    failed, attempted = doctest.testfile(str(ROOT / page), module_relative=False)
    assert attempted >= least
    assert not failed
