"""The published tree with rows that are mapped one by one, as changes to itself; opens every catalog, reads no contents.

A catalog without a row that the mapping is about stays as it is. Source: FORMAT sections 5.2, 5.10.
"""

from collections.abc import Callable
from typing import NamedTuple

from cvfs.catalog.tree import CatalogTree
from cvfs.format.dirent import DirectoryEntry
from cvfs_server.sources.base import DirectoryEdit, ScannedEntry, as_published
from cvfs_server.sources.revision import KnownSource

# The publisher's own, made anew at every publish.
_VIRTUAL_DIRECTORY = b"/.cvmfs"


class Mapping(NamedTuple):
    """What becomes of a row; `condition` is one in SQL on the columns of a catalog, and holds for all rows that change."""

    condition: str
    apply: Callable[[DirectoryEntry], DirectoryEntry]


class Rewritten(KnownSource):
    """A mapping applied to every row of a revision. A `Source`."""

    def __init__(self, published: CatalogTree, mapping: Mapping, affected: set[bytes], ways: set[bytes]) -> None:
        self._published = published
        self._mapping = mapping
        self._affected = affected
        self._ways = ways

    @classmethod
    def open(cls, published: CatalogTree, mapping: Mapping) -> "Rewritten":
        """Looks into every catalog. Raises StoreError or FormatError."""
        affected: set[bytes] = set()
        waiting = [b""]
        while waiting:
            catalog = published.catalog_at(waiting.pop())
            if catalog.holds(mapping.condition):
                affected.add(catalog.mountpoint)
            nested = (nested for nested in catalog.nested() if nested.root_prefix)
            waiting += [nested.path for nested in nested if nested.path != _VIRTUAL_DIRECTORY]
        return cls(published, mapping, affected, _with_ancestors(affected))

    def root(self) -> ScannedEntry | None:
        row = self._published.find(b"")
        mapped = self._mapping.apply(row)
        return None if mapped == row else _changed(mapped, 0)

    def edit(self, path: bytes) -> DirectoryEdit:
        """See `Source`."""
        whole = self._published.governing(path).path in self._affected
        entries, numbers = [], {0: 0}
        for row in sorted(self._published.listing(path), key=_name_of):
            below = path + b"/" + row.name
            if below == _VIRTUAL_DIRECTORY or row.is_bind_mountpoint:
                continue
            mapped = self._mapping.apply(row)
            if mapped != row:
                group = numbers.setdefault(mapped.hardlink_group, len(numbers))
                entries.append(_changed(mapped, group))
            elif row.is_directory and (below in self._ways or (whole and not row.is_mountpoint)):
                entries.append(as_published(row))
        return DirectoryEdit(entries, complete=False)


def _with_ancestors(mountpoints: set[bytes]) -> set[bytes]:
    ways = set(mountpoints)
    for mountpoint in mountpoints:
        path = mountpoint.rpartition(b"/")[0]
        while path and path not in ways:
            ways.add(path)
            path = path.rpartition(b"/")[0]
    return ways


def _changed(row: DirectoryEntry, group: int) -> ScannedEntry:
    """A row that replaces the published one at its path, with the same chunks."""
    return as_published(row)._replace(kept=False, group=group)


def _name_of(row: DirectoryEntry) -> bytes:
    return row.name
