"""The publish way, top to bottom: base → draft → (lock) merge → release.

A draft is built on the revision that was there at the beginning, without any lock. Under the lock it is put on top of what
others published meanwhile, if need be, and the manifest is switched, which is the last act and the first that anybody sees.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

from cvfs.errors import CvfsError
from cvfs.hashes import ContentHash
from cvfs.history import Tag, advance, check_description
from cvfs_server.draft import Base, Contribution, Draft, balance_draft, build_draft
from cvfs_server.gc.collect import collect_if_due
from cvfs_server.limits import check_catalogs
from cvfs_server.merge import merge
from cvfs_server.publication import PublishOptions, PublishReport, Tally
from cvfs_server.publishers import registered, switching
from cvfs_server.release import Revision, release
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import load_settings
from cvfs_server.signing.expiry import expiry_warning
from cvfs_server.signing.keys import check_keys
from cvfs_server.site import Site
from cvfs_server.statistics import PublishNumbers, record_publish
from cvfs_server.tags.branches import Checkout, check_branch_tag, checked_out, release_branch
from cvfs_server.tags.tags import check_new_tag, keep_automatic_since

# How a source is opened once it is known what it is to be put on.
OpenSource = Callable[[Base], Contribution]


def publish(site: Site, fqrn: str, open_source: OpenSource, options: PublishOptions | None = None) -> PublishReport:
    """Publish changes as a new revision.

    Raises Locked, Conflict, Unpublishable naming the path, StoreFull; then the published revision is what it was.
    """
    options = options or PublishOptions()
    started, began, tally = time.time(), time.monotonic(), Tally(options)
    settings = load_settings(site, fqrn)
    check_keys(site, fqrn)
    with registered(settings, "publish") as publisher:
        repository = PublishedRepository.open(site, fqrn, publisher.storage)
        checkout = checked_out(settings)
        _check_tags(repository, checkout, options)
        base = Base(repository, repository.tree_of(_start(repository, checkout, options), publisher.scratch), publisher)
        contribution = open_source(base)
        draft = balance_draft(base, build_draft(base, contribution, tally), tally)
        check_catalogs(tally.catalogs, settings.limits, options.warn)
        base, latest = (base, draft) if checkout else _catch_up(base, draft, options)
        # Before the lock: under it only what is new since then is flushed, or asked for.
        publisher.storage.sync()
        with switching(settings, "publish"):
            final = _land(base, latest, checkout, options)
            if final is draft:
                with published_already(
                    fqrn, "what was seen is not remembered, so that more is read next time", options
                ):
                    contribution.done(draft.root.content)
    numbers = tally.statistics(final.version.revision)
    record_publish(settings, numbers, started)
    with published_already(fqrn, "nobody knows how long its whitelist is valid", options):
        if warning := expiry_warning(site, settings, time.time()):
            options.warn(warning)
    return _report(fqrn, final, tally, numbers, time.monotonic() - began)


def collect_garbage(site: Site, fqrn: str, options: PublishOptions) -> None:
    """If it is due, after a publish, when whoever called it holds nothing any more."""
    with published_already(fqrn, "its garbage was not collected", options):
        collect_if_due(site, fqrn)


@contextlib.contextmanager
def published_already(fqrn: str, trouble: str, options: PublishOptions) -> Iterator[None]:
    """What fails here does not undo what is published, and whoever publishes must not believe that it does."""
    try:
        yield
    except (CvfsError, OSError) as error:
        options.warn(f"{fqrn} is published, but {trouble}: {error}")


def _start(repository: PublishedRepository, checkout: Checkout | None, options: PublishOptions) -> ContentHash:
    if checkout:
        return checkout.root
    return options.base or repository.manifest.root_catalog


def _check_tags(repository: PublishedRepository, checkout: Checkout | None, options: PublishOptions) -> None:
    """What cannot be given a name in the end is refused before any work."""
    history = repository.history()
    check_description(options.message)
    if checkout:
        check_branch_tag(history, checkout, options.tag)
    else:
        keep_automatic_since(repository.settings.auto_tag_timespan, 0)
        check_new_tag(history, options.tag, repository.manifest.root_catalog)


def _catch_up(base: Base, draft: Draft, options: PublishOptions) -> tuple[Base, Draft]:
    """The draft on what is published by now, so that little is left for the time of the lock. Raises Conflict."""
    opened = base.repository
    present = PublishedRepository.open(opened.site, opened.settings.fqrn, base.publisher.storage)
    if present.manifest.root_catalog == base.tree.root_hash:
        return base, draft
    now = Base(present, present.tree(base.publisher.scratch), base.publisher)
    return now, _rebase(base, draft, present, options)


def _land(base: Base, draft: Draft, checkout: Checkout | None, options: PublishOptions) -> Draft:
    """Make the draft what is published; the caller holds the lock. Raises Conflict."""
    opened = base.repository
    repository = PublishedRepository.open(opened.site, opened.settings.fqrn, base.publisher.storage)
    _check_tags(repository, checkout, options)
    if checkout:
        release_branch(repository, checkout, _tag(draft, options, checkout.branch), base.publisher)
        return draft
    if repository.manifest.root_catalog != base.tree.root_hash:
        draft = _rebase(base, draft, repository, options)
    release(repository.site, repository.settings, _revision(repository, draft, options), base.publisher)
    return draft


def _rebase(base: Base, draft: Draft, present: PublishedRepository, options: PublishOptions) -> Draft:
    """The draft on top of what others published meanwhile. Raises Conflict."""
    scratch = base.publisher.scratch
    mine, theirs = present.tree_of(draft.root.content, scratch), present.tree(scratch)
    difference = Contribution(merge(base.tree, mine, theirs))
    # What it changes was counted and reported when it was drafted.
    silent = dataclasses.replace(PublishOptions(), workers=options.workers, revision=options.revision)
    tally = Tally(silent)
    rebased = build_draft(Base(present, theirs, base.publisher), difference, tally)
    check_catalogs(tally.catalogs, present.settings.limits, options.warn)
    return rebased


def _revision(repository: PublishedRepository, draft: Draft, options: PublishOptions) -> Revision:
    settings, manifest, version = repository.settings, repository.manifest, draft.version
    since = keep_automatic_since(settings.auto_tag_timespan, version.now)
    head, history = _tag(draft, options), repository.history()
    tags = advance(history, head, manifest.history, automatic=settings.auto_tag, keep_automatic_since=since)
    return Revision(version.revision, version.now, draft.root, tags, manifest, manifest.metainfo)


def _tag(draft: Draft, options: PublishOptions, branch: str = "") -> Tag:
    version, root = draft.version, draft.root
    return Tag(options.tag, root.content, version.revision, version.now, options.message, root.size, branch)


def _report(fqrn: str, draft: Draft, tally: Tally, numbers: PublishNumbers, seconds: float) -> PublishReport:
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
        numbers,
    )
