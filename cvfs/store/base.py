"""What a store is: stored bytes by place, contents by hash. Everything else in this package wraps one of the two.

    Coalesced ─ Cached ─ Verified ─ Failover ─ Http      contents by hash … stored bytes by place

Errors decide what happens next: MissingObject means ask the next store, CorruptObject drop and fetch anew, Unreachable
fail over; anything else stops.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from cvfs.compression import Compression
from cvfs.errors import Unreachable
from cvfs.hashes import ContentHash, ObjectKind

# No object of a sane repository is larger; the original refuses files over 1 GiB unless told otherwise.
MAX_CONTENT = 64 * 2**30
# The same for what is fetched without its length being known: catalogs and tag databases of the largest repositories of the
# field have some 100 MB, certificates and meta data some KB.
_LARGEST = {
    ObjectKind.CATALOG: 2**30,
    ObjectKind.HISTORY: 2**30,
    ObjectKind.CERTIFICATE: 2**20,
    ObjectKind.METAINFO: 2**20,
}
# Manifest, whitelist and other documents that are held in memory (FORMAT section 1.5).
MAX_DOCUMENT = 2**20


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object to be had: its hash, its stored form, and the length of its content in bytes where that is known.

    `place` overrides where it is fetched from, relative to the base URL; `span` asks for a part of it, as (offset,
    length): both serve external files, whose chunks are ranges (FORMAT section 4.6).
    """

    content: ContentHash
    compression: Compression = Compression.ZLIB
    size: int | None = None
    place: str | None = None
    span: tuple[int, int] | None = None

    def __hash__(self) -> int:
        return hash(self.content.digest)

    @property
    def path(self) -> str:
        """Where to fetch it, relative to the base URL."""
        return self.place or self.content.path

    @property
    def limit(self) -> int:
        """No decoder may produce more bytes than this."""
        return _LARGEST.get(self.content.kind, MAX_CONTENT) if self.size is None else self.size


class Store(Protocol):
    """Stored bytes by their place below a repository's base URL."""

    def fetch(self, path: str, *, fresh: int = 0, span: tuple[int, int] | None = None) -> Iterator[bytes]:
        """The bytes at `path`, piece by piece. `fresh` is the number of bad copies that came before: after one every
        cache on the way is passed by, after two another server and another proxy are asked first.

        Raises MissingObject or Unreachable, at the call or while it is iterated; never yields after an error.
        """

    def has(self, path: str) -> bool:
        """Whether `path` is there now. Raises Unreachable."""


class Way(Protocol):
    """A store behind one server and one proxy, as a fail-over asks it."""

    def fetch(
        self, path: str, *, fresh: int = 0, span: tuple[int, int] | None = None, patience: float | None = None
    ) -> Iterator[bytes]:
        """See `Store.fetch`. The first byte of the answer comes within `patience` seconds, or Unreachable is raised."""

    def has(self, path: str, *, patience: float | None = None) -> bool:
        """See `Store.has`."""


class Contents(Protocol):
    """Contents of objects by hash, as open files."""

    def open(self, wanted: Wanted) -> int:
        """A descriptor, positioned anywhere, whose file holds exactly the verified content; the caller closes it.

        Raises MissingObject, CorruptObject or Unreachable. May wait for the network.
        """

    def open_present(self, wanted: Wanted) -> int | None:
        """The same without waiting: None if the object would have to be fetched."""


def fetch_document(store: Store, path: str, limit: int = MAX_DOCUMENT, *, fresh: int = 0) -> bytes:
    """A small file held in memory. Raises Unreachable if it is longer than `limit` bytes."""
    data = bytearray()
    for piece in store.fetch(path, fresh=fresh):
        data += piece
        if len(data) > limit:
            raise Unreachable(f"{path}: longer than {limit} bytes, refused")
    return bytes(data)
