"""What a publish is told and what it tells: options, counts, report; it publishes nothing."""

import dataclasses
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from cvfs.catalog.schema import Counters
from cvfs.compression import encoder_named
from cvfs.errors import FormatError, UsageError
from cvfs.format.dirent import DirectoryEntry
from cvfs.hashes import ContentHash
from cvfs_server.catalogs.rows import SettledDirectory
from cvfs_server.changes import Kind
from cvfs_server.ingest.content import StorageForm
from cvfs_server.ingest.ingest import Ingested
from cvfs_server.settings import RepositorySettings
from cvfs_server.statistics import PublishNumbers

_CHANGED = {Kind.ADD: "added", Kind.MODIFY: "changed", Kind.TOUCH: "changed", Kind.REMOVE: "removed"}

# The largest number that a tag database holds.
_MAX_REVISION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How to publish: the new tag and its description; the revision's number, if not the next one.

    `base` is the root catalog that the changes were made on, if not the present one. `compression` and `external` replace
    what the repository's settings say for new contents; `direct_io` asks clients not to keep them in the kernel's cache.
    `report` is called with the kind of each change and its path, `progress` with entries and bytes looked at so far, `warn`
    with a sentence.
    """

    tag: str = ""
    message: str = ""
    base: ContentHash | None = None
    workers: int | None = None
    report: Callable[[str, bytes], None] = lambda _kind, _path: None
    progress: Callable[[int, int], None] = lambda _entries, _bytes: None
    warn: Callable[[str], None] = lambda _text: None
    revision: int | None = None
    compression: str = ""
    external: bool | None = None
    direct_io: bool = False

    def form(self, settings: RepositorySettings) -> StorageForm:
        """How contents are stored by this publish. Raises UsageError for a compression that does not exist."""
        try:
            encoder_named(self.compression or settings.compression)
        except FormatError as error:
            raise UsageError(f"compression {self.compression}: {error}") from error
        form = dataclasses.replace(settings.form, direct_io=self.direct_io)
        if settings.external if self.external is None else self.external:
            return form.as_external(self.compression)
        return dataclasses.replace(form, compression=self.compression or settings.compression)

    def number_after(self, present: int) -> int:
        """The number of the new revision. Raises UsageError for one that clients would refuse."""
        if max(self.revision or 0, present + 1) > _MAX_REVISION:
            raise UsageError(f"there are no revisions above {_MAX_REVISION}; the present one is {present}")
        if self.revision is None:
            return present + 1
        if self.revision <= present:
            raise UsageError(
                f"revision {self.revision} is not above {present}, the present one: clients would refuse it"
            )
        return self.revision


@dataclass(frozen=True, slots=True)
class PublishReport:
    """What a publish did. Sizes in bytes: read from the source, new in the store; `contents` is the whole repository."""

    fqrn: str
    revision: int
    root_hash: str
    contents: Counters
    added: int
    modified: int
    removed: int
    bytes_in: int
    bytes_stored: int
    objects: int
    seconds: float
    statistics: PublishNumbers


@dataclass(slots=True)
class Tally:
    """Counts what passes by."""

    options: PublishOptions
    kinds: Counter[str] = field(default_factory=Counter)
    catalogs: dict[bytes, int] = field(default_factory=dict)
    numbers: Counter[str] = field(default_factory=Counter)
    entries: int = 0
    bytes_in: int = 0
    bytes_stored: int = 0
    objects: int = 0

    def report(self, kind: str, path: bytes) -> None:
        """One change is certain."""
        self.kinds[kind] += 1
        if kind == "x-catalog-rem":
            self.catalogs.pop(path, None)
        self.options.report(kind, path)

    def catalog(self, mountpoint: bytes, entries: int) -> None:
        """One catalog is finished, and has so many entries; a balanced one is finished again."""
        self.catalogs[mountpoint] = entries

    def watch(self, stream: Iterable[Ingested]) -> Iterator[Ingested]:
        """What was read and stored."""
        for item in stream:
            self.entries += 1 + len(item.directory.changes)
            # Names of one file share what was read once.
            for content in {id(content): content for content in item.contents.values()}.values():
                self.bytes_in += content.size
                self.bytes_stored += content.stored
                self.objects += content.objects
                self.numbers["chunks_added"] += len(content.chunks)
            self.options.progress(self.entries, self.bytes_in)
            yield item

    def count(self, stream: Iterable[SettledDirectory]) -> Iterator[SettledDirectory]:
        """What becomes of files, directories and links."""
        for directory in stream:
            for removal in directory.changes.removals:
                self._count(Kind.REMOVE, removal.published)
            for row in directory.rows:
                if row.kind in _CHANGED:
                    self._count(row.kind, row.entry)
            yield directory

    def statistics(self, revision: int) -> PublishNumbers:
        """The counts as the statistics database has them."""
        counted = {name: number for name, number in self.numbers.items() if name in PublishNumbers.__slots__}
        counted |= {"sz_bytes_uploaded": self.bytes_stored, "catalogs_added": self.kinds["x-catalog-add"]}
        return PublishNumbers(**{**counted, "revision": revision})

    def _count(self, kind: Kind, entry: DirectoryEntry) -> None:
        what = _CHANGED[kind]
        sort = {stat.S_IFDIR: "directories", stat.S_IFLNK: "symlinks"}.get(stat.S_IFMT(entry.mode), "files")
        self.numbers[f"{sort}_{what}"] += 1
        if entry.is_regular:
            self.numbers[f"sz_bytes_{what}"] += entry.size
