"""Feeds the trust rules: fetches manifest, certificate and whitelist, and decides nothing that trust.py decides.

The only road to a root hash, for a first mount and for every refresh. What was verified last is kept, so that a repository can
be opened while no server answers. Source: FORMAT section 2.4.
"""

import calendar
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cvfs.client.data_plane import DataPlane
from cvfs.client.settings import Settings
from cvfs.client.settings.trust import DEFAULT_KEYS_DIR
from cvfs.client.trust_state import Kept, TrustState
from cvfs.errors import CvfsError, FormatError, NotFound, StoreError, TrustError, UsageError
from cvfs.format.signature import PublicKey, load_public_key
from cvfs.format.whitelist import Blacklist, parse_blacklist
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.history import History
from cvfs.store.base import Store, Wanted, fetch_document
from cvfs.trust import ROLLBACKS, TrustAnchors, Verified, certificate_to_fetch

log = logging.getLogger(__name__)

_MAX_LOCAL = 2**20


@dataclass(frozen=True, slots=True)
class Revision:
    """A root catalog that may be used, and why: `verified` is None for one that was pinned by its hash.

    `offline` says that no server answered and the last verified manifest serves instead.
    """

    root_hash: ContentHash
    root_size: int = 0
    verified: Verified | None = None
    tag: str = ""
    offline: bool = False

    @property
    def whitelist_expires(self) -> str:
        """When the whitelist expires, 14 digits of UTC; empty for a pinned root hash."""
        return self.verified.whitelist.expires if self.verified else ""


def fetch_revision(settings: Settings, plane: DataPlane, clock: Callable[[], float] = time.time) -> Revision:
    """The revision that the settings ask for: a root hash, a tag, a date, or the newest one.

    Raises TrustError, StoreError if no server answers and nothing is kept, NotFound for an unknown tag.
    """
    if settings.root_hash:
        return Revision(settings.root_hash)
    state = TrustState(settings.trust.state, settings.fqrn) if settings.trust.state else None
    verified, offline = _verified(settings, plane, state, clock())
    manifest = verified.manifest
    if settings.tag or settings.date:
        return _tagged(settings, plane, verified)
    return Revision(manifest.root_catalog, manifest.root_size, verified, offline=offline)


def _verified(settings: Settings, plane: DataPlane, state: TrustState | None, now: float) -> tuple[Verified, bool]:
    """Ask each server in turn; a server that serves something unacceptable is no better than one that is down."""
    anchors = _anchors(settings, state)
    failures: list[CvfsError] = []
    for server in plane.mirrors:
        try:
            kept = _fetch(server, now)
            verified = anchors.verify(kept.manifest, kept.whitelist, kept.certificate, now)
        except (StoreError, TrustError) as error:
            log.info("%s: %s", settings.fqrn, error)
            failures.append(error)
            continue
        if state:
            state.keep(kept, verified.seen)
        return verified, False
    return _last_resort(settings, anchors, state, failures)


def _last_resort(
    settings: Settings, anchors: TrustAnchors, state: TrustState | None, failures: list[CvfsError]
) -> tuple[Verified, bool]:
    """Without any answer the last good documents serve, judged by the time at which they were accepted."""
    refused = next((error for error in failures if isinstance(error, TrustError)), None)
    if refused and state and refused.step in ROLLBACKS:
        hint = f"; if the repository was created anew, remove {state.directory}"
        raise TrustError(refused.step, f"{refused.reason}{hint}") from refused
    if refused:
        raise refused
    kept = state.kept() if state else None
    if kept is None:
        raise failures[-1]
    log.warning("%s: no server answers, going on with the last verified revision: %s", settings.fqrn, failures[-1])
    return anchors.verify(kept.manifest, kept.whitelist, kept.certificate, kept.accepted), True


def _fetch(server: Store, now: float) -> Kept:
    manifest = fetch_document(server, ".cvmfspublished")
    certificate = fetch_document(server, certificate_to_fetch(manifest).path)
    return Kept(manifest, fetch_document(server, ".cvmfswhitelist"), certificate, now)


def _anchors(settings: Settings, state: TrustState | None) -> TrustAnchors:
    return TrustAnchors(settings.fqrn, _public_keys(settings), _blacklist(settings), state.seen() if state else None)


def _public_keys(settings: Settings) -> tuple[PublicKey, ...]:
    names = settings.trust.public_keys or tuple(_keys_in(DEFAULT_KEYS_DIR, settings.fqrn))
    return tuple(_public_key(name) for name in names)


def _public_key(name: str) -> PublicKey:
    try:
        return load_public_key(_read_local(name))
    except FormatError as error:
        raise UsageError(f"{name}: {error}") from error


def _keys_in(directory: str, fqrn: str) -> Iterable[str]:
    """The keys of a repository's domain, else all keys there are (FORMAT section 3.3)."""
    domain = os.path.join(directory, fqrn.partition(".")[2])
    for place in (domain, directory):
        found = sorted(name for name in _names_in(place) if name.endswith(".pub"))
        if found:
            return [os.path.join(place, name) for name in found]
    return []


def _names_in(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _blacklist(settings: Settings) -> Blacklist:
    if settings.trust.blacklist and os.path.exists(settings.trust.blacklist):
        return parse_blacklist(_read_local(settings.trust.blacklist))
    return Blacklist()


def _read_local(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            data = file.read(_MAX_LOCAL + 1)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from error
    if len(data) > _MAX_LOCAL:
        raise UsageError(f"{name}: longer than {_MAX_LOCAL} bytes, refused")
    return data


def _tagged(settings: Settings, plane: DataPlane, verified: Verified) -> Revision:
    """The root catalog of a tag or date, out of the verified tag database."""
    manifest = verified.manifest
    wanted = settings.tag or settings.date
    if manifest.history is None:
        raise NotFound(f"{settings.fqrn}: the repository has no tags, so no {wanted!r}")
    descriptor = plane.contents.open(Wanted(manifest.history.as_kind(ObjectKind.HISTORY)))
    try:
        history = History.read(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    tag = history.find(settings.tag) if settings.tag else history.at(_seconds(settings.date or ""))
    return Revision(tag.root_catalog, tag.size, verified, tag.name)


def _seconds(date: str) -> int:
    try:
        return calendar.timegm(time.strptime(date, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError as error:
        raise UsageError(f"CVMFS_REPOSITORY_DATE={date}: expected YYYY-MM-DDThh:mm:ssZ") from error
