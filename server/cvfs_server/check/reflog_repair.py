"""The reflog put right again: its digest on this machine, and the root objects that it lacks, or the whole file anew.

Roots come from the manifest, the tags, and the predecessors that tag databases and root catalogs name, as far as they are
still stored. Nothing is taken out. Source: FORMAT section 7.
"""

import os
from collections.abc import Iterator
from contextlib import closing

from cvfs import reflog
from cvfs.catalog.reader import Catalog
from cvfs.errors import FormatError, MissingObject, StoreError
from cvfs.format.manifest import Manifest
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.history import History
from cvfs.reflog import Reflog
from cvfs.store.base import fetch_document
from cvfs_server.check.documents import MAX_REFLOG
from cvfs_server.check.inspection import MAX_CATALOG
from cvfs_server.check.objects import inflate
from cvfs_server.check.tags import read_history
from cvfs_server.publishers import publishing
from cvfs_server.repository import PublishedRepository
from cvfs_server.site import Site
from cvfs_server.state import read_state, write_state
from cvfs_server.storage.base import Storage


def repair_reflog(site: Site, fqrn: str) -> list[str]:
    """Put it right; what was done, a line each. Raises Locked, StoreError, NotFound for a missing key."""
    settings = PublishedRepository.open(site, fqrn).settings
    with publishing(settings, "repair of the reflog") as publisher:
        repository = PublishedRepository.open(site, fqrn, publisher.storage)
        repair = _Repair(repository.storage, repository.manifest, publisher.scratch)
        done = repair.complete()
        place = f"{settings.spool}/reflog.chksum"
        digest = str(reflog.digest(repair.path, settings.algorithm))
        recorded = (read_state(place) or b"").decode("ascii", "replace").strip()
        if repair.is_changed:
            with open(repair.path, "rb") as file:
                repository.storage.replace(reflog.NAME, file.read())
        if recorded != digest:
            write_state(place, digest.encode())
            what = "restored" if recorded else "re-created missing"
            done.append(f"{what} reflog checksum as {digest}" + (f" (was: {recorded})" if recorded else ""))
        return done


class _Repair:
    """A private copy of the reflog, in `path`, that gets what it lacks."""

    def __init__(self, storage: Storage, manifest: Manifest, scratch: str) -> None:
        self._storage = storage
        self._manifest = manifest
        self._scratch = scratch
        self.path = f"{scratch}/reflog.repair"
        self.is_changed = False

    def complete(self) -> list[str]:
        """What was done to it."""
        done = self._open()
        with Reflog.open(self.path) as log:
            known = {reference.content for reference in log.references()}
            roots = self._all_roots() if self.is_changed else self._named()
            lacking = [content for content in dict.fromkeys(roots) if content not in known]
            for content in lacking:
                log.add(content, self._manifest.timestamp)
        if lacking:
            self.is_changed = True
            done.append(f"reflog: {len(lacking)} root objects were not listed")
        return done

    def _open(self) -> list[str]:
        try:
            data = fetch_document(self._storage, reflog.NAME, MAX_REFLOG)
        except MissingObject:
            return self._create("is missing")
        with open(self.path, "wb") as file:
            file.write(data)
        try:
            with Reflog.open(self.path) as log:
                log.references()
                trouble = "" if log.fqrn == self._manifest.fqrn else f"is that of {log.fqrn or 'nobody'}"
        except FormatError as error:
            trouble = f"cannot be read: {error}"
        if trouble:
            os.unlink(self.path)
        return self._create(trouble) if trouble else []

    def _create(self, reason: str) -> list[str]:
        Reflog.create(self.path, self._manifest.fqrn).close()
        self.is_changed = True
        return [f"reflog {reason}: made anew from what manifest, tags and catalogs name"]

    def _named(self) -> Iterator[ContentHash]:
        """What has to be there at least."""
        manifest = self._manifest
        named = (manifest.root_catalog, manifest.certificate, manifest.history, manifest.metainfo)
        yield from filter(None, named)
        for history in self._histories(1):
            yield from (tag.root_catalog for tag in history.tags)

    def _all_roots(self) -> Iterator[ContentHash]:
        """The same, and every predecessor that is still stored, the oldest ones last."""
        seen = dict.fromkeys(self._named())
        content = self._manifest.history
        for history in self._histories():
            seen |= dict.fromkeys(tag.root_catalog for tag in history.tags if self._storage.has(tag.root_catalog.path))
            content = history.predecessor
            if content is not None and self._storage.has(content.path):
                seen[content] = None
        waiting = [content for content in seen if content.kind is ObjectKind.CATALOG]
        while waiting:
            predecessor = self._predecessor(waiting.pop())
            if predecessor is not None and predecessor not in seen and self._storage.has(predecessor.path):
                seen[predecessor] = None
                waiting.append(predecessor)
        yield from seen

    def _histories(self, most: int | None = None) -> Iterator[History]:
        """The tag database and those before it, until one is gone."""
        content, seen = self._manifest.history, set[ContentHash]()
        while content is not None and content not in seen and (most is None or len(seen) < most):
            seen.add(content)
            try:
                history = read_history(self._storage, content, self._scratch)
            except (MissingObject, FormatError):
                return
            yield history
            content = history.predecessor

    def _predecessor(self, root: ContentHash) -> ContentHash | None:
        """The root catalog before this one; None too if this one cannot be read, which `check` tells."""
        path = f"{self._scratch}/{root.name}"
        try:
            inflate(self._storage, root, path, MAX_CATALOG)
        except StoreError:
            return None
        try:
            with closing(Catalog.open(path)) as catalog:
                return catalog.previous_revision
        except FormatError:
            return None
        finally:
            os.unlink(path)
