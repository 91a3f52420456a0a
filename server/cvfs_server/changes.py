"""Listings against the published catalogs, one directory at a time; reads no contents, writes nothing.

A row moves between catalogs when its directory is governed by another one than before: that is how a new marker splits a
catalog and a removed one dissolves it. Source: FORMAT sections 5.6, 5.10, 5.13.
"""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from cvfs.catalog.tree import CatalogTree
from cvfs.format.dirent import DirectoryEntry
from cvfs_server.sources.base import ScannedEntry
from cvfs_server.sources.walk import Listing, ScannedCatalog

_LINKS_MASK = 0xFFFFFFFF
# The kernel stamps with a coarse clock, and some file systems only with whole seconds.
_CTIME_GRAIN_NS = 2 * 10**9


class Kind(enum.Enum):
    """What happens to an entry; the value is how a report calls it. A moved row changes nothing that a user sees."""

    ADD = "add"
    MODIFY = "mod"
    TOUCH = "tou"
    REMOVE = "rem"
    MOVE = "mov"


class Change(NamedTuple):
    """A row to be written. `published` is the row it replaces, `reads` says that the content has to be looked at.

    `hardlinks` is the packed group and count where a published group stays as it is, else None.
    """

    kind: Kind
    path: bytes
    entry: ScannedEntry
    published: DirectoryEntry | None
    reads: bool
    hardlinks: int | None


class Removal(NamedTuple):
    """A published row that the source tree no longer has, and the mountpoint of the catalog it is in."""

    path: bytes
    published: DirectoryEntry
    mountpoint: bytes


class Removals:
    """What is removed, walked anew whenever it is gone through: a removed tree may be larger than memory."""

    __slots__ = ("_published", "_tops")

    def __init__(self, published: CatalogTree) -> None:
        self._published = published
        self._tops: list[tuple[Removal, bool]] = []

    def add(self, top: Removal, *, itself: bool = True) -> None:
        """A name that is removed with everything below it, or, without `itself`, only what is below it."""
        self._tops.append((top, itself))

    def __iter__(self) -> Iterator[Removal]:
        for top, itself in self._tops:
            if itself:
                yield top
            yield from self._below(top)

    def _below(self, top: Removal) -> Iterator[Removal]:
        # What a bind mountpoint shows belongs to another root catalog.
        pending = [top.path] if _is_entered(top.published) else []
        while pending:
            directory = pending.pop()
            mountpoint = self._published.governing(directory).path
            for row in self._published.listing(directory):
                path = directory + b"/" + row.name
                yield Removal(path, row, mountpoint)
                if _is_entered(row):
                    pending.append(path)


@dataclass(frozen=True, slots=True)
class DirectoryChanges:
    """What happens in one directory, whose rows belong to `catalog`.

    `moved_from` is the mountpoint of the catalog that held these rows before, if it was another one. `own` concerns the
    directory itself, where it is the root of a catalog: that row stands apart from the one in the parent's listing.
    """

    path: bytes
    catalog: ScannedCatalog
    removals: Iterable[Removal] = ()
    moved_from: bytes | None = None
    changes: list[Change] = field(default_factory=list)
    own: Change | None = None


@dataclass(frozen=True, slots=True)
class TrustRules:
    """When equal attributes prove that a file is unchanged.

    The time of its last status change, which no program can set, must be before `verified_before_ns`, the start of the
    scan that published it (0: nothing is known, look at all contents), and its directory must be the one of that scan;
    with `trust_mtime` that is not asked for. `external` says how files are published this time.
    """

    verified_before_ns: int = 0
    trust_mtime: bool = False
    external: bool = False

    def covers(self, entry: ScannedEntry) -> bool:
        """Whether this entry's content and attributes cannot have changed since it was published."""
        return entry.ctime_ns < self.verified_before_ns - _CTIME_GRAIN_NS


def find_changes(listings: Iterable[Listing], published: CatalogTree, trust: TrustRules) -> Iterator[DirectoryChanges]:
    """For every listing of the scan what is to be done, in the same order; directories without changes included."""
    comparison = _Comparison(published, trust)
    for listing in listings:
        yield comparison.compare(listing)


class _Comparison:
    def __init__(self, published: CatalogTree, trust: TrustRules) -> None:
        self._published = published
        self._trust = trust

    def compare(self, listing: Listing) -> DirectoryChanges:
        rows = listing.published
        if rows is None:
            rows = {row.name: row for row in self._published.listing(listing.path)}
        before = listing.before
        moved = bool(rows) and before != listing.catalog.mountpoint
        removals = Removals(self._published)
        result = DirectoryChanges(
            listing.path, listing.catalog, removals, before if moved else None, own=self._compare_own(listing)
        )
        kept = _kept_groups(listing, rows, moved)
        for entry in listing.entries:
            row = rows.pop(entry.name, None)
            if row is not None and not moved and self._is_unchanged(listing, entry, row, kept):
                continue
            self._compare_entry(listing, entry, row, kept, result)
            if row and row.is_directory and not entry.is_directory:
                removals.add(Removal(listing.path + b"/" + row.name, row, before), itself=False)
        _read_together(result.changes)
        for row in rows.values():
            removals.add(Removal(listing.path + b"/" + row.name, row, before))
        return result

    def _is_unchanged(self, listing: Listing, entry: ScannedEntry, row: DirectoryEntry, kept: dict[int, int]) -> bool:
        """What `_change` says of most entries of most scans, without a path for each."""
        if not (entry.kept or (listing.familiar and self._trust.covers(entry))):
            return False
        return self._is_same(row, entry, kept.get(entry.group) if entry.group else entry.links)

    def _compare_entry(
        self,
        listing: Listing,
        entry: ScannedEntry,
        row: DirectoryEntry | None,
        kept: dict[int, int],
        result: DirectoryChanges,
    ) -> None:
        path = listing.path + b"/" + entry.name
        hardlinks = kept.get(entry.group) if entry.group else entry.links
        covered = listing.familiar and self._trust.covers(entry)
        change = self._change(path, entry, row, hardlinks, covered=covered)
        if change is None and result.moved_from is not None:
            change = Change(Kind.MOVE, path, entry, row, reads=False, hardlinks=hardlinks)
        if change is not None:
            result.changes.append(change)

    def _change(
        self, path: bytes, entry: ScannedEntry, row: DirectoryEntry | None, hardlinks: int | None, *, covered: bool
    ) -> Change | None:
        if row is None:
            return Change(Kind.ADD, path, entry, None, _must_be_read(entry), hardlinks)
        if (entry.mode ^ row.mode) & 0o170000:
            return Change(Kind.MODIFY, path, entry, row, _must_be_read(entry), hardlinks)
        if (covered or entry.kept) and self._is_same(row, entry, hardlinks):
            return None
        return Change(Kind.TOUCH, path, entry, row, self._must_read(entry, row, covered=covered), hardlinks)

    def _is_same(self, row: DirectoryEntry, entry: ScannedEntry, hardlinks: int | None) -> bool:
        return (
            row[1:7] == entry[1:7]
            and row.hardlinks == hardlinks
            and row.is_mountpoint == entry.is_mountpoint
            and self._is_alike(row)
        )

    def _must_read(self, entry: ScannedEntry, row: DirectoryEntry, *, covered: bool) -> bool:
        if not _must_be_read(entry):
            return False
        same = row[2:5] == entry[2:5] and self._is_alike(row)
        return not (same and (covered or self._trust.trust_mtime))

    def _is_alike(self, row: DirectoryEntry) -> bool:
        # Content of an external file is not in the repository, that of others is: publishing the other way changes it.
        return row.is_external == self._trust.external or not row.is_regular

    def _compare_own(self, listing: Listing) -> Change | None:
        """The root row of a catalog; always present, so that the writer settles what it really says."""
        if listing.catalog.mountpoint != listing.path:
            return None
        before = self._published.governing(listing.path)
        row = None
        if before.path == listing.path:
            row = self._published.catalog_at(listing.path).find(listing.path)
        kind = Kind.TOUCH if row else Kind.MOVE
        return Change(kind, listing.path, listing.directory, row, reads=False, hardlinks=listing.directory.links)


def _is_entered(row: DirectoryEntry) -> bool:
    return row.is_directory and not row.is_bind_mountpoint


def _must_be_read(entry: ScannedEntry) -> bool:
    return entry.is_regular and entry.known is None


def _read_together(changes: list[Change]) -> None:
    """Names of one file get one content: if one of them is read, all are."""
    groups = {change.entry.group for change in changes if change.reads and change.entry.group}
    for index, change in enumerate(changes):
        if change.entry.group in groups and not change.reads:
            changes[index] = change._replace(reads=True)


def _kept_groups(listing: Listing, rows: dict[bytes, DirectoryEntry], moved: bool) -> dict[int, int]:
    """Packed group and count of the hard-link groups that consist of the same names as before."""
    found: dict[int, set[int]] = {}
    count: dict[int, int] = {}
    for entry in listing.entries:
        if entry.group:
            row = rows.get(entry.name)
            found.setdefault(entry.group, set()).add(row.hardlinks if row else 0)
            count[entry.group] = entry.links
    packed = {group: next(iter(values)) for group, values in found.items() if len(values) == 1}
    # A number is unique within one catalog only: a moved group gets a new one.
    return {
        group: value
        for group, value in packed.items()
        if not moved and value > _LINKS_MASK and value & _LINKS_MASK == count[group]
    }
