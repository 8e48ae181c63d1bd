#!/usr/bin/env bash
# torch 2.13.0: pack_padded_sequence casts lengths of any type, and takes lengths longer
# than the batch is wide; only a length of 0 or less is refused.
#
# The good guess that is wrong: "lengths must be int64 and at most T, or it raises".
#
# Seen: float lengths 3.9 count as 3 without a word; a length of 9 for 7 steps gives a
# PackedSequence whose batch_sizes count more rows than its data has.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cat > "$work/lengths.py" <<'PYTHON'
import torch
from torch.nn.utils.rnn import pack_padded_sequence

print("torch", torch.__version__)
xs = torch.randn(2, 7, 3)


def packed(lengths):
    return pack_padded_sequence(xs, lengths, batch_first=True, enforce_sorted=False)


cast = packed(torch.tensor([3.9, 2.2])).batch_sizes.tolist()
print("lengths 3.9 and 2.2 are read as batch sizes", cast)
long = packed(torch.tensor([9, 2]))
print(f"9 of 7 steps: {int(long.batch_sizes.sum())} rows said, {len(long.data)} there")
try:
    packed(torch.tensor([0, 2]))
    refused = False
except RuntimeError as error:
    refused = True
    print("length 0:", str(error).splitlines()[0])
print(cast == [2, 2, 1] and int(long.batch_sizes.sum()) > len(long.data) and refused)
PYTHON
"$work/venv/bin/python" -W ignore "$work/lengths.py" | tee "$work/out"
grep -qx True "$work/out" || { echo "the behaviour has changed"; exit 1; }
