"""One open catalog against the rules of the format: every row, and what its rows say together; never opens another catalog.

The rows are read twice: first the directories, so that the second time every row has a path. Source: FORMAT sections 5.2 to
5.10, 5.12, 5.14, A.3.
"""

import itertools
import operator
from collections import Counter
from collections.abc import Callable, Iterator

from cvfs.catalog.database import ForeignDatabase
from cvfs.catalog.reader import Catalog, NestedCatalog
from cvfs.catalog.schema import Counters
from cvfs.errors import FormatError
from cvfs.format.dirent import DirectoryEntry, Flag
from cvfs.hashes import DIGEST_SIZE, ObjectKind, parent_path, path_hash
from cvfs_server.check.findings import Finding, fault, shown
from cvfs_server.check.references import UNKNOWN_SIZE, References
from cvfs_server.check.rows import has_unknown_code, row_faults
from cvfs_server.check.structure import (
    ChunkedFile,
    Directories,
    HardlinkGroups,
    Key,
    Tally,
    chunk_findings,
    counter_findings,
)
from cvfs_server.check.suspects import suspect_rows

Progress = Callable[[int], None]

MARKER = b".cvmfscatalog"
_ROOT_ROWID = 1
_ROWS_PER_REPORT = 1000
# From this revision of the schema on a client refuses a catalog that lacks a counter.
_ALL_COUNTERS = 5
_NESTED, _NESTED_ROOT, _BIND = int(Flag.NESTED_MOUNTPOINT), int(Flag.NESTED_ROOT), int(Flag.BIND_MOUNTPOINT)
_CHUNKED, _EXTERNAL = int(Flag.CHUNKED), int(Flag.EXTERNAL)
_IN_A_GROUP = 2**32


class CatalogCheck:
    """A catalog being checked. What the walk needs of it is in the attributes after `findings` came to its end.

    `own` is None if not every row could be read; `mountpoints` are the rows of nested catalogs' mountpoints by path.
    """

    def __init__(
        self, catalog: Catalog, database: ForeignDatabase, references: References | None, progress: Progress
    ) -> None:
        self._catalog = catalog
        self._database = database
        self._references = references
        self._progress = progress
        self._root_key = path_hash(catalog.root_prefix)
        self._directories = Directories(self._root_key, catalog.root_prefix)
        self._closed: set[Key] = set()
        self._binds: set[bytes] = set()
        self._groups = HardlinkGroups()
        self._chunked: dict[Key, ChunkedFile] = {}
        self._tally = Tally()
        self._has_marker = False
        self._registered: list[NestedCatalog] = []
        self.mountpoint = catalog.root_prefix
        self.root: DirectoryEntry | None = None
        self.mountpoints: dict[bytes, DirectoryEntry] = {}
        self.nested: list[NestedCatalog] = []
        self.own: Counters | None = None
        self.below = Counters()
        self.missing: frozenset[str] = frozenset()

    def findings(self) -> Iterator[Finding]:
        """Everything that is wrong."""
        try:
            self._learn_directories()
            yield from self._check_rows()
            yield from self._groups.finish()
            yield from self._check_chunks()
            yield from self._check_root()
        except FormatError as error:
            yield from self._explain(error)
            yield from self._register()
            return
        troubles = list(self._register())
        yield from troubles or self._compare_mountpoints()
        if not troubles:
            yield from self._check_statistics()

    def _explain(self, error: FormatError) -> Iterator[Finding]:
        """Which rows made a reader refuse the catalog, or else what it said."""
        try:
            suspects = list(suspect_rows(self._database, self.mountpoint))
        except FormatError:
            suspects = []
        yield from suspects or [fault(self.mountpoint, f"not every row of its catalog can be read: {error}")]

    def _learn_directories(self) -> None:
        for key, parent, entry in self._catalog.rows():
            if entry.is_directory:
                self._directories.add(key, parent, entry.name)
                if entry.flags & (_NESTED | _BIND) and key != self._root_key:
                    self._closed.add(key)
        self._directories.place()

    def _check_rows(self) -> Iterator[Finding]:
        reported = 0
        for key, parent, entry in self._catalog.rows():
            self._tally.add(entry)
            if key == self._root_key:
                yield from self._check_root_row(parent, entry)
            else:
                yield from self._check_row(key, parent, entry)
            if self._tally.rows - reported == _ROWS_PER_REPORT:
                reported = self._tally.rows
                self._progress(_ROWS_PER_REPORT)
        self._progress(self._tally.rows - reported)

    def _check_root_row(self, parent: Key, entry: DirectoryEntry) -> Iterator[Finding]:
        self.root = entry
        if parent != (path_hash(parent_path(self.mountpoint)) if self.mountpoint else (0, 0)):
            yield fault(self.mountpoint, "the root entry of its catalog names a wrong parent")
        if bool(entry.flags & _NESTED_ROOT) != bool(self.mountpoint):
            which = "lacks" if self.mountpoint else "has"
            yield fault(self.mountpoint, f"the root entry of its catalog {which} the flag of a nested catalog's root")
        if not entry.is_directory:
            yield fault(self.mountpoint, "the root entry of its catalog is no directory")
        if not self.mountpoint and entry.name:
            yield fault(b"", "the root entry has a name", is_warning=True)
        yield from self._check_entry(self._root_key, parent, self.mountpoint, entry)

    def _check_row(self, key: Key, parent: Key, entry: DirectoryEntry) -> Iterator[Finding]:
        directory = self._directories.path(parent)
        if directory is None:
            where = f"{shown(self.mountpoint)}: {shown(entry.name)}"
            yield Finding(where, "a row that no directory of its catalog leads to")
            return
        path = b"%b/%b" % (directory, entry.name)
        if path_hash(path) != key:
            yield fault(path, "its row has the hash of another path: no client finds it")
        if parent in self._closed:
            yield fault(path, "lies below a mountpoint, but in the catalog above it")
        if entry.flags & _NESTED_ROOT:
            yield fault(path, "has the flag of a nested catalog's root, but is none")
        if entry.name == MARKER:
            yield from self._check_marker(parent, path, entry)
        yield from self._check_entry(key, parent, path, entry)

    def _check_marker(self, parent: Key, path: bytes, entry: DirectoryEntry) -> Iterator[Finding]:
        if parent != self._root_key:
            yield fault(path, "marks a nested catalog where none begins")
        self._has_marker = self._has_marker or (parent == self._root_key and entry.is_regular)

    def _check_entry(self, key: Key, parent: Key, path: bytes, entry: DirectoryEntry) -> Iterator[Finding]:
        for what, is_warning in row_faults(entry, self._catalog.version):
            yield Finding(shown(path), what, is_warning)
        if entry.is_directory:
            yield from self._check_directory(key, path, entry)
        elif entry.hardlinks >= _IN_A_GROUP:
            yield from self._groups.add(parent, path, entry)
        if entry.is_regular:
            self._note_content(key, path, entry)

    def _check_directory(self, key: Key, path: bytes, entry: DirectoryEntry) -> Iterator[Finding]:
        if entry.flags & _NESTED:
            self.mountpoints[path] = entry
        if entry.flags & _BIND:
            self._binds.add(path)
        if key not in self._closed and not self._catalog.version.is_ancient:
            links = 2 + self._directories.subdirectories(key)
            if entry.linkcount != links:
                yield fault(path, f"link count {entry.linkcount} of a directory with {links - 2} subdirectories")
        self._refer(ObjectKind.MICRO_CATALOG, entry.digest, 0, UNKNOWN_SIZE, path)

    def _note_content(self, key: Key, path: bytes, entry: DirectoryEntry) -> None:
        is_stored = not entry.flags & _EXTERNAL and not has_unknown_code(entry)
        if entry.flags & _CHUNKED:
            self._chunked[key] = ChunkedFile(path, entry.size, entry.flags, is_stored)
        if is_stored:
            self._refer(ObjectKind.FILE, entry.digest, entry.flags, entry.size, path)

    def _refer(self, kind: ObjectKind, digest: bytes | None, flags: int, size: int, path: bytes) -> None:
        if self._references and digest and len(digest) == DIGEST_SIZE:
            self._references.add(kind, digest, flags, size, path)

    def _check_chunks(self) -> Iterator[Finding]:
        for key, rows in itertools.groupby(self._catalog.chunk_rows(), operator.itemgetter(0)):
            file = self._chunked.pop(key, None)
            if file is None:
                yield fault(self.mountpoint, f"its catalog has chunks of the path hash {key}, which is no chunked file")
                continue
            chunks = [chunk for _, chunk in rows]
            for chunk in chunks:
                self._tally.add_chunk()
                if len(chunk.digest) != DIGEST_SIZE:
                    yield fault(file.path, "the hash of a chunk has another length than 20 bytes")
                elif file.is_stored:
                    self._refer(ObjectKind.CHUNK, chunk.digest, file.flags, chunk.size, file.path)
            yield from chunk_findings(file, chunks)
        for file in self._chunked.values():
            yield fault(file.path, "marked chunked, but has no chunks")

    def _check_root(self) -> Iterator[Finding]:
        if self.root is None:
            yield fault(self.mountpoint, "its catalog has no root entry")
        elif not self.mountpoint:
            query = "SELECT rowid FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?"
            if self._database.query(query, self._root_key) != [(_ROOT_ROWID,)]:
                yield fault(b"", "the root entry is not row 1 of its catalog: the original client confuses it")
        if self.mountpoint and not self._has_marker:
            yield fault(self.mountpoint, f"a nested catalog without the file {MARKER.decode()}")

    def _register(self) -> Iterator[Finding]:
        """Learn what is registered below; a faulty register leaves it empty."""
        try:
            self._registered = self._catalog.nested()
        except FormatError as error:
            yield fault(self.mountpoint, f"its register of nested catalogs: {error}")
        self.nested = [nested for nested in self._registered if nested.root_prefix]

    def _compare_mountpoints(self) -> Iterator[Finding]:
        binds = [nested for nested in self._registered if not nested.root_prefix]
        yield from _register_findings("nested catalog", self.nested, set(self.mountpoints))
        yield from _register_findings("bind mountpoint", binds, self._binds)

    def _check_statistics(self) -> Iterator[Finding]:
        if self._catalog.version.is_ancient:
            self.own = self._tally.counters(len(self.nested))
            self.missing = frozenset(self._catalog.missing_counters())
            return
        try:
            recorded, self.below = self._catalog.counters()
            self.missing = frozenset(self._catalog.missing_counters())
        except FormatError as error:
            yield fault(self.mountpoint, f"statistics: {error}")
            return
        self.own = self._tally.counters(len(self.nested))
        if self._catalog.version.revision >= _ALL_COUNTERS:
            for name in sorted(self.missing):
                yield fault(self.mountpoint, f"statistics: {name} is missing: no client mounts it")
        yield from counter_findings(self.mountpoint, "self", self.own, recorded, self.missing)


def _register_findings(kind: str, registered: list[NestedCatalog], mountpoints: set[bytes]) -> Iterator[Finding]:
    paths = Counter(nested.path for nested in registered)
    for path in sorted(set(paths) - mountpoints):
        yield fault(path, f"registered as {kind}, but there is no such mountpoint")
    for path in sorted(mountpoints - set(paths)):
        yield fault(path, f"the mountpoint of a {kind} that is not registered")
    for path in sorted(path for path, times in paths.items() if times > 1):
        yield fault(path, f"registered more than once as {kind}")
