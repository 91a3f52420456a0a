"""The keys of a repository as a set: made, taken from elsewhere, put in their place, which never holds other keys already.

The master key may be missing: it is kept on another machine then. Source: FORMAT sections 3.3, A.1.
"""

import contextlib
import datetime as dt
import os

from cvfs.errors import FormatError, NotFound, UsageError
from cvfs.format.signature import load_certificate, load_public_key
from cvfs_server.founding.ownership import Owner, give
from cvfs_server.signing.keys import (
    PRIVATE,
    PUBLIC,
    generate_keys,
    new_signing_key,
    parse_private_key,
    read_key_file,
    write_new_file,
)
from cvfs_server.site import Site
from cvfs_server.state import make_directory

MASTER_KEY, PUBLIC_KEY, KEY, CERTIFICATE = "masterkey", "pub", "key", "crt"
_ALL = (MASTER_KEY, PUBLIC_KEY, KEY, CERTIFICATE)
_MODES = {MASTER_KEY: PRIVATE, PUBLIC_KEY: PUBLIC, KEY: PRIVATE, CERTIFICATE: PUBLIC}

# The text of each key file by its suffix.
Keychain = dict[str, bytes]


def choose_keychain(site: Site, fqrn: str, source: str = "") -> Keychain:
    """The keys of a new repository: those in the directory `source`, those that lie in their place already, or new ones.

    Raises UsageError if some are there and some are not, or if they do not belong together; NotFound.
    """
    present = read_keychain(site.keys, fqrn)
    if source and not _is_same(source, site.keys):
        if present:
            raise UsageError(f"{site.key(fqrn, min(present))} exists already: keys from {source} would take its place")
        present = read_keychain(source, fqrn)
        if not present:
            raise NotFound(f"{source} holds no keys of {fqrn}: {fqrn}.key, {fqrn}.crt and {fqrn}.pub are needed")
    if not present:
        return new_keychain(fqrn)
    check_keychain(present, source or site.keys, fqrn)
    return present


def new_keychain(fqrn: str) -> Keychain:
    """Keys that nobody ever had."""
    keys = generate_keys(fqrn, dt.datetime.now(dt.UTC))
    return {kind: text for kind, text, _ in keys.files()}


def with_new_signing_key(keychain: Keychain, fqrn: str) -> Keychain:
    """The same master key, and a signing key and certificate that nobody ever had."""
    key, certificate = new_signing_key(fqrn, dt.datetime.now(dt.UTC))
    return {**keychain, KEY: key, CERTIFICATE: certificate}


def read_keychain(directory: str, fqrn: str) -> Keychain:
    """What there is of the keys of a repository in a directory. Raises NotFound for a file that cannot be read."""
    paths = {kind: f"{directory}/{fqrn}.{kind}" for kind in _ALL}
    return {kind: read_key_file(path) for kind, path in paths.items() if os.path.lexists(path)}


def check_keychain(keychain: Keychain, where: str, fqrn: str) -> None:
    """Raises UsageError, naming the file, unless the keys are complete and belong together. `where` is their directory."""
    for kind in (PUBLIC_KEY, KEY, CERTIFICATE):
        if kind not in keychain:
            there = f"{where}/{fqrn}.{min(keychain, default=PUBLIC_KEY)}"
            raise UsageError(
                f"{there} exists already, but {fqrn}.{kind} is not beside it: add it, or move the others away"
            )
    try:
        public, certificate = load_public_key(keychain[PUBLIC_KEY]), load_certificate(keychain[CERTIFICATE])
    except FormatError as error:
        raise UsageError(f"{where}/{fqrn}.pub, .crt: {error}") from error
    if parse_private_key(keychain[KEY], f"{where}/{fqrn}.key").public_key() != certificate.public_key():
        raise UsageError(f"{where}/{fqrn}.key is not the key of {fqrn}.crt")
    master = keychain.get(MASTER_KEY)
    if master and parse_private_key(master, f"{where}/{fqrn}.masterkey").public_key() != public:
        raise UsageError(f"{where}/{fqrn}.masterkey is not the key of {fqrn}.pub")


def write_keychain(site: Site, fqrn: str, keychain: Keychain, owner: Owner) -> list[str]:
    """Put the keys in their place, for their owner; returns the files that were not there before. Raises UsageError."""
    make_directory(site.keys)
    with contextlib.ExitStack() as on_failure:
        written = []
        for kind, text in keychain.items():
            path = site.key(fqrn, kind)
            if os.path.lexists(path) and read_key_file(path) == text:
                continue
            write_new_file(path, text, _MODES[kind])
            on_failure.callback(os.unlink, path)
            give(path, owner)
            written.append(path)
        on_failure.pop_all()
    return written


def _is_same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
