"""A draft: a revision whose objects and catalogs are stored, on top of another one, and that nobody can see yet.

walk → changes → ingest → rows → catalogs. The stream is lazy: memory follows the widest directory, not the tree.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cvfs.catalog.schema import Counters
from cvfs.catalog.tree import CatalogTree
from cvfs.hashes import ContentHash
from cvfs_server.autocatalogs import Weights, balance
from cvfs_server.catalogs.builder import CatalogBuilder, Version
from cvfs_server.catalogs.objects import StoredCatalog
from cvfs_server.catalogs.rows import Settlement
from cvfs_server.changes import TrustRules, find_changes
from cvfs_server.ingest.ingest import Ingest
from cvfs_server.limits import watch_files
from cvfs_server.publication import Tally
from cvfs_server.publishers import Publisher
from cvfs_server.repository import PublishedRepository
from cvfs_server.sources.base import Source
from cvfs_server.sources.dirtab import DIRTAB
from cvfs_server.sources.grafts import GraftedSource
from cvfs_server.sources.walk import WalkRules, walk


@dataclass(frozen=True, slots=True)
class Contribution:
    """A source, and how it is looked at. `done` is called with the new root hash once it is published as it was drafted."""

    source: Source
    recognise: Callable[[bytes, int], bool] = lambda _path, _inode: False
    trust: TrustRules = field(default_factory=TrustRules)
    done: Callable[[ContentHash], None] = lambda _root: None


@dataclass(frozen=True, slots=True)
class Base:
    """What a draft is built on: a repository, the catalogs of one of its revisions, the publisher who works on it."""

    repository: PublishedRepository
    tree: CatalogTree
    publisher: Publisher


@dataclass(frozen=True, slots=True)
class Draft:
    """The new root catalog, and what the whole repository contains with it."""

    root: StoredCatalog
    contents: Counters
    version: Version


def build_draft(base: Base, contribution: Contribution, tally: Tally, predecessors: CatalogTree | None = None) -> Draft:
    """Everything that the source changes, on the base. Raises Unpublishable naming the path, StoreFull.

    `predecessors` are the catalogs of the last revision, where the base is a draft itself.
    """
    repository, published = base.repository, base.tree
    settings, options = repository.settings, tally.options
    form, version = options.form(settings), _next_version(base, options.number_after(_last_number(base, predecessors)))
    source = GraftedSource(contribution.source, external=form.external)
    dirtab = repository.small_file(published, b"/" + DIRTAB)
    rules = WalkRules(contribution.recognise, dirtab, keep_automatic=settings.autocatalogs)
    settlement = Settlement(published, source, form, mtime_ns=settings.mtime_ns)
    objects = repository.catalogs(base.publisher.scratch)
    builder = CatalogBuilder(published, objects, version, tally.report, predecessors, watch=tally.catalog)
    with Ingest(repository.storage, form, source, options.workers) as ingest:
        changes = find_changes(
            walk(source, published, rules), published, replace(contribution.trust, external=form.external)
        )
        changes = watch_files(changes, settings.limits, options.warn)
        settled = (settlement.settle(item) for item in tally.watch(ingest.run(changes)))
        root, contents = builder.build(tally.count(settled))
    return Draft(root, contents, version)


def balance_draft(base: Base, draft: Draft, tally: Tally) -> Draft:
    """The draft with catalogs of the weights that CVMFS_AUTOCATALOGS asks for. Raises StoreFull."""
    settings, scratch = base.repository.settings, base.publisher.scratch
    if not settings.autocatalogs:
        return draft
    tree = base.repository.tree_of(draft.root.content, scratch)
    weights = Weights(settings.autocatalogs_max_weight, settings.autocatalogs_min_weight)
    source = balance(base.tree, tree, weights)
    if source is None:
        return draft
    return build_draft(Base(base.repository, tree, base.publisher), Contribution(source), tally, base.tree)


def _last_number(base: Base, predecessors: CatalogTree | None) -> int:
    """The revision that the draft follows: the newest, or that of the tag that is checked out: branches count their own."""
    tree, manifest = predecessors or base.tree, base.repository.manifest
    return manifest.revision if tree.root_hash == manifest.root_catalog else tree.root().revision


def _next_version(base: Base, number: int) -> Version:
    # Clients refuse to go back in time: a clock that was set back does not take the repository with it.
    now = max(int(time.time()), base.repository.manifest.timestamp)
    return Version(number, now, base.repository.settings.ttl)
