"""One row, or one contestant's start, in a process of its own.

python -m train.bench.peers REQUEST

REQUEST is JSON that train.bench writes. A process has one peak of memory, one setting of
XLA_FLAGS and one Keras backend, so that each row gets a process.
"""

import json
import sys
from pathlib import Path
from typing import Any

from train import startup


def main(request: dict[str, Any]) -> None:
    """Measure what was asked for, and write it to the file that was asked for."""
    if not request["small_loops"]:
        # What is measured is not what a program of ours does.
        startup.compile_small_loops_as_jax_does()
    from train.bench.peers import rows
    from train.cli import InputError
    from train.runs.files import write_json

    options = rows.Options(**request["options"])
    try:
        if request["row"] is None:
            measured = rows.measure_machine()
        elif request["alone"] is None:
            measured = rows.measure(rows.ROWS[request["row"]], options)
        else:
            row = rows.ROWS[request["row"]]
            measured = rows.measure_start(row, request["alone"], options)
    except InputError as error:
        measured = {"error": str(error)}
    write_json(Path(request["out"]), measured)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
