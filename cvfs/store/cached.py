"""Contents as open files: out of a local cache, or, where nothing is kept, out of files without a name."""

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from cvfs.errors import StoreFull
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.store.base import Contents, Wanted
from cvfs.store.scratch import Scratch
from cvfs.store.verified import Verified

_log = logging.getLogger(__name__)
# Contents up to this size that are not kept live in memory while they are open.
_SMALL = 16 * 2**20
_DATA = frozenset({ObjectKind.FILE, ObjectKind.CHUNK})
# Seconds between two warnings of the same kind.
_SILENCE = 3600.0


class ObjectCache(Protocol):
    """Contents by the hash of their object, on this machine."""

    def open(self, content: ContentHash) -> int | None:
        """A descriptor for reading, or None if it is not at hand. Never waits."""

    def retrieve(self, content: ContentHash) -> int | None:
        """The same for what needs some work first; None if it has to be fetched."""

    def insert(self, content: ContentHash, pieces: Iterator[bytes], size: int | None = None) -> int:
        """Keep what `pieces` gives, whole or not at all, and return a descriptor for reading it.

        Raises StoreFull if it cannot be kept, and whatever `pieces` raises.
        """


class Cached:
    """The cache first, then the verified store, whose answer is kept.

    What cannot be kept is served all the same; the user is told, once an hour at most. A cached content of another
    length than the catalog says (a machine went down while it was written; or one object under two compressions) is
    fetched anew.
    """

    def __init__(
        self,
        verified: Verified,
        cache: ObjectCache,
        directory: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._verified = verified
        self._cache = cache
        self._unkept = Uncached(verified, directory)
        self._clock = clock
        self._silent_until = -math.inf

    def open(self, wanted: Wanted) -> int:
        """See `Contents.open`."""
        try:
            present = self.open_present(wanted)
            if present is None:
                present = _of_length(self._cache.retrieve(wanted.content), wanted.size)
            if present is not None:
                return present
            # Closing the pieces gives the connection back if the cache stops in their middle.
            with contextlib.closing(self._verified.read(wanted)) as pieces:
                return self._cache.insert(wanted.content, pieces, wanted.size)
        except StoreFull as full:
            self._warn(full)
        return self._unkept.open(wanted)

    def open_present(self, wanted: Wanted) -> int | None:
        """See `Contents.open_present`."""
        return _of_length(self._cache.open(wanted.content), wanted.size)

    def _warn(self, full: StoreFull) -> None:
        now = self._clock()
        if now >= self._silent_until:
            self._silent_until = now + _SILENCE
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


class Streamed:
    """Data through one store, which keeps nothing, everything else (catalogs above all) through another, which does."""

    def __init__(self, kept: Contents, passing: Contents) -> None:
        self._kept = kept
        self._passing = passing

    def open(self, wanted: Wanted) -> int:
        """See `Contents.open`."""
        return self._of(wanted).open(wanted)

    def open_present(self, wanted: Wanted) -> int | None:
        """See `Contents.open_present`."""
        return self._of(wanted).open_present(wanted)

    def _of(self, wanted: Wanted) -> Contents:
        return self._passing if wanted.content.kind in _DATA else self._kept


def _of_length(descriptor: int | None, size: int | None) -> int | None:
    """The descriptor, but not one of a content with another length."""
    if descriptor is None or size is None:
        return descriptor
    try:
        length = os.lseek(descriptor, 0, os.SEEK_END)
    except OSError:
        # A pipe, in a directory that others may write to.
        length = -1
    if length == size:
        return descriptor
    os.close(descriptor)
    return None
