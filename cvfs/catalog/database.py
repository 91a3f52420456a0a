"""A SQLite file that came from elsewhere, opened so that reading is all it can cause; knows no table by name.

The file is opened read-only and immutable. It may hold ordinary tables and indexes only: nothing in it computes, so a query
costs what its rows cost. What one query may cost is bounded by the size of the file: pages that refer to each other in a
circle end in an error. Source: FORMAT section 5.1.
"""

import os
import re
import sqlite3
import threading
from typing import Any, BinaryIO
from urllib.parse import quote

from cvfs.errors import FormatError

_MAGIC = b"SQLite format 3\0"
_ROLLBACK_JOURNAL = b"\1\1"
_UTF8 = b"\0\0\0\1"
# For each open catalog. The kernel caches the files, and directories are remembered whole after one query.
_PAGE_CACHE_KIB = 128
# The longest legitimate value is a list of extended attributes, 130 KiB.
_LONGEST_VALUE = 2**20
_LONGEST_PATTERN = 100
# Views, triggers and virtual tables begin otherwise; a column that is computed needs the word AS. SQLite normalises the
# first words when it stores a definition and goes by them, not by the column `type`, when it reads one.
_DEFINITION = re.compile(rb"CREATE (?:TABLE|INDEX|UNIQUE INDEX) (?!.*\bAS\b)", re.DOTALL | re.IGNORECASE)
# A damaged file's own bytes get into SQLite's messages, which Python then fails to decode.
SQLITE_ERRORS = (sqlite3.Error, UnicodeError)
DEFINITIONS = "SELECT name, CAST(sql AS BLOB) FROM sqlite_master"
_STEPS_BETWEEN_LOOKS = 100_000
_LOOKS_AT_LEAST = 20
# A row of a catalog takes more than fifty bytes in its table and indexes, and about thirty steps to read.
_BYTES_PER_LOOK = 25_000


def check_header(header: bytes) -> None:
    """Refuse what is no SQLite file in rollback journal mode with UTF-8 text; `header` is its first hundred bytes."""
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise FormatError("not a SQLite file")
    # A file marked WAL would make SQLite look for a log beside it.
    if header[18:20] != _ROLLBACK_JOURNAL:
        raise FormatError("a SQLite file that is not in rollback journal mode")
    if header[56:60] != _UTF8:
        raise FormatError("a SQLite file whose text is not UTF-8")


def check_definitions(rows: list[tuple[Any, bytes | None]]) -> None:
    """Refuse anything but plain tables and indexes; `rows` are (name, CAST(sql AS BLOB)) of sqlite_master."""
    if not all(sql is None or _DEFINITION.match(sql) for _, sql in rows):
        raise FormatError("a SQLite file that holds more than tables and indexes")


class ForeignDatabase:
    """The rows of such a file; text comes as bytes. Safe to use from several threads."""

    def __init__(self, connection: sqlite3.Connection, what: str, size: int) -> None:
        self._connection = connection
        self._what = what
        self.size = size
        self._looks = _Looks(_LOOKS_AT_LEAST + size // _BYTES_PER_LOOK)
        # Two threads that run the same text at once share one prepared statement: newer Pythons mix their arguments up.
        self._lock = threading.Lock()
        self.tables: frozenset[bytes] = frozenset()

    @classmethod
    def open(cls, path: str, what: str) -> "ForeignDatabase":
        """The file `path`; `what` names it in errors. Raises FormatError if it is none or holds what it may not hold.

        The path may be that of a descriptor, `/proc/self/fd/7`, of a file that has lost its name.
        """
        try:
            with open(path, "rb") as file:
                check_header(file.read(100))
                database = cls(_connect(file, path), what, os.fstat(file.fileno()).st_size)
        except (OSError, *SQLITE_ERRORS, ValueError) as error:
            raise FormatError(f"{what} cannot be opened: {error}") from error
        try:
            database._prepare()
        except SQLITE_ERRORS as error:
            database.close()
            raise FormatError(f"{what} is no sound SQLite file: {error}") from error
        except FormatError:
            database.close()
            raise
        return database

    def close(self) -> None:
        self._connection.close()

    def __del__(self) -> None:
        # A connection refers to itself by its cache of statements: left alone it would wait for the garbage collector,
        # and the files and pages of many revisions with it.
        self._connection.close()

    def query(self, text: str, arguments: tuple[int, ...] = ()) -> list[Any]:
        """All rows of a query. Raises FormatError if the file is damaged, or gives more rows than it can hold."""
        try:
            with self._lock:
                self._looks.begin()
                return self._connection.execute(text, arguments).fetchall()
        except SQLITE_ERRORS as error:
            raise FormatError(f"{self._what} is damaged: {error}") from error

    def content(self) -> bytes:
        """The whole file as it was opened. Raises FormatError if it is damaged."""
        try:
            with self._lock:
                return self._connection.serialize()
        except SQLITE_ERRORS as error:
            raise FormatError(f"{self._what} is damaged: {error}") from error

    def columns(self, table: str) -> frozenset[bytes]:
        """Names of a table's columns, none if there is no such table."""
        return frozenset(row[1] for row in self.query(f"PRAGMA table_info({table})"))

    def _prepare(self) -> None:
        connection = self._connection
        connection.text_factory = bytes
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _LONGEST_PATTERN)
        connection.set_progress_handler(self._looks.are_spent, _STEPS_BETWEEN_LOOKS)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute(f"PRAGMA cache_size = -{_PAGE_CACHE_KIB}")
        definitions = connection.execute(DEFINITIONS).fetchall()
        check_definitions(definitions)
        self.tables = frozenset(name for name, _ in definitions)


class _Looks:
    """How often SQLite may still report that it is busy with a query.

    The connection holds on to it, so it knows no database: in a circle nothing is let go of at once.
    """

    __slots__ = ("_allowed", "_left")

    def __init__(self, allowed: int) -> None:
        self._allowed = self._left = allowed

    def begin(self) -> None:
        """A query starts."""
        self._left = self._allowed

    def are_spent(self) -> bool:
        """One look less; whether the query has to end."""
        self._left -= 1
        return self._left < 0


def _connect(file: BinaryIO, path: str) -> sqlite3.Connection:
    address = f"file://{quote(os.path.abspath(os.fsencode(path)))}?mode=ro&immutable=1"
    try:
        return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    except sqlite3.OperationalError:
        # SQLite resolves links by itself, so it cannot open a descriptor's file that has no name any more.
        file.seek(0)
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        connection.deserialize(file.read())
        return connection
