"""A cache in the memory of the process: the least recently used goes first; nothing survives the process."""

import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator

from cvfs.client.cache.base import CacheEntry, Checked, ignore_progress
from cvfs.errors import CorruptObject, StoreFull
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.store.scratch import Scratch

# Smaller contents are copied when they are opened: a descriptor for each of them would be too many.
_SMALL = 256 * 1024
_KEPT_CLEANUPS = 1024


class _Content:
    """Bytes, or a descriptor of a file in memory that is closed with it."""

    __slots__ = ("data", "descriptor", "size", "used", "volatile")

    def __init__(self, data: bytes, descriptor: int, size: int, *, volatile: bool) -> None:
        self.data = data
        self.descriptor = descriptor
        self.size = size
        self.used = time.time_ns()
        self.volatile = volatile

    def open(self) -> int:
        if self.descriptor >= 0:
            return os.dup(self.descriptor)
        copy = Scratch(None)
        copy.write(self.data)
        return copy.detach()

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class RamCache:
    """Contents in memory, `size` bytes of them at most; what is pinned stays, what is spared as far as there is room."""

    volatile = False
    staging = None

    def __init__(self, size: int) -> None:
        self._quota = size
        self._contents: OrderedDict[ContentHash, _Content] = OrderedDict()
        self._used = 0
        self._pins: dict[ContentHash, int] = {}
        self._spared: frozenset[ContentHash] = frozenset()
        self._cleanups: deque[float] = deque(maxlen=_KEPT_CLEANUPS)
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Memory is always there."""

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._contents.clear()
            self._used = 0

    def open(self, content: ContentHash) -> int | None:
        """See `Cache.open`. Raises StoreFull if the process has no descriptor left."""
        with self._lock:
            found = self._contents.get(content)
            if found is None:
                return None
            found.used = time.time_ns()
            self._contents.move_to_end(content)
        try:
            return found.open()
        except OSError as error:
            raise StoreFull(f"{content.name}: cannot be opened: {error.strerror}") from error

    def retrieve(self, content: ContentHash) -> int | None:
        """What `open` does not give is not here."""
        del content
        return None

    def insert(self, content: ContentHash, pieces: Iterator[bytes], size: int | None = None) -> int:
        """See `Cache.insert`."""
        self._check(content, size or 0)
        scratch = Scratch(None)
        try:
            for piece in pieces:
                self._check(content, scratch.size + len(piece))
                scratch.write(piece)
            if size not in {None, scratch.size}:
                raise CorruptObject(f"{content.name}: has {scratch.size} bytes of content, {size} were announced")
            length, descriptor = scratch.size, scratch.detach()
        finally:
            scratch.close()
        try:
            self._keep(content, descriptor, length)
        except OSError as error:
            os.close(descriptor)
            raise StoreFull(f"{content.name}: cannot be kept: {error.strerror}") from error
        return descriptor

    def pin(self, content: ContentHash) -> None:
        """See `Cache.pin`."""
        with self._lock:
            self._pins[content] = self._pins.get(content, 0) + 1

    def unpin(self, content: ContentHash) -> None:
        """See `Cache.unpin`."""
        with self._lock:
            left = self._pins.pop(content, 0) - 1
            if left > 0:
                self._pins[content] = left

    def spare(self, contents: Iterable[ContentHash]) -> None:
        """See `Cache.spare`."""
        self._spared = frozenset(contents)

    def evict(self, content: ContentHash) -> bool:
        """Whether the content was there; it is not any more."""
        with self._lock:
            return self._drop(content)

    def usage(self) -> tuple[int, int | None]:
        """Bytes in use and allowed."""
        return self._used, self._quota

    def resize(self, quota: int | None) -> None:
        """Another size in bytes; None: as much as the machine has."""
        with self._lock:
            self._quota = 2**62 if quota is None else quota
            self._make_room()

    def clean_up(self, goal: int) -> bool:
        """See `Cache.clean_up`."""
        with self._lock:
            self._evict_to(goal, self._is_held)
            self._evict_to(goal, self._pins.__contains__)
            return self._used <= goal

    def cleanups_within(self, seconds: float) -> int:
        """See `Cache.cleanups_within`."""
        since = time.time() - seconds
        return sum(moment >= since for moment in list(self._cleanups))

    def entries(self) -> list[CacheEntry]:
        """See `Cache.entries`."""
        with self._lock:
            return [
                CacheEntry(content, kept.size, kept.used, self._is_held(content), kept.volatile)
                for content, kept in self._contents.items()
            ]

    def check(
        self, *, repair: bool = True, workers: int = 1, progress: Callable[[str], None] = ignore_progress
    ) -> Checked:
        """Memory is taken for granted."""
        del repair, workers, progress
        return Checked(len(self._contents), self._used, ())

    def rebuild(self) -> None:
        """There are no books."""

    def flush(self) -> None:
        """Nothing is due."""

    def describe(self) -> str:
        """Kind and size in one line."""
        return f"Ram cache manager ({self._quota // 2**20} MB)"

    def _keep(self, content: ContentHash, descriptor: int, size: int) -> None:
        small = size <= _SMALL
        volatile = self.volatile and content.kind is not ObjectKind.CATALOG
        data = os.pread(descriptor, size, 0) if small else b""
        kept = _Content(data, -1 if small else os.dup(descriptor), size, volatile=volatile)
        with self._lock:
            self._drop(content)
            self._contents[content] = kept
            self._used += size
            self._make_room()

    def _check(self, content: ContentHash, size: int) -> None:
        if size > self._quota:
            raise StoreFull(f"{content.name}: {size} bytes or more exceed the cache of {self._quota} bytes in memory")

    def _make_room(self) -> None:
        """Half of the quota; what is spared gives way as well where the quota would be exceeded for its sake."""
        if self._used > self._quota:
            self._evict_to(self._quota // 2, self._is_held)
            if self._used > self._quota:
                self._evict_to(self._quota - self._quota // 16, self._pins.__contains__)

    def _evict_to(self, goal: int, is_kept: Callable[[ContentHash], bool]) -> None:
        """Volatile contents, then data, catalogs at last; the newest stays."""
        before = self._used
        going = sorted(list(self._contents)[:-1], key=self._rank)
        for content in going:
            if self._used <= goal:
                break
            if not is_kept(content):
                self._drop(content)
        if self._used < before:
            self._cleanups.append(time.time())

    def _rank(self, content: ContentHash) -> int:
        if self._contents[content].volatile:
            return 0
        return 2 if content.kind is ObjectKind.CATALOG else 1

    def _is_held(self, content: ContentHash) -> bool:
        return content in self._pins or content in self._spared

    def _drop(self, content: ContentHash) -> bool:
        kept = self._contents.pop(content, None)
        if kept is not None:
            self._used -= kept.size
        return kept is not None
