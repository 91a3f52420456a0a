"""One catalog being brought to its next revision: rows, registrations below it, counters; knows no source tree.

Source: FORMAT sections 5.6, 5.9, 5.10, 5.13.
"""

from cvfs.catalog.reader import Catalog
from cvfs.catalog.schema import Counters
from cvfs.catalog.writer import CatalogWriter
from cvfs.format.dirent import Chunk, DirectoryEntry
from cvfs.hashes import ContentHash
from cvfs_server.catalogs.objects import CatalogObjects, StoredCatalog

_INSERTS_AT_ONCE = 1000


class CatalogEdit:
    """An open catalog of this publish. Used by one thread."""

    def __init__(self, writer: CatalogWriter, previous: Catalog | None, predecessor: ContentHash | None) -> None:
        self._writer = writer
        self._inserts: list[tuple[bytes, DirectoryEntry, tuple[Chunk, ...]]] = []
        self._groups = 0
        self._predecessor = predecessor
        self._revision = previous.revision + 1 if previous else 1
        self._below = previous.counters()[1] if previous else Counters()
        self._registered = {nested.path for nested in previous.nested()} if previous else set()

    @classmethod
    def create(cls, objects: CatalogObjects, mountpoint: bytes, root: DirectoryEntry) -> "CatalogEdit":
        """A catalog that did not exist before, with its root row."""
        return cls(CatalogWriter.create(objects.new_path(), mountpoint, root), None, None)

    @classmethod
    def open(
        cls, objects: CatalogObjects, previous: Catalog, content: ContentHash, predecessor: ContentHash | None
    ) -> "CatalogEdit":
        """The next revision of a catalog, whose hash is `content`; it will name `predecessor` as what was there before."""
        writer = CatalogWriter.open(objects.copy(previous, content), previous.mountpoint)
        return cls(writer, previous, predecessor)

    def insert(self, path: bytes, entry: DirectoryEntry, chunks: tuple[Chunk, ...]) -> None:
        """A row for a path that has none; written later, together with others."""
        self._inserts.append((path, entry, chunks))
        if len(self._inserts) >= _INSERTS_AT_ONCE:
            self._flush()

    def update(self, path: bytes, entry: DirectoryEntry, chunks: tuple[Chunk, ...] = ()) -> None:
        """New contents for an existing row."""
        self._writer.update(path, entry, chunks)

    def remove(self, path: bytes) -> None:
        """Forget one row and its chunks."""
        self._writer.remove(path)

    def register(self, path: bytes, stored: StoredCatalog, counters: Counters) -> None:
        """Name a nested catalog, with everything in and below it, that is not registered here yet."""
        self._writer.set_nested(path, stored.content, stored.size)
        self._registered.add(path)
        self._below += counters

    def unregister(self, path: bytes, counters: Counters) -> None:
        """Forget a nested catalog and what it counted, if it is registered here."""
        if path in self._registered:
            self._writer.remove_nested(path)
            self._registered.remove(path)
            self._below -= counters

    def is_registered(self, path: bytes) -> bool:
        return path in self._registered

    @property
    def below(self) -> Counters:
        """What the catalogs below this one contain."""
        return self._below

    def new_group(self) -> int:
        """A hard-link group number that this catalog has never used."""
        self._flush()
        self._groups = max(self._groups, self._writer.highest_group()) + 1
        return self._groups

    def set_property(self, key: str, value: str) -> None:
        self._writer.set_property(key, value)

    def finish(self, objects: CatalogObjects, now: int, revision: int | None = None) -> tuple[StoredCatalog, Counters]:
        """Complete and store it; what it contains together with everything below. `now` are Unix seconds."""
        self._flush()
        own = self._writer.finish(revision or self._revision, now, self._predecessor, self._below)
        return objects.store(self._writer.path), own + self._below

    def abandon(self) -> None:
        """Close without finishing."""
        self._writer.abandon()

    def _flush(self) -> None:
        if self._inserts:
            self._writer.insert_many(self._inserts)
            self._inserts = []
