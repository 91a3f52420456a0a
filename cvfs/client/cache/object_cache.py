"""The local cache: contents by hash, a quota, evictions, pins; it never fetches and never opens a database to read.

Files are the matter of `files`. The books beside them, of `books`, are written in batches; where they are
lost or damaged they are written anew from the files.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from cvfs.client.cache.books import Books, BooksBroken, Record
from cvfs.client.cache.files import CacheFiles, DeadSession, content_named, digest_of, read_all
from cvfs.compression import ENCODERS
from cvfs.errors import FormatError, StoreFull
from cvfs.hashes import ContentHash, new_hasher

_log = logging.getLogger(__name__)
# One write to the books for so many insertions or seconds, whichever comes first.
_BATCH = 256
_BATCH_SECONDS = 5.0
# Uses between two batches that are remembered; those beyond do not count for the order of eviction.
_RECENT = 16384
# By then the kernel has written to the disk what was written to a file: after 30 s at the latest, unless it was told otherwise.
_FLUSHED_AFTER = 120 * 10**9

_Answer = TypeVar("_Answer")


class CacheEntry(NamedTuple):
    """One cached content: length in bytes, last use in nanoseconds since the epoch, whether a session holds on to it."""

    content: ContentHash
    size: int
    last_use: int
    held: bool


class Checked(NamedTuple):
    """What `check` looked at, and what it had to drop."""

    objects: int
    size: int
    dropped: tuple[ContentHash, ...]


class ObjectCache:
    """Contents below `directory`, of not more than `quota` bytes together (None: no limit).

    Any number of processes and threads may use one directory. When the quota is exceeded, what was used least recently
    goes until half of it is free; what any process pinned or spares stays. `flush` is due about once a minute where
    nothing is inserted: until then only this process knows what was used. `clock` gives nanoseconds since the epoch.
    """

    def __init__(self, directory: str, quota: int | None = None, clock: Callable[[], int] = time.time_ns) -> None:
        self._files = CacheFiles(directory, quota)
        self._books = Books(os.path.join(directory, "books"))
        self._directory = directory
        self._quota = quota
        self._clock = clock
        self._recent: set[str] = set()
        self._pins: dict[str, int] = {}
        self._spared: frozenset[str] = frozenset()
        self._held_changed = False
        self._pending: dict[str, Record] = {}
        self._pending_size = self._used = 0
        self._flushed = time.monotonic()
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._crowded = 0
        self._incomplete = self._complained = False

    def prepare(self) -> None:
        """Make the directory usable: clean up behind processes that died, open the books, begin a session.

        Where that is not possible the cache serves what it has and keeps nothing: logged here, StoreFull later.
        """
        try:
            dead = self._files.begin()
        except OSError as error:
            self._complained = True
            _log.warning("cache %s: nothing can be kept there: %s", self._directory, error.strerror)
            return
        with self._flushing, self._mending():
            if self._books.start():
                self._reconcile([])
            elif dead:
                self._reconcile(dead)
            self._used = self._books.used()

    def close(self) -> None:
        """Write the books, end the session. Contents can still be opened."""
        self.flush()
        with self._flushing, self._mending():
            self._books.forget_sessions([self._files.session])
        self._files.end()

    def open(self, content: ContentHash) -> int | None:
        """A descriptor for reading, close-on-exec, or None. Exactly one system call, no database.

        Raises StoreFull if the process has no descriptor left.
        """
        name = content.name
        descriptor = self._files.open(name)
        if descriptor is not None and len(self._recent) < _RECENT:
            self._recent.add(name)
        return descriptor

    def insert(self, content: ContentHash, pieces: Iterator[bytes], size: int | None = None) -> int:
        """Keep a content, whole or not at all, and return a descriptor for reading it.

        Raises StoreFull if it is longer than the quota or cannot be written: before the first piece is asked for
        where `size` tells. Raises CorruptObject for another length than `size`, and whatever `pieces` raises.
        """
        written = self._files.write(content.name, pieces, size)
        with self._lock:
            self._pending[content.name] = Record(written.size, self._clock(), written.digest)
            self._pending_size += written.size
            due = self._is_due()
        if due and self._flushing.acquire(blocking=False):
            try:
                self._flush()
            finally:
                self._flushing.release()
        return written.descriptor

    def pin(self, content: ContentHash) -> None:
        """Never evict this content until it was unpinned as often as it was pinned."""
        with self._lock:
            self._pins[content.name] = self._pins.get(content.name, 0) + 1
            self._held_changed = True

    def unpin(self, content: ContentHash) -> None:
        """Undo one `pin`; harmless for what is not pinned."""
        with self._lock:
            left = self._pins.pop(content.name, 0) - 1
            if left > 0:
                self._pins[content.name] = left
            self._held_changed = True

    def spare(self, contents: Iterable[ContentHash]) -> None:
        """Do not evict these, instead of those named before: what live inodes read last."""
        spared = frozenset(content.name for content in contents)
        with self._lock:
            self._spared = spared
            self._held_changed = True

    def remove(self, content: ContentHash) -> bool:
        """Whether the content was there; it is not any more. Raises StoreFull if it cannot be removed."""
        was_there = self._files.remove(content.name)
        with self._lock:
            self._pending.pop(content.name, None)
        with self._flushing, self._mending():
            self._books.forget([content.name])
            self._used = self._books.used()
        return was_there

    def usage(self) -> tuple[int, int | None]:
        """Bytes in use, other processes' as of the last `flush`, and the quota."""
        return self._used + self._pending_size, self._quota

    def entries(self) -> list[CacheEntry]:
        """Everything in the books, the least recently used first."""
        self.flush()
        held = self._consult(self._books.held) or set()
        records = sorted(self._consult(self._books.records) or [], key=lambda row: row[1].last_use)
        return [CacheEntry(content_named(name), row.size, row.last_use, name in held) for name, row in records]

    def check(self) -> Checked:
        """Read every content; drop those whose bytes are not proven to be the ones that were kept.

        Proof is the digest in the books. Where that was lost, it is the content hash of the bytes, compressed again in
        every way this installation knows. Raises StoreFull if something cannot be read or removed.
        """
        self.flush()
        known = dict(self._consult(self._books.records) or [])
        objects, size, dropped = 0, 0, []
        for name, status in self._walk():
            objects, size = objects + 1, size + status.st_size
            if not self._is_proven(name, known.get(name)):
                dropped.append(content_named(name))
                self.remove(dropped[-1])
        return Checked(objects, size, tuple(dropped))

    def flush(self) -> None:
        """Bring the books up to date, learn what other processes did, evict where that is due."""
        with self._flushing:
            self._flush()

    def _is_due(self) -> bool:
        over_quota = self._quota is not None and self._used + self._pending_size > self._quota
        late = time.monotonic() - self._flushed > _BATCH_SECONDS
        return over_quota or late or len(self._pending) >= _BATCH

    def _flush(self) -> None:
        pending, recent, held = self._take()
        with self._mending():
            if held is not None:
                self._books.hold(self._files.session, held)
            self._books.record(pending, recent - pending.keys(), self._clock())
            if self._incomplete:
                self._reconcile([])
            self._used = self._books.used()
            if self._quota is not None and self._used > max(self._quota, self._crowded):
                self._evict(self._quota)

    def _take(self) -> tuple[dict[str, Record], set[str], set[str] | None]:
        """What was not written yet: insertions, uses, and what is held if that changed."""
        with self._lock:
            # A copy, since `open` may still add to the old set: it takes no lock.
            pending, recent = self._pending, self._recent.copy()
            self._pending, self._recent, self._pending_size = {}, set(), 0
            self._flushed = time.monotonic()
            held = set(self._spared).union(self._pins) if self._held_changed else None
            self._held_changed = False
        return pending, recent, held

    def _evict(self, quota: int) -> None:
        """Least recently used first, down to half the quota, but for the last one: it was fetched because it is needed.

        Files go before their rows: a crash in between leaves rows of missing files, which are harmless.
        """
        held, gone, left = self._books.held(), [], self._used
        for name, record in sorted(self._books.records(), key=lambda row: row[1].last_use)[:-1]:
            if left <= quota // 2:
                break
            if name not in held:
                self._files.remove(name)
                gone.append(name)
                left -= record.size
        # Another process may have fetched one of them again in the meantime.
        self._books.forget(name for name in gone if not self._files.present(name))
        self._used = self._books.used()
        # Where too much is held, not every insertion shall go through all rows again.
        self._crowded = self._used + quota // 16 if self._used > quota // 2 else 0

    @contextlib.contextmanager
    def _mending(self) -> Iterator[None]:
        """Trouble with the books is never the reader's: damaged ones are rewritten, other trouble is told once."""
        try:
            yield
        except BooksBroken as broken:
            _log.warning("cache %s: its books are damaged and rewritten from the files: %s", self._directory, broken)
            self._rewrite()
        except (StoreFull, OSError) as error:
            self._complain(error)

    def _consult(self, ask: Callable[[], _Answer]) -> _Answer | None:
        """What the books say, after they were rewritten if need be; None where they cannot be read."""
        for _ in range(2):
            with self._flushing, self._mending():
                return ask()
        return None

    def _rewrite(self) -> None:
        try:
            self._books.destroy()
            self._books.start()
            self._reconcile([])
            self._used = self._books.used()
        except (StoreFull, OSError, BooksBroken) as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        """What could not be written is made up for as soon as the books can be written again."""
        self._incomplete = self._held_changed = True
        if not self._complained:
            self._complained = True
            _log.warning("cache %s: its books cannot be kept, the quota may be exceeded: %s", self._directory, error)

    def _reconcile(self, dead: list[DeadSession]) -> None:
        """Make the books say what the directory holds.

        After a machine went down, contents that had not been recorded, have another length than recorded, or were written
        shortly before the end may never have reached the disk whole: they are dropped.
        """
        rows = dict(self._books.records())
        mistrusted = any(session.with_machine for session in dead)
        found = list(self._walk())
        # The end came after the newest was written; a length may be on the disk before the bytes are.
        flushed = max((status.st_mtime_ns for _, status in found), default=0) - _FLUSHED_AFTER
        adopted: dict[str, Record] = {}
        for name, status in found:
            recorded = name in rows and rows[name].size == status.st_size
            if mistrusted and not (recorded and status.st_mtime_ns < flushed):
                self._files.remove(name)
            elif not recorded:
                adopted[name] = Record(status.st_size, status.st_mtime_ns)
        self._books.record(adopted, (), 0)
        self._books.forget(name for name in rows if not self._files.present(name))
        self._books.forget_sessions([session.token for session in dead])
        self._incomplete = False
        self._held_changed = True

    def _walk(self) -> Iterator[tuple[str, os.stat_result]]:
        try:
            yield from self._files.walk()
        except OSError as error:
            raise StoreFull(f"cache {self._directory}: cannot be listed: {error.strerror}") from error

    def _is_proven(self, name: str, record: Record | None) -> bool:
        descriptor = self._files.open(name)
        if descriptor is None:
            return True  # evicted since it was listed
        try:
            if record is not None and record.digest:
                return digest_of(descriptor) == record.digest
            return _has_content_hash(descriptor, content_named(name))
        except OSError:
            return False  # the disk cannot read it back: as bad as flipped
        finally:
            os.close(descriptor)


def _has_content_hash(descriptor: int, content: ContentHash) -> bool:
    """Whether the content, stored in one of the known ways, has this hash (FORMAT section 4.2)."""
    for encoder in dict.fromkeys(ENCODERS.values()):
        # An encoder this installation lacks proves nothing.
        with contextlib.suppress(FormatError):
            compressor, hasher = encoder.start(), new_hasher(content.algorithm)
            for piece in read_all(descriptor):
                hasher.update(compressor.compress(piece))
            hasher.update(compressor.flush())
            if hasher.digest() == content.digest:
                return True
    return False
