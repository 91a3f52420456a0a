"""Named revisions: list, add, remove. Each change publishes a new tag database under the same root catalog and revision.

Source: FORMAT section 6.
"""

import contextlib
import dataclasses
import os
import time

from cvfs.catalog.reader import Catalog
from cvfs.errors import NotFound, UsageError
from cvfs.hashes import ContentHash
from cvfs.history import TRUNK, TRUNK_PREVIOUS, History, Tag
from cvfs_server.catalogs.objects import StoredCatalog
from cvfs_server.publishers import Publisher, publishing
from cvfs_server.release import Revision, release
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import load_settings
from cvfs_server.site import Site


def list_tags(site: Site, fqrn: str) -> list[Tag]:
    """All tags, the newest revision first."""
    return PublishedRepository.open(site, fqrn).history().newest_first()


def add_tag(site: Site, fqrn: str, name: str, message: str = "", root: ContentHash | None = None) -> Tag:
    """Name the present revision, or the published root catalog `root`. Raises UsageError if the name is taken."""
    with publishing(load_settings(site, fqrn), "tag") as publisher:
        repository = PublishedRepository.open(site, fqrn, publisher.storage)
        tag = _tag_for(repository, name, message, root, publisher.scratch)
        _publish(repository, repository.history().with_tag(tag), publisher)
        return tag


def remove_tags(site: Site, fqrn: str, names: list[str]) -> None:
    """Forget names; the revisions stay until they are collected. Raises NotFound, UsageError for trunk."""
    with publishing(load_settings(site, fqrn), "tag") as publisher:
        repository = PublishedRepository.open(site, fqrn, publisher.storage)
        history = repository.history()
        for name in names:
            if name in (TRUNK, TRUNK_PREVIOUS):
                raise UsageError(f"tag {name!r} belongs to the publisher, it cannot be removed")
            history = history.without(name)
        _publish(repository, history, publisher)


def _tag_for(repository: PublishedRepository, name: str, message: str, root: ContentHash | None, scratch: str) -> Tag:
    manifest = repository.manifest
    if root is None or root == manifest.root_catalog:
        return Tag(name, manifest.root_catalog, manifest.revision, manifest.timestamp, message, manifest.root_size)
    if not repository.storage.has(root.path):
        raise NotFound(f"{root}: no such root catalog in the storage of {manifest.fqrn}")
    path = repository.catalogs(scratch).inflate(root)
    with contextlib.closing(Catalog.open(path)) as catalog:
        return Tag(name, root, catalog.revision, catalog.last_modified, message, os.path.getsize(path))


def _publish(repository: PublishedRepository, history: History, publisher: Publisher) -> None:
    manifest = repository.manifest
    history = dataclasses.replace(history, predecessor=manifest.history)
    root = StoredCatalog(manifest.root_catalog, manifest.root_size)
    now = max(int(time.time()), manifest.timestamp)
    revision = Revision(manifest.revision, now, root, history, manifest, manifest.metainfo)
    release(repository.site, repository.settings, revision, publisher)
