"""What the publisher needs of a place that holds a repository: the client's `Store`, and writing; knows no disk.

An object is immutable: equal name means equal content, so a second writing of it is skipped. Everything outside of
`data/` is mutable and replaced as a whole. Source: FORMAT sections 1.1, 4.7.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

from cvfs.hashes import Bytes
from cvfs.store.base import Store


class Upload(Protocol):
    """One object on its way, invisible until it is committed. Used by one thread."""

    def write(self, data: Bytes) -> None:
        """The next stored bytes. Raises StoreFull."""

    def commit(self, path: str) -> bool:
        """Make it visible at `path`; False if it was there before. Ends the upload. Raises StoreFull."""

    def abort(self) -> None:
        """Forget it; of no effect after a commit."""


class Storage(Store, Protocol):
    """A repository that can be written. Used by several threads; copies of it work in other processes.

    Where it is behind a network, everything may raise Unreachable instead of StoreFull.
    """

    @property
    def place(self) -> str:
        """Where it is, for messages."""

    @property
    def parallel(self) -> int:
        """How many objects one process should have on their way at a time: 1 where writing does not wait for a network."""

    def create(self) -> None:
        """Make what an empty repository needs (FORMAT section 1.2). Raises StoreFull."""

    def put(self, path: str, data: Bytes) -> bool:
        """Keep one object; False if it was there before. Raises StoreFull."""

    def start_upload(self) -> Upload:
        """An object too large for memory."""

    def replace(self, path: str, data: Bytes) -> None:
        """Switch a mutable file to new bytes, atomically and durably. Raises StoreFull."""

    def objects(self, since: float = 0) -> Iterator[tuple[str, int]]:
        """Path and stored size of everything below `data/`, the staging area left out, in no order.

        With `since`, a Unix time, only what was written then or later.
        """

    def discard(self, path: str) -> None:
        """Remove a file, if it is there. Raises StoreFull where that is not allowed."""

    def discard_many(self, paths: Iterable[str]) -> None:
        """Remove files, those that are there, in as few requests as possible. Raises StoreFull where that is not allowed;
        then some may be gone."""

    def staged_by(self, publisher: str) -> "Storage":
        """The same storage for one publisher: what it leaves unfinished can be told from that of others."""

    def clear_staging(self, publisher: str) -> None:
        """Remove what a publisher that is dead left unfinished. Raises StoreFull."""

    def sync(self) -> None:
        """Return when everything that this publisher put, in any process, is there to stay.

        On a disk: it will survive a power failure. Behind a network: it has been asked for once more. Raises StoreError.
        """
