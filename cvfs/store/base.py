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
from cvfs.hashes import ContentHash

# No object of a sane repository is larger; the original refuses files over 1 GiB unless told otherwise.
MAX_CONTENT = 64 * 2**30
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

    @property
    def path(self) -> str:
        """Where to fetch it, relative to the base URL."""
        return self.place or self.content.path

    @property
    def limit(self) -> int:
        """No decoder may produce more bytes than this."""
        return MAX_CONTENT if self.size is None else self.size


class Store(Protocol):
    """Stored bytes by their place below a repository's base URL."""

    def fetch(self, path: str, *, fresh: bool = False, span: tuple[int, int] | None = None) -> Iterator[bytes]:
        """The bytes at `path`, piece by piece; `fresh` asks past every cache on the way.

        Raises MissingObject or Unreachable, at the call or while it is iterated; never yields after an error.
        """

    def has(self, path: str) -> bool:
        """Whether `path` is there now. Raises Unreachable."""


class Contents(Protocol):
    """Contents of objects by hash, as open files."""

    def open(self, wanted: Wanted) -> int:
        """A descriptor, positioned anywhere, whose file holds exactly the verified content; the caller closes it.

        Raises MissingObject, CorruptObject or Unreachable. May wait for the network.
        """

    def open_present(self, wanted: Wanted) -> int | None:
        """The same without waiting: None if the object would have to be fetched."""


def fetch_document(store: Store, path: str, limit: int = MAX_DOCUMENT, *, fresh: bool = False) -> bytes:
    """A small file held in memory. Raises Unreachable if it is longer than `limit` bytes."""
    data = bytearray()
    for piece in store.fetch(path, fresh=fresh):
        data += piece
        if len(data) > limit:
            raise Unreachable(f"{path}: longer than {limit} bytes, refused")
    return bytes(data)
