"""The examples of COMING_FROM_TORCH.md."""

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[1] / "COMING_FROM_TORCH.md"


def test_every_example():
    failed, attempted = doctest.testfile(str(PAGE), module_relative=False)
    assert attempted > 40
    assert not failed
