"""Write ``random.json``: hashes of PyTorch's random numbers.

Run as ``python -m tests.reference.make_random`` on an x86-64 machine with AVX2. The
numbers are drawn twice, by PyTorch's code for AVX2 and by that for any processor
(``ATEN_CPU_CAPABILITY``, which is read when torch is imported). Each hash is that of one
draw from every seed at every size, one after the other, and of the generator's state
in the end.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.random_draws import ORTHOGONAL, SEEDS, digest, sizes_of

CAPABILITIES = ("avx2", "default")


def hash_of(name: str) -> str:
    """Of what torch draws here."""
    from tests import torch_random as torch

    drawn = []
    for seed in SEEDS:
        torch.seed(seed)
        drawn += [torch.DRAWS[name](n).numpy() for n in sizes_of(name)]
        drawn.append(torch.state())
    return digest(drawn)


def hashes() -> dict:
    """Of all draws and modules, by their names; and what has no equal bits."""
    from tests import torch_random as torch

    draws = {name: hash_of(name) for name in torch.DRAWS}
    modules = {}
    for seed, name in enumerate(torch.MODULES):
        torch.seed(seed)
        state_dict = torch.state_dict(name)
        used = [state_dict[key] for key in state_dict if not key.startswith("bn.")]
        modules[name] = digest([*used, torch.state()])
    torch.seed(0)
    orthogonal = [torch.orthogonal(shape).ravel().tolist() for shape in ORTHOGONAL]
    return {"draws": draws, "modules": modules, "orthogonal": orthogonal}


def hashes_with(capability: str, *names: str) -> dict:
    """Hashes of what another process draws with this code of PyTorch's.

    Without names those of everything, with names those of these draws.
    """
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
    command = [sys.executable, "-m", "tests.reference.make_random", "--print", *names]
    done = subprocess.run(
        command,
        env=environment,
        cwd=Path(__file__).parents[2],
        check=True,
        stdout=subprocess.PIPE,
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--print"]:
        names = sys.argv[2:]
        print(json.dumps({name: hash_of(name) for name in names} or hashes()))
    else:
        kept = {capability: hashes_with(capability) for capability in CAPABILITIES}
        text = json.dumps(kept, indent=1)
        Path(__file__).with_name("random.json").write_text(text + "\n")
