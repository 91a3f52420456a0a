"""A published repository as its publisher sees it: settings, storage, the manifest of its own signing; changes nothing.

Source: FORMAT sections 2.3, 5.1, 6.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from cvfs.catalog.tree import CatalogTree
from cvfs.compression import ZLIB, Compression, encoder_named
from cvfs.durable import replace_file
from cvfs.errors import FormatError, MissingObject, StoreFull, TrustError
from cvfs.format import manifest as manifests
from cvfs.format.manifest import Manifest
from cvfs.format.signature import load_certificate, split_signed, verify_manifest_signature
from cvfs.hashes import ContentHash, ObjectKind, new_hasher
from cvfs.history import History
from cvfs.store.base import Wanted, fetch_document
from cvfs.store.verified import Verified
from cvfs.trust import MANIFEST_NAME, MANIFEST_SIGNATURE
from cvfs_server.catalogs.objects import CatalogObjects
from cvfs_server.keys import read_key_file
from cvfs_server.lock import publisher_lock
from cvfs_server.settings import RepositorySettings, load_settings
from cvfs_server.site import Site
from cvfs_server.storage.local import LocalStorage

MANIFEST = ".cvmfspublished"
WHITELIST = ".cvmfswhitelist"
_SCRATCH = "tmp"
_UNFINISHED = "unfinished"
_MAX_STATE = 2**16
_CLOCK_GRAIN = 2


@dataclass(frozen=True, slots=True)
class PublishedRepository:
    """A repository of this machine at the revision that its manifest names."""

    site: Site
    settings: RepositorySettings
    storage: LocalStorage
    manifest: Manifest

    @classmethod
    def open(cls, site: Site, fqrn: str) -> "PublishedRepository":
        """Raises NotFound if there is none, TrustError for a manifest that is not signed with this machine's key."""
        settings = load_settings(site, fqrn)
        storage = LocalStorage(settings.storage)
        signed = split_signed(fetch_document(storage, MANIFEST))
        certificate = load_certificate(read_key_file(site.key(fqrn, "crt")))
        if not verify_manifest_signature(certificate, signed):
            raise TrustError(MANIFEST_SIGNATURE, f"{settings.storage}/{MANIFEST} is not signed with the key of {fqrn}")
        manifest = manifests.parse(signed.payload)
        if manifest.fqrn != fqrn:
            raise TrustError(MANIFEST_NAME, f"{settings.storage} holds {manifest.fqrn}, not {fqrn}")
        return cls(site, settings, storage, manifest)

    def catalogs(self, scratch: str) -> CatalogObjects:
        """The catalog files, taken through the directory `scratch`."""
        # Every client inflates either; the slower one gives the original's very bytes.
        slow = self.settings.compression in {"zlib", "default", "none"}
        encoder = ZLIB if slow else encoder_named("zlib-fast")
        return CatalogObjects(self.storage, scratch, self.settings.algorithm, encoder)

    def tree(self, scratch: str) -> CatalogTree:
        """All catalogs of the present revision."""
        return self.tree_of(self.manifest.root_catalog, scratch)

    def tree_of(self, root: ContentHash, scratch: str) -> CatalogTree:
        """All catalogs of the revision with this root."""
        return CatalogTree(root.as_kind(ObjectKind.CATALOG), 0, self.catalogs(scratch))

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


@contextlib.contextmanager
def publishing(settings: RepositorySettings, purpose: str) -> Iterator[str]:
    """Hold the repository's lock and yield a scratch directory; clears away what a killed predecessor left.

    A mark stays while objects are written that are not flushed to the disk yet: if the machine went down meanwhile, the
    next publisher looks for objects that are there without their bytes. Raises Locked if another publisher holds it.
    """
    _make_directory(settings.spool)
    with publisher_lock(f"{settings.spool}/publish.lock", purpose):
        scratch = f"{settings.spool}/{_SCRATCH}"
        shutil.rmtree(scratch, ignore_errors=True)
        _make_directory(scratch)
        storage = LocalStorage(settings.storage)
        storage.clear_transaction_area()
        mark = f"{settings.spool}/{_UNFINISHED}"
        _discard_hollow(storage, mark)
        if not os.path.exists(mark):
            write_state(mark, _boot().encode())
        try:
            yield scratch
            os.unlink(mark)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def reading(settings: RepositorySettings) -> Iterator[str]:
    """A scratch directory for one who only looks, beside any publisher; it vanishes."""
    _make_directory(settings.spool)
    with tempfile.TemporaryDirectory(prefix="read.", dir=settings.spool) as scratch:
        yield scratch


def write_state(path: str, data: bytes) -> None:
    """Replace a small file of the spool area as a whole. Raises StoreFull."""
    try:
        replace_file(path, data)
    except OSError as error:
        raise StoreFull(f"cannot write {path}: {error.strerror}") from error


def read_state(path: str) -> bytes | None:
    """A small file of the spool area, None if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_STATE)
    except FileNotFoundError:
        return None


def _discard_hollow(storage: LocalStorage, mark: str) -> None:
    """After the machine went down in a publish: objects written since may be there without their bytes."""
    boot = read_state(mark)
    if boot is None or boot == _boot().encode():
        return
    since = os.stat(mark).st_mtime - _CLOCK_GRAIN
    for path, _ in storage.objects(since):
        if not _is_whole(storage, path):
            storage.discard(path)
    os.unlink(mark)


def _is_whole(storage: LocalStorage, path: str) -> bool:
    """Whether an object's bytes have the hash that its name says; what has no such name is left alone."""
    try:
        content = ContentHash.parse(path.removeprefix("data/").replace("/", "", 1).rstrip("CHLMPX"))
    except FormatError:
        return True
    hasher = new_hasher(content.algorithm)
    for piece in storage.fetch(path):
        hasher.update(piece)
    return hasher.digest() == content.digest


def _boot() -> str:
    """A name that changes with every start of the machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise StoreFull(f"cannot use {path}: {error.strerror}") from error
