"""What differs between two revisions, directory by directory; fetches only catalogs that differ, changes nothing.

A subtree whose catalog has the same hash at the same place on both sides is the same, and is not looked into.
Source: FORMAT sections 5.2 to 5.10.
"""

from collections.abc import Iterator
from typing import NamedTuple

from cvfs.catalog.tree import CatalogTree
from cvfs.errors import FormatError, NotFound
from cvfs.format.dirent import DirectoryEntry, Flag

# PATH_MAX: nobody can name what lies deeper, and a hostile tree of catalogs ends somewhere.
_LONGEST_PATH = 4096
_PLACE_FLAGS = int(Flag.NESTED_MOUNTPOINT | Flag.NESTED_ROOT | Flag.BIND_MOUNTPOINT)
_LINKS_MASK = 0xFFFFFFFF


class Difference(NamedTuple):
    """A path whose entry differs; None is a side that has none."""

    path: bytes
    old: DirectoryEntry | None
    new: DirectoryEntry | None


def directory_differences(old: CatalogTree, new: CatalogTree, path: bytes) -> list[Difference]:
    """The direct children of one directory that differ, hidden ones included, by name.

    A side where `path` is absent or no directory has no children. Where a nested catalog begins, and which number a
    hard-link group has, makes no difference. Raises StoreError if a catalog cannot be had.
    """
    if _same_catalog(old, new, path):
        return []
    return _compare(old, new, path, _children(old, path), _children(new, path))


def differences(old: CatalogTree, new: CatalogTree) -> Iterator[Difference]:
    """Every path that differs, each directory before what is in it; the content of added and removed ones as well.

    Raises StoreError if a catalog cannot be had, FormatError for a tree deeper than paths can be.
    """
    before, after = old.find(b""), new.find(b"")
    if not _same_row(before, after):
        yield Difference(b"", before, after)
    waiting = [b""]
    while waiting:
        path = waiting.pop()
        if _same_catalog(old, new, path):
            continue
        left, right = _children(old, path), _children(new, path)
        yield from _compare(old, new, path, left, right)
        waiting += [_below(path, name) for name in sorted(_directories(left) | _directories(right), reverse=True)]


def _same_catalog(old: CatalogTree, new: CatalogTree, path: bytes) -> bool:
    """Whether one catalog, at one place, lists the directory on both sides: then nothing below can differ."""
    before, after = old.governing(path), new.governing(path)
    return (before.path, before.content, before.root_prefix) == (after.path, after.content, after.root_prefix)


def _children(tree: CatalogTree, path: bytes) -> dict[bytes, DirectoryEntry]:
    try:
        directory = tree.find(path)
    except NotFound:
        return {}
    return {entry.name: entry for entry in tree.listing(path)} if directory.is_directory else {}


def _compare(
    old: CatalogTree,
    new: CatalogTree,
    path: bytes,
    left: dict[bytes, DirectoryEntry],
    right: dict[bytes, DirectoryEntry],
) -> list[Difference]:
    found = []
    for name in sorted(left.keys() | right.keys()):
        below, before, after = path + b"/" + name, left.get(name), right.get(name)
        if not _same_row(before, after) or not _same_chunks(old, new, below, before):
            found.append(Difference(below, before, after))
    return found


def _same_row(old: DirectoryEntry | None, new: DirectoryEntry | None) -> bool:
    return old == new or (old is not None and new is not None and _comparable(old) == _comparable(new))


def _comparable(entry: DirectoryEntry) -> DirectoryEntry:
    flags = entry.flags & ~_PLACE_FLAGS if entry.is_directory else entry.flags
    return entry._replace(flags=flags, hardlinks=entry.hardlinks & _LINKS_MASK)


def _same_chunks(old: CatalogTree, new: CatalogTree, path: bytes, entry: DirectoryEntry | None) -> bool:
    """For equal rows: a chunked file may have no hash of its own, and differ in its pieces only."""
    return entry is None or not entry.is_chunked or old.chunks(path) == new.chunks(path)


def _directories(entries: dict[bytes, DirectoryEntry]) -> set[bytes]:
    return {name for name, entry in entries.items() if entry.is_directory}


def _below(path: bytes, name: bytes) -> bytes:
    below = path + b"/" + name
    if len(below) > _LONGEST_PATH:
        raise FormatError(f"{below[:200]!r}…: a directory deeper than paths can be")
    return below
