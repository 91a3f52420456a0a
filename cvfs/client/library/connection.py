"""An opened repository as one process has it: locks, threads, connections, which a fork does not share; it reads no file."""

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cvfs.client.library.links import Paths
from cvfs.client.magic.mounts import Observation
from cvfs.client.presentation import View, view_of
from cvfs.client.repository import Repository
from cvfs.errors import UsageError
from cvfs.format.dirent import DirectoryEntry

_WORKERS = 16


class Connection:
    """A repository, opened when it is first needed, with threads that fetch. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._repository: Repository | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._view: View | None = None
        self._paths: Paths | None = None

    def repository(self, owner: object, opening: Callable[[], Repository]) -> Repository:
        """The repository, by `opening` if need be. It is closed when `owner` is gone, at the latest with the process."""
        if self._repository is not None:
            return self._repository
        with self._lock:
            if self._repository is None:
                self._repository = opening()
                # The books of a cache are written when it is closed.
                weakref.finalize(owner, self._close_in, os.getpid())
            return self._repository

    def view(self, repository: Repository) -> View:
        """What a mount would show differently from what was published."""
        if self._view is None:
            self._view = view_of(repository.settings, Observation(control=str, due=float, started=0.0))
        return self._view

    def paths(self, repository: Repository) -> Paths:
        """The paths of the revision that is shown."""
        if self._paths is None:
            home = f"{repository.settings.mount_dir}/{repository.settings.fqrn}".encode("utf-8", "surrogateescape")
            self._paths = Paths(home, self._lookup, self.view(repository).target)
        return self._paths

    def pool(self) -> ThreadPoolExecutor:
        """Threads that fetch; they are started as they are needed."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="cvfs")
            return self._pool

    def replace(self, newer: Repository) -> None:
        """Another revision through the same stores."""
        self._repository = newer

    def close(self) -> None:
        """Close what was opened; reads that are under way come to their end."""
        with self._lock:
            repository, self._repository = self._repository, None
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)
        if repository is not None:
            repository.close()

    def _close_in(self, process: int) -> None:
        # What was inherited over a fork belongs to the parent, its session with the cache above all.
        if os.getpid() == process:
            self.close()

    def _lookup(self, path: bytes) -> DirectoryEntry:
        repository = self._repository
        if repository is None:
            raise UsageError("the repository is closed, open it again")
        return repository.lookup(path)
