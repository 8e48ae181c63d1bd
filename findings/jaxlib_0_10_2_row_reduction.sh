#!/usr/bin/env bash
# jaxlib 0.10.2 on a CPU: a small product followed by a sum over each row is wrong from
# row 32,768 on (jax-ml/jax#39103; the newest release for Python 3.11).
#
# The good guess that is wrong: a compiled program may round differently, but it
# computes the same function for 40,000 rows as for 32,768.
#
# Seen: one row more than 32,768 gives one wrong row, 40,000 give 7,232, 100,000 give
# none. --xla_cpu_experimental_ynn_fusion_type=-reduce mends it; 0.11.0 is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$work/rows.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

print("jaxlib", jaxlib.__version__)
matrix = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
wrong = {}
for rows in (32_768, 32_769, 40_000, 100_000):
    xs = np.random.default_rng(1).normal(size=(rows, 3)).astype(np.float32)
    ours = jax.jit(jax.vmap(lambda x: jnp.sum((matrix @ x) ** 2)))(xs)
    right = ((xs @ matrix.T) ** 2).sum(1)
    wrong[rows] = int((~np.isclose(ours, right, rtol=1e-4)).sum())
    print(f"{rows:7,} rows: {wrong[rows]:,} wrong")
print(wrong == {32_768: 0, 32_769: 1, 40_000: 7_232, 100_000: 0})
PYTHON
unset XLA_FLAGS
"$work/venv/bin/python" "$work/rows.py" | tee "$work/out"
grep -qx True "$work/out" || { echo "the behaviour has changed"; exit 1; }
XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=-reduce \
  "$work/venv/bin/python" "$work/rows.py" | tee "$work/out"
grep -q "40,000 rows: 0 wrong" "$work/out" || { echo "the flag no longer mends it"; exit 1; }
