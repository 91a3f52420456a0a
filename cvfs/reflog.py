"""The reflog: every root object that a manifest ever named; a mutable SQLite file of the publisher's own.

Who keeps its digest, and where the file is published, is the caller's business: this module works on a private copy.
Source: FORMAT section 7.
"""

import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from cvfs.catalog.database import DEFINITIONS, check_definitions, check_header
from cvfs.errors import CvfsError, FormatError, StoreFull, UsageError
from cvfs.hashes import Algorithm, ContentHash, ObjectKind, new_hasher

NAME = ".cvmfsreflog"
SCHEMA = "1.0"
SCHEMA_REVISION = 0
_PAGE_SIZE = 1024
_STEP = 2**20
_KINDS = (ObjectKind.CATALOG, ObjectKind.CERTIFICATE, ObjectKind.HISTORY, ObjectKind.METAINFO)
# The rollback journal may live in memory: this is a private copy, thrown away after a crash.
_PRAGMAS = ("PRAGMA journal_mode = MEMORY", "PRAGMA trusted_schema = OFF", "PRAGMA cell_size_check = ON")
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_CREATE_TABLES = (
    "CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key))",
    "CREATE TABLE refs (hash TEXT, type INTEGER, timestamp INTEGER, CONSTRAINT pk_refs PRIMARY KEY (hash))",
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A root object, and the Unix time at which it was written down."""

    content: ContentHash
    timestamp: int


class Reflog:
    """An open reflog. What was changed is in the file after `close`; to be used as a context manager, by one thread."""

    def __init__(self, connection: sqlite3.Connection, fqrn: str) -> None:
        self._connection = connection
        self.fqrn = fqrn

    @classmethod
    def create(cls, path: str, fqrn: str) -> "Reflog":
        """An empty one. Raises StoreFull if the file cannot be made, UsageError if there is one."""
        if os.path.lexists(path):
            raise UsageError(f"{path}: there is a reflog already")
        reflog = cls(_connect(path), fqrn)
        for statement in (f"PRAGMA page_size = {_PAGE_SIZE}", *_PRAGMAS, "BEGIN", *_CREATE_TABLES):
            reflog._execute(statement)
        properties = (("schema", SCHEMA), ("schema_revision", str(SCHEMA_REVISION)), ("fqrn", fqrn))
        for row in properties:
            reflog._execute("INSERT INTO properties VALUES (?, ?)", row)
        return reflog

    @classmethod
    def open(cls, path: str) -> "Reflog":
        """An existing one. Raises FormatError for a file that is none."""
        try:
            with open(path, "rb") as file:
                check_header(file.read(100))
        except OSError as error:
            raise FormatError(f"reflog cannot be opened: {error}") from error
        reflog = cls(_connect(path), "")
        try:
            reflog._check()
            reflog._execute("BEGIN")
        except CvfsError:
            reflog._connection.close()
            raise
        return reflog

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._connection.close()

    def close(self) -> None:
        """Write down what was changed. Raises StoreFull; without this call the file stays as it was."""
        try:
            self._execute("COMMIT")
        finally:
            self._connection.close()

    def add(self, content: ContentHash, timestamp: int) -> None:
        """Write down a root object at this Unix time, again if it is there. Raises UsageError for other kinds."""
        if content.kind not in _KINDS:
            raise UsageError(f"{content.name} is no root object: the reflog has no place for it")
        row = (str(content), _KINDS.index(content.kind), timestamp)
        self._execute("REPLACE INTO refs VALUES (?, ?, ?)", row)

    def remove(self, contents: Iterable[ContentHash]) -> None:
        """Forget objects that are no more."""
        for content in contents:
            self._execute("DELETE FROM refs WHERE hash = ?", (str(content),))

    def references(self, kind: ObjectKind | None = None) -> list[Reference]:
        """The references of one kind or of all, in the order of insertion. Raises FormatError."""
        found = [_reference(*row) for row in self._execute("SELECT hash, type, timestamp FROM refs ORDER BY rowid")]
        return [reference for reference in found if kind in {None, reference.content.kind}]

    def compact(self) -> None:
        """Give the room of removed references back to the file system."""
        for statement in ("COMMIT", "VACUUM", "BEGIN"):
            self._execute(statement)

    def _check(self) -> None:
        for pragma in _PRAGMAS:
            self._execute(pragma)
        check_definitions(self._execute(DEFINITIONS))
        rows = dict(self._execute("SELECT key, value FROM properties"))
        if str(rows.get("schema")) not in {SCHEMA, "1"}:
            raise FormatError(f"reflog: schema {rows.get('schema')!r} is not supported")
        self.fqrn = str(rows.get("fqrn", ""))

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            # A message that quotes a damaged definition is no UTF-8, and fails by itself.
            no_room = getattr(error, "sqlite_errorcode", 0) & 0xFF in _NO_ROOM
            raise (StoreFull if no_room else FormatError)(f"reflog: {error}") from error


def digest(path: str, algorithm: Algorithm) -> ContentHash:
    """The hash of the file as it is, for the manifest and for the local record. Raises OSError."""
    hasher = new_hasher(algorithm)
    with open(path, "rb") as file:
        while piece := file.read(_STEP):
            hasher.update(piece)
    return ContentHash(algorithm, hasher.digest())


def _connect(path: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(os.path.abspath(path), isolation_level=None)
    except sqlite3.Error as error:
        raise StoreFull(f"{path}: the reflog cannot be opened for writing: {error}") from error


def _reference(digest_text: object, number: object, timestamp: object) -> Reference:
    if not isinstance(number, int) or not 0 <= number < len(_KINDS) or not isinstance(timestamp, int):
        raise FormatError("reflog: a reference has an unknown type or no time")
    return Reference(ContentHash.parse(str(digest_text), _KINDS[number]), timestamp)
