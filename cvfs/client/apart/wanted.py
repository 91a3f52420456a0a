"""What is to be mounted for a command: repositories with their places; it does nothing."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from cvfs.client.settings import Settings


@dataclass(frozen=True, slots=True)
class Wanted:
    """A repository, and how its configuration is read again."""

    settings: Settings
    reread: Callable[[], Settings] | None = None

    @property
    def place(self) -> str:
        """Where it is mounted: below CVMFS_MOUNT_DIR, links resolved."""
        return os.path.join(os.path.realpath(self.settings.mount_dir), self.settings.fqrn)
