"""The publish way, top to bottom: scan → changes → ingest → catalog builder → release.

The stream is lazy: memory follows the widest directory, not the tree. Nothing is visible before the last step.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from cvfs.catalog.schema import Counters
from cvfs.errors import UsageError
from cvfs.history import History, Tag, advance
from cvfs_server.catalogs.builder import CatalogBuilder, Version
from cvfs_server.catalogs.objects import StoredCatalog
from cvfs_server.catalogs.rows import Settlement
from cvfs_server.changes import TrustRules, find_changes
from cvfs_server.ingest import Ingest, Ingested
from cvfs_server.publishers import publishing
from cvfs_server.release import Revision, release
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import load_settings
from cvfs_server.site import Site
from cvfs_server.sources.last_scan import DirectoryMemory, LastScan, Tree, keep_last_scan, load_last_scan
from cvfs_server.sources.scan import ScanRules, scan

_DAY = 86400


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How to publish: the new tag and its description; whether equal time stamps prove equal content.

    `report` is called with the kind of each change and its path, `progress` with entries and bytes looked at so far.
    """

    tag: str = ""
    message: str = ""
    trust_mtime: bool = False
    workers: int | None = None
    report: Callable[[str, bytes], None] = lambda _kind, _path: None
    progress: Callable[[int, int], None] = lambda _entries, _bytes: None


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


@dataclass(slots=True)
class _Tally:
    """Counts what passes by."""

    options: PublishOptions
    kinds: Counter[str] = field(default_factory=Counter)
    entries: int = 0
    bytes_in: int = 0
    bytes_stored: int = 0
    objects: int = 0

    def report(self, kind: str, path: bytes) -> None:
        self.kinds[kind] += 1
        self.options.report(kind, path)

    def watch(self, stream: Iterable[Ingested]) -> Iterator[Ingested]:
        for item in stream:
            self.entries += 1 + len(item.directory.changes)
            # Names of one file share what was read once.
            for content in {id(content): content for content in item.contents.values()}.values():
                self.bytes_in += content.size
                self.bytes_stored += content.stored
                self.objects += content.objects
            self.options.progress(self.entries, self.bytes_in)
            yield item


def publish(site: Site, fqrn: str, source: str | bytes, options: PublishOptions | None = None) -> PublishReport:
    """Make the repository show the directory tree `source`, as a new revision.

    Raises Locked, Unpublishable naming the path, StoreFull; then the published revision is what it was.
    """
    options = options or PublishOptions()
    started, tally = time.monotonic(), _Tally(options)
    path = os.path.realpath(os.fsencode(source))
    settings = load_settings(site, fqrn)
    with publishing(settings, "publish") as publisher:
        scratch = publisher.scratch
        repository = PublishedRepository.open(site, fqrn, publisher.storage)
        history = _history_for(repository, options)
        version = _next_version(repository)
        tree = Tree.at(path, xattrs=settings.xattrs)
        last = load_last_scan(settings.spool, str(repository.manifest.root_catalog), tree)
        memory, scanned_at = DirectoryMemory(last), time.time_ns()
        rules = ScanRules(settings.mtime_ns, settings.ignore_special_files, memory.recognise)
        where = _Source(path, rules, TrustRules(last.started_ns, options.trust_mtime))
        root, contents = _build(repository, where, scratch, version, tally)
        release(site, settings, _revision(repository, history, root, version, options), publisher)
        keep_last_scan(settings.spool, str(root.content), tree, LastScan(scanned_at, memory.directories))
    return PublishReport(
        fqrn,
        version.revision,
        str(root.content),
        contents,
        tally.kinds["add"],
        tally.kinds["mod"] + tally.kinds["tou"],
        tally.kinds["rem"],
        tally.bytes_in,
        tally.bytes_stored,
        tally.objects,
        time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """The tree to be published, and the rules by which it is looked at."""

    path: bytes
    rules: ScanRules
    trust: TrustRules


def _build(
    repository: PublishedRepository, source: _Source, scratch: str, version: Version, tally: _Tally
) -> tuple[StoredCatalog, Counters]:
    """Scan, compare, ingest, build: the new root catalog with everything below it stored."""
    settings, published = repository.settings, repository.tree(scratch)
    settlement = Settlement(published, source.path, settings.form, mtime_ns=settings.mtime_ns)
    builder = CatalogBuilder(published, repository.catalogs(scratch), version, tally.report)
    with Ingest(repository.storage, settings.form, source.path, tally.options.workers) as ingest:
        changes = find_changes(scan(source.path, source.rules), published, source.trust)
        ingested = tally.watch(ingest.run(changes))
        return builder.build(settlement.settle(item) for item in ingested)


def _history_for(repository: PublishedRepository, options: PublishOptions) -> History:
    """The tags so far; a name that cannot be given is refused before any work, and so is a time that means nothing."""
    _keep_automatic_since(repository.settings.auto_tag_timespan, 0)
    history = repository.history()
    if options.tag and history.has(options.tag):
        raise UsageError(f"tag {options.tag!r} exists already: remove it first or choose another name")
    if options.tag:
        history.with_tag(Tag(options.tag, repository.manifest.root_catalog, 0, 0))
    return history


def _next_version(repository: PublishedRepository) -> Version:
    # Clients refuse to go back in time: a clock that was set back does not take the repository with it.
    now = max(int(time.time()), repository.manifest.timestamp)
    return Version(repository.manifest.revision + 1, now, repository.settings.ttl)


def _revision(
    repository: PublishedRepository, history: History, root: StoredCatalog, version: Version, options: PublishOptions
) -> Revision:
    settings, manifest = repository.settings, repository.manifest
    head = Tag(options.tag, root.content, version.revision, version.now, options.message, root.size)
    since = _keep_automatic_since(settings.auto_tag_timespan, version.now)
    tags = advance(history, head, manifest.history, automatic=settings.auto_tag, keep_automatic_since=since)
    return Revision(version.revision, version.now, root, tags, manifest, manifest.metainfo)


def _keep_automatic_since(timespan: str, now: int) -> int:
    """`CVMFS_AUTO_TAG_TIMESPAN` as users write it, for instance "4 weeks ago"; empty keeps all."""
    if not timespan:
        return 0
    words = timespan.split()
    days = {"day": 1, "week": 7, "month": 30, "year": 365}.get(words[1].rstrip("s") if len(words) > 1 else "")
    if days is None or not words[0].isdigit() or words[2:] not in ([], ["ago"]):
        raise UsageError(f"CVMFS_AUTO_TAG_TIMESPAN={timespan!r}: expected for instance '4 weeks ago'")
    return now - int(words[0]) * days * _DAY
