"""Contents of changed files into the store, in order and in parallel; the only place with workers, writes no catalog.

Contract: the stream leaves in the order in which it came; when an entry leaves, its objects are in the store. A handful of
files is taken on the spot; more go in batches to other processes. The number of batches on the way is bounded.
Source: DESIGN section 2.
"""

import ctypes
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import NamedTuple, Self

from cvfs.errors import StoreError
from cvfs_server.changes import DirectoryChanges
from cvfs_server.content import Content, ContentReader, StorageForm
from cvfs_server.sources.base import Place, Source
from cvfs_server.storage.base import Storage

BATCH_FILES = 64
BATCH_BYTES = 4 * 2**20
# So many batches are taken on the spot before it pays to start other processes.
_INLINE_BATCHES = 2
_BATCHES_PER_WORKER = 4
# So many directories may wait behind one that is not complete.
_WINDOW = 4096
_PR_SET_PDEATHSIG = 1

Places = list[Place | None]


class Ingested(NamedTuple):
    """Changes of one directory, with the content of each entry of `changes` that reads, by its index there."""

    directory: DirectoryChanges
    contents: dict[int, Content]


class _Waiting:
    """A directory whose contents are not all there yet."""

    __slots__ = ("contents", "directory", "missing")

    def __init__(self, directory: DirectoryChanges) -> None:
        self.directory = directory
        self.contents: dict[int, Content] = {}
        self.missing = 0


class _Batch:
    """Files that travel together, and who waits for each of them."""

    __slots__ = ("askers", "places", "size")

    def __init__(self) -> None:
        self.places: Places = []
        self.askers: list[tuple[_Waiting, tuple[int, ...]]] = []
        self.size = 0

    @property
    def is_full(self) -> bool:
        return len(self.places) >= BATCH_FILES or self.size >= BATCH_BYTES

    def deliver(self, contents: list[Content]) -> None:
        for (waiting, indices), content in zip(self.askers, contents, strict=True):
            waiting.contents.update(dict.fromkeys(indices, content))
            waiting.missing -= 1


class Ingest:
    """The workers of one publish; a context, so that none outlives it."""

    def __init__(self, storage: Storage, form: StorageForm, source: Source, workers: int | None = None) -> None:
        self._storage = storage
        self._form = form
        self._source = source
        self._workers = workers or max(2, os.cpu_count() or 1)
        self._reader = ContentReader(storage, form)
        self._pool: ProcessPoolExecutor | None = None
        self._held: deque[_Batch] = deque()
        self._running: deque[tuple[_Batch, Future[list[Content]]]] = deque()
        self._window: deque[_Waiting] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, changes: Iterable[DirectoryChanges]) -> Iterator[Ingested]:
        """The changes with their contents, in the same order. Raises Unpublishable or StoreError."""
        batch = _Batch()
        for directory in changes:
            waiting = _Waiting(directory)
            self._window.append(waiting)
            for place, size, indices in self._wanted(directory):
                batch.places.append(place)
                batch.askers.append((waiting, indices))
                batch.size += size
                waiting.missing += 1
                if batch.is_full:
                    self._send(batch)
                    batch = _Batch()
            if len(self._window) > _WINDOW:
                self._send(batch)
                batch = _Batch()
                self._drain()
            yield from self._complete()
        self._send(batch)
        self._drain()
        yield from self._complete()

    def _wanted(self, directory: DirectoryChanges) -> Iterator[tuple[Place | None, int, tuple[int, ...]]]:
        """The files to be read: where, size, and for whom: all names of one file get what was read once."""
        groups: dict[int, list[int]] = {}
        for index, change in enumerate(directory.changes):
            if change.reads and change.entry.group:
                groups.setdefault(change.entry.group, []).append(index)
            elif change.reads:
                yield None if change.entry.generated else self._source.place(change.path), change.entry.size, (index,)
        for indices in groups.values():
            first = directory.changes[indices[0]]
            yield self._source.place(first.path), first.entry.size, tuple(indices)

    def _complete(self) -> Iterator[Ingested]:
        while self._window and not self._window[0].missing:
            done = self._window.popleft()
            yield Ingested(done.directory, done.contents)

    def _send(self, batch: _Batch) -> None:
        if self._pool is None and len(self._held) < _INLINE_BATCHES:
            self._held.append(batch)
            return
        self._held.append(batch)
        while self._held:
            if len(self._running) >= self._workers * _BATCHES_PER_WORKER:
                self._collect()
            self._submit(self._held.popleft())

    def _submit(self, batch: _Batch) -> None:
        pool = self._start_pool()
        try:
            self._running.append((batch, pool.submit(_take_batch, batch.places)))
        except BrokenProcessPool as error:
            raise _broken(batch) from error

    def _start_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Forked, not spawned: a worker is ready in a millisecond, and the pool starts its own threads afterwards.
            self._pool = ProcessPoolExecutor(
                self._workers, multiprocessing.get_context("fork"), _start_worker, (self._storage, self._form)
            )
        return self._pool

    def _collect(self) -> None:
        batch, future = self._running.popleft()
        try:
            batch.deliver(future.result())
        except BrokenProcessPool as error:
            raise _broken(batch) from error

    def _drain(self) -> None:
        while self._running:
            self._collect()
        while self._held:
            batch = self._held.popleft()
            batch.deliver([self._reader.take(place) for place in batch.places])


def _broken(batch: _Batch) -> StoreError:
    first = next((place.path for place in batch.places if place), b"a generated marker")
    return StoreError(
        f"a worker died near {first.decode('utf-8', 'backslashreplace')}; nothing was published, try again"
    )


_worker_reader: ContentReader | None = None


def _start_worker(storage: Storage, form: StorageForm) -> None:
    global _worker_reader  # noqa: PLW0603  # the state of a worker process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    _worker_reader = ContentReader(storage, form)


def _die_with_parent() -> None:
    """A killed publisher must not leave workers behind: they would wait for batches for ever."""
    parent = multiprocessing.parent_process()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != parent.pid:
        os._exit(1)


def _take_batch(places: Places) -> list[Content]:
    assert _worker_reader is not None
    return [_worker_reader.take(place) for place in places]
