"""Parameters of a mount as a process: its sockets, logs and observation."""

import os
from dataclasses import dataclass, replace

from cvfs.client.settings.parameters import Parameters


@dataclass(frozen=True, slots=True)
class MountSettings:
    """Where a mount keeps its socket (`workspace`; a mount needs one)."""

    workspace: str | None = None

    @classmethod
    def of(cls, get: Parameters, cache_dir: str | None) -> "MountSettings":
        """Raises UsageError naming the parameter at fault."""
        return cls(workspace=get.optional("CVMFS_WORKSPACE") or cache_dir)

    def with_absolute_places(self) -> "MountSettings":
        """The same for a process that works elsewhere."""
        return replace(self, workspace=os.path.abspath(self.workspace) if self.workspace else None)
