"""The directories of one revision that were read last, whole: look-ups, negative ones too, come from memory.

Of those with more entries than all of the others may have together one is held, apart from them; in the rest of these each
look-up is a query of its own: reading all entries for each would take for ever.
"""

import threading
from collections import OrderedDict

from cvfs.client.repository import Repository
from cvfs.errors import NotADirectory
from cvfs.format.dirent import DirectoryEntry

Directory = dict[bytes, DirectoryEntry]
# The kernel remembers what it was told, so this need not hold everything; one entry takes about half a kilobyte.
DEFAULT_LIMIT = 8192
_KNOWN_AS_LARGE = 1024


class Directories:
    """Directories of `repository` by path; together they have `limit` entries. Safe to use from several threads."""

    def __init__(self, repository: Repository, limit: int = DEFAULT_LIMIT) -> None:
        self.repository = repository
        self._limit = limit
        self._held: OrderedDict[bytes, Directory] = OrderedDict()
        self._count = 0
        self._largest: tuple[bytes, Directory] | None = None
        self._large: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: bytes, *, wait: bool) -> Directory:
        """All entries of a directory by name, hidden ones too: one query for all of them (or BlockingIOError)."""
        with self._lock:
            directory = self._present(path)
        if directory is not None:
            return directory
        directory = {entry.name: entry for entry in self.repository.tree.listing(path, wait=wait)}
        if not directory and not self.repository.tree.find(path, wait=wait).is_directory:
            raise NotADirectory(f"{path.decode(errors='replace')}: not a directory")
        self._keep(path, directory)
        return directory

    def entry(self, path: bytes, name: bytes, *, wait: bool) -> DirectoryEntry | None:
        """The entry of that name in a directory, None if there is none (or BlockingIOError)."""
        with self._lock:
            directory = self._present(path)
            by_itself = directory is None and path in self._large
        if by_itself:
            return self.repository.tree.entry(path, name, wait=wait)
        if directory is None:
            directory = self.read(path, wait=wait)
        return directory.get(name)

    def _present(self, path: bytes) -> Directory | None:
        if self._largest is not None and self._largest[0] == path:
            return self._largest[1]
        if path in self._held:
            self._held.move_to_end(path)
        return self._held.get(path)

    def _keep(self, path: bytes, directory: Directory) -> None:
        with self._lock:
            if len(directory) > self._limit:
                self._keep_large(path, directory)
            elif path not in self._held:
                self._held[path] = directory
                self._count += len(directory)
            while self._count > self._limit:
                self._count -= len(self._held.popitem(last=False)[1])

    def _keep_large(self, path: bytes, directory: Directory) -> None:
        self._largest = path, directory
        self._large[path] = None
        if len(self._large) > _KNOWN_AS_LARGE:
            self._large.popitem(last=False)
