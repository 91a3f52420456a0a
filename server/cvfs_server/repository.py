"""A published repository as its publisher sees it: settings, storage, the manifest of its own signing; changes nothing.

Source: FORMAT sections 2.3, 5.1, 6.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from cvfs.catalog.tree import CatalogTree
from cvfs.compression import Compression, encoder_named
from cvfs.errors import FormatError, MissingObject, NotFound, TrustError
from cvfs.format import manifest as manifests
from cvfs.format.manifest import Manifest
from cvfs.format.signature import Signed, load_certificate, split_signed, verify_manifest_signature
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.history import History
from cvfs.store.base import MAX_DOCUMENT, Wanted, fetch_document
from cvfs.store.verified import Verified
from cvfs.trust import MANIFEST_NAME, MANIFEST_SIGNATURE
from cvfs_server.catalogs.objects import CatalogObjects
from cvfs_server.scratch import scratch_directory
from cvfs_server.settings import RepositorySettings, load_settings
from cvfs_server.signing.keys import read_key_file
from cvfs_server.site import Site
from cvfs_server.state import make_directory, read_state
from cvfs_server.storage.base import Storage
from cvfs_server.storage.choice import storage_of

MANIFEST = ".cvmfspublished"
_ADVICE = "put back a copy, from a backup or a replica, as new as possible"
WHITELIST = ".cvmfswhitelist"


@dataclass(frozen=True, slots=True)
class PublishedRepository:
    """A repository of this machine at the revision that its manifest names."""

    site: Site
    settings: RepositorySettings
    storage: Storage
    manifest: Manifest

    @classmethod
    def open(cls, site: Site, fqrn: str, storage: Storage | None = None) -> "PublishedRepository":
        """`storage` is that of a publisher who writes.

        Raises NotFound if there is none, TrustError for a manifest that is not signed with this machine's key.
        """
        settings = load_settings(site, fqrn)
        storage = storage or storage_of(settings)
        signed, manifest = _read_manifest(storage)
        certificate = load_certificate(read_key_file(site.key(fqrn, "crt")))
        if not verify_manifest_signature(certificate, signed):
            raise TrustError(MANIFEST_SIGNATURE, f"{storage.place}/{MANIFEST} is not signed with the key of {fqrn}")
        if manifest.fqrn != fqrn:
            raise TrustError(MANIFEST_NAME, f"{storage.place} holds {manifest.fqrn}, not {fqrn}")
        return cls(site, settings, storage, manifest)

    def catalogs(self, scratch: str) -> CatalogObjects:
        """The catalog files, taken through the directory `scratch`."""
        # Every client inflates either. Level 6 makes a catalog 2 % smaller, in eight times the time: most of a small publish.
        return CatalogObjects(self.storage, scratch, self.settings.algorithm, encoder_named("zlib-fast"))

    def tree(self, scratch: str) -> CatalogTree:
        """All catalogs of the present revision."""
        return self.tree_of(self.manifest.root_catalog, scratch)

    def tree_of(self, root: ContentHash, scratch: str) -> CatalogTree:
        """All catalogs of the revision with this root."""
        return CatalogTree(root.as_kind(ObjectKind.CATALOG), 0, self.catalogs(scratch))

    def small_file(self, tree: CatalogTree, path: bytes) -> bytes:
        """The content of a small published file of the revision `tree`; empty if there is none."""
        try:
            row = tree.find(path)
        except NotFound:
            return b""
        if row.content is None or row.is_external or row.size > MAX_DOCUMENT:
            return b""
        return b"".join(Verified(self.storage).read(Wanted(row.content, row.compression, row.size)))

    def history(self) -> History:
        """The tag database, an empty one if none was published."""
        if self.manifest.history is None:
            return History(self.settings.fqrn)
        wanted = Wanted(self.manifest.history, Compression.ZLIB)
        return History.parse(b"".join(Verified(self.storage).read(wanted)))

    def document(self, path: str) -> bytes | None:
        """A small file of the storage, None if it is not there."""
        try:
            return fetch_document(self.storage, path)
        except MissingObject:
            return None


def fetch_manifest(storage: Storage) -> bytes:
    """The signed manifest as it is. Raises MissingObject or FormatError, saying what to do, if it is gone or empty."""
    try:
        document = fetch_document(storage, MANIFEST)
    except MissingObject as error:
        raise MissingObject(f"{MANIFEST} is not in {storage.place}: {_ADVICE}") from error
    if not document:
        raise FormatError(f"{MANIFEST} in {storage.place} is empty: {_ADVICE}")
    return document


def recorded_reflog_digest(settings: RepositorySettings) -> ContentHash | None:
    """What this machine keeps of the reflog; None if that is gone or cannot be read, as nothing depends on it."""
    try:
        return ContentHash.parse((read_state(f"{settings.spool}/reflog.chksum") or b"").decode("ascii").strip())
    except (FormatError, UnicodeDecodeError):
        return None


def _read_manifest(storage: Storage) -> tuple[Signed, Manifest]:
    document = fetch_manifest(storage)
    try:
        signed = split_signed(document)
        return signed, manifests.parse(signed.payload)
    except FormatError as error:
        raise FormatError(f"{MANIFEST} in {storage.place}: {error}; {_ADVICE}") from error


@contextlib.contextmanager
def reading(settings: RepositorySettings) -> Iterator[str]:
    """A scratch directory for one who only looks, beside any publisher; it vanishes."""
    make_directory(settings.spool)
    with scratch_directory(settings.spool, "read.") as scratch:
        yield scratch
