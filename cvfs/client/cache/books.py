"""The books of a cache: length, last use and digest of every content, and what every process holds on to; never a file.

The only home of diskcache, which serves as a table of small rows shared by processes. Rows hold bytes and nothing else.
"""

import contextlib
import os
import shutil
import sqlite3
import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import diskcache

from cvfs.errors import StoreFull

_PATIENCE = 10.0
_SESSION = "session:"
_RECORD = struct.Struct("<qq")


class Record(NamedTuple):
    """What the books know of a content: length in bytes, last use in nanoseconds, digest (empty: not known)."""

    size: int
    last_use: int
    digest: bytes = b""

    def pack(self) -> bytes:
        return _RECORD.pack(self.size, self.last_use) + self.digest

    @classmethod
    def unpack(cls, row: bytes) -> "Record":
        size, last_use = _RECORD.unpack_from(row)
        return cls(size, last_use, row[_RECORD.size :])


class BooksBroken(Exception):
    """The database is damaged: it has to be written anew."""


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
        size = 0 if key.startswith(_SESSION) else Record.unpack(value).size
        return size, diskcache.core.MODE_RAW, None, memoryview(value)

    def fetch(self, mode: int, filename: object, value: object, _read: object) -> bytes:
        if mode != diskcache.core.MODE_RAW or filename is not None or not isinstance(value, bytes):
            raise BooksBroken("a value that is not plain bytes")
        return value

    def remove(self, file_path: object) -> None:
        raise BooksBroken(f"a row names a file: {file_path!r:.80}")


class Books:
    """Records by name, and what each session holds; shared by processes through the locks of the database.

    Every call opens the database, makes one transaction and closes it: nothing is inherited over a fork or left
    behind by a thread. Raises StoreFull where it cannot be read or written now, BooksBroken where it is damaged.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._cache: Any = None

    def start(self) -> bool:
        """Open the books or make new ones; whether they were made."""
        new = not os.path.exists(os.path.join(self._directory, "cache.db"))
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
        with self._using() as cache:
            return int(cache.reset("size"))

    def record(self, inserted: dict[str, Record], used: Iterable[str], stamp: int) -> None:
        """New records, and `stamp` as the last use of the names in `used` that are known."""
        with self._using() as cache:
            for name, record in inserted.items():
                cache.set(name, record.pack())
            for name in used:
                row = cache.get(name)
                if row is not None:
                    cache.set(name, Record.unpack(row)._replace(last_use=stamp).pack())

    def records(self) -> list[tuple[str, Record]]:
        """Every record by name."""
        with self._using() as cache:
            rows = ((name, cache.get(name)) for name in cache if not name.startswith(_SESSION))
            return [(name, Record.unpack(row)) for name, row in rows if row is not None]

    def forget(self, names: Iterable[str]) -> None:
        """Drop these records; unknown names do no harm."""
        with self._using() as cache:
            for name in names:
                cache.delete(name)

    def hold(self, session: str, names: Iterable[str]) -> None:
        """What a session holds on to, instead of what it held before."""
        with self._using() as cache:
            cache.set(_SESSION + session, "\n".join(names).encode())

    def held(self) -> set[str]:
        """What any session holds on to."""
        with self._using() as cache:
            rows = [cache.get(key) for key in cache.iterkeys(reverse=True) if key.startswith(_SESSION)]
            return {name for row in rows if row for name in row.decode().split("\n")}

    def forget_sessions(self, tokens: Iterable[str]) -> None:
        """Sessions that are over hold nothing."""
        self.forget([_SESSION + token for token in tokens])

    @contextlib.contextmanager
    def _using(self) -> Iterator[Any]:
        if self._cache is None:
            raise StoreFull("they could not be opened")
        with _translating():
            try:
                with self._cache.transact():
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
