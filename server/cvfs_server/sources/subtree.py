"""A source put below a path of the repository: everything else stays as it is published; reads nothing itself.

Directories on the way that are not published are made, with what the source's own root says of its time and owner.
Source: FORMAT section 5.3.
"""

import stat

from cvfs.catalog.tree import CatalogTree
from cvfs.errors import NotFound, Unpublishable
from cvfs_server.sources.base import DirectoryEdit, Place, ScannedEntry, Source, as_published

_NEW_MODE = stat.S_IFDIR | 0o755


class Subtree:
    """The root of `source` is the directory `to` of the repository. A `Source`."""

    def __init__(self, source: Source, to: bytes, published: CatalogTree) -> None:
        self._source = source
        self._to = to
        self._published = published

    def root(self) -> None:
        """The repository's root stays."""
        return

    def edit(self, path: bytes) -> DirectoryEdit:
        """What the source says below `to`; on the way to it the next directory. Raises Unpublishable."""
        if len(path) >= len(self._to):
            return self._source.edit(path[len(self._to) :])
        name = self._to[len(path) + 1 :].partition(b"/")[0]
        return DirectoryEdit([self._way(path + b"/" + name, name)], complete=False)

    def place(self, path: bytes) -> Place:
        """See `Source`."""
        return self._source.place(path[len(self._to) :])

    def attributes(self, path: bytes) -> bytes | None:
        """See `Source`; directories that are made on the way have none."""
        return self._source.attributes(path[len(self._to) :]) if len(path) >= len(self._to) else None

    def _way(self, path: bytes, name: bytes) -> ScannedEntry:
        if path != self._to:
            try:
                row = self._published.find(path)
            except NotFound:
                return self._top()._replace(name=name, mode=_NEW_MODE)
            if not row.is_directory:
                raise Unpublishable(f"{path.decode('utf-8', 'backslashreplace')}: is published, and is no directory")
            return as_published(row)
        return self._top()._replace(name=name)

    def _top(self) -> ScannedEntry:
        top = self._source.root()
        assert top is not None, "a source that is put somewhere has a root of its own"
        return top
