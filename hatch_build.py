"""What an editable install has and a wheel has not: the programs, and what they need.

The wheel ships the library alone. ``pip install -e .`` installs a checkout, in which the
programs lie beside it, so that it asks for the extra ``train`` as well and brings the
command ``rnnjax``.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProgramsOfACheckout(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            extras = self.metadata.core.optional_dependencies
            build_data["dependencies"] += extras["train"]
            build_data["shared_scripts"]["train/bin/rnnjax"] = "rnnjax"
