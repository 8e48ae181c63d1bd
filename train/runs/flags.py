"""The flags that every training has."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from train.cli import default, defaults


@dataclasses.dataclass(frozen=True)
class EveryTraining:
    """How it is trained."""

    skip_gradients_above: Annotated[float | None, default("none")] = None
    """Leave out updates whose gradient has this norm or a larger one."""


def recipes_own(settings: Mapping[Any, Any], setting: str) -> Any:
    """What ``--help`` says of a setting that each recipe has its own value for.

    Args:
        settings: From a recipe, or a recipe and a model, to how it trains.
        setting: Name of the setting.
    """
    return defaults(
        (key if isinstance(key, str) else key[0], getattr(each, setting))
        for key, each in settings.items()
    )
