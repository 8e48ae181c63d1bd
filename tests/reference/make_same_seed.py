"""Keep the hashes of tests/test_same_seed.py: python -m tests.reference.make_same_seed.

They are to be kept only where test_a_lessons_own_program_does_the_same passes.
"""

import json
from pathlib import Path

from tests import test_same_seed as checks


class _Folders:
    """Stands for pytest's factory of folders."""

    def mktemp(self, name: str) -> Path:
        import tempfile

        return Path(tempfile.mkdtemp(prefix=name))


if __name__ == "__main__":
    data = checks.data.__wrapped__(_Folders())
    table = {
        f"{recipe} {model}": checks.digest(
            checks.task_of(recipe, model, data, checks.LANGUAGES, checks.AVX2)
        )
        for recipe, model in checks.MODELS
    }
    path = Path(__file__).with_name("same_seed.json")
    path.write_text(json.dumps(table, indent=1) + "\n", "utf-8")
