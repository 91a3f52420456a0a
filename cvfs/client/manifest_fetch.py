"""Feeds the trust rules: fetches manifest, certificate and whitelist, and decides nothing that trust.py decides.

The only road to a root hash, for a first mount and for every refresh. The first server that answers is asked, whichever the
way leads to; if what it serves is not acceptable every server is asked in turn, past all caches on the way. What was verified
last is kept, so that a repository can be opened while no server answers, or while all of them lag. Source: FORMAT section 2.4.
"""

import calendar
import functools
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from cvfs.client.data_plane import DataPlane
from cvfs.client.settings import Settings
from cvfs.client.trust_anchors import trust_anchors, trust_state
from cvfs.client.trust_state import Kept
from cvfs.errors import CvfsError, NotFound, StoreError, TrustError, UsageError
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.history import History
from cvfs.store.base import MAX_DOCUMENT, Store, Wanted
from cvfs.trust import LAGS, ROLLBACKS, TrustAnchors, Verified, certificate_to_fetch, expiry

log = logging.getLogger(__name__)

_DAY = 86400
# Each document has its deadline; where many servers lie or are silent no further one is asked after this time.
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Revision:
    """A root catalog that may be used, and why: `verified` is None for one that was pinned by its hash.

    `trouble` says why the last verified manifest serves in place of a fetched one, `offline` that no server answered.
    """

    root_hash: ContentHash
    root_size: int = 0
    verified: Verified | None = None
    tag: str = ""
    offline: bool = False
    trouble: str = ""

    @property
    def whitelist_expires(self) -> str:
        """When the whitelist expires, 14 digits of UTC; empty for a pinned root hash."""
        return self.verified.whitelist.expires if self.verified else ""

    def whitelist_days(self, now: float) -> int | None:
        """Whole days until the whitelist expires, negative afterwards; None for a pinned root hash."""
        return int((expiry(self.verified.whitelist) - now) // _DAY) if self.verified else None


def fetch_revision(settings: Settings, plane: DataPlane, clock: Callable[[], float] = time.time) -> Revision:
    """The revision that the settings ask for: a root hash, a tag, a date, or the newest one; the kept one if need be.

    Raises TrustError, StoreError if no server answers and nothing is kept, NotFound for an unknown tag.
    """
    if settings.root_hash:
        return Revision(settings.root_hash)
    try:
        verified = _Inquiry(settings, plane, clock).newest()
    except (StoreError, TrustError) as error:
        return _kept_revision(settings, plane, error, clock())
    return _chosen(settings, plane, verified)


def newest_revision(settings: Settings, plane: DataPlane, clock: Callable[[], float] = time.time) -> Revision:
    """The same, but only as a server says it now. Raises Unreachable if none does."""
    if settings.root_hash:
        return Revision(settings.root_hash)
    return _chosen(settings, plane, _Inquiry(settings, plane, clock).newest())


class _Inquiry:
    """One search for the newest manifest that may be trusted."""

    def __init__(self, settings: Settings, plane: DataPlane, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._plane = plane
        self._clock = clock
        self._state = trust_state(settings)

    def newest(self) -> Verified:
        """Raises TrustError, naming the server, if no server has anything acceptable, StoreError if none answers."""
        anchors = trust_anchors(self._settings)
        try:
            return self._ask(self._plane.store, anchors, fresh=False)
        except TrustError as error:
            log.debug("%s: %s: now all servers are asked, past the caches", self._settings.fqrn, error)
            return self._ask_each(anchors, error)

    def _ask_each(self, anchors: TrustAnchors, first: TrustError) -> Verified:
        refusals: list[TrustError] = []
        deadline = time.monotonic() + _PATIENCE
        for server in self._plane.mirrors():
            try:
                verified = self._ask(server, anchors, fresh=True)
            except TrustError as error:
                refusals.append(TrustError(error.step, f"{server}: {error.reason}"))
            except StoreError as error:
                log.debug("%s: %s", self._settings.fqrn, error)
            else:
                _tell_refusals(self._settings.fqrn, refusals)
                return verified
            if time.monotonic() > deadline:
                break
        raise self._with_hint(_gravest(refusals or [first]))

    def _with_hint(self, refusal: TrustError) -> TrustError:
        if refusal.step not in ROLLBACKS or not self._state:
            return refusal
        hint = f"cvfs trust reset {self._settings.fqrn} (which forgets what is in {self._state.directory})"
        return TrustError(refusal.step, f"{refusal.reason}; if the repository was created anew or set back: {hint}")

    def _ask(self, server: Store, anchors: TrustAnchors, *, fresh: bool) -> Verified:
        manifest = _document(server, ".cvmfspublished", fresh=fresh)
        certificate = self._certificate(server, certificate_to_fetch(manifest), fresh=fresh)
        whitelist = _document(server, ".cvmfswhitelist", fresh=fresh)
        now = self._clock()
        verified = anchors.verify(manifest, whitelist, certificate, now)
        if self._state:
            self._state.keep(Kept(manifest, whitelist, certificate, now), verified)
        return verified

    def _certificate(self, server: Store, wanted: ContentHash, *, fresh: bool) -> bytes:
        """The object as stored: the one that is kept if it is still the one asked for, which trust.py proves again."""
        try:
            kept = self._state.kept() if self._state else None
        except CvfsError as error:
            log.debug("%s: %s", self._settings.fqrn, error)
            kept = None
        if kept and ContentHash.of(kept.certificate, wanted.algorithm, wanted.kind) == wanted:
            return kept.certificate
        return _document(server, wanted.path, fresh=fresh)


def _document(server: Store, path: str, *, fresh: bool) -> bytes:
    """A small file, cut when it is longer than any that is accepted: what is cut is refused as what it should be."""
    data = bytearray()
    for piece in server.fetch(path, fresh=fresh):
        data += piece
        if len(data) > MAX_DOCUMENT:
            break
    return bytes(data[: MAX_DOCUMENT + 1])


def _tell_refusals(fqrn: str, refusals: list[TrustError]) -> None:
    """Another server helped, but somebody should look at these. That one lags is no news."""
    for refusal in refusals:
        if refusal.step not in LAGS:
            _warn_once(fqrn, str(refusal))


@functools.lru_cache(maxsize=64)
def _warn_once(fqrn: str, refusal: str) -> None:
    """A server that is wrong stays so for a while, and is asked every few minutes."""
    log.warning("%s: passed over a server: %s", fqrn, refusal)


def _gravest(refusals: list[TrustError]) -> TrustError:
    """That a server lags is worth telling only if nothing worse happened."""
    return next((error for error in refusals if error.step not in LAGS), refusals[0])


def _kept_revision(settings: Settings, plane: DataPlane, cause: CvfsError, now: float) -> Revision:
    """Without any answer, or if all servers lag, the last good documents serve, judged by the time of their acceptance.

    They are the newest that was ever seen. A refusal for any other reason stays one: somebody has to look at it.
    """
    if isinstance(cause, TrustError) and cause.step not in LAGS:
        raise cause
    state = trust_state(settings)
    kept = state.kept() if state else None
    if kept is None:
        raise cause
    anchors = trust_anchors(settings)
    verified = anchors.verify(kept.manifest, kept.whitelist, kept.certificate, kept.accepted)
    anchors.check_age(verified.manifest, now)
    offline = isinstance(cause, StoreError)
    if not offline:
        _require_catalog(plane, verified, cause)
    what = "no server answers" if offline else "all servers lag"
    trouble = f"{what}, the last verified revision is shown: {cause}"
    log.warning("%s: %s", settings.fqrn, trouble)
    return _chosen(settings, plane, verified, trouble, offline=offline)


def _require_catalog(plane: DataPlane, verified: Verified, cause: CvfsError) -> None:
    """Servers that lag do not have the revision that they should: it must be at hand."""
    manifest = verified.manifest
    try:
        os.close(plane.contents.open(Wanted(manifest.root_catalog, size=manifest.root_size or None)))
    except StoreError:
        raise cause from None


def _chosen(
    settings: Settings, plane: DataPlane, verified: Verified, trouble: str = "", *, offline: bool = False
) -> Revision:
    """Out of a verified manifest the root catalog that is asked for: its own, or that of a tag or date."""
    manifest = verified.manifest
    root, size, name = manifest.root_catalog, manifest.root_size, ""
    if settings.tag or settings.date:
        root, size, name = _tagged(settings, plane, verified)
    return Revision(root, size, verified, name, offline, trouble)


def _tagged(settings: Settings, plane: DataPlane, verified: Verified) -> tuple[ContentHash, int, str]:
    """Root hash, size and name of the tag, out of the verified tag database."""
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
    return tag.root_catalog, tag.size, tag.name


def _seconds(date: str) -> int:
    try:
        return calendar.timegm(time.strptime(date, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError as error:
        raise UsageError(f"CVMFS_REPOSITORY_DATE={date}: expected YYYY-MM-DDThh:mm:ssZ") from error
