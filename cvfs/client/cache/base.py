"""What every kind of cache offers to a client: contents by hash on this machine, and what the commands ask; no network."""

import enum
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from cvfs.hashes import ContentHash, ObjectKind


class EntryKind(enum.Enum):
    """What a content is to the cache: data goes before catalogs, volatile data before all."""

    DATA = "data"
    CATALOG = "catalog"
    VOLATILE = "volatile"


class CacheEntry(NamedTuple):
    """One cached content: length in bytes, last use in nanoseconds since the epoch, whether a session holds on to it."""

    content: ContentHash
    size: int
    last_use: int
    held: bool
    volatile: bool = False

    @property
    def kind(self) -> EntryKind:
        """Catalog, volatile data, or other data."""
        if self.volatile:
            return EntryKind.VOLATILE
        return EntryKind.CATALOG if self.content.kind is ObjectKind.CATALOG else EntryKind.DATA


class Checked(NamedTuple):
    """What `check` looked at, in contents and bytes; what is damaged, and what of it could not be put aside or read."""

    objects: int
    size: int
    dropped: tuple[ContentHash, ...]
    unfixed: tuple[ContentHash, ...] = ()


def ignore_progress(_name: str) -> None:
    """For whoever does not care which content is looked at."""


class Cache(Protocol):
    """Contents by the hash of their object, on this machine. Safe to use from several threads.

    `volatile` may be set: data that is inserted from then on is the first to go.
    """

    volatile: bool

    @property
    def staging(self) -> str | None:
        """A directory for large objects on their way, None: memory."""

    def prepare(self) -> None:
        """Make the cache usable; trouble is logged, and StoreFull later."""

    def close(self) -> None:
        """End; descriptors that were handed out stay usable."""

    def open(self, content: ContentHash) -> int | None:
        """A descriptor for reading, or None if it is not at hand. Never waits; no database. Raises StoreFull."""

    def retrieve(self, content: ContentHash) -> int | None:
        """What `open` could not give at once: after copying it from a lower tier, after proving it.

        None if it has to be fetched. Raises StoreFull.
        """

    def insert(self, content: ContentHash, pieces: Iterator[bytes], size: int | None = None) -> int:
        """Keep a content, whole or not at all, and return a descriptor for reading it. Raises StoreFull."""

    def pin(self, content: ContentHash) -> None:
        """Never evict this content until it was unpinned as often as it was pinned."""

    def unpin(self, content: ContentHash) -> None:
        """Undo one `pin`; harmless for what is not pinned."""

    def spare(self, contents: Iterable[ContentHash]) -> None:
        """Evict these only where nothing else is left, instead of those named before."""

    def evict(self, content: ContentHash) -> bool:
        """Whether the content was there; it is not any more. Raises StoreFull if it cannot be removed."""

    def usage(self) -> tuple[int, int | None]:
        """Bytes in use, and the quota (None: no limit)."""

    def resize(self, quota: int | None) -> None:
        """Another quota in bytes from now on. Raises UsageError where the cache has none."""

    def clean_up(self, goal: int) -> bool:
        """Evict until not more than `goal` bytes are in use, what is spared at last; whether that was reached."""

    def cleanups_within(self, seconds: float) -> int:
        """How many times contents were evicted in the last `seconds`."""

    def entries(self) -> list[CacheEntry]:
        """Everything in the cache, the least recently used first."""

    def check(
        self, *, repair: bool = True, workers: int = 1, progress: Callable[[str], None] = ignore_progress
    ) -> Checked:
        """Read every content and prove it; with `repair` put aside what is damaged. `progress` gets each name."""

    def rebuild(self) -> None:
        """Make the books, where there are any, say what is there. Trouble is logged."""

    def flush(self) -> None:
        """What is due about once a minute."""

    def describe(self) -> str:
        """Kind and place in one line, for the administrator."""
