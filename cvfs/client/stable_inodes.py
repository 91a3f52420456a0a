"""Numbers that last: a map between entries and numbers on disk, for mounts that an NFS server exports.

An NFS client holds a file by its number and comes back with it after the mount was restarted. A number is on disk before
anybody hears of it, and stands for one entry for ever. Source: FORMAT section 9.3.
"""

import contextlib
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from cvfs.client.inodes import FIRST, LAST, Key
from cvfs.client.settings import Settings
from cvfs.errors import Unreachable, UsageError

FILE = "inode_maps.db"
_PATIENCE = 5.0
_REMEMBERED = 65536
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS numbers (number INTEGER PRIMARY KEY, key BLOB NOT NULL, path BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID",
)

Named = tuple[bytes, bytes]
"""What identifies an entry (its path, or its hard-link group), and a path by which it is found."""


def named(key: Key, path: bytes) -> Named:
    """The bytes that identify an entry; no path has a NUL."""
    if isinstance(key, bytes):
        return key, path
    catalog, group, digest, mtime = key
    return b"%b\0%d\0%d\0%b" % (catalog, group, mtime, digest), path


class StableInodes:
    """The map. Safe to use from several threads, and by several mounts at a time if they share the file."""

    def __init__(self, connection: sqlite3.Connection, where: str, residue: int, modulus: int) -> None:
        self._connection = connection
        self._where = where
        self._residue = residue
        self._modulus = modulus
        self._remembered: OrderedDict[bytes, int] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, directory: str, residue: int = 0, modulus: int = 1) -> "StableInodes":
        """The map in a directory; only numbers n with n % `modulus` = `residue` are given out. Raises UsageError."""
        where = os.path.join(directory, FILE)
        try:
            os.makedirs(directory, exist_ok=True)
            connection = sqlite3.connect(where, _PATIENCE, check_same_thread=False, isolation_level=None)
            for statement in ("PRAGMA synchronous = FULL", *_SCHEMA):
                connection.execute(statement)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"{where}: no map of inodes possible: {error}; see CVMFS_NFS_SHARED") from error
        return cls(connection, where, residue, modulus)

    def close(self) -> None:
        self._connection.close()

    def numbers(self, entries: Sequence[Named], *, wait: bool) -> list[int]:
        """The numbers of entries, new ones for those that have none; BlockingIOError if that would take a while.

        Raises Unreachable if the map cannot be used now.
        """
        with self._locked(wait=wait):
            unknown = [entry for entry in entries if entry[0] not in self._remembered]
            if unknown and not wait:
                raise BlockingIOError
            found = {key: self._remembered[key] for key, _ in entries if key in self._remembered}
            if unknown:
                with self._transaction():
                    found.update(self._look_up(unknown))
            self._remember(found)
            return [found[key] for key, _ in entries]

    def renew(self, entry: Named) -> int:
        """Another number for an entry: the one it had stands for what it was before. Raises Unreachable."""
        with self._locked(), self._transaction():
            number = self._insert(entry)
            self._remember({entry[0]: number})
            return number

    def entry_of(self, number: int) -> Named | None:
        """What a number stands for, None if it is not the present number of anything. Raises Unreachable."""
        query = "SELECT n.key, n.path FROM numbers n JOIN entries e ON e.key = n.key AND e.number = n.number"
        with self._locked(), self._failures():
            row = self._connection.execute(f"{query} WHERE n.number = ?", (number,)).fetchone()
            return None if row is None else (row[0], row[1])

    def _look_up(self, entries: Sequence[Named]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for entry in entries:
            if entry[0] not in found:
                row = self._connection.execute("SELECT number FROM entries WHERE key = ?", (entry[0],)).fetchone()
                found[entry[0]] = row[0] if row else self._insert(entry)
        return found

    def _insert(self, entry: Named) -> int:
        last = self._connection.execute("SELECT MAX(number) FROM numbers").fetchone()[0] or FIRST - 1
        number: int = last + 1 + (self._residue - last - 1) % self._modulus
        if number > LAST:
            raise Unreachable(f"{self._where}: no inode numbers are left: unmount, and remove the file")
        self._connection.execute("INSERT INTO numbers VALUES (?, ?, ?)", (number, *entry))
        self._connection.execute("REPLACE INTO entries VALUES (?, ?)", (entry[0], number))
        return number

    def _remember(self, found: dict[bytes, int]) -> None:
        for key, number in found.items():
            self._remembered[key] = number
            self._remembered.move_to_end(key)
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)

    @contextlib.contextmanager
    def _locked(self, *, wait: bool = True) -> Iterator[None]:
        # Another thread may hold it while it writes to the disk.
        if not self._lock.acquire(timeout=2 * _PATIENCE if wait else 0):
            if not wait:
                raise BlockingIOError
            raise Unreachable(f"{self._where}: the map of inodes does not answer")
        try:
            yield
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._failures():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise Unreachable(f"{self._where}: the map of inodes: {error}") from error


def open_stable_inodes(settings: Settings) -> StableInodes | None:
    """The map that the settings ask for, if they do. Raises UsageError."""
    export, workspace = settings.view.export, settings.mount.workspace
    if not export.nfs_source:
        return None
    if export.shared:
        return StableInodes.open(os.path.join(export.shared, settings.fqrn), export.residue, export.modulus)
    if not workspace:
        raise UsageError(f"{settings.fqrn}: CVMFS_NFS_SOURCE needs a place for its map, set CVMFS_WORKSPACE")
    return StableInodes.open(os.path.join(workspace, f"nfs_maps.{settings.fqrn}"), export.residue, export.modulus)
