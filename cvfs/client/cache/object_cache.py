"""The local cache: contents by hash, a quota, evictions, pins; it never fetches and never opens a database to read.

Files are the matter of `files`. The books beside them, of `books`, are written in batches; where they are
lost or damaged they are written anew from the files.
"""

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from cvfs.client.cache.base import CacheEntry, Checked, ignore_progress
from cvfs.client.cache.books import PORTION, Books, BooksBroken, Limit, Record
from cvfs.client.cache.check import Inspection
from cvfs.client.cache.eviction import departing
from cvfs.client.cache.files import CacheFiles, content_named
from cvfs.client.cache.proof import is_proven
from cvfs.client.cache.reconciliation import listed, reconcile
from cvfs.client.cache.sessions import DeadSession
from cvfs.errors import StoreFull
from cvfs.hashes import ContentHash, ObjectKind

_log = logging.getLogger(__name__)
# One write to the books for so many insertions or seconds, whichever comes first; but before an eighth of the room that is
# left is taken: the fuller the cache, the more exactly its users know each other's share.
_BATCH = 256
_BATCH_SECONDS = 5.0
_BATCH_ROOM = 8
# So many seconds an insertion into a full cache waits for what is evicted.
_MAKING_ROOM = 5.0
# So many seconds the end waits for books that are being written.
_CLOSING = 20.0
# Uses between two batches that are remembered; those beyond do not count for the order of eviction.
_RECENT = 16384
# Part of the quota in which catalogs stay while there is data that could go.
_CATALOG_SHARE = 4

_Answer = TypeVar("_Answer")


class ObjectCache:
    """Contents below `directory`, of not more than `quota` bytes together (None: no limit).

    Any number of processes and threads may use one directory. When the quota is exceeded, volatile contents go, then
    what was used least recently, catalogs at last, until half of the quota is free; what any process pinned or spares
    stays. `flush` is due about once a minute where nothing is inserted: until then only this process knows what was
    used. `clock` gives nanoseconds since the epoch. With `verify`, a content is not given before this process proved it.
    """

    def __init__(
        self,
        directory: str,
        quota: int | None = None,
        clock: Callable[[], int] = time.time_ns,
        *,
        verify: bool = False,
    ) -> None:
        self._files = CacheFiles(directory, quota)
        self._books = Books(os.path.join(directory, "books"))
        self._directory = directory
        self._quota = quota
        self._clock = clock
        self.volatile = False
        self._proven: set[str] | None = set() if verify else None
        self._recent: set[str] = set()
        self._pins: dict[str, int] = {}
        self._spared: tuple[ContentHash, ...] = ()
        self._held_changed = False
        self._held_by = ""
        self._pending: dict[str, Record] = {}
        # Bytes that wait to be written into the books, that are being written, and that are there.
        self._pending_size = self._being_written = self._used = 0
        self._limit_since = 0
        self._flushed = time.monotonic()
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._turn = threading.Condition()
        self._catching_up = self._closing = False
        self._portions = 0
        self._crowded = 0
        self._incomplete = self._complained = False

    @property
    def staging(self) -> str:
        """A directory on the same disk, for what is on its way."""
        return f"{self._directory}/txn"

    def prepare(self) -> None:
        """Make the directory usable: clean up behind processes that died, open the books, begin a session.

        Where that is not possible the cache serves what it has and keeps nothing: logged here, StoreFull later.
        """
        with self._flushing:
            self._begin()

    def close(self) -> None:
        """Write the books, end the session. Contents can still be opened. An eviction under way is broken off."""
        with self._turn:
            self._closing = True
            self._turn.wait_for(lambda: not self._catching_up, _CLOSING)
        self.flush()
        with self._flushing, self._mending():
            self._books.forget_sessions([self._files.session])
        self._files.end()

    def open(self, content: ContentHash) -> int | None:
        """A descriptor for reading, close-on-exec, or None. Exactly one system call, no database.

        Raises StoreFull if the process has no descriptor left.
        """
        name = content.name
        if self._proven is not None and name not in self._proven:
            return None
        descriptor = self._files.open(name)
        if descriptor is not None and len(self._recent) < _RECENT:
            self._recent.add(name)
        return descriptor

    def retrieve(self, content: ContentHash) -> int | None:
        """A content that has to be proven first: a damaged one is dropped and told. Raises StoreFull."""
        if self._proven is None:
            return None
        descriptor = self._files.open(content.name)
        if descriptor is None:
            return None
        record = self._pending.get(content.name) or self._consult(lambda: self._books.record_of(content.name))
        if is_proven(descriptor, content, record.digest if record else b""):
            self._proven.add(content.name)
            return descriptor
        os.close(descriptor)
        _log.warning("cache %s: %s is damaged, dropped and fetched again", self._directory, content.name)
        self.evict(content)
        return None

    def insert(self, content: ContentHash, pieces: Iterator[bytes], size: int | None = None) -> int:
        """Keep a content, whole or not at all, and return a descriptor for reading it.

        Raises StoreFull if it is longer than the quota or cannot be written: before the first piece is asked for
        where `size` tells. Raises CorruptObject for another length than `size`, and whatever `pieces` raises.
        """
        written = self._files.write(content.name, pieces, size)
        volatile = self.volatile and content.kind is not ObjectKind.CATALOG
        with self._lock:
            self._pending[content.name] = Record(written.size, self._clock(), written.digest, volatile)
            self._pending_size += written.size
            due = self._is_due()
        if self._proven is not None:
            self._proven.add(content.name)
        if due:
            self._catch_up()
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
        spared = tuple(contents)
        with self._lock:
            self._spared = spared
            self._held_changed = True

    def evict(self, content: ContentHash) -> bool:
        """Whether the content was there; it is not any more. Raises StoreFull if it cannot be removed."""
        was_there = self._files.remove(content.name)
        self._forget(content.name)
        return was_there

    def usage(self) -> tuple[int, int | None]:
        """Bytes in use, other processes' as of the last `flush`, and the quota."""
        return self._used + self._being_written + self._pending_size, self._quota

    def resize(self, quota: int | None) -> None:
        """Another quota in bytes (None: no limit), at once here, within a minute in every process that uses the cache.

        It is not remembered beyond their lives. What is too much is evicted.
        """
        self._set_quota(quota)
        with self._flushing, self._mending():
            self._limit_since = self._clock()
            self._books.set_limit(Limit(-1 if quota is None else quota, self._limit_since))
        self.flush()

    def clean_up(self, goal: int) -> bool:
        """Evict until not more than `goal` bytes are in use, what is spared at last; whether that was reached."""
        self.flush()
        with self._flushing, self._mending():
            if self._incomplete:
                self._remove_oldest(goal)
                self._flush()
            if self._used > goal:
                self._evict(goal, self._books.held())
            if self._used > goal:
                self._evict(goal, self._books.pinned())
        return self._used <= goal and not self._incomplete

    def wipe(self) -> bool:
        """Remove every content, held or not; whether all of them went. Whoever reads one goes on with its descriptor."""
        left = False
        names = (name for name, _, _ in listed(self._files))
        while portion := list(itertools.islice(names, PORTION)):
            for name in portion:
                try:
                    self._files.remove(name)
                except StoreFull as error:
                    left = True
                    _log.warning("cache %s: %s", self._directory, error)
        self.rebuild()
        return not left

    def cleanups_within(self, seconds: float) -> int:
        """How many times any process evicted contents in the last `seconds`."""
        since = self._clock() - int(seconds * 10**9)
        return sum(time >= since for time in self._consult(self._books.cleanups) or ())

    def entries(self) -> list[CacheEntry]:
        """Everything in the books, the least recently used first."""
        self.flush()
        held = self._consult(self._books.held) or set()
        records = sorted(self._consult(lambda: list(self._books.records())) or [], key=lambda row: row[1].last_use)
        return [
            CacheEntry(content_named(name), row.size, row.last_use, name in held, row.volatile) for name, row in records
        ]

    def check(
        self, *, repair: bool = True, workers: int = 1, progress: Callable[[str], None] = ignore_progress
    ) -> Checked:
        """Read every content; put aside those whose bytes are not proven to be the ones that were kept.

        Proof is the digest in the books. Where that was lost, it is the content hash of the bytes, compressed again in
        every way this installation knows. Without `repair` nothing changes. Other processes may use the cache meanwhile.
        Raises StoreFull if the directory cannot be listed.
        """
        self.flush()
        known = self._consult(lambda: {name: row.digest for name, row in self._books.records()}) or {}
        return Inspection(self._files, known, self._forget if repair else None, progress).run(workers)

    def rebuild(self) -> None:
        """Write the books anew from the files, as far as they differ. Raises nothing: trouble is logged."""
        with self._flushing, self._mending():
            self._reconcile([])
            self._used = self._books.used()

    def describe(self) -> str:
        """Kind and place in one line."""
        return f"Posix cache manager (cache directory: {self._directory})"

    def flush(self) -> None:
        """Bring the books up to date, learn what other processes did, evict where that is due."""
        with self._flushing:
            self._flush()

    def _begin(self) -> None:
        try:
            dead = self._files.begin()
        except OSError as error:
            if not self._complained:
                _log.warning("cache %s: nothing can be kept there: %s", self._directory, error.strerror)
            self._complained = True
            return
        with self._mending():
            if self._books.start():
                self._reconcile([])
            elif dead:
                self._reconcile(dead)
            self._used, limit = self._books.used_and_limit()
            self._limit_since = limit.since if limit else 0

    def _is_due(self) -> bool:
        if not self._pending:
            return False
        if len(self._pending) >= _BATCH or time.monotonic() - self._flushed > _BATCH_SECONDS:
            return True
        room = self._room()
        return room is not None and self._pending_size * _BATCH_ROOM > room

    def _catch_up(self) -> None:
        """Have the books written by a thread of their own: no reader waits for a database, or while others are evicted.

        Only where the quota is exceeded an insertion waits for some others to go, and only for a while.
        """
        with self._turn:
            if not self._catching_up and not self._closing:
                # Where the system gives no thread, a later insertion gets one.
                with contextlib.suppress(RuntimeError):
                    threading.Thread(target=self._work_off, name="cache books", daemon=True).start()
                    self._catching_up = True
            before = self._portions
            self._turn.wait_for(
                lambda: not (self._catching_up and self._is_over() and self._portions == before), _MAKING_ROOM
            )

    def _work_off(self) -> None:
        due = True
        try:
            while due:
                self.flush()
                with self._turn:
                    due = self._catching_up = self._is_due() and not self._closing
        finally:
            with self._turn:
                self._catching_up = False
                self._turn.notify_all()

    def _room(self) -> int | None:
        """Bytes that may still be inserted, negative where the quota is exceeded; None: any number."""
        if self._quota is None:
            return None
        return max(self._quota, self._crowded) - self._used - self._being_written

    def _is_over(self) -> bool:
        room = self._room()
        return room is not None and self._pending_size > room

    def _flush(self) -> None:
        self._revive()
        pending, recent, held = self._take()
        with self._mending():
            if held is not None:
                self._books.hold(self._files.session, *held)
                self._held_by = self._files.session
            self._books.record(pending, recent - pending.keys(), self._clock())
            if self._incomplete:
                self._reconcile([])
            self._used, limit = self._books.used_and_limit()
            self._being_written = 0
            self._adopt(limit)
            if self._quota is not None and self._used > max(self._quota, self._crowded):
                self._make_room(self._quota)
                # Where too much is held, not every insertion shall go through all rows again.
                self._crowded = self._used + self._quota // 16 if self._used > self._quota // 2 else 0

    def _revive(self) -> None:
        """Begin again where the directory could not be used, or where somebody removed it."""
        if not self._files.session:
            self._begin()
            return
        try:
            if self._files.renew():
                _log.warning("cache %s: somebody removed it while it is in use; made again", self._directory)
        except OSError as error:
            self._complain(error)

    def _take(self) -> tuple[dict[str, Record], set[str], tuple[set[str], frozenset[str]] | None]:
        """What was not written yet: insertions, uses, and what is pinned and spared if that changed."""
        with self._lock:
            # A copy, since `open` may still add to the old set: it takes no lock.
            pending, recent = self._pending, self._recent.copy()
            self._being_written = self._pending_size
            self._pending, self._recent, self._pending_size = {}, set(), 0
            self._flushed = time.monotonic()
            changed = self._held_changed or self._held_by != self._files.session
            pinned, spared = set(self._pins), self._spared
            self._held_changed = False
        return pending, recent, (pinned, _names(spared) - pinned) if changed else None

    def _set_quota(self, quota: int | None) -> None:
        self._quota = self._files.limit = quota
        self._crowded = 0

    def _adopt(self, limit: Limit | None) -> None:
        if limit is not None and limit.since > self._limit_since:
            self._limit_since = limit.since
            self._set_quota(limit.quota if limit.quota >= 0 else None)

    def _make_room(self, quota: int) -> None:
        """Half of the quota; what is spared gives way as well where the quota would be exceeded for its sake."""
        self._evict(quota // 2, self._books.held())
        within = quota - quota // 16
        if self._used > within:
            self._evict(within, self._books.pinned())

    def _evict(self, goal: int, held: set[str]) -> None:
        """Until `goal` bytes are left. Files go before their rows: a crash in between leaves rows of missing files,
        which are harmless.
        """
        share = (self._quota or self._used) // _CATALOG_SHARE
        noted = False
        going = departing(self._books.records, held, self._used - goal, share)
        while self._used > goal and not self._closing and (portion := list(itertools.islice(going, PORTION))):
            for name in portion:
                self._files.remove(name)
            noted = noted or self._note_cleanup()
            # Another process may have fetched one of them again in the meantime.
            self._books.forget(name for name in portion if not self._files.present(name))
            self._used = self._books.used()
            with self._turn:
                self._portions += 1
                self._turn.notify_all()

    def _remove_oldest(self, goal: int) -> None:
        """Without the books, which a full disk has no room for: something has to go before they can be written."""
        found = sorted(listed(self._files), key=lambda row: row[2])
        left, held = sum(size for _, size, _ in found), _names(self._spared) | self._pins.keys()
        for name, size, _ in found:
            if left <= goal:
                break
            if name not in held and self._files.remove(name):
                left -= size

    def _note_cleanup(self) -> bool:
        self._books.note_cleanup(self._clock())
        return True

    def _forget(self, name: str) -> None:
        with self._lock:
            self._pending.pop(name, None)
            if self._proven is not None:
                self._proven.discard(name)
        with self._flushing, self._mending():
            self._books.forget([name])
            self._used = self._books.used()

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
        reconcile(self._files, self._books, dead)
        self._incomplete = False
        self._held_changed = True


def _names(contents: Iterable[ContentHash]) -> frozenset[str]:
    return frozenset(content.name for content in contents)
