"""A master key that is kept on another machine: what is to be signed goes there as a file, and comes back as a whitelist.

A request is the text of the whitelist itself: what is read there is what is signed. Nothing is believed that comes back:
it is installed only if clients will accept it. Source: FORMAT sections 3.1, 3.2.
"""

import time
from typing import NamedTuple

from cvfs.errors import FormatError, MissingObject, TrustError, UsageError
from cvfs.format.signature import load_public_key, sign_whitelist, split_signed
from cvfs.format.whitelist import Whitelist, stamp
from cvfs.format.whitelist import parse as parse_whitelist
from cvfs.store.base import Store, fetch_document
from cvfs.trust import WHITELIST_FORMAT, TrustAnchors, certificate_to_fetch
from cvfs_server.publishers import publishing
from cvfs_server.repository import WHITELIST, fetch_manifest
from cvfs_server.settings import load_settings
from cvfs_server.signing.keys import load_private_key, read_key_file
from cvfs_server.signing.resign import (
    DEFAULT_DAYS,
    digest_algorithm,
    new_whitelist,
    read_small_file,
    replace_keeping_owner,
)
from cvfs_server.site import Site
from cvfs_server.storage.base import Storage


class Request(NamedTuple):
    """What is to be signed: the text, and what it says."""

    payload: bytes
    whitelist: Whitelist


def export_request(site: Site, fqrn: str, path: str, days: float = DEFAULT_DAYS) -> Whitelist:
    """Write what is to be signed for the repository to a file. Raises NotFound, UsageError, StoreFull."""
    load_settings(site, fqrn)
    whitelist = new_whitelist(site, fqrn, days, int(time.time()))
    replace_keeping_owner(path, whitelist.serialise())
    return whitelist


def read_request(path: str) -> Request:
    """What a file asks to be signed. Raises NotFound, FormatError for anything that says less, or more, than a whitelist."""
    payload = read_small_file(path)
    try:
        whitelist = parse_whitelist(payload)
    except FormatError as error:
        raise FormatError(f"{path}: {error}; --sign takes what --export-request wrote") from error
    if whitelist.serialise() != payload or not whitelist.fingerprints or whitelist.pkcs7 or whitelist.ca_chain:
        raise FormatError(f"{path}: not a request as cvfs-server masterkey --export-request writes it")
    if whitelist.expires <= stamp(time.time()):
        raise UsageError(f"{path}: what is asked for expires at {whitelist.expires} UTC already: write a new request")
    return Request(payload, whitelist)


def sign_request(request: Request, key: str, path: str) -> None:
    """Make the whitelist, with the master key in the file `key`. Raises NotFound, UsageError for the key, StoreFull."""
    master = load_private_key(key)
    replace_keeping_owner(path, sign_whitelist(request.payload, digest_algorithm(request.whitelist), master))


def install_whitelist(site: Site, fqrn: str, path: str) -> Whitelist:
    """Publish a whitelist that was signed elsewhere. Raises TrustError, UsageError if clients would not accept it, Locked."""
    settings, document = load_settings(site, fqrn), read_small_file(path)
    try:
        split_signed(document)
    except FormatError as error:
        raise TrustError(WHITELIST_FORMAT, f"{path}: {error}; --install takes what --sign wrote") from error
    with publishing(settings, "masterkey") as publisher:
        whitelist = _accepted(site, fqrn, document, publisher.storage)
        _check_not_older(whitelist, publisher.storage, path)
        publisher.storage.replace(WHITELIST, document)
    return whitelist


def _accepted(site: Site, fqrn: str, document: bytes, store: Storage) -> Whitelist:
    """By the rules that clients follow, with the manifest that is published."""
    manifest = fetch_manifest(store)
    certificate = fetch_document(store, certificate_to_fetch(manifest).path)
    anchors = TrustAnchors(fqrn, (load_public_key(read_key_file(site.key(fqrn, "pub"))),))
    return anchors.verify(manifest, document, certificate, time.time()).whitelist


def _check_not_older(whitelist: Whitelist, store: Store, path: str) -> None:
    """Clients that have seen a newer one would take it for a replay."""
    try:
        present = parse_whitelist(split_signed(fetch_document(store, WHITELIST)).payload)
    except (MissingObject, FormatError):
        return
    if whitelist.issued < present.issued:
        raise UsageError(
            f"{path} was issued at {whitelist.issued} UTC, the published whitelist later, at {present.issued}: clients refuse "
            "to go back, write a new request"
        )
