"""A repository that exists elsewhere becomes one of this machine: a directory of published files, by whichever publisher.

What is published stays as it is, unless it gets a new key. It is believed as clients would believe it, or refused.
Source: FORMAT sections 1, 2, 3, 7.
"""

import contextlib
import dataclasses
import os
import time
from dataclasses import dataclass

from cvfs import reflog
from cvfs.errors import NotFound, UsageError
from cvfs.format.manifest import Manifest
from cvfs.format.signature import load_public_key
from cvfs.store.base import fetch_document
from cvfs.trust import TrustAnchors, Verified, certificate_to_fetch
from cvfs_server.founding.mkfs import MASTER_REPLICA, give_repository, write_configuration
from cvfs_server.founding.ownership import Owner, owner_named
from cvfs_server.publishers import publishing
from cvfs_server.release import Revision, release
from cvfs_server.repository import MANIFEST, WHITELIST, PublishedRepository, fetch_manifest
from cvfs_server.settings import RepositorySettings, configuration_text
from cvfs_server.signing.keychain import (
    CERTIFICATE,
    KEY,
    MASTER_KEY,
    PUBLIC_KEY,
    Keychain,
    check_keychain,
    read_keychain,
    with_new_signing_key,
    write_keychain,
)
from cvfs_server.signing.resign import DEFAULT_DAYS, sign_new_whitelist
from cvfs_server.site import Site
from cvfs_server.state import make_directory, write_state
from cvfs_server.storage.base import Storage
from cvfs_server.storage.choice import storage_of


@dataclass(frozen=True, slots=True)
class Adoption:
    """How a repository is taken over: where its keys are; whether files that belong to others are given to the owner;
    whether it gets a new whitelist, valid for `days`, and a new signing key.
    """

    keys: str = ""
    chown: bool = False
    new_whitelist: bool = False
    new_key: bool = False
    replicable: bool = False
    days: float = DEFAULT_DAYS


def adopt(site: Site, settings: RepositorySettings, how: Adoption) -> Manifest:
    """Make the repository in `settings.storage` one of this machine. Its hash algorithm and lifetime are its manifest's.

    Raises UsageError, naming file and remedy, for what is missing; TrustError for what clients would not believe.
    """
    if os.path.exists(site.configuration(settings.fqrn)):
        raise UsageError(f"{settings.fqrn} exists already on this machine: remove it first")
    owner = owner_named(settings.user)
    _check_directory(settings, owner, chown=how.chown)
    storage, keychain = storage_of(settings), _keychain(site, settings.fqrn, how)
    verified = _verify(settings.fqrn, storage, keychain, how)
    settings = _as_published(settings, verified.manifest)
    text = configuration_text(settings)
    with contextlib.ExitStack() as on_failure:
        for path in write_keychain(site, settings.fqrn, keychain, owner):
            on_failure.callback(os.unlink, path)
        make_directory(settings.spool)
        _note_reflog(settings, storage)
        manifest = _renewed(site, settings, verified, how)
        if how.replicable:
            storage.replace(MASTER_REPLICA, b"")
        on_failure.pop_all()
    if how.chown:
        give_repository(settings, owner)
    # Last: a repository whose configuration is there is complete.
    write_configuration(site.configuration(settings.fqrn), text)
    return manifest


def _check_directory(settings: RepositorySettings, owner: Owner, *, chown: bool) -> None:
    """What a directory on this machine must have; directories that a backup left out because they were empty are made."""
    if settings.s3 is not None:
        return
    for place in (settings.storage, f"{settings.storage}/data", f"{settings.storage}/{MANIFEST}"):
        try:
            status = os.stat(place)
        except OSError as error:
            raise NotFound(f"{place}: {error.strerror}; name the repository's directory with -u") from error
        if status.st_uid != owner.uid and not chown:
            raise UsageError(
                f"{place} does not belong to {owner.name}: give it to this user with -g, or choose another with -o"
            )
    storage_of(settings).create()


def _keychain(site: Site, fqrn: str, how: Adoption) -> Keychain:
    source = how.keys or site.keys
    keychain = read_keychain(source, fqrn)
    if PUBLIC_KEY not in keychain:
        raise NotFound(f"{source}/{fqrn}.pub: no such key; name the directory of the keys with -k")
    if how.new_whitelist and MASTER_KEY not in keychain:
        raise NotFound(f"{source}/{fqrn}.masterkey: no such key, a new whitelist (-r) needs it")
    if how.new_key:
        if not how.new_whitelist:
            raise UsageError("a new signing key (-t) needs a new whitelist: add -r")
        old = {kind: text for kind, text in keychain.items() if kind not in {KEY, CERTIFICATE}}
        keychain = with_new_signing_key(old, fqrn)
    elif not {KEY, CERTIFICATE} <= keychain.keys():
        raise NotFound(f"{source}/{fqrn}.key, .crt: no such keys; make new ones with -t and -r")
    check_keychain(keychain, source, fqrn)
    return keychain


def _verify(fqrn: str, storage: Storage, keychain: Keychain, how: Adoption) -> Verified:
    """By the chain that clients follow; a whitelist that has expired is good enough where a new one is made."""
    document = fetch_manifest(storage)
    whitelist = fetch_document(storage, WHITELIST)
    certificate = fetch_document(storage, certificate_to_fetch(document).path)
    now = 0.0 if how.new_whitelist else time.time()
    return TrustAnchors(fqrn, (load_public_key(keychain[PUBLIC_KEY]),)).verify(document, whitelist, certificate, now)


def _as_published(settings: RepositorySettings, manifest: Manifest) -> RepositorySettings:
    return dataclasses.replace(
        settings,
        algorithm=manifest.root_catalog.algorithm,
        ttl=max(1, manifest.ttl),
        garbage_collection=manifest.garbage_collectable,
    )


def _note_reflog(settings: RepositorySettings, storage: Storage) -> None:
    """The digest that publishers keep to themselves: of the file as it is, which is all that there is to believe."""
    if not storage.has(reflog.NAME):
        return
    path = f"{settings.spool}/reflog.import"
    try:
        with open(path, "wb") as file:
            file.writelines(storage.fetch(reflog.NAME))
        with reflog.Reflog.open(path) as log:
            log.references()
        write_state(f"{settings.spool}/reflog.chksum", str(reflog.digest(path, settings.algorithm)).encode())
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _renewed(site: Site, settings: RepositorySettings, verified: Verified, how: Adoption) -> Manifest:
    """Signed by the new key, vouched for by a new whitelist; in this order, as after every change of keys."""
    manifest = verified.manifest
    if not (how.new_whitelist or how.new_key):
        return manifest
    with publishing(settings, "import") as publisher:
        if how.new_key:
            repository = PublishedRepository(site, settings, publisher.storage, manifest)
            revision = Revision.again(manifest, repository.history())
            manifest = release(site, settings, revision, publisher)
        sign_new_whitelist(site, settings, how.days, int(time.time()))
    return manifest
