"""TensorBoard files, without waiting for torch.

tensorboardX imports torch wherever it is installed, though scalars need none of it, and
that alone takes longer than training a small model.
"""

import sys
from pathlib import Path

_torch_was_unknown = "torch" not in sys.modules
if _torch_was_unknown:
    sys.modules["torch"] = None  # an import of it now fails, which tensorboardX expects
try:
    from tensorboardX import SummaryWriter
finally:
    if _torch_was_unknown:
        del sys.modules["torch"]


def scalar_writer(directory: Path, step: int) -> SummaryWriter:
    """A writer of scalars, as a context manager.

    Args:
        directory: Where the files go.
        step: Where a continued run goes on; later figures of an earlier try are hidden.

    Returns:
        An object with ``add_scalar(name, value, step)``.
    """
    return SummaryWriter(str(directory), purge_step=step)
