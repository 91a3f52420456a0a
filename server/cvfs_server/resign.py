"""New signatures on what is published: the whitelist by the master key, the manifest by the repository's key.

Source: FORMAT sections 2.3, 3.1, 3.2.
"""

import dataclasses
import time

from cvfs.errors import UsageError
from cvfs.format.manifest import Manifest
from cvfs.format.signature import certificate_fingerprint, load_certificate, sign_whitelist
from cvfs.format.whitelist import Whitelist, stamp
from cvfs.hashes import Algorithm, ObjectKind
from cvfs_server.keys import load_private_key, read_key_file
from cvfs_server.release import put_object, switch
from cvfs_server.repository import WHITELIST, PublishedRepository, publishing
from cvfs_server.settings import RepositorySettings, load_settings
from cvfs_server.site import Site
from cvfs_server.storage.local import LocalStorage

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
    with publishing(settings, "resign"):
        repository = PublishedRepository.open(site, fqrn)
        certificate = put_object(
            repository.storage, settings.algorithm, ObjectKind.CERTIFICATE, read_key_file(site.key(fqrn, "crt"))
        )
        manifest = dataclasses.replace(repository.manifest, certificate=certificate)
        switch(site, settings, repository.storage, manifest)
        return manifest


def sign_new_whitelist(site: Site, settings: RepositorySettings, days: int, now: int) -> Whitelist:
    """Write a whitelist that lists the repository's certificate. The caller holds the lock."""
    if not 1 <= days <= _LONGEST:
        raise UsageError(f"a whitelist is valid for 1 to {_LONGEST} days, not {days}")
    certificate = load_certificate(read_key_file(site.key(settings.fqrn, "crt")))
    fingerprint = certificate_fingerprint(certificate, Algorithm.SHA1)
    whitelist = Whitelist(stamp(now), stamp(now + days * _DAY), settings.fqrn, (fingerprint,))
    master = load_private_key(site.key(settings.fqrn, "masterkey"))
    document = sign_whitelist(whitelist.serialise(), settings.algorithm, master)
    LocalStorage(settings.storage).replace(WHITELIST, document)
    return whitelist
