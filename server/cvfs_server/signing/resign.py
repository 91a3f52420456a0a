"""New signatures on what is published: the whitelist by the master key, the manifest by the repository's key.

Source: FORMAT sections 2.3, 3.1, 3.2.
"""

import os
import time

from cvfs.durable import replace_file
from cvfs.errors import FormatError, NotFound, StoreFull, UsageError
from cvfs.format.manifest import Manifest
from cvfs.format.signature import (
    PrivateKey,
    certificate_fingerprint,
    load_public_key,
    sign_whitelist,
    split_signed,
)
from cvfs.format.whitelist import Whitelist, stamp
from cvfs.format.whitelist import parse as parse_whitelist
from cvfs.hashes import Algorithm
from cvfs.store.base import MAX_DOCUMENT, fetch_document
from cvfs.trust import TrustAnchors, certificate_to_fetch, expiry
from cvfs_server.publishers import publishing
from cvfs_server.release import Revision, release
from cvfs_server.repository import WHITELIST, PublishedRepository, fetch_manifest
from cvfs_server.settings import RepositorySettings, load_settings
from cvfs_server.signing.expiry import whitelist_state
from cvfs_server.signing.keys import check_keys, load_private_key, read_certificate, read_key_file
from cvfs_server.site import Site
from cvfs_server.storage.choice import storage_of

DEFAULT_DAYS = 30
# Beyond it a stolen key is believed for too long: to be asked for.
ADVISED_DAYS = 30
_DAY = 86400
_SHORTEST = 1 / 24
# A stamp has four digits for the year.
_LONGEST = 365 * 1000


def resign_whitelist(site: Site, fqrn: str, days: float = DEFAULT_DAYS) -> Whitelist:
    """Vouch for the repository's present certificate for `days` from now on. Raises Locked, NotFound without master key."""
    settings = load_settings(site, fqrn)
    with publishing(settings, "resign"):
        return sign_new_whitelist(site, settings, days, int(time.time()))


def resign_if_due(site: Site, fqrn: str, days: float | None = None) -> Whitelist | None:
    """Sign when less than a third of the whitelist's time is left, or when clients refuse it; None if there was no need.

    For as long as the present one was made for, unless `days` are given. Raises Locked, NotFound without master key.
    """
    now = time.time()
    state = whitelist_state(site, load_settings(site, fqrn), now)
    span = _span(state.whitelist) if state.whitelist else DEFAULT_DAYS * _DAY
    if not state.problem and state.seconds_left >= span / 3:
        return None
    try:
        return resign_whitelist(site, fqrn, days or min(max(span / _DAY, _SHORTEST), _LONGEST))
    except NotFound as error:
        why = state.problem or f"the whitelist expires in {state.days_left} days"
        raise NotFound(f"{why}; it cannot be signed here: {error}") from error


def resign_file(site: Site, fqrn: str, path: str, days: float = DEFAULT_DAYS) -> Whitelist:
    """Sign the whitelist in a file anew, in its place; only the master key is needed, no repository.

    Raises NotFound without file or master key, UsageError for another repository's, FormatError for no whitelist.
    """
    try:
        old = parse_whitelist(split_signed(read_small_file(path)).payload)
    except FormatError as error:
        raise FormatError(f"{path}: {error}; name the file of a whitelist") from error
    if old.fqrn != fqrn:
        raise UsageError(f"{path} is the whitelist of {old.fqrn}, not of {fqrn}")
    now = int(time.time())
    new = Whitelist(stamp(now), stamp(now + _seconds(days)), fqrn, old.fingerprints)
    replace_keeping_owner(path, sign_whitelist(new.serialise(), digest_algorithm(new), load_master_key(site, fqrn)))
    return new


def resign_manifest(site: Site, fqrn: str) -> Manifest:
    """Sign the present revision again, for instance after the repository's key was replaced."""
    settings = load_settings(site, fqrn)
    check_keys(site, fqrn)
    with publishing(settings, "resign") as publisher:
        manifest = _vouched_manifest(site, settings)
        repository = PublishedRepository(site, settings, publisher.storage, manifest)
        return release(site, settings, Revision.again(manifest, repository.history()), publisher)


def new_whitelist(site: Site, fqrn: str, days: float, now: int) -> Whitelist:
    """What is to be signed: the repository's certificate, from the Unix time `now` on. Raises UsageError, NotFound."""
    fingerprint = certificate_fingerprint(read_certificate(site.key(fqrn, "crt")), Algorithm.SHA1)
    return Whitelist(stamp(now), stamp(now + _seconds(days)), fqrn, (fingerprint,))


def sign_new_whitelist(site: Site, settings: RepositorySettings, days: float, now: int) -> Whitelist:
    """Write a whitelist that lists the repository's certificate. The caller holds the lock."""
    whitelist = new_whitelist(site, settings.fqrn, days, now)
    master = load_master_key(site, settings.fqrn)
    document = sign_whitelist(whitelist.serialise(), settings.algorithm, master)
    storage_of(settings).replace(WHITELIST, document)
    return whitelist


def load_master_key(site: Site, fqrn: str) -> PrivateKey:
    """Raises NotFound if it is kept elsewhere, UsageError for a file that is no key."""
    path = site.key(fqrn, "masterkey")
    if not os.path.exists(path):
        raise NotFound(
            f"{path}: no such key; where the master key is kept on another machine, see cvfs-server masterkey"
        )
    return load_private_key(path)


def digest_algorithm(whitelist: Whitelist) -> Algorithm:
    """How a whitelist's digest is printed where no repository is at hand: as its certificate's."""
    return whitelist.fingerprints[0].algorithm if whitelist.fingerprints else Algorithm.SHA1


def read_small_file(path: str) -> bytes:
    """A signed document, or one to be signed. Raises NotFound, FormatError for one that is too large."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_DOCUMENT + 1)
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}") from error
    if len(data) > MAX_DOCUMENT:
        raise FormatError(f"{path}: larger than {MAX_DOCUMENT} bytes, this is no whitelist")
    return data


def replace_keeping_owner(path: str, data: bytes) -> None:
    """Write a file in the place of another one, whose owner and mode it gets if there was one. Raises StoreFull."""
    try:
        before = os.stat(path) if os.path.exists(path) else None
        replace_file(path, data)
        if before:
            os.chmod(path, before.st_mode & 0o777)
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(path, before.st_uid, before.st_gid)
    except OSError as error:
        raise StoreFull(f"cannot write {path}: {error.strerror}") from error


def _vouched_manifest(site: Site, settings: RepositorySettings) -> Manifest:
    """The published manifest, by the chain that clients follow: its certificate may be the one that is being replaced.

    Raises TrustError; after a change of keys the manifest has to be signed before the whitelist is.
    """
    storage = storage_of(settings)
    document = fetch_manifest(storage)
    anchors = TrustAnchors(settings.fqrn, (load_public_key(read_key_file(site.key(settings.fqrn, "pub"))),))
    certificate = fetch_document(storage, certificate_to_fetch(document).path)
    return anchors.verify(document, fetch_document(storage, WHITELIST), certificate, time.time()).manifest


def _seconds(days: float) -> int:
    if not _SHORTEST <= days <= _LONGEST:
        raise UsageError(f"a whitelist is valid for 1 to {_LONGEST} days, or an hour at least, not {days:g} days")
    return int(days * _DAY)


def _span(whitelist: Whitelist) -> float:
    """For how many seconds it was made; the issue stamp is read as the expiry is."""
    if not whitelist.issued.isdigit():
        return DEFAULT_DAYS * _DAY
    issued = expiry(Whitelist(whitelist.issued, whitelist.issued, whitelist.fqrn, ()))
    return max(0.0, expiry(whitelist) - issued) or DEFAULT_DAYS * _DAY
