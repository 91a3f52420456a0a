"""Content hashes: algorithm, digest and kind of object; paths and their hashes; opens no file.

A content hash names the bytes of an object *as stored*. Source: FORMAT sections 1.2, 4.1, 4.2, 5.3.
"""

import enum
import hashlib
import re
import struct
from dataclasses import dataclass
from typing import Protocol

from cvfs.errors import FormatError

Bytes = bytes | bytearray | memoryview

DIGEST_SIZE = 20
_TEXT = re.compile(r"([0-9a-f]{40})(|-rmd160|-shake128)")


class Algorithm(enum.IntEnum):
    """Hash algorithm; the value is its code in the flags of a catalog row."""

    SHA1 = 0
    RMD160 = 1
    SHAKE128 = 2

    @property
    def tag(self) -> str:
        """What follows the hex digits in text and file names."""
        return ("", "-rmd160", "-shake128")[self]

    @classmethod
    def named(cls, name: str) -> "Algorithm":
        """The algorithm by its configuration name: sha1, rmd160 or shake128."""
        try:
            return cls[name.upper()]
        except KeyError:
            raise FormatError(f"unknown hash algorithm {name!r}: use sha1, rmd160 or shake128") from None


class ObjectKind(enum.Enum):
    """What an object is; the value is the last letter of its file name (section 1.2)."""

    FILE = ""
    CHUNK = "P"
    CATALOG = "C"
    HISTORY = "H"
    CERTIFICATE = "X"
    METAINFO = "M"
    MICRO_CATALOG = "L"


class Hasher(Protocol):
    """A running hash over the stored bytes of one object."""

    def update(self, data: Bytes, /) -> None:
        """Feed the next bytes."""

    def digest(self) -> bytes:
        """Twenty bytes."""


class _Shake128:
    """SHAKE-128 with the 160 bits of output that the format uses."""

    def __init__(self) -> None:
        self._shake = hashlib.shake_128()
        self.update = self._shake.update

    def digest(self) -> bytes:
        return self._shake.digest(DIGEST_SIZE)


def new_hasher(algorithm: Algorithm) -> Hasher:
    """An empty hasher. Raises FormatError where the machine's OpenSSL lacks RIPEMD-160."""
    if algorithm is Algorithm.SHA1:
        return hashlib.sha1(usedforsecurity=False)
    if algorithm is Algorithm.SHAKE128:
        return _Shake128()
    try:
        return hashlib.new("ripemd160", usedforsecurity=False)
    except ValueError as error:
        raise FormatError("this machine's OpenSSL offers no RIPEMD-160: enable its legacy provider") from error


@dataclass(frozen=True, slots=True)
class ContentHash:
    """Name of an object: the hash of its stored bytes, and what kind of object it is.

    The kind is only a hint in the file name; it takes no part in the hash.
    """

    algorithm: Algorithm
    digest: bytes
    kind: ObjectKind = ObjectKind.FILE

    def __post_init__(self) -> None:
        if len(self.digest) != DIGEST_SIZE:
            raise FormatError(f"a digest has {DIGEST_SIZE} bytes, not {len(self.digest)}")

    def __hash__(self) -> int:
        # The digest is as good as all of it, and a key is looked for several times for each object.
        return hash(self.digest)

    def __str__(self) -> str:
        """Hex and algorithm tag, never the letter: the form of manifests, catalogs, tags and reflogs."""
        return self.digest.hex() + self.algorithm.tag

    @property
    def name(self) -> str:
        """Hex, algorithm tag and letter: the form of file names and log lines."""
        return f"{self}{self.kind.value}"

    @property
    def path(self) -> str:
        """Place below the base URL, for instance `data/ff/049c…07c6`."""
        name = self.name
        return f"data/{name[:2]}/{name[2:]}"

    def as_kind(self, kind: ObjectKind) -> "ContentHash":
        """The same hash read as another kind of object."""
        return ContentHash(self.algorithm, self.digest, kind)

    @classmethod
    def parse(cls, text: str, kind: ObjectKind = ObjectKind.FILE) -> "ContentHash":
        """From hex and tag. Raises FormatError for anything else, a trailing letter included."""
        found = _TEXT.fullmatch(text)
        if not found:
            raise FormatError(f"not a content hash: {text[:80]!r}")
        algorithm = {a.tag: a for a in Algorithm}[found[2]]
        return cls(algorithm, bytes.fromhex(found[1]), kind)

    @classmethod
    def of(cls, data: Bytes, algorithm: Algorithm, kind: ObjectKind = ObjectKind.FILE) -> "ContentHash":
        """The hash of `data` as it is stored."""
        hasher = new_hasher(algorithm)
        hasher.update(data)
        return cls(algorithm, hasher.digest(), kind)


_HALVES = struct.Struct("<qq")


def path_hash(path: bytes) -> tuple[int, int]:
    """MD5 of an absolute path as the two integers of a catalog row; the root is the empty path (section 5.3)."""
    first, second = _HALVES.unpack(hashlib.md5(path, usedforsecurity=False).digest())
    return first, second


def parent_path(path: bytes) -> bytes:
    """The path up to the last slash: `/foo` has the parent `` (section 5.3)."""
    return path[: path.rindex(b"/")] if path else b""


def as_path(path: str | bytes) -> bytes:
    """An absolute path the way catalogs name it: no trailing slash, the root empty."""
    raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
    parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
    return b"".join(b"/" + part for part in parts)
