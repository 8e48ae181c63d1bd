#!/usr/bin/env bash
# torch 2.13.0, CPU: torch.func.vmap over nn.LSTM fails, and vmap over its GRADIENT works.
#
# The good guess that is wrong: what cannot be mapped forwards cannot be mapped at all,
# so that per-example gradients of an LSTM need a loop. For nn.GRU the guess holds.
#
# Seen: vmap(forward) raises for LSTM and GRU; vmap(grad(loss)) equals the loop over the
# examples to 1e-6 for the LSTM and raises for the GRU.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cat > "$work/mapped.py" <<'PYTHON'
import torch
from torch.func import functional_call, grad, vmap

print("torch", torch.__version__)
torch.manual_seed(0)


def tried(function):
    try:
        return function()
    except Exception as error:
        return type(error).__name__


seen = []
for kind in (torch.nn.LSTM, torch.nn.GRU):
    layer = kind(3, 4, batch_first=True)
    params = {name: value.detach() for name, value in layer.named_parameters()}
    xs = torch.randn(5, 7, 3)

    def forward(params, x, layer=layer):
        return functional_call(layer, params, (x[None],))[0]

    def loss(params, x):
        return forward(params, x).square().sum()

    mapped = tried(lambda: vmap(forward, (None, 0))(params, xs))
    gradients = tried(lambda: vmap(grad(loss), (None, 0))(params, xs))
    equal = None
    if isinstance(gradients, dict):
        loop = [grad(loss)(params, x) for x in xs]
        equal = all(
            torch.allclose(gradients[name], torch.stack([g[name] for g in loop]), atol=1e-6)
            for name in params
        )
    shown = mapped if isinstance(mapped, str) else "works"
    of_gradient = gradients if isinstance(gradients, str) else f"works, equals the loop: {equal}"
    print(f"{kind.__name__}: vmap(forward) {shown}; vmap(grad) {of_gradient}")
    seen.append((isinstance(mapped, str), equal))
print(seen == [(True, True), (True, None)])
PYTHON
"$work/venv/bin/python" -W ignore "$work/mapped.py" | tee "$work/out"
grep -qx True "$work/out" || { echo "the behaviour has changed"; exit 1; }
