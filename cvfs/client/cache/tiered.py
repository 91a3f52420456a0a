"""A small fast cache above a large slow one: what the upper one lacks is copied out of the lower; it keeps nothing itself."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator

from cvfs.client.cache.base import Cache, CacheEntry, Checked, ignore_progress
from cvfs.client.cache.proof import read_all
from cvfs.errors import CorruptObject, StoreFull
from cvfs.hashes import ContentHash

_log = logging.getLogger(__name__)


class TieredCache:
    """`upper` above `lower`. What is fetched goes to both, or only to the upper one if the lower is `read_only`.

    Size, quota, lists and evictions are the upper cache's. The lower one, which may be far away, is never asked by
    `open`, only by `retrieve`.
    """

    def __init__(self, upper: Cache, lower: Cache, *, read_only: bool = False) -> None:
        self._upper = upper
        self._lower = lower
        self._read_only = read_only
        self._warned = False

    @property
    def volatile(self) -> bool:
        """Whether what is inserted is the first to go."""
        return self._upper.volatile

    @volatile.setter
    def volatile(self, volatile: bool) -> None:
        self._upper.volatile = self._lower.volatile = volatile

    @property
    def staging(self) -> str | None:
        """A directory for what is on its way."""
        return self._upper.staging or (None if self._read_only else self._lower.staging)

    def prepare(self) -> None:
        """See `Cache.prepare`."""
        self._upper.prepare()
        self._lower.prepare()

    def close(self) -> None:
        """See `Cache.close`."""
        self._upper.close()
        self._lower.close()

    def open(self, content: ContentHash) -> int | None:
        """A content of the upper cache. Raises StoreFull."""
        return self._upper.open(content)

    def retrieve(self, content: ContentHash) -> int | None:
        """A content of the upper cache that needs work, or one of the lower, copied. Raises StoreFull."""
        found = self._upper.retrieve(content)
        if found is not None:
            return found
        below = self._lower.open(content)
        below = self._lower.retrieve(content) if below is None else below
        return None if below is None else self._lift(content, below)

    def insert(self, content: ContentHash, pieces: Iterator[bytes], size: int | None = None) -> int:
        """See `Cache.insert`. What only the lower cache has room for is kept there."""
        untouched = _Untouched(pieces)
        try:
            descriptor = self._upper.insert(content, untouched, size)
        except StoreFull:
            if self._read_only or untouched.begun:
                raise
            return self._lower.insert(content, pieces, size)
        if not self._read_only:
            self._store_below(content, descriptor)
        return descriptor

    def pin(self, content: ContentHash) -> None:
        """See `Cache.pin`."""
        self._upper.pin(content)
        self._lower.pin(content)

    def unpin(self, content: ContentHash) -> None:
        """See `Cache.unpin`."""
        self._upper.unpin(content)
        self._lower.unpin(content)

    def spare(self, contents: Iterable[ContentHash]) -> None:
        """See `Cache.spare`."""
        self._upper.spare(contents)

    def evict(self, content: ContentHash) -> bool:
        """Remove a content from both, but not from a read-only one. Raises StoreFull."""
        was_below = not self._read_only and self._lower.evict(content)
        return self._upper.evict(content) or was_below

    def usage(self) -> tuple[int, int | None]:
        """Of the upper cache."""
        return self._upper.usage()

    def resize(self, quota: int | None) -> None:
        """The upper cache. Raises UsageError where it has no quota."""
        self._upper.resize(quota)

    def clean_up(self, goal: int) -> bool:
        """The upper cache."""
        return self._upper.clean_up(goal)

    def cleanups_within(self, seconds: float) -> int:
        """Of the upper cache."""
        return self._upper.cleanups_within(seconds)

    def entries(self) -> list[CacheEntry]:
        """Of the upper cache."""
        return self._upper.entries()

    def check(
        self, *, repair: bool = True, workers: int = 1, progress: Callable[[str], None] = ignore_progress
    ) -> Checked:
        """Both; a read-only one is not repaired."""
        above = self._upper.check(repair=repair, workers=workers, progress=progress)
        below = self._lower.check(repair=repair and not self._read_only, workers=workers, progress=progress)
        return Checked(
            above.objects + below.objects,
            above.size + below.size,
            above.dropped + below.dropped,
            above.unfixed + below.unfixed,
        )

    def rebuild(self) -> None:
        """Both."""
        self._upper.rebuild()
        self._lower.rebuild()

    def flush(self) -> None:
        """See `Cache.flush`."""
        self._upper.flush()
        self._lower.flush()

    def describe(self) -> str:
        """Both in one line."""
        access = "read-only" if self._read_only else "read-write"
        return f"Tiered cache manager (upper: {self._upper.describe()}; {access} lower: {self._lower.describe()})"

    def _lift(self, content: ContentHash, below: int) -> int | None:
        """The copy in the upper cache, or the lower one's own where the upper has no room; None if it is damaged."""
        copy = None
        try:
            copy = self._upper.insert(content, _readable(read_all(below)), os.fstat(below).st_size)
        except StoreFull:
            copy = os.dup(below)
        except CorruptObject as corrupt:
            _log.warning("the lower cache has a damaged content, it is fetched: %s", corrupt)
        finally:
            os.close(below)
        return copy

    def _store_below(self, content: ContentHash, descriptor: int) -> None:
        try:
            os.close(self._lower.insert(content, read_all(descriptor), os.fstat(descriptor).st_size))
        except (StoreFull, OSError) as error:
            if not self._warned:
                self._warned = True
                _log.warning("the lower cache keeps nothing: %s", error)


class _Untouched(Iterator[bytes]):
    """Pieces that tell whether one was taken."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.begun = False

    def __next__(self) -> bytes:
        self.begun = True
        return next(self._pieces)


def _readable(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A content that cannot be read to its end is none."""
    try:
        yield from pieces
    except OSError as error:
        raise CorruptObject(f"cannot be read: {error.strerror}") from error
