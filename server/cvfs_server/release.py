"""From a root catalog to a revision that clients accept: tags, reflog, signed manifest; the pointer is switched last.

Everything before the switch is invisible to clients; a crash leaves garbage only. Source: FORMAT sections 2, 6, 7, A.2.
"""

import dataclasses
import os
import time

from cvfs import reflog
from cvfs.compression import ZLIB
from cvfs.errors import FormatError
from cvfs.format.manifest import Manifest
from cvfs.format.signature import sign_manifest
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.history import History
from cvfs.reflog import NAME as REFLOG
from cvfs.reflog import Reflog
from cvfs.store.base import fetch_document
from cvfs_server.catalogs.objects import StoredCatalog
from cvfs_server.publishers import Publisher
from cvfs_server.repository import MANIFEST
from cvfs_server.settings import RepositorySettings
from cvfs_server.signing.keys import load_private_key, read_key_file
from cvfs_server.site import Site
from cvfs_server.state import write_state
from cvfs_server.storage.base import Storage

MAX_REFLOG = 256 * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class Revision:
    """What is to be released: number, Unix time, root catalog, tags, meta info, the predecessor's manifest if any.

    `forerunners` are root catalogs that belong into the reflog although no manifest names them.
    """

    number: int
    now: int
    root: StoredCatalog
    history: History
    previous: Manifest | None = None
    metainfo: ContentHash | None = None
    forerunners: tuple[ContentHash, ...] = ()

    @classmethod
    def again(cls, manifest: Manifest, history: History) -> "Revision":
        """What a manifest names, to be released once more with these tags; its time never goes back."""
        root = StoredCatalog(manifest.root_catalog, manifest.root_size)
        now = max(int(time.time()), manifest.timestamp)
        return cls(manifest.revision, now, root, history, manifest, manifest.metainfo)


def release(site: Site, settings: RepositorySettings, revision: Revision, publisher: Publisher) -> Manifest:
    """Publish a revision whose objects and catalogs are stored. Raises StoreFull, NotFound for a missing key."""
    storage = publisher.storage
    certificate = put_object(
        storage, settings.algorithm, ObjectKind.CERTIFICATE, read_key_file(site.key(settings.fqrn, "crt"))
    )
    history = put_object(storage, settings.algorithm, ObjectKind.HISTORY, revision.history.serialise())
    manifest = Manifest(
        root_catalog=revision.root.content,
        revision=revision.number,
        fqrn=settings.fqrn,
        certificate=certificate,
        root_size=revision.root.size,
        ttl=settings.ttl,
        garbage_collectable=settings.garbage_collection,
        history=history,
        timestamp=revision.now,
        metainfo=revision.metainfo,
    )
    named = (*revision.forerunners, revision.root.content, certificate, history, revision.metainfo)
    digest = _extend_reflog(storage, settings, [c for c in named if c], revision, publisher.scratch)
    manifest = dataclasses.replace(manifest, reflog=digest)
    switch(site, settings, storage, manifest)
    return manifest


def switch(site: Site, settings: RepositorySettings, storage: Storage, manifest: Manifest) -> None:
    """Sign a manifest and put it in place of the old one, in one atomic act, once everything else is there to stay."""
    key = load_private_key(site.key(settings.fqrn, "key"))
    storage.sync()
    document = sign_manifest(manifest.serialise(), settings.algorithm, key)
    storage.replace(MANIFEST, document)


def put_object(storage: Storage, algorithm: Algorithm, kind: ObjectKind, content: bytes) -> ContentHash:
    """Store a small document as an object: always zlib level 6, replicas compress it again (section 3.3)."""
    stored = ZLIB.encode(content)
    named = ContentHash.of(stored, algorithm, kind)
    storage.put(named.path, stored)
    return named


def _extend_reflog(
    storage: Storage, settings: RepositorySettings, named: list[ContentHash], revision: Revision, scratch: str
) -> ContentHash:
    """Write down the root objects; returns the digest of the new file, which the spool area keeps too."""
    path = f"{scratch}/reflog"
    _fetch_reflog(storage, path, revision.previous, settings.fqrn)
    with Reflog.open(path) as log:
        known = {reference.content for reference in log.references()}
        for content in named:
            if content not in known:
                log.add(content, revision.now)
    digest = reflog.digest(path, settings.algorithm)
    with open(path, "rb") as file:
        storage.replace(REFLOG, file.read())
    os.unlink(path)
    write_state(f"{settings.spool}/reflog.chksum", str(digest).encode())
    return digest


def _fetch_reflog(storage: Storage, path: str, previous: Manifest | None, fqrn: str) -> None:
    """The present reflog as a private file, or a new one.

    A publisher that was killed between reflog and manifest leaves a digest that does not match: what counts is that the
    file can be read and holds what the manifest names; lines too many do no harm.
    """
    if not storage.has(REFLOG):
        Reflog.create(path, fqrn).close()
        if previous:
            _add_manifest(path, previous)
        return
    with open(path, "wb") as file:
        file.write(fetch_document(storage, REFLOG, MAX_REFLOG))
    advice = "cvfs-server check -r puts it right"
    try:
        with Reflog.open(path) as log:
            known = {reference.content for reference in log.references()}
    except FormatError as error:
        raise FormatError(f"{storage.place}/{REFLOG}: {error}; {advice}") from error
    if previous and not known.issuperset(_roots(previous)):
        raise FormatError(f"{storage.place}/{REFLOG}: lacks what the manifest names; {advice}")


def _add_manifest(path: str, manifest: Manifest) -> None:
    with Reflog.open(path) as log:
        for content in _roots(manifest):
            log.add(content, manifest.timestamp)


def _roots(manifest: Manifest) -> list[ContentHash]:
    named = (manifest.root_catalog, manifest.certificate, manifest.history, manifest.metainfo)
    return [content for content in named if content]
