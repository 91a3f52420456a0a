"""What a change and the content that was found amount to: the catalog row, or nothing if all is as published.

Asks the source for extended attributes, writes nothing. Source: FORMAT sections 5.4 to 5.7.
"""

from dataclasses import dataclass
from typing import NamedTuple

from cvfs.catalog.tree import CatalogTree
from cvfs.compression import encoder_named
from cvfs.format.dirent import Chunk, DirectoryEntry, Flag, content_flags, type_flags
from cvfs_server.changes import Change, DirectoryChanges, Kind
from cvfs_server.ingest.content import Content, StorageForm
from cvfs_server.ingest.ingest import Ingested
from cvfs_server.sources.base import Source, WholeCatalog
from cvfs_server.sources.dirtab import is_native

_SECOND = 10**9
_CONTENT_BITS = int(Flag.CHUNKED | Flag.EXTERNAL | Flag.DIRECT_IO) | 0x700 | 0x3800
_MOUNTPOINT = int(Flag.NESTED_MOUNTPOINT)
_NESTED_ROOT = int(Flag.NESTED_ROOT)
_CHUNKED = int(Flag.CHUNKED)
_EXTERNAL, _DIRECT_IO = int(Flag.EXTERNAL), int(Flag.DIRECT_IO)


class Row(NamedTuple):
    """A row to be written. `published` is the one it replaces in whatever catalog that is.

    `group` is not 0 where a hard-link group of this listing needs a number of its catalog. `whole` is the nested catalog
    that begins there, where it was made elsewhere.
    """

    kind: Kind
    path: bytes
    entry: DirectoryEntry
    chunks: tuple[Chunk, ...]
    published: DirectoryEntry | None
    group: int
    whole: WholeCatalog | None = None


@dataclass(frozen=True, slots=True)
class SettledDirectory:
    """A directory whose changes are certain; `own` is the row of the directory itself as the root of a catalog."""

    changes: DirectoryChanges
    rows: list[Row]
    own: Row | None


class Settlement:
    """Settles one publish: every change against what is published."""

    def __init__(self, published: CatalogTree, source: Source, form: StorageForm, *, mtime_ns: bool) -> None:
        self._published = published
        self._source = source
        self._form = form
        self._mtime_ns = mtime_ns
        self._codes = content_flags(form.algorithm, encoder_named(form.compression).code)
        self._codes |= (_EXTERNAL if form.external else 0) | (_DIRECT_IO if form.direct_io else 0)

    def settle(self, ingested: Ingested) -> SettledDirectory:
        """The rows of a directory, those left out that turned out to be unchanged. Raises Unpublishable."""
        directory = ingested.directory
        moved = directory.moved_from is not None
        rows = []
        for index, change in enumerate(directory.changes):
            row = self._row(change, ingested.contents.get(index))
            if row.kind is not Kind.MOVE or moved or row.entry != row.published or row.whole:
                rows.append(row)
        return SettledDirectory(directory, rows, self._own(directory))

    def _own(self, directory: DirectoryChanges) -> Row | None:
        if directory.own is None:
            return None
        row = self._row(directory.own, None)
        flags = int(Flag.DIRECTORY) | (_NESTED_ROOT if directory.path else 0)
        row = row._replace(entry=row.entry._replace(flags=flags))
        return None if row.entry == row.published and directory.path else row

    def _row(self, change: Change, content: Content | None) -> Row:
        published = change.published
        if change.kind is Kind.MOVE and published:
            entry, chunks = published, self._published_chunks(change.path, published)
        elif change.entry.known:
            entry, chunks = self._from_known(change)
        elif content:
            entry, chunks = self._from_content(change, content), content.chunks
        else:
            entry, chunks = self._from_attributes(change)
        group = 0
        if change.hardlinks is None:
            group, entry = change.entry.group, entry._replace(hardlinks=change.entry.links)
        elif entry.hardlinks != change.hardlinks:
            entry = entry._replace(hardlinks=change.hardlinks)
        kind = self._kind(change, entry, chunks)
        return Row(kind, change.path, entry, chunks, published, group, change.entry.whole)

    def _kind(self, change: Change, entry: DirectoryEntry, chunks: tuple[Chunk, ...]) -> Kind:
        published = change.published
        if published is None or change.kind is not Kind.TOUCH:
            return change.kind
        if entry._replace(flags=entry.flags & ~_MOUNTPOINT) == published._replace(flags=published.flags & ~_MOUNTPOINT):
            same_chunks = not chunks or chunks == self._published_chunks(change.path, published)
            return Kind.MOVE if same_chunks else Kind.MODIFY
        same = entry.digest == published.digest and entry.symlink == published.symlink
        same = same and not (entry.flags ^ published.flags) & _CONTENT_BITS
        if same and chunks and change.reads:
            same = chunks == self._published_chunks(change.path, published)
        return Kind.TOUCH if same else Kind.MODIFY

    def _from_content(self, change: Change, content: Content) -> DirectoryEntry:
        scanned = change.entry
        seconds, nanoseconds = divmod(content.mtime_ns, _SECOND)
        if scanned.generated:
            seconds, nanoseconds = scanned.mtime, scanned.mtime_ns or 0
        codes = self._codes & ~_EXTERNAL if scanned.generated or is_native(change.path) else self._codes
        flags = int(Flag.FILE) | codes | (_CHUNKED if content.chunks else 0)
        return DirectoryEntry(
            scanned.name,
            scanned.mode,
            content.size,
            seconds,
            nanoseconds if self._mtime_ns else None,
            scanned.uid,
            scanned.gid,
            scanned.links,
            content.digest,
            flags,
            b"",
            content.xattr,
        )

    def _from_known(self, change: Change) -> tuple[DirectoryEntry, tuple[Chunk, ...]]:
        scanned, known = change.entry, change.entry.known
        assert known is not None
        # The row of a mountpoint may come from either of its two catalogs.
        flags = known.flags & ~(_MOUNTPOINT | _NESTED_ROOT) | (_MOUNTPOINT if scanned.is_mountpoint else 0)
        chunks = known.chunks
        if chunks is None:
            chunks = tuple(self._published.chunks(change.path)) if flags & _CHUNKED else ()
        entry = DirectoryEntry(*scanned[:7], scanned.links, known.digest, flags, scanned.symlink, known.xattr)
        return entry, chunks

    def _from_attributes(self, change: Change) -> tuple[DirectoryEntry, tuple[Chunk, ...]]:
        scanned, published = change.entry, change.published
        flags, digest = int(type_flags(scanned.mode)), None
        chunks: tuple[Chunk, ...] = ()
        if scanned.is_regular:
            assert published is not None
            flags, digest = flags | published.flags & _CONTENT_BITS, published.digest
            chunks = self._published_chunks(change.path, published)
        elif scanned.is_mountpoint:
            flags |= _MOUNTPOINT
        entry = DirectoryEntry(*scanned[:7], scanned.links, digest, flags, scanned.symlink, self._attributes(change))
        return entry, chunks

    def _attributes(self, change: Change) -> bytes | None:
        if not self._form.xattrs or change.entry.generated:
            return None
        return self._source.attributes(change.path)

    def _published_chunks(self, path: bytes, published: DirectoryEntry) -> tuple[Chunk, ...]:
        return tuple(self._published.chunks(path)) if published.is_chunked else ()
