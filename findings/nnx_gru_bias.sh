#!/usr/bin/env bash
# flax 0.12.8: nnx.GRUCell and linen's GRUCell are different functions: NNX's has no
# hidden bias inside the reset product (PyTorch's b_hn), Linen's has.
#
# The good guess that is wrong: NNX ports Linen's cells, so that a Linen GRU's parameters,
# or PyTorch's, fit into NNX's (google/flax#5594).
#
# Seen: Linen's cell has a bias at hn; NNX's dense_h has none, so that no set of its
# parameters equals a GRU whose b_hn is not 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 flax==0.12.8 numpy==2.4.6
cat > "$work/bias.py" <<'PYTHON'
import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

print("flax", flax.__version__)
linen = nn.GRUCell(4).init(jax.random.key(0), jnp.zeros(4), jnp.ones(3))["params"]
print("linen: hn has", sorted(linen["hn"]))
theirs = nnx.to_pure_dict(nnx.state(nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)), nnx.Param))
print("nnx:", {name: sorted(part) for name, part in theirs.items()})
print("bias" in linen["hn"] and "bias" not in theirs["dense_h"])
PYTHON
"$work/venv/bin/python" "$work/bias.py" | tee "$work/out"
grep -qx True "$work/out" || { echo "the behaviour has changed"; exit 1; }
