"""Part of the build: puts manual pages and completion scripts into the wheel where `make man` has made them; makes none itself.

Making them needs the program's dependencies, which an isolated build does not have. The source distribution brings them.
"""

import os
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MADE = "generated"


class SharedFiles(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling before it builds a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add what is there to the files that are installed below `share`."""
        del version
        if os.path.isdir(os.path.join(self.root, MADE)):
            build_data["shared_data"][MADE] = "share"
