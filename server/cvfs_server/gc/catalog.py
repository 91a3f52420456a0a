"""What one catalog keeps alive: the digests in its rows, and the catalogs nested in it; never follows them.

Only the columns that matter are read, page by page. Bind mountpoints keep nothing, as in the original. Source: FORMAT
sections 5.2, 5.4, 10.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from cvfs.catalog.database import ForeignDatabase
from cvfs.catalog.reader import Catalog, NestedCatalog
from cvfs.errors import FormatError
from cvfs.format.dirent import HASH_SHIFT, Flag
from cvfs.hashes import DIGEST_SIZE, Algorithm, ContentHash, ObjectKind
from cvfs.store.base import Store
from cvfs_server.check.objects import inflate
from cvfs_server.gc.condemned import record_of
from cvfs_server.gc.inventory import Inventory

_MAX_CATALOG = 8 * 2**30
_PAGE = 16384
_CODE = 7
_EXTERNAL = int(Flag.EXTERNAL)
_ALGORITHMS = frozenset(map(int, Algorithm))
_FILES = (
    f"SELECT rowid, hash, flags, mode FROM catalog WHERE rowid > ? AND hash IS NOT NULL ORDER BY rowid LIMIT {_PAGE}"
)
_CHUNKS = (
    "SELECT chunks.rowid, chunks.hash, catalog.flags, NULL FROM chunks LEFT JOIN catalog ON "
    "chunks.md5path_1 = catalog.md5path_1 AND chunks.md5path_2 = catalog.md5path_2 "
    f"WHERE chunks.rowid > ? ORDER BY chunks.rowid LIMIT {_PAGE}"
)
_SMALLEST = -(2**63) + 1


@dataclass(frozen=True, slots=True)
class CatalogFacts:
    """What a walk has to know of a catalog: what is nested in it, its predecessor if it is a root, its time (Unix)."""

    nested: tuple[NestedCatalog, ...]
    previous: ContentHash | None
    last_modified: int


@dataclass(frozen=True, slots=True)
class CatalogReading:
    """Reads catalogs of a store by way of the directory `scratch`, and writes down in `inventory` what they name.

    Either bare digests, for what is kept, or `complete` records, for what is not.
    """

    store: Store
    scratch: str
    inventory: Inventory
    complete: bool

    def read(self, nested: NestedCatalog) -> CatalogFacts:
        """Note the catalog and what it names. Raises StoreError, FormatError."""
        path = f"{self.scratch}/{os.getpid()}.catalog"
        try:
            inflate(self.store, nested.content, path, _MAX_CATALOG)
            with closing(Catalog.open(path, nested.path, nested.root_prefix)) as catalog:
                self._note(path, catalog, nested)
                below = tuple(n for n in catalog.nested() if n.root_prefix)
                return CatalogFacts(below, catalog.previous_revision, catalog.last_modified)
        finally:
            if os.path.exists(path):
                os.unlink(path)

    def _note(self, path: str, catalog: Catalog, nested: NestedCatalog) -> None:
        own = record_of(nested.content.digest, nested.content.algorithm, ObjectKind.CATALOG)
        self.inventory.add([own if self.complete else own[:DIGEST_SIZE]])
        what = f"the catalog at {nested.path.decode(errors='replace') or '/'}"
        with closing(ForeignDatabase.open(path, what)) as database:
            has_chunks = not catalog.version.is_ancient and b"chunks" in database.tables
            for query in (_FILES, _CHUNKS) if has_chunks else (_FILES,):
                for rows in _pages(database, query):
                    _check(rows, what)
                    self.inventory.add(self._records(rows, catalog.version.flag_mask))

    def _records(self, rows: list[Any], mask: int) -> Iterator[bytes]:
        if not self.complete:
            return (row[1] for row in rows if row[1])
        return _complete_records(rows, mask)


def _complete_records(rows: list[Any], mask: int) -> Iterator[bytes]:
    """What lies in the storage: external contents do not, and chunks without a file say not by which algorithm."""
    for _, digest, flags, mode in rows:
        if not digest or flags is None or flags & mask & _EXTERNAL:
            continue
        algorithm = (flags & mask) >> HASH_SHIFT & _CODE
        if algorithm in _ALGORITHMS:
            yield record_of(digest, algorithm, _kind(mode))


def _kind(mode: int | None) -> ObjectKind:
    if mode is None:
        return ObjectKind.CHUNK
    return ObjectKind.MICRO_CATALOG if stat.S_ISDIR(mode) else ObjectKind.FILE


def _pages(database: ForeignDatabase, query: str) -> Iterator[list[Any]]:
    last = _SMALLEST
    while rows := database.query(query, (last,)):
        yield rows
        if rows[-1][0] <= last:
            # Pages of a damaged file may come in a circle.
            raise FormatError("a catalog whose rows are out of order")
        last = rows[-1][0]


def _check(rows: list[Any], what: str) -> None:
    for rowid, digest, flags, mode in rows:
        if type(digest) is not bytes or len(digest) not in {0, DIGEST_SIZE}:
            raise FormatError(f"{what}: a hash that is none")
        if type(rowid) is not int or type(flags) not in {int, type(None)} or type(mode) not in {int, type(None)}:
            raise FormatError(f"{what}: a row with columns of the wrong type")
