"""The catalogs of one revision as a tree: path → right nested catalog → row.

Nested catalogs are opened on demand through a `CatalogSource`; what is open is bounded. With `wait=False` nothing here blocks:
BlockingIOError says that a catalog would have to be fetched. Source: FORMAT sections 5.10, 9.2.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol

from cvfs.catalog.reader import Catalog, NestedCatalog
from cvfs.errors import FormatError, NotFound
from cvfs.format.dirent import Chunk, DirectoryEntry
from cvfs.hashes import ContentHash

MAX_OPEN_CATALOGS = 128


class CatalogSource(Protocol):
    """Where catalog files come from."""

    def open_catalog(self, nested: NestedCatalog, *, wait: bool) -> Catalog:
        """The verified catalog, attached at `nested.path`.

        Raises BlockingIOError if `wait` is false and it is not at hand, StoreError if it cannot be had.
        """

    def renew(self, nested: NestedCatalog) -> None:
        """Have the catalog fetched anew when it is opened next: the copy at hand is damaged. Once; then it was published so."""


class _Branch:
    """A catalog's place in the tree. What is registered below it stays known when the file itself is closed."""

    __slots__ = ("children", "nested")

    def __init__(self, nested: NestedCatalog) -> None:
        self.nested = nested
        self.children: dict[bytes, _Branch] | None = None


def _prefixes(path: bytes) -> Iterator[bytes]:
    """`/a`, `/a/b`, … up to the path itself; nothing for the root."""
    end = path.find(b"/", 1)
    while end > 0:
        yield path[:end]
        end = path.find(b"/", end + 1)
    if path:
        yield path


class CatalogTree:
    """One revision of a repository. Safe to use from several threads.

    At most `limit` catalogs are open, those that were used last; the root catalog is always one of them.
    """

    def __init__(
        self, root: ContentHash, root_size: int, source: CatalogSource, limit: int = MAX_OPEN_CATALOGS
    ) -> None:
        self.root_hash = root
        self._root = _Branch(NestedCatalog(b"", root, root_size, b""))
        self._source = source
        self._limit = limit
        self._open: OrderedDict[bytes, Catalog] = OrderedDict()
        self._lock = threading.Lock()

    def root(self, *, wait: bool = True) -> Catalog:
        """The root catalog."""
        return self._catalog(self._root, wait=wait)

    def find(self, path: bytes, *, wait: bool = True) -> DirectoryEntry:
        """The entry of a path. Raises NotFound, or StoreError if a catalog on the way cannot be had.

        For a mountpoint it is the parent's row, unless the nested catalog is open already.
        """
        branch = self._descend(path, wait=wait)
        if branch.nested.path == path and path and path not in self._open:
            branch = self._descend(path, wait=wait, below=False)
        try:
            entry = self._catalog(branch, wait=wait).find(path)
        except FormatError:
            entry = self._renewed(branch, wait=wait).find(path)
        if entry is None:
            raise NotFound(f"{path.decode(errors='replace')}: no such file or directory in the repository")
        return entry

    def listing(self, path: bytes, *, wait: bool = True) -> list[DirectoryEntry]:
        """All rows of a directory, hidden ones included; empty for anything that is no directory."""
        branch = self._descend(path, wait=wait)
        try:
            return self._catalog(branch, wait=wait).listing(path)
        except FormatError:
            return self._renewed(branch, wait=wait).listing(path)

    def entry(self, directory: bytes, name: bytes, *, wait: bool = True) -> DirectoryEntry | None:
        """The row that the listing of a directory has for a name, without reading the others."""
        branch, path = self._descend(directory, wait=wait), directory + b"/" + name
        try:
            return self._catalog(branch, wait=wait).find(path)
        except FormatError:
            return self._renewed(branch, wait=wait).find(path)

    def chunks(self, path: bytes, *, wait: bool = True) -> list[Chunk]:
        """The pieces of a chunked file in order."""
        branch = self._descend(path, wait=wait)
        try:
            return self._catalog(branch, wait=wait).chunks(path)
        except FormatError:
            return self._renewed(branch, wait=wait).chunks(path)

    def governing(self, path: bytes, *, wait: bool = True) -> NestedCatalog:
        """Which catalog lists the directory `path`: its mountpoint and hash."""
        return self._descend(path, wait=wait).nested

    def catalog_at(self, path: bytes, *, wait: bool = True) -> Catalog:
        """The catalog that lists the directory `path`."""
        return self._catalog(self._descend(path, wait=wait), wait=wait)

    def open_catalogs(self) -> list[NestedCatalog]:
        """The catalogs whose files are open now."""
        with self._lock:
            mountpoints = list(self._open)
        return [self._descend(path, wait=False).nested for path in mountpoints]

    def detach_nested(self) -> None:
        """Let go of every catalog but the root; they are opened again when they are needed."""
        with self._lock:
            for mountpoint in [path for path in self._open if path]:
                del self._open[mountpoint]

    def _descend(self, path: bytes, *, wait: bool, below: bool = True) -> _Branch:
        """The deepest branch whose mountpoint is a prefix of `path`; with `below=False` not `path` itself."""
        branch = self._root
        for prefix in _prefixes(path):
            if prefix != path or below:
                branch = self._children(branch, wait=wait).get(prefix, branch)
        return branch

    def _children(self, branch: _Branch, *, wait: bool) -> "dict[bytes, _Branch]":
        if branch.children is None:
            try:
                found = self._catalog(branch, wait=wait).nested()
            except FormatError:
                found = self._renewed(branch, wait=wait).nested()
            branch.children = {nested.path: _Branch(nested) for nested in found}
        return branch.children

    def _catalog(self, branch: _Branch, *, wait: bool) -> Catalog:
        mountpoint = branch.nested.path
        with self._lock:
            if mountpoint in self._open:
                self._open.move_to_end(mountpoint)
                return self._open[mountpoint]
        return self._keep(mountpoint, self._source.open_catalog(branch.nested, wait=wait))

    def _renewed(self, branch: _Branch, *, wait: bool) -> Catalog:
        """The catalog opened again, from where it came: what is at hand of it may be damaged."""
        if not wait:
            raise BlockingIOError
        self._source.renew(branch.nested)
        with self._lock:
            self._open.pop(branch.nested.path, None)
        return self._catalog(branch, wait=True)

    def _keep(self, mountpoint: bytes, catalog: Catalog) -> Catalog:
        # Two threads may have opened the same file: the first one stays. A catalog that falls out is not closed here:
        # another thread may be reading it; its last user drops it.
        with self._lock:
            kept = self._open.setdefault(mountpoint, catalog)
            while len(self._open) > max(1, self._limit):
                del self._open[next(key for key in self._open if key)]
        return kept
