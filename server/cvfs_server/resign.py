"""New signatures on what is published: the whitelist by the master key, the manifest by the repository's key.

Source: FORMAT sections 2.3, 3.1, 3.2.
"""

import time

from cvfs.errors import UsageError
from cvfs.format.manifest import Manifest
from cvfs.format.signature import certificate_fingerprint, load_certificate, load_public_key, sign_whitelist
from cvfs.format.whitelist import Whitelist, stamp
from cvfs.hashes import Algorithm
from cvfs.store.base import fetch_document
from cvfs.trust import TrustAnchors, certificate_to_fetch
from cvfs_server.catalogs.objects import StoredCatalog
from cvfs_server.keys import load_private_key, read_key_file
from cvfs_server.publishers import publishing
from cvfs_server.release import Revision, release
from cvfs_server.repository import MANIFEST, WHITELIST, PublishedRepository
from cvfs_server.settings import RepositorySettings, load_settings
from cvfs_server.site import Site
from cvfs_server.storage.choice import storage_of

DEFAULT_DAYS = 30
_DAY = 86400
# A stamp has four digits for the year.
_LONGEST = 365 * 1000


def resign_whitelist(site: Site, fqrn: str, days: int = DEFAULT_DAYS) -> Whitelist:
    """Vouch for the repository's present certificate for `days` from now on. Raises Locked, NotFound without master key."""
    settings = load_settings(site, fqrn)
    with publishing(settings, "resign"):
        return sign_new_whitelist(site, settings, days, int(time.time()))


def resign_manifest(site: Site, fqrn: str) -> Manifest:
    """Sign the present revision again, for instance after the repository's key was replaced."""
    settings = load_settings(site, fqrn)
    with publishing(settings, "resign") as publisher:
        manifest = _vouched_manifest(site, settings)
        repository = PublishedRepository(site, settings, publisher.storage, manifest)
        root = StoredCatalog(manifest.root_catalog, manifest.root_size)
        now = max(int(time.time()), manifest.timestamp)
        revision = Revision(manifest.revision, now, root, repository.history(), manifest, manifest.metainfo)
        return release(site, settings, revision, publisher)


def _vouched_manifest(site: Site, settings: RepositorySettings) -> Manifest:
    """The published manifest, by the chain that clients follow: its certificate may be the one that is being replaced.

    Raises TrustError; after a change of keys the manifest has to be signed before the whitelist is.
    """
    storage = storage_of(settings)
    document = fetch_document(storage, MANIFEST)
    anchors = TrustAnchors(settings.fqrn, (load_public_key(read_key_file(site.key(settings.fqrn, "pub"))),))
    certificate = fetch_document(storage, certificate_to_fetch(document).path)
    return anchors.verify(document, fetch_document(storage, WHITELIST), certificate, time.time()).manifest


def sign_new_whitelist(site: Site, settings: RepositorySettings, days: int, now: int) -> Whitelist:
    """Write a whitelist that lists the repository's certificate. The caller holds the lock."""
    if not 1 <= days <= _LONGEST:
        raise UsageError(f"a whitelist is valid for 1 to {_LONGEST} days, not {days}")
    certificate = load_certificate(read_key_file(site.key(settings.fqrn, "crt")))
    fingerprint = certificate_fingerprint(certificate, Algorithm.SHA1)
    whitelist = Whitelist(stamp(now), stamp(now + days * _DAY), settings.fqrn, (fingerprint,))
    master = load_private_key(site.key(settings.fqrn, "masterkey"))
    document = sign_whitelist(whitelist.serialise(), settings.algorithm, master)
    storage_of(settings).replace(WHITELIST, document)
    return whitelist
