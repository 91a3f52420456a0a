"""What an open transaction amounts to, as a source on top of what it began with; mounts nothing, publishes nothing.

A transaction that began with a copy of a sub-tree shows a draft: a revision that is stored and that nobody else can see. What
is published in the end is the difference between the base and the draft with the changes on it.
"""

import dataclasses
import os

from cvfs.catalog.tree import CatalogTree
from cvfs.hashes import ContentHash
from cvfs_server.draft import Base, Contribution, build_draft
from cvfs_server.merge import difference
from cvfs_server.publication import PublishOptions, Tally
from cvfs_server.publishers import registered
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import RepositorySettings
from cvfs_server.site import Site
from cvfs_server.sources.overlay import OverlayRules, OverlaySource
from cvfs_server.sources.scan import ScanRules
from cvfs_server.sources.template import Template
from cvfs_server.transaction.layout import Layout
from cvfs_server.transaction.record import Record, open_record


def transaction_base(site: Site, settings: RepositorySettings) -> ContentHash:
    """The root catalog that the open transaction shows, for `worktree`. Raises UsageError if there is none."""
    return open_record(Layout.of(site, settings)).shown


def worktree(site: Site, settings: RepositorySettings, shown: CatalogTree) -> OverlaySource:
    """What was changed so far, as a source on top of `transaction_base`. Raises UsageError if no transaction is open."""
    layout = Layout.of(site, settings)
    return _changes(layout, open_record(layout), settings, shown)


def contribution(layout: Layout, record: Record, base: Base, options: PublishOptions) -> Contribution:
    """All that a transaction changes, on top of the revision it began with. Raises Unpublishable, StoreFull."""
    repository, publisher = base.repository, base.publisher
    if not record.draft:
        return Contribution(_changes(layout, record, repository.settings, base.tree))
    shown = Base(repository, repository.tree_of(record.shown, publisher.scratch), publisher)
    changes = Contribution(_changes(layout, record, repository.settings, shown.tree))
    # The difference is told in full when it is published.
    silent = dataclasses.replace(options, report=lambda _kind, _path: None)
    result = build_draft(shown, changes, Tally(silent), base.tree).root
    return Contribution(difference(base.tree, repository.tree_of(result.content, publisher.scratch)))


def draft_template(
    site: Site, settings: RepositorySettings, base: ContentHash, origin: bytes, target: bytes
) -> ContentHash:
    """The root catalog of a draft that has the directory `origin` at `target` as well.

    Raises NotFound, NotADirectory, UsageError for impossible paths, StoreFull.
    """
    with registered(settings, "transaction") as publisher:
        repository = PublishedRepository.open(site, settings.fqrn, publisher.storage)
        tree = repository.tree_of(base, publisher.scratch)
        template = Contribution(Template.open(tree, origin, target))
        root = build_draft(Base(repository, tree, publisher), template, Tally(PublishOptions())).root
        publisher.storage.sync()
        return root.content


def _changes(layout: Layout, record: Record, settings: RepositorySettings, shown: CatalogTree) -> OverlaySource:
    rules = ScanRules(settings.mtime_ns, settings.ignore_special_files, settings.xattrs, settings.ignore_xdir_hardlinks)
    overlay = OverlayRules(rules, unprivileged=record.apart, subpath=os.fsencode(record.subpath))
    return OverlaySource(os.fsencode(layout.upper), overlay, shown)
