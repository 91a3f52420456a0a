"""The publish way, top to bottom: walk → changes → ingest → catalogs → release.

What is brought is a `Source`; the stream of its listings is lazy: memory follows the widest directory, not the tree. A draft
is built on the revision that was there at the beginning, without any lock. Under the lock it is put on top of what others
published meanwhile, if need be, and the manifest is switched, which is the last act and the first that anybody sees.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from cvfs.catalog.schema import Counters
from cvfs.catalog.tree import CatalogTree
from cvfs.errors import UsageError
from cvfs.hashes import ContentHash
from cvfs.history import History, Tag, advance
from cvfs_server.catalogs.builder import CatalogBuilder, Version
from cvfs_server.catalogs.objects import StoredCatalog
from cvfs_server.catalogs.rows import Settlement
from cvfs_server.changes import TrustRules, find_changes
from cvfs_server.ingest import Ingest, Ingested
from cvfs_server.merge import merge
from cvfs_server.publishers import Publisher, registered, switching
from cvfs_server.release import Revision, release
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import load_settings
from cvfs_server.site import Site
from cvfs_server.sources.base import Source
from cvfs_server.sources.dirtab import DIRTAB
from cvfs_server.sources.walk import WalkRules, walk

_DAY = 86400


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How to publish: the new tag and its description; `base` is the root catalog that the changes were made on, if not the
    present one.

    `report` is called with the kind of each change and its path, `progress` with entries and bytes looked at so far.
    """

    tag: str = ""
    message: str = ""
    base: ContentHash | None = None
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


@dataclass(frozen=True, slots=True)
class Contribution:
    """A source, and how it is looked at. `done` is called with the new root hash once it is published as it was drafted."""

    source: Source
    recognise: Callable[[bytes, int], bool] = lambda _path, _inode: False
    trust: TrustRules = field(default_factory=TrustRules)
    done: Callable[[ContentHash], None] = lambda _root: None


@dataclass(frozen=True, slots=True)
class Base:
    """What a draft is built on: a revision, its catalogs, and the publisher who works on it."""

    repository: PublishedRepository
    tree: CatalogTree
    publisher: Publisher


# How a source is opened once it is known what it is to be put on.
OpenSource = Callable[[Base], Contribution]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A revision whose objects and catalogs are stored, and that nobody can see."""

    root: StoredCatalog
    contents: Counters
    version: Version


def publish(site: Site, fqrn: str, open_source: OpenSource, options: PublishOptions | None = None) -> PublishReport:
    """Publish changes as a new revision.

    Raises Locked, Conflict, Unpublishable naming the path, StoreFull; then the published revision is what it was.
    """
    options = options or PublishOptions()
    started, tally = time.monotonic(), _Tally(options)
    settings = load_settings(site, fqrn)
    with registered(settings, "publish") as publisher:
        repository = PublishedRepository.open(site, fqrn, publisher.storage)
        _history_for(repository, options)
        base = Base(
            repository,
            repository.tree_of(options.base or repository.manifest.root_catalog, publisher.scratch),
            publisher,
        )
        contribution = open_source(base)
        draft = _build(base, contribution, tally)
        with switching(settings, "publish"):
            final, repository = _rebase(draft, base, tally)
            history = _history_for(repository, options)
            release(site, settings, _revision(repository, history, final, options), publisher)
            if final is draft:
                contribution.done(draft.root.content)
    return _report(fqrn, final, tally, time.monotonic() - started)


def _build(base: Base, contribution: Contribution, tally: _Tally) -> _Draft:
    """Walk, compare, ingest, build: the new root catalog with everything below it stored."""
    repository, published, source = base.repository, base.tree, contribution.source
    settings, version = repository.settings, _next_version(repository)
    rules = WalkRules(contribution.recognise, repository.small_file(published, b"/" + DIRTAB))
    settlement = Settlement(published, source, settings.form, mtime_ns=settings.mtime_ns)
    builder = CatalogBuilder(published, repository.catalogs(base.publisher.scratch), version, tally.report)
    with Ingest(repository.storage, settings.form, source, tally.options.workers) as ingest:
        changes = find_changes(walk(source, published, rules), published, contribution.trust)
        ingested = tally.watch(ingest.run(changes))
        root, contents = builder.build(settlement.settle(item) for item in ingested)
    return _Draft(root, contents, version)


def _rebase(draft: _Draft, base: Base, tally: _Tally) -> tuple[_Draft, PublishedRepository]:
    """The draft on top of what is published now, and that; the caller holds the lock. Raises Conflict."""
    scratch = base.publisher.scratch
    repository = PublishedRepository.open(base.repository.site, base.repository.settings.fqrn, base.publisher.storage)
    if repository.manifest.root_catalog == base.tree.root_hash:
        return draft, repository
    mine, theirs = base.repository.tree_of(draft.root.content, scratch), repository.tree(scratch)
    difference = merge(base.tree, mine, theirs)
    silent = _Tally(PublishOptions(workers=tally.options.workers))
    return _build(Base(repository, theirs, base.publisher), Contribution(difference), silent), repository


def _report(fqrn: str, draft: _Draft, tally: _Tally, seconds: float) -> PublishReport:
    return PublishReport(
        fqrn,
        draft.version.revision,
        str(draft.root.content),
        draft.contents,
        tally.kinds["add"],
        tally.kinds["mod"] + tally.kinds["tou"],
        tally.kinds["rem"],
        tally.bytes_in,
        tally.bytes_stored,
        tally.objects,
        seconds,
    )


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


def _revision(repository: PublishedRepository, history: History, draft: _Draft, options: PublishOptions) -> Revision:
    settings, manifest = repository.settings, repository.manifest
    root, version = draft.root, draft.version
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
