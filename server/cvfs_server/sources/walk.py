"""A source's edits on top of what is published, as an ordered stream of listings; reads no contents, writes nothing.

Contract of the stream: a directory's listing comes after the listings of all directories below it, the root's last; each
directory once; entries in the order of their bytes, sub-directories behind the rest and complete with their link count.
Every directory on the way from the root to a listing has one. Whether a directory starts a nested catalog is known before
anything below it is listed. Memory follows the widest directory. A listing that is not complete leaves all published names
that it does not mention as they are, in the same catalog; where rows have to move to another catalog, it is completed with
what is published. Source: FORMAT sections 5.5, 5.6, 5.10, 9.8.
"""

import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import NamedTuple

from cvfs.catalog.tree import CatalogTree
from cvfs.errors import NotFound, Unpublishable
from cvfs.format.dirent import DirectoryEntry
from cvfs_server.sources.base import DirectoryEdit, ScannedEntry, Source, as_published
from cvfs_server.sources.dirtab import DIRTAB, Dirtab, read_dirtab
from cvfs_server.sources.dirtab import parse as parse_dirtab

MARKER = b".cvmfscatalog"
AUTOMATIC_MARKER = b".cvmfsautocatalog"
_MARKERS = (AUTOMATIC_MARKER, MARKER)
_VIRTUAL_DIRECTORY = b".cvmfs"
_GENERATED_MODE = stat.S_IFREG | 0o644
_NOTHING = DirectoryEdit([], complete=False)
_name_of: Callable[[ScannedEntry], bytes] = attrgetter("name")


@dataclass(frozen=True, slots=True)
class ScannedCatalog:
    """A catalog as it shall be: where it starts, its root directory, the catalog around it."""

    mountpoint: bytes
    root: ScannedEntry
    parent: "ScannedCatalog | None"

    def encloses(self, mountpoint: bytes) -> bool:
        """Whether the catalog of that mountpoint is this one or one around it."""
        catalog: ScannedCatalog | None = self
        while catalog and len(catalog.mountpoint) > len(mountpoint):
            catalog = catalog.parent
        return catalog is not None and catalog.mountpoint == mountpoint


@dataclass(frozen=True, slots=True)
class Listing:
    """A directory and what becomes of its names; `path` is the path in the repository, the root's is empty.

    `published` are the rows that are replaced or, if `entries` lack the name, removed; None means all there are. `before` is
    the mountpoint of the catalog that holds them. `familiar` says that this directory, and each one above it, is the one
    that the last scan found at its path.
    """

    path: bytes
    directory: ScannedEntry
    catalog: ScannedCatalog
    entries: list[ScannedEntry]
    before: bytes = b""
    published: dict[bytes, DirectoryEntry] | None = None
    familiar: bool = False


@dataclass(frozen=True, slots=True)
class WalkRules:
    """`recognise` is asked of each directory: is this inode known at this path? `dirtab` is the published one's text.

    With `keep_automatic` a source that says everything of a directory leaves the markers of an automatic catalog there.
    """

    recognise: Callable[[bytes, int], bool] = lambda _path, _inode: False
    dirtab: bytes = b""
    keep_automatic: bool = False


def walk(source: Source, published: CatalogTree, rules: WalkRules) -> Iterator[Listing]:
    """All listings of a publish. Raises Unpublishable, naming the path, for what cannot be published."""
    return _Walk(source, published, rules).listings()


@dataclass(slots=True)
class _Frame:
    """A directory on the way from the root: read already, its sub-directories being descended into."""

    listing: Listing
    pending: Iterator["_Child"]


class _Child(NamedTuple):
    """A name of a directory. `edited`: the source has something to say of it; `descend`: it gets a listing."""

    entry: ScannedEntry
    edited: bool
    descend: bool


class _Directory(NamedTuple):
    """What is known of a directory before it is decided which catalog it is in.

    `row` is its published row, `rows` those that the edit touches; both None if the edit says everything.
    """

    path: bytes
    edit: DirectoryEdit
    before: bytes
    row: DirectoryEntry | None
    rows: dict[bytes, DirectoryEntry] | None

    def entry(self, name: bytes) -> ScannedEntry | None:
        """What the edit says of one name."""
        return next((entry for entry in self.edit.entries if entry.name == name), None)


class _Walk:
    def __init__(self, source: Source, published: CatalogTree, rules: WalkRules) -> None:
        self._source = source
        self._published = published
        self._rules = rules
        self._dirtab = Dirtab()
        # A new dirtab concerns directories that the source leaves alone.
        self._everywhere = False

    def listings(self) -> Iterator[Listing]:
        root = self._source.root() or as_published(self._published.find(b""))
        # An explicit stack: a path may have more levels than Python allows calls.
        stack = [self._enter(b"", _Child(root, edited=True, descend=True), None)]
        while stack:
            frame = stack[-1]
            child = next(frame.pending, None)
            if child is not None:
                stack.append(self._enter(frame.listing.path + b"/" + child.entry.name, child, frame.listing))
                continue
            stack.pop()
            if stack:
                stack[-1].listing.entries.append(frame.listing.directory)
            yield frame.listing

    def _enter(self, path: bytes, child: _Child, above: Listing | None) -> _Frame:
        # Asked in any case: every directory is remembered for the next scan.
        familiar = self._rules.recognise(path, child.entry.inode) and (above is None or above.familiar)
        edit = self._source.edit(path) if child.edited else _NOTHING
        if not path:
            self._begin(edit)
        elif edit.complete and self._rules.keep_automatic:
            edit = self._with_automatic_markers(path, edit)
        known = self._look_up(path, edit)
        own = child.entry._replace(is_mountpoint=self._is_mountpoint(known))
        catalog = above.catalog if above else None
        if catalog is None or own.is_mountpoint:
            catalog = ScannedCatalog(path, own, catalog)
        found, rows = self._names(known, own, catalog)
        own = own._replace(links=_links(known, found, rows))
        if catalog.mountpoint == path:
            catalog = replace(catalog, root=own)
        entries = sorted((name.entry for name in found if not name.descend), key=_name_of)
        pending = sorted((name for name in found if name.descend), key=lambda name: name.entry.name)
        return _Frame(Listing(path, own, catalog, entries, known.before, rows, familiar), iter(pending))

    def _begin(self, edit: DirectoryEdit) -> None:
        """What the root says of the whole tree."""
        if any(entry.name == _VIRTUAL_DIRECTORY for entry in edit.entries):
            raise Unpublishable("/.cvmfs: this name is reserved for the virtual directory of snapshots")
        text = b"" if edit.complete or DIRTAB in edit.removed else self._rules.dirtab
        for entry in edit.entries:
            if entry.name == DIRTAB and not entry.known:
                text = read_dirtab(self._source.place(b"/" + DIRTAB))
        self._dirtab = parse_dirtab(text)
        self._everywhere = not edit.complete and text != self._rules.dirtab

    def _with_automatic_markers(self, path: bytes, edit: DirectoryEdit) -> DirectoryEdit:
        """A tree that was looked at elsewhere does not know what balancing made of its directories."""
        mentioned = any(entry.name in _MARKERS for entry in edit.entries)
        if mentioned or self._published.governing(path).path != path:
            return edit
        catalog = self._published.catalog_at(path)
        rows = [catalog.find(path + b"/" + name) for name in _MARKERS]
        kept = [as_published(row) for row in rows if row]
        return edit._replace(entries=sorted(edit.entries + kept, key=_name_of)) if len(kept) == len(rows) else edit

    def _look_up(self, path: bytes, edit: DirectoryEdit) -> _Directory:
        before = self._published.governing(path).path
        row = None if edit.complete else self._directory_row(path)
        if row is None:
            return _Directory(path, edit, before, None, None)
        names = [*(entry.name for entry in edit.entries), *edit.removed]
        catalog = self._published.catalog_at(path)
        found = ((name, catalog.find(path + b"/" + name)) for name in names)
        return _Directory(path, edit, before, row, {name: row for name, row in found if row})

    def _directory_row(self, path: bytes) -> DirectoryEntry | None:
        try:
            row = self._published.find(path)
        except NotFound:
            return None
        return row if row.is_directory else None

    def _is_mountpoint(self, known: _Directory) -> bool:
        path, marker = known.path, known.entry(MARKER)
        if marker is None:
            stays = known.row is not None and known.before == path and MARKER not in known.edit.removed
            return bool(path) and (stays or self._dirtab.matches(path))
        if not path:
            raise Unpublishable(f"/{MARKER.decode()}: the root cannot be a nested catalog, remove this file")
        if not marker.is_regular:
            raise Unpublishable(f"{_shown(path)}/{MARKER.decode()}: must be a regular file")
        return True

    def _names(
        self, known: _Directory, own: ScannedEntry, catalog: ScannedCatalog
    ) -> tuple[list[_Child], dict[bytes, DirectoryEntry] | None]:
        """Every name that the listing gets, and the rows that it is about; None means all."""
        found = [
            _Child(entry, edited=True, descend=entry.is_directory and entry.whole is None)
            for entry in known.edit.entries
        ]
        if own.is_mountpoint and self._lacks_marker(known):
            found.append(_Child(_generated_marker(own), edited=False, descend=False))
        if known.rows is None:
            return found, None
        moves = catalog.mountpoint != known.before
        if moves or self._everywhere or any(row.hardlink_group for row in known.rows.values()):
            return found + self._kept(known, moves=moves), None
        return found, known.rows

    def _lacks_marker(self, known: _Directory) -> bool:
        if known.entry(MARKER):
            return False
        is_published = known.row is not None and MARKER not in known.edit.removed
        return not (is_published and self._published.catalog_at(known.path).find(known.path + b"/" + MARKER))

    def _kept(self, known: _Directory, *, moves: bool) -> list[_Child]:
        """The published names that the edit does not mention."""
        mentioned = {entry.name for entry in known.edit.entries} | set(known.edit.removed)
        rows = [row for row in self._published.listing(known.path) if row.name not in mentioned]
        taken = max((entry.group for entry in known.edit.entries), default=0)
        return [
            # A nested catalog goes along as a whole.
            _Child(entry, edited=False, descend=entry.is_directory and self._is_entered(row, moves=moves))
            for entry, row in zip(_with_groups(rows, taken), rows, strict=True)
        ]

    def _is_entered(self, row: DirectoryEntry, *, moves: bool) -> bool:
        return not row.is_bind_mountpoint and (self._everywhere or (moves and not row.is_mountpoint))


def _with_groups(rows: list[DirectoryEntry], taken: int) -> list[ScannedEntry]:
    """Published rows as entries; hard-link groups have the members that are left, and numbers above `taken`."""
    members = Counter(row.hardlink_group for row in rows)
    numbers = {group: number for number, group in enumerate(filter(None, members), taken + 1)}
    entries = []
    for row in rows:
        entry, group = as_published(row), row.hardlink_group
        if group:
            links = members[group]
            entry = entry._replace(links=links, group=numbers[group] if links > 1 else 0)
        entries.append(entry)
    return entries


def _links(known: _Directory, found: list[_Child], rows: dict[bytes, DirectoryEntry] | None) -> int:
    directories = sum(name.entry.is_directory for name in found)
    if rows is None or known.row is None:
        return 2 + directories
    return known.row.linkcount + directories - sum(row.is_directory for row in rows.values())


def _generated_marker(directory: ScannedEntry) -> ScannedEntry:
    return ScannedEntry(
        MARKER,
        _GENERATED_MODE,
        0,
        directory.mtime,
        directory.mtime_ns,
        directory.uid,
        directory.gid,
        directory.ctime_ns,
        generated=True,
    )


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
