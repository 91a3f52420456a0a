"""A revision with its tags to browse: `/.cvmfs/snapshots/<tag>`, made by the client where no publisher made it.

`/.cvmfs` is hidden: a look-up finds it, a listing of the root does not. Tag database and root catalogs are fetched when
somebody goes there. Source: FORMAT sections 6, 9.8.
"""

import os
import stat
import threading
from collections import OrderedDict

from cvfs.catalog.reader import Catalog, NestedCatalog
from cvfs.catalog.tree import CatalogSource, CatalogTree
from cvfs.errors import NotFound
from cvfs.format.dirent import Chunk, DirectoryEntry, Flag
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.history import History, Tag
from cvfs.store.base import Contents, Wanted

HIDDEN = b"/.cvmfs"
SNAPSHOTS = HIDDEN + b"/snapshots"
_LONGEST_NAME = 255
_OPEN_TREES = 8
_OPEN_CATALOGS = 16


class SnapshotTree(CatalogTree):
    """A catalog tree with every tag's tree below `/.cvmfs/snapshots`. Safe to use from several threads."""

    def __init__(
        self,
        root: ContentHash,
        root_size: int,
        source: CatalogSource,
        limit: int,
        *,
        history: ContentHash,
        contents: Contents,
    ) -> None:
        super().__init__(root, root_size, source, limit)
        self._history = history.as_kind(ObjectKind.HISTORY)
        self._contents = contents
        self._tags: dict[bytes, Tag] | None = None
        self._trees: OrderedDict[bytes, CatalogTree] = OrderedDict()
        self._trees_lock = threading.Lock()
        self._published: bool | None = None

    def find(self, path: bytes, *, wait: bool = True) -> DirectoryEntry:
        """See `CatalogTree.find`."""
        if not self._is_inside(path, wait=wait):
            return super().find(path, wait=wait)
        if path in (HIDDEN, SNAPSHOTS):
            return _directory(path, hidden=path == HIDDEN)
        tag, rest = self._split(path, wait=wait)
        return _shown(tag) if not rest else self._tree(tag).find(rest, wait=wait)

    def listing(self, path: bytes, *, wait: bool = True) -> list[DirectoryEntry]:
        """See `CatalogTree.listing`."""
        if not self._is_inside(path, wait=wait):
            rows = super().listing(path, wait=wait)
            own = path == b"" and not self._is_published(wait=wait)
            return [*rows, _directory(HIDDEN, hidden=True)] if own else rows
        if path == HIDDEN:
            return [_directory(SNAPSHOTS)]
        if path == SNAPSHOTS:
            return [_shown(tag) for tag in self._known(wait=wait).values()]
        tag, rest = self._split(path, wait=wait)
        return self._tree(tag).listing(rest, wait=wait)

    def entry(self, directory: bytes, name: bytes, *, wait: bool = True) -> DirectoryEntry | None:
        """See `CatalogTree.entry`."""
        if directory in (b"", HIDDEN, SNAPSHOTS):
            return next((row for row in self.listing(directory, wait=wait) if row.name == name), None)
        if not self._is_inside(directory, wait=wait):
            return super().entry(directory, name, wait=wait)
        tag, rest = self._split(directory, wait=wait)
        return self._tree(tag).entry(rest, name, wait=wait)

    def chunks(self, path: bytes, *, wait: bool = True) -> list[Chunk]:
        """See `CatalogTree.chunks`."""
        if not self._is_inside(path, wait=wait):
            return super().chunks(path, wait=wait)
        tag, rest = self._split(path, wait=wait)
        return self._tree(tag).chunks(rest, wait=wait)

    def governing(self, path: bytes, *, wait: bool = True) -> NestedCatalog:
        """See `CatalogTree.governing`; the tag database is what lists the tags."""
        if not self._is_inside(path, wait=wait):
            return super().governing(path, wait=wait)
        if path in (HIDDEN, SNAPSHOTS):
            return NestedCatalog(HIDDEN, self._history, 0, b"")
        try:
            tag, rest = self._split(path, wait=wait)
        except NotFound:
            return NestedCatalog(SNAPSHOTS, self._history, 0, b"")
        nested = self._tree(tag).governing(rest, wait=wait)
        return NestedCatalog(_place(tag) + nested.path, nested.content, nested.size, nested.root_prefix)

    def catalog_at(self, path: bytes, *, wait: bool = True) -> Catalog:
        """See `CatalogTree.catalog_at`; what the client made up is in none, so the root catalog stands for it."""
        if not self._is_inside(path, wait=wait):
            return super().catalog_at(path, wait=wait)
        if path in (HIDDEN, SNAPSHOTS):
            return self.root(wait=wait)
        tag, rest = self._split(path, wait=wait)
        return self._tree(tag).catalog_at(rest, wait=wait)

    def published(self, path: bytes) -> bytes:
        """Where an entry was published: external files are fetched by that path."""
        if not path.startswith(SNAPSHOTS + b"/") or self._published:
            return path
        _, separator, rest = path[len(SNAPSHOTS) + 1 :].partition(b"/")
        return separator + rest

    def _is_inside(self, path: bytes, *, wait: bool) -> bool:
        return path.startswith(HIDDEN) and path[7:8] in (b"", b"/") and not self._is_published(wait=wait)

    def _is_published(self, *, wait: bool) -> bool:
        """Whether the publisher made this directory, which is shown then as it is."""
        if self._published is None:
            self._published = self.root(wait=wait).find(HIDDEN) is not None
        return self._published

    def _split(self, path: bytes, *, wait: bool) -> tuple[Tag, bytes]:
        """The tag and the path below it."""
        inside, separator, rest = path[len(SNAPSHOTS) + 1 :].partition(b"/")
        tag = self._known(wait=wait).get(inside) if path.startswith(SNAPSHOTS + b"/") else None
        if tag is None:
            raise NotFound(f"{path.decode(errors='replace')}: no such tag")
        return tag, separator + rest

    def _known(self, *, wait: bool) -> dict[bytes, Tag]:
        if self._tags is None:
            wanted = Wanted(self._history)
            descriptor = self._contents.open(wanted) if wait else self._contents.open_present(wanted)
            if descriptor is None:
                raise BlockingIOError
            try:
                tags = History.read(f"/proc/self/fd/{descriptor}").newest_first()
            finally:
                os.close(descriptor)
            self._tags = {tag.name.encode(): tag for tag in tags if _is_name(tag.name)}
        return self._tags

    def _tree(self, tag: Tag) -> CatalogTree:
        name = tag.name.encode()
        with self._trees_lock:
            tree = self._trees.pop(name, None)
            if tree is None:
                tree = CatalogTree(tag.root_catalog, tag.size, self._source, _OPEN_CATALOGS)
            self._trees[name] = tree
            while len(self._trees) > _OPEN_TREES:
                self._trees.popitem(last=False)
        return tree


def _is_name(name: str) -> bool:
    """Tags may be called what no directory can be called."""
    return {"/", "\0"}.isdisjoint(name) and name not in ("", ".", "..") and len(name.encode()) <= _LONGEST_NAME


def _place(tag: Tag) -> bytes:
    return SNAPSHOTS + b"/" + tag.name.encode()


def _shown(tag: Tag) -> DirectoryEntry:
    """Of the tag itself, since the root catalog would have to be fetched for its row."""
    return _directory(_place(tag), mtime=tag.timestamp)


def _directory(path: bytes, mtime: int = 0, *, hidden: bool = False) -> DirectoryEntry:
    """A single link: how many directories are inside is not known, and find(1) goes by more than one."""
    flags = int(Flag.DIRECTORY | (Flag.HIDDEN if hidden else Flag(0)))
    name = path.rpartition(b"/")[2]
    return DirectoryEntry(name, stat.S_IFDIR | 0o555, 4096, mtime, None, 0, 0, 1, None, flags)
