"""What a client believes without proof, gathered from its configuration: keys, blacklists, limits, memory.

Read anew at every check, so that a key or a line that is added counts from the next one on. Source: FORMAT sections 3.3, 3.4.
"""

import os
from collections.abc import Iterable

from cvfs.client.local_file import read_local
from cvfs.client.settings import Settings
from cvfs.client.trust_state import TrustState
from cvfs.errors import FormatError, UsageError
from cvfs.format.signature import PublicKey, load_public_key
from cvfs.format.whitelist import Blacklist, parse_blacklist
from cvfs.trust import TrustAnchors

_MAX_LOCAL = 2**20


def trust_state(settings: Settings) -> TrustState | None:
    """Where it is remembered what was seen of the repository; None if nowhere."""
    return TrustState(settings.trust.state, settings.fqrn) if settings.trust.state else None


def trust_anchors(settings: Settings) -> TrustAnchors:
    """All of it, as it is now. Raises UsageError, or FormatError if the memory is damaged."""
    state = trust_state(settings)
    keys = tuple(read_key(name) for name in key_files(settings))
    seen = state.seen() if state else None
    return TrustAnchors(settings.fqrn, keys, read_blacklists(settings.trust.blacklists), seen, settings.trust.limits)


def key_files(settings: Settings) -> tuple[str, ...]:
    """The files of the master keys: those that are named, else those of the domain, else all in the directory of keys."""
    trust = settings.trust
    if trust.public_keys:
        return trust.public_keys
    domain = os.path.join(trust.keys_dir, settings.fqrn.partition(".")[2])
    return _keys_in(domain) or _keys_in(trust.keys_dir)


def read_key(name: str) -> PublicKey:
    """A master public key out of its file. Raises UsageError."""
    try:
        return load_public_key(read_local(name, _MAX_LOCAL))
    except FormatError as error:
        raise UsageError(f"{name}: {error}, put the repository's public key there") from error


def read_blacklists(names: Iterable[str]) -> Blacklist:
    """All of them joined; one that is not there refuses nothing. Raises UsageError for one that cannot be read."""
    joined = Blacklist()
    for name in names:
        if os.path.exists(name):
            joined = joined.joined(parse_blacklist(read_local(name, _MAX_LOCAL)))
    return joined


def _keys_in(directory: str) -> tuple[str, ...]:
    try:
        names = os.listdir(directory)
    except OSError:
        return ()
    return tuple(os.path.join(directory, name) for name in sorted(names) if name.endswith(".pub"))
