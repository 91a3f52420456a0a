"""Parameters of the local cache."""

import os
from dataclasses import dataclass, replace

from cvfs.client.settings.parameters import Parameters

DEFAULT_CACHE_BASE = "/var/lib/cvmfs"


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Where contents are kept (`directory` None: nowhere) and how many bytes of them (`quota` None: no limit)."""

    directory: str | None = None
    quota: int | None = 4000 * 2**20

    @classmethod
    def of(cls, get: Parameters) -> "CacheSettings":
        """Raises UsageError naming the parameter at fault."""
        quota = get.number("CVMFS_QUOTA_LIMIT", 4000, least=-1)
        directory = get.optional("CVMFS_CACHE_DIR") or f"{cache_base(get)}/shared"
        return cls(directory=directory, quota=quota * 2**20 if quota >= 0 else None)

    def with_absolute_places(self) -> "CacheSettings":
        """The same for a process that works elsewhere."""
        return replace(self, directory=os.path.abspath(self.directory) if self.directory else None)


def cache_base(get: Parameters) -> str:
    """The directory that holds all that a client keeps."""
    return get.text("CVMFS_CACHE_BASE") or DEFAULT_CACHE_BASE
