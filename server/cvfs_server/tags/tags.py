"""Named revisions: list, add, move, remove. Each change publishes a new tag database under the same root and revision.

Source: FORMAT section 6.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator

from cvfs.catalog.reader import Catalog
from cvfs.errors import NotFound, UsageError
from cvfs.hashes import ContentHash
from cvfs.history import DEFAULT_BRANCH, TRUNK, TRUNK_PREVIOUS, Branch, History, Tag
from cvfs_server.gc.condemned import is_condemned
from cvfs_server.publishers import Publisher, publishing
from cvfs_server.release import Revision, release
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import load_settings
from cvfs_server.signing.keys import check_keys
from cvfs_server.site import Site
from cvfs_server.tags.branches import refuse_checked_out
from cvfs_server.tags.dates import parse_date

_PUBLISHERS_OWN = (TRUNK, TRUNK_PREVIOUS)


def list_tags(site: Site, fqrn: str) -> list[Tag]:
    """All tags, the latest first."""
    tags = PublishedRepository.open(site, fqrn).history().tags
    return sorted(tags, key=lambda tag: (-tag.timestamp, -tag.revision, tag.name))


def list_branches(site: Site, fqrn: str) -> list[tuple[int, Branch]]:
    """All branches, each with its distance from the default branch, which is the first; children follow their parent."""
    return list(_hierarchy(PublishedRepository.open(site, fqrn).history().branches))


def add_tag(
    site: Site,
    fqrn: str,
    name: str,
    message: str = "",
    root: ContentHash | None = None,
    *,
    moving: Callable[[Tag, Tag], None] = lambda _old, _new: None,
) -> Tag:
    """Name the present revision, or the published root catalog `root`, to which a name that is taken is moved.

    `moving` is called with the tag as it was and as it is to be. Raises UsageError if the name is not free or not allowed,
    NotFound or FormatError if `root` is no root catalog.
    """
    with _editing(site, fqrn) as (repository, publisher):
        history, tag = repository.history(), _tag_for(repository, name, message, root, publisher.scratch)
        if root and history.has(name):
            former = history.find(name)
            tag = _moved(former, tag)
            moving(former, tag)
            history = history.without(name)
        _publish(repository, history.with_tag(tag).without_idle_branches(), publisher)
        return tag


def remove_tags(site: Site, fqrn: str, names: list[str]) -> list[Tag]:
    """Forget names, all or none; the revisions stay until they are collected. Raises NotFound, UsageError for trunk."""
    with _editing(site, fqrn) as (repository, publisher):
        history, removed = repository.history(), []
        for name in dict.fromkeys(names):
            if name in _PUBLISHERS_OWN:
                raise UsageError(f"tag {name!r} belongs to the publisher, it cannot be removed")
            removed.append(history.find(name))
            history = history.without(name)
        _publish(repository, history.without_idle_branches(), publisher)
        return removed


def check_new_tag(history: History, name: str, root: ContentHash) -> None:
    """Raises UsageError if the revision `root` cannot be given this name: taken, or no name. Empty is none at all."""
    if name and history.has(name):
        raise UsageError(f"tag {name!r} exists already: remove it first or choose another name")
    if name:
        history.with_tag(Tag(name, root, 0, 0))


def keep_automatic_since(timespan: str, now: int) -> int:
    """The Unix time before which automatic tags are dropped; 0 keeps all, and so does an empty `timespan`.

    `timespan` is a date as users write `CVMFS_AUTO_TAG_TIMESPAN`, for instance "4 weeks ago". Raises UsageError.
    """
    if not timespan:
        return 0
    try:
        since = parse_date(timespan, now)
    except UsageError as error:
        raise UsageError(f"CVMFS_AUTO_TAG_TIMESPAN={timespan!r}: expected for instance '4 weeks ago'") from error
    if since > now:
        # Every automatic tag would go.
        raise UsageError(f"CVMFS_AUTO_TAG_TIMESPAN={timespan!r} lies in the future: write for instance '4 weeks ago'")
    return max(0, since)


@contextlib.contextmanager
def _editing(site: Site, fqrn: str) -> Iterator[tuple[PublishedRepository, Publisher]]:
    settings = load_settings(site, fqrn)
    check_keys(site, fqrn)
    with publishing(settings, "tag") as publisher:
        refuse_checked_out(settings, "a change of tags")
        yield PublishedRepository.open(site, fqrn, publisher.storage), publisher


def _tag_for(repository: PublishedRepository, name: str, message: str, root: ContentHash | None, scratch: str) -> Tag:
    if name in _PUBLISHERS_OWN:
        raise UsageError(f"tag {name!r} belongs to the publisher: choose another name")
    manifest = repository.manifest
    if root is None or root == manifest.root_catalog:
        return Tag(name, manifest.root_catalog, manifest.revision, manifest.timestamp, message, manifest.root_size)
    if is_condemned(repository.settings, root):
        raise NotFound(f"{root}: garbage collection is removing this root catalog, nothing can be called so any more")
    if not repository.storage.has(root.path):
        raise NotFound(f"{root}: no such root catalog in the storage of {manifest.fqrn}")
    path = repository.catalogs(scratch).inflate(root)
    with contextlib.closing(Catalog.open(path)) as catalog:
        return Tag(name, root, catalog.revision, catalog.last_modified, message, os.path.getsize(path))


def _moved(former: Tag, tag: Tag) -> Tag:
    """A tag that moves stays on its branch, and keeps its description unless it gets another one."""
    if former.root_catalog == tag.root_catalog:
        raise UsageError(f"tag {tag.name!r} points to {tag.root_catalog} already")
    return dataclasses.replace(tag, branch=former.branch, description=tag.description or former.description)


def _hierarchy(branches: tuple[Branch, ...]) -> Iterator[tuple[int, Branch]]:
    pending = [(0, branch) for branch in branches if branch.name == DEFAULT_BRANCH]
    while pending:
        level, branch = pending.pop()
        yield level, branch
        children = [child for child in branches if child.parent == branch.name]
        pending.extend((level + 1, child) for child in reversed(children))


def _publish(repository: PublishedRepository, history: History, publisher: Publisher) -> None:
    manifest = repository.manifest
    history = dataclasses.replace(history, predecessor=manifest.history)
    release(repository.site, repository.settings, Revision.again(manifest, history), publisher)
