"""Back to a tag: its root catalog is published again, as the newest revision; nothing that was published is deleted.

Source: FORMAT section 6.
"""

import contextlib
import time
from dataclasses import dataclass

from cvfs.catalog.reader import Catalog
from cvfs.catalog.writer import CatalogWriter
from cvfs.errors import NotFound, UsageError
from cvfs.hashes import ContentHash
from cvfs.history import DEFAULT_BRANCH, TRUNK_PREVIOUS, History, Tag, roll_back
from cvfs_server.catalogs.objects import StoredCatalog
from cvfs_server.publishers import Publisher, publishing
from cvfs_server.release import Revision, release
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import load_settings
from cvfs_server.signing.keys import check_keys
from cvfs_server.site import Site
from cvfs_server.tags.branches import refuse_checked_out


@dataclass(frozen=True, slots=True)
class Rollback:
    """What became of it: the new revision, the tag that it came from as it was, the tags that are gone, the root left."""

    revision: int
    target: Tag
    removed: tuple[Tag, ...]
    left_behind: ContentHash


def rollback(site: Site, fqrn: str, name: str = TRUNK_PREVIOUS) -> Rollback:
    """Publish the revision called `name` once more; later tags of the default branch are removed.

    Raises NotFound, UsageError for a tag that is the present revision or on another branch, Locked, StoreFull.
    """
    settings = load_settings(site, fqrn)
    check_keys(site, fqrn)
    with publishing(settings, "rollback") as publisher:
        refuse_checked_out(settings, "a rollback")
        repository = PublishedRepository.open(site, fqrn, publisher.storage)
        history = repository.history()
        target = find_target(history, name, repository.manifest.revision)
        after = _publish_again(repository, history, target, publisher)
    names = {tag.name for tag in after.tags}
    removed = tuple(tag for tag in history.newest_first() if tag.name not in names)
    return Rollback(repository.manifest.revision + 1, target, removed, repository.manifest.root_catalog)


def find_target(history: History, name: str, present: int) -> Tag:
    """The tag to go back to; `present` is the newest revision. Raises NotFound or UsageError."""
    if name == TRUNK_PREVIOUS and not history.has(name):
        raise NotFound(f"{history.fqrn} has no {name}: only one publish can be undone, name a tag with -t")
    target = history.find(name)
    if target.branch != DEFAULT_BRANCH:
        raise UsageError(f"tag {name!r} is on branch {target.branch!r}: only the default branch can be rolled back")
    if target.revision >= present:
        raise UsageError(f"tag {name!r} is the present revision {present} already")
    return target


def _publish_again(repository: PublishedRepository, history: History, target: Tag, publisher: Publisher) -> History:
    manifest = repository.manifest
    # Clients go neither back to a lower revision nor back in time.
    number, now = manifest.revision + 1, max(int(time.time()), manifest.timestamp)
    root = _renewed_root(repository, target.root_catalog, publisher.scratch, number, now)
    head = Tag("", root.content, number, now, size=root.size)
    after = roll_back(history, target.name, head, manifest.history)
    revision = Revision(number, now, root, after, manifest, manifest.metainfo)
    release(repository.site, repository.settings, revision, publisher)
    return after


def _renewed_root(
    repository: PublishedRepository, content: ContentHash, scratch: str, number: int, now: int
) -> StoredCatalog:
    """The root catalog again, of another revision; in the newest schema. Raises FormatError for one that is no root."""
    objects = repository.catalogs(scratch)
    path = objects.inflate(content)
    with contextlib.closing(Catalog.open(path)) as catalog:
        _, below = catalog.counters()
    writer = CatalogWriter.open(path, b"")
    writer.set_property("TTL", str(repository.settings.ttl))
    writer.finish(number, now, repository.manifest.root_catalog, below)
    return objects.store(path)
