"""Write ``layers.npz``: ``torch.nn.RNN/GRU/LSTM`` in every configuration.

Run as ``python -m tests.reference.make_layers``. The keys are ``<case id>/<what>`` and
``trajectory_<kind>_<optimiser>/<what>`` with the arrays of `torch_layers.make_case` and
`torch_layers.make_trajectory`. ``cases`` and ``trajectories`` are JSON objects from an
id to the arguments that made it, so that ``make_case(**arguments)`` makes it again.
"""

import json
from itertools import product
from pathlib import Path

import numpy as np
import torch

from tests.torch_layers import make_case, make_trajectory, prefixed

# All dimensions differ, so that a swapped axis cannot fit; one row has one step only,
# one has all, and they are not sorted.
SIZES = {"input_size": 4, "features": 5, "batch": 3, "time": 7}
SEQ_LENGTHS = [4, 1, 7]
VARIANTS = {
    "rnn": [{"activation": "tanh"}, {"activation": "relu"}],
    "gru": [{}],
    "lstm": [{"projection": None}, {"projection": 3}],
}
CLIP = 0.1  # the gradients' norms begin above it and end below
OPTIMISERS = {"adam": {"lr": 1e-2}, "sgd": {"lr": 0.05, "momentum": 0.9}}


def list_cases() -> dict[str, dict]:
    """Return the arguments of each case by its id.

    Every configuration runs over ragged rows, every second one from a random carry; one
    of each kind runs unpacked.
    """
    cases = {}
    for kind, variants in VARIANTS.items():
        for num_layers, bidirectional, use_bias, variant in product(
            (1, 2, 3), (False, True), (True, False), variants
        ):
            parity = num_layers + bidirectional + use_bias + variants.index(variant)
            arguments = {
                "kind": kind,
                "num_layers": num_layers,
                "bidirectional": bidirectional,
                "use_bias": use_bias,
                **variant,
                "initial_carry": parity % 2 == 1,
                "seq_lengths": SEQ_LENGTHS,
            }
            cases[case_id(arguments)] = arguments
        cases[f"{kind}-unpacked"] = {
            "kind": kind,
            "num_layers": 2,
            "bidirectional": True,
            "initial_carry": True,
        }
    return {
        name: arguments | SIZES | {"seed": seed}
        for seed, (name, arguments) in enumerate(cases.items())
    }


def case_id(arguments: dict) -> str:
    """Name a case by what it has, as in ``lstm-2-bidirectional-bias-projection``."""
    relu = arguments.get("activation") == "relu"
    flags = {
        "relu": relu,
        "bidirectional": arguments["bidirectional"],
        "bias": arguments["use_bias"],
        "projection": arguments.get("projection"),
        "carry": arguments["initial_carry"],
    }
    names = [name for name, given in flags.items() if given]
    return "-".join([arguments["kind"], str(arguments["num_layers"]), *names])


def list_trajectories() -> dict[str, dict]:
    """Return the arguments of each trajectory by its id."""
    return {
        f"trajectory_{kind}_{optimiser}": {
            "kind": kind,
            "optimiser": optimiser,
            "optimiser_options": options,
            "clip": CLIP,
            "updates": 100,
            "num_layers": 2,
            "bidirectional": True,
            "seq_lengths": SEQ_LENGTHS,
            "input_size": SIZES["input_size"],
            "features": SIZES["features"],
            "time": SIZES["time"],
            "seed": 0,
        }
        for kind, (optimiser, options) in product(VARIANTS, OPTIMISERS.items())
    }


def main() -> None:
    torch.set_num_threads(1)
    cases, trajectories = list_cases(), list_trajectories()
    arrays = {
        "cases": np.array(json.dumps(cases)),
        "trajectories": np.array(json.dumps(trajectories)),
        "torch_version": np.array(torch.__version__),
    }
    for name, arguments in cases.items():
        arrays |= prefixed(name, make_case(**arguments))
    for name, arguments in trajectories.items():
        trajectory = make_trajectory(**arguments)
        arrays |= prefixed(name, trajectory)
        losses, norms = trajectory["losses"], trajectory["grad_norms"]
        print(
            f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f}, "
            f"clipped {np.mean(norms > arguments['clip']):.0%} of the updates"
        )
    path = Path(__file__).with_name("layers.npz")
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {path.stat().st_size} bytes, {len(cases)} cases")


if __name__ == "__main__":
    main()
