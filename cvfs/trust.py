"""The rules of trust: from master public keys to a root hash. Takes bytes and the time; opens and fetches nothing.

The only road to a root hash. The order, which is also that of the steps below:
  1. the whitelist is signed by a master key, neither expired nor older than one seen before, and names the repository;
  2. the certificate object has the hash by which the manifest asks for it, is listed and not blacklisted;
  3. the manifest is signed with that certificate, names the repository and starts at its root;
  4. the revision is not older than the newest seen, nor below what the configuration demands, nor blacklisted, nor older
     than the configured age.
The first failure is a TrustError with the name of its step, and then nothing has changed. What the manifest says is not
looked at before its signature is verified, except for the hash of the certificate.

The client's clock is trusted for expiry and age alone. Documents from its future are accepted, as the original does: its own
clock is as likely to be wrong. But what is remembered of them is not later than a day from now, so that a publisher whose
clock was ahead once does not lock out his later revisions. Source: FORMAT sections 2.4, 3.6.
"""

import calendar
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from cvfs.compression import Compression, decode
from cvfs.errors import CorruptObject, FormatError, TrustError
from cvfs.format import manifest as manifests
from cvfs.format import whitelist as whitelists
from cvfs.format.manifest import ROOT_PATH_HASH, Manifest
from cvfs.format.signature import (
    MAX_DOCUMENT,
    Certificate,
    PublicKey,
    Signed,
    load_certificate,
    split_signed,
    verify_manifest_signature,
    verify_whitelist_signature,
)
from cvfs.format.whitelist import Blacklist, Whitelist, stamp
from cvfs.hashes import ContentHash

MASTER_KEY = "master key"
WHITELIST_FORMAT = "whitelist format"
WHITELIST_VARIANT = "whitelist variant"
WHITELIST_SIGNATURE = "whitelist signature"
WHITELIST_EXPIRY = "whitelist expiry"
WHITELIST_NAME = "whitelist name"
WHITELIST_ROLLBACK = "whitelist rollback"
MANIFEST_FORMAT = "manifest format"
CERTIFICATE_HASH = "certificate hash"
CERTIFICATE_FORMAT = "certificate format"
CERTIFICATE_FINGERPRINT = "certificate fingerprint"
CERTIFICATE_BLACKLIST = "certificate blacklist"
MANIFEST_SIGNATURE = "manifest signature"
MANIFEST_NAME = "manifest name"
MANIFEST_ROOT_PATH = "manifest root path"
REVISION_ROLLBACK = "revision rollback"
REVISION_FORK = "revision fork"
TIMESTAMP_ROLLBACK = "timestamp rollback"
MINIMUM_REVISION = "minimum revision"
REVISION_BLACKLIST = "revision blacklist"
MANIFEST_AGE = "manifest age"

# What a server serves that is behind the others: no attack, another one is asked.
LAGS = frozenset({REVISION_ROLLBACK, WHITELIST_ROLLBACK})
# Refusals that a repository created anew under the same name meets as well.
ROLLBACKS = LAGS | {REVISION_FORK, TIMESTAMP_ROLLBACK}

# How far from the client's clock a stamp may lie and still be remembered, in seconds.
TOLERATED_SKEW = 86400
_MAX_SEEN = 4096
_LARGEST = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest that was ever verified of a repository, kept so that nobody can serve something older.

    `timestamp` is the Unix time of publishing, `whitelist_issued` the whitelist's stamp; neither is later than the day
    after it was seen.
    """

    revision: int
    timestamp: int
    root_catalog: str
    whitelist_issued: str

    def serialise(self) -> bytes:
        """A small JSON object for the caller to keep."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> "Seen":
        """From what `serialise` gave. Raises FormatError for anything else."""
        try:
            members: Any = json.loads(data.decode()) if len(data) <= _MAX_SEEN else None
        except (ValueError, RecursionError) as error:
            raise FormatError(f"the record of the newest revision is no JSON: {error}") from error
        if not _is_seen(members):
            raise FormatError("the record of the newest revision lacks a member or has one of a wrong type")
        return cls(**members)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the configuration demands of a manifest: a revision not below `revision`, not older than `age` seconds (0: any).

    The one cures a client that has seen nothing yet, the other a network that withholds what is new.
    """

    revision: int = 0
    age: float = 0


@dataclass(frozen=True, slots=True)
class Verified:
    """A manifest that passed every step, and the whitelist that vouches for it; `now` was the Unix time then."""

    manifest: Manifest
    whitelist: Whitelist
    now: float

    @property
    def seen(self) -> Seen:
        """What to remember."""
        manifest, latest = self.manifest, self.now + TOLERATED_SKEW
        timestamp = min(manifest.timestamp, max(0, int(latest)))
        return Seen(manifest.revision, timestamp, str(manifest.root_catalog), min(self.whitelist.issued, stamp(latest)))

    def is_not_older_than(self, seen: Seen) -> bool:
        """Whether it may take the place of what another process has seen in the meantime."""
        try:
            _check_whitelist_not_older(self.whitelist, seen)
            _check_not_older(self.manifest, seen)
        except TrustError:
            return False
        return True


def expiry(whitelist: Whitelist) -> float:
    """The Unix time at which the whitelist expires: the beginning of the hour (FORMAT section 3.1)."""
    year, month, day, hour = (int(whitelist.expires[a:b]) for a, b in ((0, 4), (4, 6), (6, 8), (8, 10)))
    # Stamps are compared as texts, so they need not be dates.
    return float(calendar.timegm((max(1, year), min(12, max(1, month)), day, hour, 0, 0)))


def certificate_to_fetch(manifest: bytes) -> ContentHash:
    """The certificate object a manifest asks for: all that may be read of it before it is verified.

    Raises TrustError.
    """
    return _certificate_named(_read_manifest(manifest)[1])


@dataclass(frozen=True, slots=True)
class TrustAnchors:
    """What a client believes without proof: the repository's name, its master keys, a blacklist, limits, the newest seen."""

    fqrn: str
    public_keys: tuple[PublicKey, ...]
    blacklist: Blacklist = field(default_factory=Blacklist)
    seen: Seen | None = None
    limits: Limits = field(default_factory=Limits)

    def verify(self, manifest: bytes, whitelist: bytes, certificate: bytes, now: float) -> Verified:
        """Accept the three documents or raise TrustError.

        Manifest and whitelist are the files as fetched, `certificate` is its object as stored (zlib), `now` is the Unix
        time.
        """
        accepted = self._accept_whitelist(whitelist, now)
        signed, claimed = _read_manifest(manifest)
        signer = _read_certificate(certificate, _certificate_named(claimed))
        self._check_certificate(signer, accepted)
        with _step(MANIFEST_SIGNATURE):
            _require(verify_manifest_signature(signer, signed), MANIFEST_SIGNATURE, "not made with its certificate")
        self._check_manifest(claimed)
        self._check_progress(claimed)
        self.check_age(claimed, now)
        return Verified(claimed, accepted, now)

    def check_age(self, manifest: Manifest, now: float) -> None:
        """Raises TrustError if the manifest is older than the configuration allows; `now` is the Unix time."""
        age, limit = now - manifest.timestamp, self.limits.age
        message = f"revision {manifest.revision} was published {age / 3600:.0f} hours ago, {limit / 3600:g} are allowed"
        _require(not limit or age <= limit, MANIFEST_AGE, message)

    def _accept_whitelist(self, data: bytes, now: float) -> Whitelist:
        _require(bool(self.public_keys), MASTER_KEY, f"none known for {self.fqrn}: set CVMFS_PUBLIC_KEY (-k FILE)")
        with _step(WHITELIST_FORMAT):
            signed = split_signed(data)
            whitelist = whitelists.parse(signed.payload)
        _require(
            not (whitelist.pkcs7 or whitelist.ca_chain), WHITELIST_VARIANT, "needs a CA store, which no client has"
        )
        signature_fits = verify_whitelist_signature(self.public_keys, signed)
        _require(signature_fits, WHITELIST_SIGNATURE, f"not made with a master key known for {self.fqrn}")
        _require(
            not whitelist.is_expired(now), WHITELIST_EXPIRY, f"expired {whitelist.expires} UTC, must be signed anew"
        )
        _require(whitelist.fqrn == self.fqrn, WHITELIST_NAME, f"is for {whitelist.fqrn}, not for {self.fqrn}")
        if self.seen:
            _check_whitelist_not_older(whitelist, self.seen)
        return whitelist

    def _check_certificate(self, certificate: Certificate, whitelist: Whitelist) -> None:
        with _step(CERTIFICATE_FINGERPRINT):
            _require(whitelist.lists(certificate), CERTIFICATE_FINGERPRINT, "not listed by the whitelist")
        with _step(CERTIFICATE_BLACKLIST):
            _require(not self.blacklist.lists(certificate), CERTIFICATE_BLACKLIST, "the certificate is blacklisted")

    def _check_manifest(self, manifest: Manifest) -> None:
        _require(manifest.fqrn == self.fqrn, MANIFEST_NAME, f"is for {manifest.fqrn or 'nobody'}, not for {self.fqrn}")
        starts_at_root = manifest.root_path_hash == ROOT_PATH_HASH
        _require(starts_at_root, MANIFEST_ROOT_PATH, "does not start at the root of the repository")

    def _check_progress(self, manifest: Manifest) -> None:
        if self.seen:
            _check_not_older(manifest, self.seen)
        revision, least, floor = manifest.revision, self.limits.revision, self.blacklist.floor(self.fqrn)
        _require(revision >= least, MINIMUM_REVISION, f"revision {revision}, the configuration demands {least}")
        message = f"revision {revision} is refused, {floor} is the oldest accepted"
        _require(revision >= floor, REVISION_BLACKLIST, message)


def _check_whitelist_not_older(whitelist: Whitelist, seen: Seen) -> None:
    newest = seen.whitelist_issued
    _require(whitelist.issued >= newest, WHITELIST_ROLLBACK, f"issued {whitelist.issued}, seen was {newest}")


def _check_not_older(manifest: Manifest, seen: Seen) -> None:
    revision, timestamp = manifest.revision, manifest.timestamp
    # A copy that is behind is older in both: fewer revisions published later are another history of the repository.
    forked = revision < seen.revision and timestamp > seen.timestamp
    _require(not forked, REVISION_FORK, f"revision {revision} was published later than {seen.revision}, which was seen")
    _require(revision >= seen.revision, REVISION_ROLLBACK, f"revision {revision}, seen was {seen.revision}")
    # Revision 0 is the one that may be made twice: a repository that is created anew.
    same = revision != seen.revision or revision == 0 or str(manifest.root_catalog) == seen.root_catalog
    _require(same, REVISION_FORK, f"revision {revision} was seen with another root catalog")
    _require(timestamp >= seen.timestamp, TIMESTAMP_ROLLBACK, f"published at {timestamp}, seen was {seen.timestamp}")


def _read_manifest(data: bytes) -> tuple[Signed, Manifest]:
    with _step(MANIFEST_FORMAT):
        signed = split_signed(data)
        return signed, manifests.parse(signed.payload)


def _certificate_named(manifest: Manifest) -> ContentHash:
    if manifest.certificate is None:
        raise TrustError(MANIFEST_FORMAT, "it names no certificate")
    return manifest.certificate


def _read_certificate(stored: bytes, expected: ContentHash) -> Certificate:
    with _step(CERTIFICATE_HASH):
        is_it = ContentHash.of(stored, expected.algorithm, expected.kind) == expected
        _require(is_it, CERTIFICATE_HASH, f"the object is not {expected.name}")
    with _step(CERTIFICATE_FORMAT):
        return load_certificate(decode(stored, Compression.ZLIB, MAX_DOCUMENT))


def _require(holds: bool, step: str, message: str) -> None:
    if not holds:
        raise TrustError(step, message)


@contextmanager
def _step(step: str) -> Iterator[None]:
    """Bytes that cannot be read are a failure of the step that reads them."""
    try:
        yield
    except (FormatError, CorruptObject) as error:
        raise TrustError(step, str(error)) from error


def _is_seen(members: Any) -> bool:
    if not isinstance(members, dict) or set(members) != set(Seen.__slots__):
        return False
    numbers = (members["revision"], members["timestamp"])
    texts = (members["root_catalog"], members["whitelist_issued"])
    return all(type(n) is int and 0 <= n <= _LARGEST for n in numbers) and all(isinstance(t, str) for t in texts)
