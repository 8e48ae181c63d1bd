"""The flags that every training has."""

import dataclasses
from typing import Annotated

from train.cli import default


@dataclasses.dataclass(frozen=True)
class EveryTraining:
    """How it is trained."""

    skip_gradients_above: Annotated[float | None, default("none")] = None
    """Leave out updates whose gradient has this norm or a larger one."""
