"""The books of a cache: length, last use and digest of every content, and what every process holds on to; never a file.

The only home of diskcache, which serves as a table of small rows shared by processes. Rows hold bytes and nothing else.
"""

import contextlib
import itertools
import os
import shutil
import sqlite3
import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import diskcache

from cvfs.errors import StoreFull

_PATIENCE = 10.0
# Rows read or written at once: a cache of a million contents must not stop those who fill it.
PORTION = 1000
# Rows that are not contents: names of contents are hexadecimal digits.
_SESSION = "~session:"
# Before the names that a session spares.
_SPARED = "?"
_LIMIT = "~limit"
_CLEANUPS = "~cleanups"
_KEPT_CLEANUPS = 1024
_RECORD = struct.Struct("<qq")
_PAIR = struct.Struct("<qq")
_TIME = struct.Struct("<q")
_VOLATILE = b"v"

_Item = TypeVar("_Item")


class Record(NamedTuple):
    """What the books know of a content: length in bytes, last use in nanoseconds, digest (empty: not known).

    `volatile`: its repository asks that it goes before others (FORMAT section 5.8).
    """

    size: int
    last_use: int
    digest: bytes = b""
    volatile: bool = False

    def pack(self) -> bytes:
        return _RECORD.pack(self.size, self.last_use) + self.digest + (_VOLATILE if self.volatile else b"")

    @classmethod
    def unpack(cls, row: bytes) -> "Record":
        size, last_use = _RECORD.unpack_from(row)
        digest = row[_RECORD.size :]
        # Digests have an even length.
        volatile = len(digest) % 2 == 1
        return cls(size, last_use, digest[:-1] if volatile else digest, volatile)


class Limit(NamedTuple):
    """A quota in bytes (negative: none) that was set while the cache is in use, and when, in nanoseconds."""

    quota: int
    since: int


class BooksBroken(Exception):
    """The database is damaged or gone: it has to be written anew."""


class _Rows(diskcache.Disk):  # type: ignore[misc]  # an untyped class
    """Rows with text keys and bytes as values, and nothing else: no pickles, and no files named by a database."""

    def put(self, key: object) -> tuple[str, bool]:
        if not isinstance(key, str):
            raise TypeError("keys of the books are text")
        return key, True

    def get(self, key: object, raw: object) -> str:
        if not raw or not isinstance(key, str):
            raise BooksBroken("a key that is not text")
        return key

    def store(self, value: object, _read: object, key: object = None) -> tuple[int, int, None, memoryview]:
        if not isinstance(value, bytes) or not isinstance(key, str):
            raise TypeError("values of the books are bytes")
        # The size of the content, not of the row: diskcache keeps the sum of this column.
        size = 0 if key.startswith("~") else Record.unpack(value).size
        return size, diskcache.core.MODE_RAW, None, memoryview(value)

    def fetch(self, mode: object, filename: object, value: object, _read: object) -> bytes:
        if mode != diskcache.core.MODE_RAW or filename is not None or not isinstance(value, bytes):
            raise BooksBroken("a value that is not plain bytes")
        return value

    def remove(self, file_path: object) -> None:
        raise BooksBroken(f"a row names a file: {file_path!r:.80}")


class Books:
    """Records by name, and what each session holds; shared by processes through the locks of the database.

    Every call opens the database and closes it: nothing is inherited over a fork or left behind by a thread. No
    transaction is longer than a portion. Raises StoreFull where it cannot be read or written now, BooksBroken where it
    is damaged or gone.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._cache: Any = None

    def start(self) -> bool:
        """Open the books or make new ones; whether they were made."""
        new = not self._exist()
        with _translating():
            self._cache = diskcache.Cache(
                self._directory,
                timeout=_PATIENCE,
                disk=_Rows,
                eviction_policy="none",
                cull_limit=0,
                size_limit=2**62,
                sqlite_cache_size=256,
                sqlite_mmap_size=0,
                sqlite_auto_vacuum=0,
            )
            self._cache.close()
        return new

    def destroy(self) -> None:
        """Remove the database. Raises OSError."""
        self._cache = None
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._directory)

    def used(self) -> int:
        """Bytes of all recorded contents."""
        with self._opened() as cache:
            return int(cache.reset("size"))

    def used_and_limit(self) -> tuple[int, Limit | None]:
        """Both with one look: every flush asks."""
        with self._opened() as cache:
            return int(cache.reset("size")), _limit(cache.get(_LIMIT))

    def record(self, inserted: dict[str, Record], used: Iterable[str], stamp: int) -> None:
        """New records, and `stamp` as the last use of the names in `used` that are known."""
        for rows in _portions(inserted.items()):
            with self._changing() as cache:
                for name, record in rows:
                    cache.set(name, record.pack())
        for names in _portions(used):
            with self._changing() as cache:
                for name in names:
                    row = cache.get(name)
                    if row is not None:
                        cache.set(name, Record.unpack(row)._replace(last_use=stamp).pack())

    def records(self) -> Iterator[tuple[str, Record]]:
        """Every record by name. Others may change the books meanwhile: what they add may or may not be among them."""
        for name, row in self._rows("", "~"):
            with _translating():
                yield name, Record.unpack(row)

    def record_of(self, name: str) -> Record | None:
        """The record of one content."""
        with self._opened() as cache:
            row = cache.get(name)
            return None if row is None else Record.unpack(row)

    def forget(self, names: Iterable[str]) -> None:
        """Drop these records; unknown names do no harm."""
        for portion in _portions(names):
            with self._changing() as cache:
                for name in portion:
                    cache.delete(name)

    def hold(self, session: str, pinned: Iterable[str], spared: Iterable[str] = ()) -> None:
        """What a session holds on to, instead of what it held before."""
        lines = [*pinned, *(_SPARED + name for name in spared)]
        with self._changing() as cache:
            cache.set(_SESSION + session, "\n".join(lines).encode())

    def held(self) -> set[str]:
        """What any session pinned or spares."""
        return {line.removeprefix(_SPARED) for line in self._held_lines()}

    def pinned(self) -> set[str]:
        """What any session pinned."""
        return {line for line in self._held_lines() if not line.startswith(_SPARED)}

    def _held_lines(self) -> Iterator[str]:
        for _, row in self._rows(_SESSION, _SESSION + "~"):
            yield from filter(None, row.decode("ascii", "replace").split("\n"))

    def forget_sessions(self, tokens: Iterable[str]) -> None:
        """Sessions that are over hold nothing."""
        self.forget([_SESSION + token for token in tokens])

    def set_limit(self, limit: Limit) -> None:
        """Tell every process that uses the cache its new quota."""
        with self._changing() as cache:
            cache.set(_LIMIT, _PAIR.pack(*limit))

    def cleanups(self) -> list[int]:
        """When contents were evicted, in nanoseconds since the epoch: the last thousand times."""
        with self._opened() as cache:
            return [time for (time,) in _TIME.iter_unpack(cache.get(_CLEANUPS) or b"")]

    def note_cleanup(self, stamp: int) -> None:
        """Contents are evicted now."""
        with self._changing() as cache:
            known = cache.get(_CLEANUPS) or b""
            cache.set(_CLEANUPS, (known + _TIME.pack(stamp))[-_KEPT_CLEANUPS * _TIME.size :])

    def _rows(self, first: str, last: str) -> Iterator[tuple[str, bytes]]:
        """Rows with keys between the two, in order, portion by portion: no lock is held while they are used."""
        while True:
            with self._opened() as cache:
                # diskcache itself asks for one row at a time.
                rows = cache._sql(  # noqa: SLF001
                    "SELECT key, raw, mode, filename, value FROM Cache WHERE key > ? AND key < ? ORDER BY key LIMIT ?",
                    (first, last, PORTION),
                ).fetchall()
                found = [
                    (cache.disk.get(key, raw), cache.disk.fetch(mode, filename, value, None))
                    for key, raw, mode, filename, value in rows
                ]
            yield from found
            if len(found) < PORTION:
                return
            first = found[-1][0]

    def _exist(self) -> bool:
        return os.path.exists(os.path.join(self._directory, "cache.db"))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Any]:
        with self._opened() as cache, cache.transact():
            yield cache

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        if self._cache is None:
            raise StoreFull("they could not be opened")
        # SQLite would make an empty file, or say no more than that it cannot.
        if not self._exist():
            raise BooksBroken("they are gone")
        with _translating():
            try:
                yield self._cache
            finally:
                self._cache.close()


@contextlib.contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (diskcache.Timeout, sqlite3.OperationalError, OSError) as error:
        # A table that is not there is damage; a lock, a full or a read-only disk are not.
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            raise BooksBroken(str(error)) from error
        raise StoreFull(f"database {type(error).__name__}: {error}") from error
    except (sqlite3.Error, struct.error, ValueError) as error:
        raise BooksBroken(str(error)) from error


def _limit(row: bytes | None) -> Limit | None:
    return None if row is None else Limit(*_PAIR.unpack(row))


def _portions(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    rest = iter(items)
    while portion := list(itertools.islice(rest, PORTION)):
        yield portion
