"""The manifest: what the signed pointer to a revision says; pure, checks no signature. Source: FORMAT sections 2.1, 2.2."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cvfs.errors import FormatError
from cvfs.format.fqrn import is_fqrn
from cvfs.hashes import ContentHash, ObjectKind

# The MD5 of the root path, which is the empty string.
ROOT_PATH_HASH = "d41d8cd98f00b204e9800998ecf8427e"
DEFAULT_TTL = 240
_LARGEST = 2**64 - 1
_DECIMAL = re.compile(r"[0-9]{1,20}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_END = b"--"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One revision of a repository. Raises FormatError for a name or a number that cannot be written.

    `root_size` is the length in bytes of the uncompressed root catalog, 0 if unknown; `ttl` is in seconds, and clients
    use the root catalog's instead; `timestamp` is the Unix time of publishing, 0 if unknown; `reflog` is the digest of
    the reflog file. A manifest without `fqrn` and `certificate` is well-formed, but no client trusts it.
    """

    root_catalog: ContentHash
    revision: int
    fqrn: str = ""
    certificate: ContentHash | None = None
    root_size: int = 0
    root_path_hash: str = ROOT_PATH_HASH
    ttl: int = DEFAULT_TTL
    garbage_collectable: bool = False
    alternative_paths: bool = False
    micro_catalog: ContentHash | None = None
    history: ContentHash | None = None
    timestamp: int = 0
    metainfo: ContentHash | None = None
    reflog: ContentHash | None = None

    def __post_init__(self) -> None:
        if self.fqrn and not is_fqrn(self.fqrn):
            raise FormatError(f"manifest: {self.fqrn[:80]!r} is not a repository name")
        if not _MD5.fullmatch(self.root_path_hash):
            raise FormatError(f"manifest: the field R is no MD5: {self.root_path_hash[:40]!r}")
        for number in (self.revision, self.root_size, self.ttl, self.timestamp):
            if not 0 <= number <= _LARGEST:
                raise FormatError(f"manifest: {number} is no number of 64 bits")

    def serialise(self) -> bytes:
        """The payload to be signed, in the order that readers of the original's habits expect."""
        return "".join(f"{letter}{value}\n" for letter, value in self._lines() if value is not None).encode()

    def _lines(self) -> tuple[tuple[str, object], ...]:
        return (
            ("C", self.root_catalog),
            ("B", self.root_size),
            ("R", self.root_path_hash),
            ("D", self.ttl),
            ("S", self.revision),
            ("G", _yes_or_no(self.garbage_collectable)),
            ("A", _yes_or_no(self.alternative_paths)),
            ("L", self.micro_catalog),
            ("N", self.fqrn or None),
            ("X", self.certificate),
            ("H", self.history),
            ("T", self.timestamp or None),
            ("M", self.metainfo),
            ("Y", self.reflog),
        )


def parse(payload: bytes) -> Manifest:
    """The manifest in a payload; of duplicate letters the last wins, unknown letters are ignored. Raises FormatError."""
    values = _by_letter(payload)
    if missing := [letter for letter in "CRDS" if letter not in values]:
        raise FormatError(f"manifest: the field {missing[0]} is missing")
    return Manifest(
        root_catalog=ContentHash.parse(values["C"], ObjectKind.CATALOG),
        revision=_number(values, "S"),
        fqrn=values.get("N", ""),
        certificate=_hash(values, "X", ObjectKind.CERTIFICATE),
        root_size=_number(values, "B"),
        root_path_hash=values["R"],
        ttl=_number(values, "D"),
        garbage_collectable=values.get("G") == "yes",
        alternative_paths=values.get("A") == "yes",
        micro_catalog=_hash(values, "L", ObjectKind.MICRO_CATALOG),
        history=_hash(values, "H", ObjectKind.HISTORY),
        timestamp=_number(values, "T"),
        metainfo=_hash(values, "M", ObjectKind.METAINFO),
        reflog=_hash(values, "Y", ObjectKind.FILE),
    )


def _by_letter(payload: bytes) -> Mapping[str, str]:
    values = {}
    for line in payload.split(b"\n"):
        if line == _END:
            break
        # Latin-1 gives every byte a character: what is not ASCII fails where its field is checked, or is not looked at.
        text = line.decode("latin-1")
        values[text[:1]] = text[1:]
    return values


def _number(values: Mapping[str, str], letter: str) -> int:
    text = values.get(letter, "0")
    if not _DECIMAL.fullmatch(text):
        raise FormatError(f"manifest: the field {letter} is no decimal number: {text[:40]!r}")
    return int(text)


def _hash(values: Mapping[str, str], letter: str, kind: ObjectKind) -> ContentHash | None:
    return ContentHash.parse(values[letter], kind) if letter in values else None


def _yes_or_no(answer: bool) -> str:
    return "yes" if answer else "no"
