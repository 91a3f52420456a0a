"""Settled changes into catalogs, leaves first; stores each before the one that names it, signs nothing.

A catalog is opened with the first change in it and finished when the stream leaves its mountpoint; one without changes is not
opened at all. Only catalogs on the way from the root to the present directory are open. Source: FORMAT sections 5.9 to 5.13.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cvfs.catalog.schema import Counters
from cvfs.catalog.tree import CatalogTree
from cvfs.format.dirent import DirectoryEntry, Flag, pack_hardlinks, type_flags
from cvfs_server.catalogs.edit import CatalogEdit
from cvfs_server.catalogs.objects import CatalogObjects, StoredCatalog
from cvfs_server.catalogs.rows import Row, SettledDirectory
from cvfs_server.changes import Kind, Removal
from cvfs_server.sources.base import WholeCatalog
from cvfs_server.sources.walk import ScannedCatalog

Report = Callable[[str, bytes], None]
# Told of each catalog that is finished: its mountpoint, its entries.
Watch = Callable[[bytes, int], None]


@dataclass(frozen=True, slots=True)
class Version:
    """What the root catalog of a publish says of itself; `now` are Unix seconds, `ttl` seconds."""

    revision: int
    now: int
    ttl: int


class CatalogBuilder:
    """The catalogs of one publish, on top of `published`.

    `predecessors` are the catalogs of the revision before, where `published` is a draft that nobody saw.
    """

    def __init__(
        self,
        published: CatalogTree,
        objects: CatalogObjects,
        version: Version,
        report: Report,
        predecessors: CatalogTree | None = None,
        *,
        watch: Watch = lambda _mountpoint, _entries: None,
    ) -> None:
        self._published = published
        self._predecessors = predecessors or published
        self._objects = objects
        self._version = version
        self._report = report
        self._watch = watch
        self._open: dict[bytes, CatalogEdit] = {}
        self._finished: set[bytes] = set()

    def build(self, directories: Iterable[SettledDirectory]) -> tuple[StoredCatalog, Counters]:
        """The new root catalog, everything below it being stored, and what the repository contains now.

        Raises StoreError or FormatError.
        """
        try:
            finished = self._consume(directories)
        finally:
            for unfinished in self._open.values():
                unfinished.abandon()
        assert finished is not None, "the listing of the root comes last"
        return finished

    def _consume(self, directories: Iterable[SettledDirectory]) -> tuple[StoredCatalog, Counters] | None:
        finished = None
        for directory in directories:
            self._apply(directory)
            catalog = directory.changes.catalog
            if catalog.mountpoint != directory.changes.path:
                continue
            if catalog.parent is None:
                finished = self._finish_root(catalog, directory.own)
            else:
                self._finish_nested(catalog, catalog.parent, directory.own)
        return finished

    def _apply(self, directory: SettledDirectory) -> None:
        changes = directory.changes
        for removal in changes.removals:
            self._remove(removal, changes.catalog)
        numbers: dict[int, int] = {}
        moved_from = changes.moved_from
        if moved_from is not None and not changes.catalog.encloses(moved_from):
            # The catalog that held these rows is dissolved: nobody will ask for it any more.
            moved_from = None
        for row in directory.rows:
            if row.group and row.group not in numbers:
                numbers[row.group] = self._edit(changes.catalog).new_group()
            if row.group:
                hardlinks = pack_hardlinks(numbers[row.group], row.entry.hardlinks)
                row = row._replace(entry=row.entry._replace(hardlinks=hardlinks))  # noqa: PLW2901
            self._write(row, changes.catalog, moved=changes.moved_from is not None, moved_from=moved_from)

    def _remove(self, removal: Removal, catalog: ScannedCatalog) -> None:
        if removal.published.is_mountpoint:
            self._report("x-catalog-rem", removal.path)
        self._report(Kind.REMOVE.value, removal.path)
        if not catalog.encloses(removal.mountpoint):
            return
        edit = self._edit_published(removal.mountpoint)
        edit.remove(removal.path)
        self._unregister(edit, removal.path, removal.published)

    def _write(self, row: Row, catalog: ScannedCatalog, *, moved: bool, moved_from: bytes | None) -> None:
        if row.kind is not Kind.MOVE:
            self._report(row.kind.value, row.path)
        was_mountpoint = row.published is not None and row.published.is_mountpoint
        is_mountpoint = row.entry.is_mountpoint
        if was_mountpoint and not is_mountpoint:
            self._report("x-catalog-rem", row.path)
        edit = self._edit(catalog)
        if moved and row.published:
            if moved_from is not None:
                source = self._edit_published(moved_from)
                source.remove(row.path)
                self._unregister(source, row.path, row.published)
            edit.insert(row.path, row.entry, row.chunks)
        elif row.published:
            if not is_mountpoint:
                self._unregister(edit, row.path, row.published)
            edit.update(row.path, row.entry, row.chunks)
        else:
            edit.insert(row.path, row.entry, row.chunks)
        if row.whole:
            self._replace_whole(edit, row.path, row.whole)
        elif is_mountpoint and row.path not in self._finished and not edit.is_registered(row.path):
            self._register_unchanged(edit, row.path)

    def _finish_nested(self, catalog: ScannedCatalog, parent: ScannedCatalog, own: Row | None) -> None:
        mountpoint = catalog.mountpoint
        if own is None and mountpoint not in self._open:
            return
        edit = self._edit(catalog)
        if own:
            edit.update(mountpoint, own.entry)
        stored, counters = edit.finish(self._objects, self._version.now)
        self._watch(mountpoint, (counters - edit.below).entries)
        del self._open[mountpoint]
        self._finished.add(mountpoint)
        above = self._edit(parent)
        if above.is_registered(mountpoint):
            above.unregister(mountpoint, self._published_counters(mountpoint))
        above.register(mountpoint, stored, counters)

    def _finish_root(self, catalog: ScannedCatalog, own: Row | None) -> tuple[StoredCatalog, Counters]:
        edit = self._edit(catalog)
        if own:
            edit.update(b"", own.entry)
        edit.set_property("TTL", str(self._version.ttl))
        stored, counters = edit.finish(self._objects, self._version.now, self._version.revision)
        self._watch(b"", (counters - edit.below).entries)
        del self._open[b""]
        return stored, counters

    def _edit(self, catalog: ScannedCatalog) -> CatalogEdit:
        mountpoint = catalog.mountpoint
        if mountpoint not in self._open:
            if self._published.governing(mountpoint).path == mountpoint:
                return self._edit_published(mountpoint)
            self._report("x-catalog-add", mountpoint)
            # Settled for good when the stream leaves the mountpoint.
            root = _provisional_root(catalog)
            self._open[mountpoint] = CatalogEdit.create(self._objects, mountpoint, root)
        return self._open[mountpoint]

    def _edit_published(self, mountpoint: bytes) -> CatalogEdit:
        if mountpoint not in self._open:
            present, before = self._published.governing(mountpoint), self._predecessors.governing(mountpoint)
            catalog = self._published.catalog_at(mountpoint)
            predecessor = before.content if before.path == mountpoint else None
            self._open[mountpoint] = CatalogEdit.open(self._objects, catalog, present.content, predecessor)
        return self._open[mountpoint]

    def _register_unchanged(self, edit: CatalogEdit, mountpoint: bytes) -> None:
        """A catalog that stays as it is comes under another one."""
        nested = self._published.governing(mountpoint)
        edit.register(mountpoint, StoredCatalog(nested.content, nested.size), self._published_counters(mountpoint))

    def _replace_whole(self, edit: CatalogEdit, mountpoint: bytes, whole: WholeCatalog) -> None:
        """A catalog that was made elsewhere, in the place of the published one if there is any."""
        if edit.is_registered(mountpoint):
            edit.unregister(mountpoint, self._published_counters(mountpoint))
        edit.register(mountpoint, StoredCatalog(whole.content, whole.size), whole.counters)

    def _unregister(self, edit: CatalogEdit, path: bytes, published: DirectoryEntry) -> None:
        if published.is_mountpoint:
            edit.unregister(path, self._published_counters(path))
        elif published.is_bind_mountpoint:
            edit.unregister(path, Counters())

    def _published_counters(self, mountpoint: bytes) -> Counters:
        own, below = self._published.catalog_at(mountpoint).counters()
        return own + below


def _provisional_root(catalog: ScannedCatalog) -> DirectoryEntry:
    scanned = catalog.root
    flags = int(type_flags(scanned.mode)) | int(Flag.NESTED_ROOT)
    return DirectoryEntry(*scanned[:7], scanned.links, None, flags)
