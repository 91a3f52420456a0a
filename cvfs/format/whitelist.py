"""Whitelist and blacklist: which certificates and revisions are good; pure, checks no signature, reads no clock.

Source: FORMAT sections 3.1, 3.4, 3.5.
"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cvfs.errors import FormatError
from cvfs.format.fqrn import is_fqrn
from cvfs.format.signature import Certificate, certificate_fingerprint
from cvfs.hashes import ContentHash

_ISSUED = re.compile(r"[\x00-\x09\x0b-\x7f]{14}")
_STAMP = re.compile(r"[0-9]{14}")
_EXPIRY = re.compile(rb"E([0-9]{14})")
_COMMENT = re.compile(rb"[ \t#]")
_FLOOR = re.compile(rb"<([^ \t]+)[ \t]+([0-9]{1,20})")
_HOUR = len("YYYYMMDDhh")
_PKCS7, _CA_CHAIN = "Vpkcs7", "Wcachain"


def stamp(now: float) -> str:
    """A Unix time as whitelists write it: YYYYMMDDhhmmss, UTC."""
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(now))


@dataclass(frozen=True, slots=True)
class Whitelist:
    """Certificates that may sign a repository's manifests. Raises FormatError for what cannot be written.

    `issued` and `expires` are UTC stamps of 14 characters; `fingerprints` are hashes of certificates in DER form.
    `pkcs7` and `ca_chain` mark the variants that no client of today can verify (section 3.5).
    """

    issued: str
    expires: str
    fqrn: str
    fingerprints: tuple[ContentHash, ...]
    pkcs7: bool = False
    ca_chain: bool = False

    def __post_init__(self) -> None:
        if not _ISSUED.fullmatch(self.issued) or not _STAMP.fullmatch(self.expires):
            raise FormatError("whitelist: issue and expiry are stamps of 14 characters")
        if not is_fqrn(self.fqrn):
            raise FormatError(f"whitelist: {self.fqrn[:80]!r} is not a repository name")

    def is_expired(self, now: float) -> bool:
        """Whether `now` (Unix time) is in the hour of expiry or later: minutes and seconds do not count."""
        return self.expires[:_HOUR] <= stamp(now)[:_HOUR]

    def lists(self, certificate: Certificate) -> bool:
        """Whether one of the fingerprints is this certificate's."""
        return _is_among(certificate, self.fingerprints)

    def serialise(self) -> bytes:
        """The payload to be signed."""
        flags = (_PKCS7,) * self.pkcs7 + (_CA_CHAIN,) * self.ca_chain
        lines = (self.issued, f"E{self.expires}", f"N{self.fqrn}", *flags, *map(_print, self.fingerprints))
        return "".join(f"{line}\n" for line in lines).encode()


def parse(payload: bytes) -> Whitelist:
    """The whitelist in a payload; lines that are no fingerprints are skipped. Raises FormatError."""
    lines = payload.split(b"\n")
    if len(lines) < 3 or len(lines[0]) != 14 or not lines[2].startswith(b"N"):
        raise FormatError("whitelist: it must begin with an issue time, an expiry and a name")
    expiry = _EXPIRY.fullmatch(lines[1])
    if not expiry:
        raise FormatError(f"whitelist: the second line is no expiry: {lines[1][:40]!r}")
    rest = lines[3:]
    pkcs7 = rest[:1] == [_PKCS7.encode()]
    ca_chain = rest[pkcs7 : pkcs7 + 1] == [_CA_CHAIN.encode()]
    issued, fqrn = lines[0].decode("latin-1"), lines[2][1:].decode("latin-1")
    return Whitelist(issued, expiry[1].decode(), fqrn, tuple(_fingerprints(rest)), pkcs7, ca_chain)


@dataclass(frozen=True, slots=True)
class Blacklist:
    """Certificates refused even if whitelisted, and by repository name the oldest revision that is accepted."""

    fingerprints: frozenset[ContentHash] = frozenset()
    floors: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def lists(self, certificate: Certificate) -> bool:
        """Whether the certificate is refused."""
        return _is_among(certificate, self.fingerprints)

    def floor(self, fqrn: str) -> int:
        """Revisions of the repository below this one are refused."""
        return self.floors.get(fqrn, 0)

    def joined(self, other: "Blacklist") -> "Blacklist":
        """What either of the two refuses."""
        names = {*self.floors, *other.floors}
        floors = {name: max(self.floor(name), other.floor(name)) for name in names}
        return Blacklist(self.fingerprints | other.fingerprints, MappingProxyType(floors))


def parse_blacklist(data: bytes) -> Blacklist:
    """The blacklist in a text file; lines of any other form are skipped, so it never fails."""
    lines = data.split(b"\n")
    floors: dict[str, int] = {}
    for line in lines:
        if found := _FLOOR.fullmatch(line):
            name = found[1].decode("latin-1")
            floors[name] = max(floors.get(name, 0), int(found[2]))
    return Blacklist(frozenset(_fingerprints(lines)), MappingProxyType(floors))


def _fingerprints(lines: list[bytes]) -> Iterator[ContentHash]:
    for line in lines:
        text = _COMMENT.split(line, maxsplit=1)[0].replace(b":", b"").lower()
        try:
            yield ContentHash.parse(text.decode("latin-1"))
        except FormatError:
            continue


def _is_among(certificate: Certificate, fingerprints: tuple[ContentHash, ...] | frozenset[ContentHash]) -> bool:
    algorithms = {fingerprint.algorithm for fingerprint in fingerprints}
    return any(certificate_fingerprint(certificate, algorithm) in fingerprints for algorithm in algorithms)


def _print(fingerprint: ContentHash) -> str:
    return fingerprint.digest.hex(":").upper() + fingerprint.algorithm.tag.upper()
