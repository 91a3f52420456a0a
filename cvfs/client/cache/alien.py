"""An alien cache: a plain directory that many machines share; no books, no quota, no locks, and it never evicts.

    <directory>/<2 hex>/<38 hex><tag>     the content, not compressed; no letter (FORMAT section 11)

The layout is that of the original, which may use and fill the same directory. The digest of a content is an extended
attribute of its file, where the file system can: it finds damage, not malice.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator

from cvfs.client.cache.base import CacheEntry, Checked, ignore_progress
from cvfs.client.cache.check import Inspection
from cvfs.client.cache.files import CacheFiles, content_named, marked_digest
from cvfs.client.cache.proof import is_proven
from cvfs.client.cache.reconciliation import listed
from cvfs.errors import StoreFull, UsageError
from cvfs.hashes import ContentHash

_log = logging.getLogger(__name__)


class AlienCache:
    """Contents below `directory`, for anybody. With `verify`, a content is not given before this process proved it."""

    def __init__(self, directory: str, *, verify: bool = False) -> None:
        self._directory = directory
        self._files = CacheFiles(directory, None, marked=True)
        self._proven: set[str] | None = set() if verify else None
        self._inserted = 0
        self.volatile = False

    @property
    def staging(self) -> str:
        """A directory on the same file system, for what is on its way."""
        return f"{self._directory}/txn"

    def prepare(self) -> None:
        """Make the directories. One that is only to be read from is as good: said in the log, StoreFull later."""
        try:
            _make_skeleton(self._directory)
            self._files.begin_unlocked()
        except OSError as error:
            _log.info("alien cache %s: only read from: %s", self._directory, error.strerror)

    def close(self) -> None:
        """Insert nothing any more."""
        self._files.end()

    def open(self, content: ContentHash) -> int | None:
        """A descriptor for reading, or None: one system call. Raises StoreFull if the process has none left."""
        name = str(content)
        return None if self._proven is not None and name not in self._proven else self._files.open(name)

    def retrieve(self, content: ContentHash) -> int | None:
        """A content that has to be proven first: a damaged one is dropped and told. Raises StoreFull."""
        name = str(content)
        descriptor = self._files.open(name) if self._proven is not None else None
        if descriptor is None or self._proven is None:
            return None
        if is_proven(descriptor, content, marked_digest(descriptor)):
            self._proven.add(name)
            return descriptor
        os.close(descriptor)
        _log.warning("alien cache %s: %s is not proven, fetched again", self._directory, name)
        # Somebody else's file may stay: it is not given to anybody here.
        with contextlib.suppress(StoreFull):
            self._files.remove(name)
        return None

    def insert(self, content: ContentHash, pieces: Iterator[bytes], size: int | None = None) -> int:
        """See `Cache.insert`."""
        written = self._files.write(str(content), pieces, size)
        self._inserted += written.size
        if self._proven is not None:
            self._proven.add(str(content))
        return written.descriptor

    def pin(self, content: ContentHash) -> None:
        """Nothing is evicted here."""

    def unpin(self, content: ContentHash) -> None:
        """Nothing is evicted here."""

    def spare(self, contents: Iterable[ContentHash]) -> None:
        """Nothing is evicted here."""

    def evict(self, content: ContentHash) -> bool:
        """Remove a content for everybody; whether it was there. Raises StoreFull if it stays."""
        if self._proven is not None:
            self._proven.discard(str(content))
        return self._files.remove(str(content))

    def usage(self) -> tuple[int, int | None]:
        """Bytes that this process added: to count all would take hours on a cluster's file system."""
        return self._inserted, None

    def resize(self, quota: int | None) -> None:
        """Raises UsageError: there is no quota."""
        del quota
        raise UsageError(f"alien cache {self._directory}: has no quota, remove files there as you like")

    def clean_up(self, goal: int) -> bool:
        """Nothing is evicted here: whether that little is in use anyway."""
        return self._inserted <= goal

    def cleanups_within(self, seconds: float) -> int:
        """Never any."""
        del seconds
        return 0

    def entries(self) -> list[CacheEntry]:
        """Every file, by its time of change. Raises StoreFull. Takes as long as listing the directories does."""
        found = sorted(listed(self._files), key=lambda row: row[2])
        return [CacheEntry(content_named(name), size, changed, held=False) for name, size, changed in found]

    def check(
        self, *, repair: bool = True, workers: int = 1, progress: Callable[[str], None] = ignore_progress
    ) -> Checked:
        """See `Cache.check`. Raises StoreFull if the directory cannot be listed."""
        forget = ignore_progress if repair else None
        return Inspection(self._files, {}, forget, progress).run(workers)

    def rebuild(self) -> None:
        """There are no books."""

    def flush(self) -> None:
        """Nothing is due."""

    def describe(self) -> str:
        """Kind and place in one line."""
        return f"Posix cache manager (alien cache directory: {self._directory})"


def _make_skeleton(directory: str) -> None:
    """All directories at once, writable for the group, as the original wants them."""
    if os.path.isdir(f"{directory}/ff"):
        return
    os.makedirs(directory, 0o770, exist_ok=True)
    for name in ("txn", "quarantaine", *(f"{first:02x}" for first in range(256))):
        path = f"{directory}/{name}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o770)
            # Whatever the umask is: the group fills the cache together.
            os.chmod(path, 0o770)  # noqa: S103
