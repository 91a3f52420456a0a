"""Catalogs that are split and dissolved by weight, as changes to a draft; touches only catalogs that changed, writes nothing.

A catalog that is too heavy loses its heaviest directories, deepest first, until it is light enough or no directory is left
that would make a catalog of the least weight. Those made so carry a second marker; they are dissolved when they become too
light. Catalogs that somebody asked for stay. Source: FORMAT section 9.8.
"""

import stat
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from cvfs.catalog.reader import Catalog
from cvfs.catalog.tree import CatalogTree
from cvfs.format.dirent import DirectoryEntry
from cvfs.hashes import path_hash
from cvfs_server.sources.base import DirectoryEdit, ScannedEntry, Source, as_published
from cvfs_server.sources.revision import KnownSource
from cvfs_server.sources.walk import AUTOMATIC_MARKER, MARKER

_Key = tuple[int, int]
# Readable for everybody, unlike the original's: a copy of the published tree can be made by any user.
_MARKER_MODE = stat.S_IFREG | 0o644
_MARKERS = (AUTOMATIC_MARKER, MARKER)


@dataclass(frozen=True, slots=True)
class Weights:
    """In directory entries: a catalog above `maximum` is split, an automatic one below `minimum` is dissolved."""

    maximum: int
    minimum: int


def balance(before: CatalogTree, draft: CatalogTree, weights: Weights) -> Source | None:
    """What brings those catalogs of `draft` into balance that are not in `before`; None if all are.

    Raises StoreError if a catalog cannot be had.
    """
    dissolved: set[bytes] = set()
    split: set[bytes] = set()
    extra: dict[bytes, int] = defaultdict(int)
    for mountpoint in _changed_catalogs(before, draft):
        catalog = draft.catalog_at(mountpoint)
        entries = catalog.counters()[0].entries + sum(extra[nested.path] for nested in catalog.nested())
        if mountpoint and entries < weights.minimum and _is_automatic(catalog):
            dissolved.add(mountpoint)
            # The mountpoint itself has an entry in the catalog above already.
            extra[mountpoint] = entries - 1 - len(_MARKERS)
        elif entries > weights.maximum:
            split.update(_Shape(catalog, extra).split(weights))
    return _Balance(draft, dissolved, split) if dissolved or split else None


def _changed_catalogs(before: CatalogTree, draft: CatalogTree) -> list[bytes]:
    """Mountpoints, each after those below it."""
    found = [b""]
    for mountpoint in found:
        for nested in draft.catalog_at(mountpoint).nested():
            old = before.governing(nested.path)
            if nested.content != old.content and not draft.find(nested.path).is_bind_mountpoint:
                found.append(nested.path)
    return found[::-1]


def _is_automatic(catalog: Catalog) -> bool:
    return catalog.find(catalog.mountpoint + b"/" + AUTOMATIC_MARKER) is not None


@dataclass(slots=True)
class _Directory:
    """A directory of a catalog. `weight` counts it and everything below it in the same catalog."""

    name: bytes = b""
    path: bytes = b""
    weight: int = 1
    is_mountpoint: bool = False
    below: list["_Directory"] = field(default_factory=list)


class _Shape:
    """The directories of one catalog with their weights."""

    def __init__(self, catalog: Catalog, extra: dict[bytes, int]) -> None:
        self._directories: list[_Directory] = [_Directory(path=catalog.mountpoint)]
        self._read(catalog)
        # Grows while it is gone through: every directory comes after the one it is in.
        for directory in self._directories:
            for child in directory.below:
                child.path = directory.path + b"/" + child.name
                child.weight += extra.get(child.path, 0)
            self._directories += directory.below

    def split(self, weights: Weights) -> Iterator[bytes]:
        """The paths of new catalogs, each after those below it."""
        for directory in self._directories[::-1]:
            directory.weight += sum(child.weight for child in directory.below)
            candidates = sorted((child for child in directory.below if not child.is_mountpoint), key=_heaviness)
            while directory.weight > weights.maximum and candidates and candidates[-1].weight >= weights.minimum:
                heaviest = candidates.pop()
                yield heaviest.path
                directory.weight -= heaviest.weight - 1

    def _read(self, catalog: Catalog) -> None:
        own = path_hash(catalog.root_prefix)
        found: dict[_Key, _Directory] = defaultdict(_Directory)
        found[own] = self._directories[0]
        for key, parent, row in catalog.rows():
            if key == own:
                continue
            if row.is_directory:
                found[key].name, found[key].is_mountpoint = row.name, row.is_mountpoint or row.is_bind_mountpoint
                found[parent].below.append(found[key])
            else:
                found[parent].weight += 1


class _Balance(KnownSource):
    """Markers that come and go on top of a draft."""

    def __init__(self, draft: CatalogTree, dissolved: set[bytes], split: set[bytes]) -> None:
        self._draft = draft
        self._dissolved = dissolved
        self._split = split
        self._ways: dict[bytes, set[bytes]] = defaultdict(set)
        for path in dissolved | split:
            while path:
                path, _, name = path.rpartition(b"/")  # noqa: PLW2901
                self._ways[path].add(name)

    def root(self) -> None:
        """The repository's root stays."""
        return

    def edit(self, path: bytes) -> DirectoryEdit:
        """See `Source`."""
        names = sorted(self._ways[path])
        entries = [as_published(self._draft.find(path + b"/" + name)) for name in names]
        if path in self._split:
            directory = self._draft.find(path)
            entries += [_marker(name, directory) for name in _MARKERS]
        removed = _MARKERS if path in self._dissolved else ()
        return DirectoryEdit(sorted(entries, key=_name_of), removed, complete=False)


def _marker(name: bytes, directory: DirectoryEntry) -> ScannedEntry:
    return ScannedEntry(
        name,
        _MARKER_MODE,
        0,
        directory.mtime,
        directory.mtime_ns,
        directory.uid,
        directory.gid,
        ctime_ns=0,
        generated=True,
    )


def _heaviness(directory: _Directory) -> tuple[int, bytes]:
    return directory.weight, directory.name


def _name_of(entry: ScannedEntry) -> bytes:
    return entry.name
