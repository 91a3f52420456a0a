"""What stands around the catalogs: manifest, chain of trust, meta info, alternative paths, reflog; opens no catalog.

Source: FORMAT sections 1.3, 2.2, 3, 5.14, 7, 8.1, A.3.
"""

import calendar
import os
import time
from collections.abc import Iterator

from cvfs import reflog as reflogs
from cvfs.compression import Compression, decode
from cvfs.errors import CorruptObject, FormatError, MissingObject, StoreError, StoreFull, TrustError
from cvfs.format import metainfo
from cvfs.format import whitelist as whitelists
from cvfs.format.manifest import ROOT_PATH_HASH, Manifest
from cvfs.format.signature import MAX_DOCUMENT, PublicKey, load_certificate, split_signed
from cvfs.hashes import ContentHash
from cvfs.reflog import Reflog
from cvfs.store.base import Store, fetch_document
from cvfs.trust import TrustAnchors
from cvfs_server.check.findings import Finding
from cvfs_server.check.objects import write_bounded

MANIFEST, WHITELIST, REFLOG = ".cvmfspublished", ".cvmfswhitelist", reflogs.NAME
SOON = 7 * 86400
MAX_REFLOG = 2**30


def manifest_findings(store: Store, manifest: Manifest) -> Iterator[Finding]:
    """What the manifest says by itself, and the alternative paths it promises. Raises Unreachable."""
    if not manifest.fqrn:
        yield Finding(MANIFEST, "it names no repository (N)")
    if manifest.root_path_hash != ROOT_PATH_HASH:
        yield Finding(MANIFEST, "it does not start at the root of the repository (R)")
    if not manifest.certificate:
        yield Finding(MANIFEST, "it names no certificate (X)")
    if manifest.alternative_paths:
        for content in filter(None, (manifest.certificate, manifest.root_catalog)):
            place = f".cvmfsalt-{content.name}"
            if not store.has(place):
                yield Finding(place, "is missing, though the manifest says that alternative paths exist (A)")


def trust_findings(
    store: Store, manifest: Manifest, public_keys: tuple[PublicKey, ...], now: float
) -> Iterator[Finding]:
    """The chain of trust at the Unix time `now`; without keys only that its documents can be read."""
    stored: bytes | None = None
    if manifest.certificate:
        try:
            stored = _certificate(store, manifest.certificate)
        except (StoreError, FormatError) as error:
            yield Finding("certificate", str(error))
    try:
        whitelist = fetch_document(store, WHITELIST)
    except StoreError as error:
        yield Finding(WHITELIST, str(error))
        return
    if public_keys and stored is not None:
        yield from _verify(store, manifest, TrustAnchors(manifest.fqrn, public_keys), (whitelist, stored), now)
    yield from _expiry(whitelist, now, verified=bool(public_keys))


def metainfo_findings(store: Store, manifest: Manifest) -> Iterator[Finding]:
    """The meta info object, which people read and nothing depends on."""
    if not manifest.metainfo:
        return
    try:
        data = _content(store, manifest.metainfo)
    except StoreError as error:
        yield Finding("meta info", str(error))
        return
    try:
        metainfo.parse(data)
    except FormatError as error:
        yield Finding("meta info", str(error), is_warning=True)


def reflog_findings(store: Store, manifest: Manifest, known: ContentHash | None, scratch: str) -> Iterator[Finding]:
    """The reflog. `known` is the digest that the publisher keeps of it: more recent than the manifest's. Raises StoreFull."""
    path = f"{scratch}/reflog"
    try:
        write_bounded(store.fetch(REFLOG), path, MAX_REFLOG)
    except MissingObject:
        if manifest.reflog or known:
            yield Finding(REFLOG, "is missing, though its digest is recorded", is_warning=known is None)
        return
    except StoreFull:
        raise
    except StoreError as error:
        yield Finding(REFLOG, str(error))
        return
    try:
        yield from _digest_findings(path, manifest, known)
        with Reflog.open(path) as reflog:
            yield from _reflog_contents(reflog, manifest)
    except FormatError as error:
        yield Finding(REFLOG, str(error))
    finally:
        os.unlink(path)


def _certificate(store: Store, content: ContentHash) -> bytes:
    """The object as stored, a certificate. Raises StoreError or FormatError."""
    stored = _stored(store, content)
    load_certificate(decode(stored, Compression.ZLIB, MAX_DOCUMENT))
    return stored


def _content(store: Store, content: ContentHash) -> bytes:
    return decode(_stored(store, content), Compression.ZLIB, MAX_DOCUMENT)


def _stored(store: Store, content: ContentHash) -> bytes:
    stored = fetch_document(store, content.path)
    if ContentHash.of(stored, content.algorithm, content.kind) != content:
        raise CorruptObject(f"{content.path}: its {len(stored)} bytes do not have the hash {content}")
    return stored


def _verify(
    store: Store, manifest: Manifest, anchors: TrustAnchors, documents: tuple[bytes, bytes], now: float
) -> Iterator[Finding]:
    try:
        verified = anchors.verify(fetch_document(store, MANIFEST), *documents, now)
    except TrustError as error:
        yield Finding("chain of trust", str(error))
        return
    except StoreError as error:
        yield Finding(MANIFEST, str(error))
        return
    if verified.manifest != manifest:
        yield Finding(MANIFEST, "was replaced after this check began: check again", is_warning=True)


def _expiry(document: bytes, now: float, *, verified: bool) -> Iterator[Finding]:
    """A whitelist at its end; one that cannot be read or has expired was found by the verification, if there was one."""
    try:
        whitelist = whitelists.parse(split_signed(document).payload)
        left = calendar.timegm(time.strptime(whitelist.expires, "%Y%m%d%H%M%S")) - now
    except (FormatError, ValueError) as error:
        if not verified:
            yield Finding(WHITELIST, f"cannot be read: {error}")
        return
    if whitelist.is_expired(now):
        if not verified:
            yield Finding(WHITELIST, f"expired {whitelist.expires} UTC: sign it anew")
    elif left < SOON:
        yield Finding(WHITELIST, f"expires {whitelist.expires} UTC: sign it anew before", is_warning=True)


def _digest_findings(path: str, manifest: Manifest, known: ContentHash | None) -> Iterator[Finding]:
    if known is None and manifest.reflog is None:
        yield Finding(REFLOG, "nobody knows its digest: neither the manifest (Y) nor this machine")
    if known:
        # Garbage collection rewrites the reflog and signs no manifest (section 7): where both are known, Y may be old. A kill
        # between reflog and record leaves a sound reflog that lists more: what it lacks is found by its contents.
        if reflogs.digest(path, known.algorithm) != known:
            what = f"does not have the digest {known} that this machine recorded: put it right with check -r"
            yield Finding(REFLOG, what, is_warning=True)
    elif manifest.reflog and reflogs.digest(path, manifest.reflog.algorithm) != manifest.reflog:
        yield Finding(REFLOG, f"does not have the digest {manifest.reflog} of the manifest (Y)", is_warning=True)


def _reflog_contents(reflog: Reflog, manifest: Manifest) -> Iterator[Finding]:
    if reflog.fqrn != manifest.fqrn:
        yield Finding(REFLOG, f"is that of {reflog.fqrn or 'nobody'}, not of {manifest.fqrn}")
    listed = {reference.content for reference in reflog.references()}
    needed = (manifest.root_catalog, manifest.certificate, manifest.history, manifest.metainfo)
    for content in needed:
        if content and content not in listed:
            yield Finding(REFLOG, f"does not list {content.name}, which the manifest names")
