#!/usr/bin/env bash
# tensorboardX 2.6.4: importing it imports torch wherever torch is installed.
#
# The good guess that is wrong: tensorboardX is the small writer that works without
# PyTorch, so that importing it costs the same with and without PyTorch installed.
#
# Seen: "torch" is in sys.modules after `import tensorboardX`; the import takes several
# times as long as with torch hidden.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 tensorboardX==2.6.4
cat > "$work/imports.py" <<'PYTHON'
import sys
import time

hidden = "hidden" in sys.argv
if hidden:
    sys.modules["torch"] = None
began = time.perf_counter()
import tensorboardX

seconds = time.perf_counter() - began
loaded = sys.modules.get("torch") is not None
print(f"tensorboardX {tensorboardX.__version__}: torch loaded {loaded}, {seconds:.2f} s")
PYTHON
"$work/venv/bin/python" "$work/imports.py" > /dev/null  # files read once
"$work/venv/bin/python" "$work/imports.py" | tee "$work/out"
"$work/venv/bin/python" "$work/imports.py" hidden | tee -a "$work/out"
grep -q "torch loaded True" "$work/out" && grep -q "torch loaded False" "$work/out" ||
  { echo "the behaviour has changed"; exit 1; }
