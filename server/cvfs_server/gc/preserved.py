"""Which root objects of a repository are kept, and which are condemned: the rules of the original; deletes nothing.

Beyond those rules the revisions are kept that somebody works on: the base of an open transaction, and what is checked out.
Source: FORMAT sections 7, 10.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from cvfs.errors import FormatError, MissingObject, NotFound
from cvfs.format.manifest import Manifest
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.reflog import NAME as REFLOG
from cvfs.reflog import Reference, Reflog
from cvfs.store.base import Store, fetch_document
from cvfs_server.gc.walk import CatalogWalk
from cvfs_server.release import MAX_REFLOG
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import RepositorySettings
from cvfs_server.site import Site
from cvfs_server.tags.branches import checked_out
from cvfs_server.transaction.layout import Layout
from cvfs_server.transaction.record import read_record


@dataclass(frozen=True, slots=True)
class Keeping:
    """How much history is kept: so many revisions before the present one, or what was published since a Unix time."""

    revisions: int | None = None
    since: int | None = None

    def goes_on(self, depth: int, published: int) -> bool:
        """Whether the predecessor is kept of a revision of this age; the revision itself is kept in any case."""
        if self.revisions is not None and depth >= self.revisions:
            return False
        return self.since is None or published >= self.since


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What decides about roots, as it was at one moment: equal snapshots mean that nothing has changed.

    `tagged` and `bases` are root catalogs: of the tags, and of those who work on a revision.
    """

    manifest: Manifest
    tagged: tuple[ContentHash, ...]
    bases: tuple[ContentHash, ...]
    references: tuple[Reference, ...]

    @property
    def named(self) -> tuple[ContentHash, ...]:
        """What the manifest names besides the root catalog."""
        manifest = self.manifest
        named = (manifest.certificate, manifest.history, manifest.metainfo, manifest.micro_catalog)
        return tuple(content for content in named if content)

    @property
    def roots(self) -> tuple[ContentHash, ...]:
        """All root catalogs that are needed, whatever is said about history."""
        return (self.manifest.root_catalog, *self.tagged, *self.bases)

    def times(self) -> dict[bytes, int]:
        """When each root catalog was written down, by digest, in Unix time."""
        return {r.content.digest: r.timestamp for r in self.references if r.content.kind is ObjectKind.CATALOG}


def take_snapshot(site: Site, settings: RepositorySettings, scratch: str) -> Snapshot:
    """The present state. Raises NotFound without a reflog, which is what says that something is garbage."""
    repository = PublishedRepository.open(site, settings.fqrn)
    path = f"{scratch}/reflog"
    fetch_reflog(repository.storage, path)
    try:
        with Reflog.open(path) as reflog:
            references = tuple(reflog.references())
    except FormatError as error:
        raise FormatError(
            f"{repository.storage.place}/{REFLOG}: {error}; cvfs-server check -r makes it anew"
        ) from error
    finally:
        os.unlink(path)
    tagged = tuple(dict.fromkeys(tag.root_catalog for tag in repository.history().tags))
    return Snapshot(repository.manifest, tagged, _bases(site, settings), references)


def _bases(site: Site, settings: RepositorySettings) -> tuple[ContentHash, ...]:
    found: list[ContentHash] = []
    if transaction := read_record(Layout.of(site, settings)):
        # What a template's copy made is in no reflog yet.
        found += (transaction.base_hash, transaction.shown)
    if checkout := checked_out(settings):
        found.append(checkout.root)
    return tuple(found)


def fetch_reflog(store: Store, path: str) -> None:
    """A private copy of the reflog. Raises NotFound if there is none."""
    try:
        data = fetch_document(store, REFLOG, MAX_REFLOG)
    except MissingObject:
        raise NotFound(
            f"{REFLOG} is missing: cvfs-server check -r makes one, before that nothing is collected"
        ) from None
    with open(path, "xb") as file:
        file.write(data)


def mark_preserved(snapshot: Snapshot, keeping: Keeping, walk: CatalogWalk) -> int:
    """Read every tree that is kept. Returns the Unix time of the oldest trunk revision among them.

    Raises StoreError, FormatError: what is damaged and to be kept ends the collection.
    """
    times = snapshot.times()
    root: ContentHash | None = snapshot.manifest.root_catalog
    depth, oldest = 0, snapshot.manifest.timestamp or 2**63
    while root:
        try:
            facts = walk.read_root(root)
        except MissingObject:
            if not depth:
                raise
            # It was collected before.
            break
        published = times.get(root.digest, facts.last_modified)
        oldest = min(oldest, published)
        root = facts.previous if keeping.goes_on(depth, published) else None
        depth += 1
    walk.plan(snapshot.roots)
    walk.finish()
    return oldest


def condemned_roots(snapshot: Snapshot, walk: CatalogWalk, oldest: int) -> Iterator[ContentHash]:
    """The objects of the reflog that are not kept: root catalogs, and documents older than the oldest trunk revision."""
    named = {content.digest for content in snapshot.named}
    for reference in snapshot.references:
        content = reference.content
        if content.kind is ObjectKind.CATALOG:
            if not walk.knows(content):
                yield content
        elif content.digest not in named and reference.timestamp < oldest:
            yield content
