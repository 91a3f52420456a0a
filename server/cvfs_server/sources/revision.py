"""Published rows as entries of a source: whatever is in a catalog already is known, and is never read.

Source: FORMAT sections 5.4 to 5.7.
"""

from collections.abc import Iterable

from cvfs.catalog.tree import CatalogTree
from cvfs.format.dirent import DirectoryEntry
from cvfs_server.sources.base import DirectoryEdit, Known, Place, ScannedEntry


class KnownSource:
    """What sources have in common whose entries are all known: nobody may ask them for content."""

    def place(self, path: bytes) -> Place:
        raise AssertionError(f"the content of {path!r} is known")

    def attributes(self, path: bytes) -> bytes | None:
        raise AssertionError(f"the attributes of {path!r} are known")


def known_entry(tree: CatalogTree, path: bytes, row: DirectoryEntry, group: int = 0) -> ScannedEntry:
    """The row of `path` in any revision, for publication at any path. `group` is its hard-link group in the new listing."""
    chunks = tuple(tree.chunks(path)) if row.is_chunked else ()
    known = Known(row.digest, row.flags, chunks, row.xattr)
    return ScannedEntry(
        *row[:7],
        ctime_ns=0,
        links=row.linkcount,
        group=group,
        symlink=row.symlink,
        is_mountpoint=row.is_mountpoint,
        known=known,
    )


def known_entries(tree: CatalogTree, path: bytes, rows: Iterable[DirectoryEntry]) -> list[ScannedEntry]:
    """Rows of the directory `path` in the order of their names; hard-link groups are numbered anew, from 1."""
    numbers: dict[int, int] = {0: 0}
    return [
        known_entry(tree, path + b"/" + row.name, row, numbers.setdefault(row.hardlink_group, len(numbers)))
        for row in sorted(rows, key=_name_of)
    ]


def published_directory(tree: CatalogTree, path: bytes) -> DirectoryEdit:
    """Everything in the directory `path` of a revision, and nothing else."""
    return DirectoryEdit(known_entries(tree, path, tree.listing(path)))


def _name_of(row: DirectoryEntry) -> bytes:
    return row.name
