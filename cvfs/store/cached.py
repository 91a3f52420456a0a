"""Contents as open files: out of a local cache, or, where nothing is kept, out of files without a name."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Protocol

from cvfs.errors import StoreFull
from cvfs.hashes import ContentHash
from cvfs.store.base import Wanted
from cvfs.store.scratch import Scratch
from cvfs.store.verified import Verified

_log = logging.getLogger(__name__)
# Contents up to this size that are not kept live in memory while they are open.
_SMALL = 16 * 2**20


class ObjectCache(Protocol):
    """Contents by the hash of their object, on this machine."""

    def open(self, content: ContentHash) -> int | None:
        """A descriptor for reading, or None if it is not there. Never waits for the network."""

    def insert(self, content: ContentHash, pieces: Iterator[bytes], size: int | None = None) -> int:
        """Keep what `pieces` gives, whole or not at all, and return a descriptor for reading it.

        Raises StoreFull if it cannot be kept, and whatever `pieces` raises.
        """


class Cached:
    """The cache first, then the verified store, whose answer is kept.

    What cannot be kept is served all the same; the user is told once. A cached content of another length than the
    catalog says (a machine went down while it was written; or one object under two compressions) is fetched anew.
    """

    def __init__(self, verified: Verified, cache: ObjectCache, directory: str | None = None) -> None:
        self._verified = verified
        self._cache = cache
        self._unkept = Uncached(verified, directory)
        self._warned = False

    def open(self, wanted: Wanted) -> int:
        """See `Contents.open`."""
        present = self.open_present(wanted)
        if present is not None:
            return present
        try:
            # Closing the pieces gives the connection back if the cache stops in their middle.
            with contextlib.closing(self._verified.read(wanted)) as pieces:
                return self._cache.insert(wanted.content, pieces, wanted.size)
        except StoreFull as full:
            self._warn(full)
        return self._unkept.open(wanted)

    def open_present(self, wanted: Wanted) -> int | None:
        """See `Contents.open_present`."""
        descriptor = self._cache.open(wanted.content)
        if descriptor is None or wanted.size is None or os.lseek(descriptor, 0, os.SEEK_END) == wanted.size:
            return descriptor
        os.close(descriptor)
        return None

    def _warn(self, full: StoreFull) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("objects are served without being kept: %s", full)


class Uncached:
    """Every content is fetched: into memory if it is small, else into a file without a name in `directory`."""

    def __init__(self, verified: Verified, directory: str | None = None) -> None:
        self._verified = verified
        self._directory = directory

    def open(self, wanted: Wanted) -> int:
        """See `Contents.open`."""
        small = wanted.size is not None and wanted.size <= _SMALL
        scratch = Scratch(None if small else self._directory)
        with contextlib.closing(scratch):
            for piece in self._verified.read(wanted):
                scratch.write(piece)
            return scratch.detach()

    def open_present(self, wanted: Wanted) -> int | None:
        """See `Contents.open_present`: nothing ever is."""
        del wanted
        return None
