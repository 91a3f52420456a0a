"""The directories of one revision that were read last, whole: look-ups, negative ones too, come from memory."""

import threading
from collections import OrderedDict

from cvfs.client.repository import Repository
from cvfs.errors import NotADirectory
from cvfs.format.dirent import DirectoryEntry

Directory = dict[bytes, DirectoryEntry]
# The kernel remembers what it was told, so this need not hold everything; one entry takes about half a kilobyte.
DEFAULT_LIMIT = 8192


class Directories:
    """Directories of `repository` by path, bounded by the number of their entries. Safe to use from several threads."""

    def __init__(self, repository: Repository, limit: int = DEFAULT_LIMIT) -> None:
        self.repository = repository
        self._limit = limit
        self._held: OrderedDict[bytes, Directory] = OrderedDict()
        self._count = 0
        self._lock = threading.Lock()

    def read(self, path: bytes, *, wait: bool) -> Directory:
        """All entries of a directory by name, hidden ones too: one query for all of them (or BlockingIOError)."""
        with self._lock:
            directory = self._held.get(path)
            if directory is not None:
                self._held.move_to_end(path)
                return directory
        directory = {entry.name: entry for entry in self.repository.tree.listing(path, wait=wait)}
        if not directory and not self.repository.tree.find(path, wait=wait).is_directory:
            raise NotADirectory(f"{path.decode(errors='replace')}: not a directory")
        self._keep(path, directory)
        return directory

    def _keep(self, path: bytes, directory: Directory) -> None:
        with self._lock:
            if path in self._held:
                return
            self._held[path] = directory
            self._count += len(directory)
            while self._count > self._limit and len(self._held) > 1:
                self._count -= len(self._held.popitem(last=False)[1])
