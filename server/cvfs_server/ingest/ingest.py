"""Contents of changed files into the store, in order and in parallel; the only place with workers, writes no catalog.

Contract: the stream leaves in the order in which it came; when an entry leaves, its objects are in the store. A handful of
files is taken on the spot; more go in batches to other processes. What is on the way is bounded: batches, and entries of
directories that wait for one that is not complete. Source: DESIGN section 2.
"""

import os
import queue
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

from cvfs.errors import StoreError
from cvfs_server.changes import Change, DirectoryChanges
from cvfs_server.ingest import batches
from cvfs_server.ingest.batches import BATCH_BYTES, BATCH_FILES, BatchReader, PackedContents, Places
from cvfs_server.ingest.content import Content, StorageForm
from cvfs_server.ingest.worker_pool import process_pool
from cvfs_server.sources.base import Place, Source
from cvfs_server.sources.dirtab import is_native
from cvfs_server.storage.base import Storage

# Up to here it does not pay to start other processes.
INLINE_FILES = 128
INLINE_BYTES = 8 * 2**20
_BATCHES_PER_WORKER = 4
# So many entries may wait behind a directory that is not complete: some ten megabytes.
WINDOW = 20_000


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

    @property
    def entries(self) -> int:
        """What it takes of the window."""
        return 1 + len(self.directory.changes)


class _Batch:
    """Files that travel together, and who waits for each of them: all names of one file get what was read once."""

    __slots__ = ("askers", "files_left", "places", "size_left")

    def __init__(self, files: int, size: int) -> None:
        self.places: Places = []
        self.askers: list[tuple[_Waiting, tuple[int, ...]]] = []
        self.files_left = files
        self.size_left = size

    def add(self, place: Place | None, size: int, asker: tuple[_Waiting, tuple[int, ...]]) -> bool:
        """Whether it is full now."""
        self.places.append(place)
        self.askers.append(asker)
        asker[0].missing += 1
        self.files_left -= 1
        self.size_left -= size
        return self.files_left <= 0 or self.size_left <= 0

    def deliver(self, contents: list[Content]) -> None:
        for (waiting, indices), content in zip(self.askers, contents, strict=True):
            for index in indices:
                waiting.contents[index] = content
            waiting.missing -= 1


_Running = tuple[_Batch, Future[PackedContents]]


class Ingest:
    """The workers of one publish; a context, so that none outlives it."""

    def __init__(self, storage: Storage, form: StorageForm, source: Source, workers: int | None = None) -> None:
        self._storage = storage
        self._form = form
        self._source = source
        self._workers = workers or max(2, os.cpu_count() or 1)
        self._pool: Executor | None = None
        self._batch = self._new_batch()
        self._running = 0
        self._done: queue.SimpleQueue[_Running] = queue.SimpleQueue()
        self._window: deque[_Waiting] = deque()
        self._waiting_entries = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, changes: Iterable[DirectoryChanges]) -> Iterator[Ingested]:
        """The changes with their contents, in the same order. Raises Unpublishable or StoreError."""
        for directory in changes:
            self._enter(directory)
            yield from self._complete()
            while self._waiting_entries > WINDOW:
                yield from self._advance()
        while self._window:
            yield from self._advance()

    def _enter(self, directory: DirectoryChanges) -> None:
        waiting = _Waiting(directory)
        self._window.append(waiting)
        self._waiting_entries += waiting.entries
        groups: dict[int, list[int]] = {}
        for index, change in enumerate(directory.changes):
            if not change.reads:
                continue
            if change.entry.group:
                groups.setdefault(change.entry.group, []).append(index)
            else:
                self._ask(waiting, (index,), change)
        for indices in groups.values():
            self._ask(waiting, tuple(indices), directory.changes[indices[0]])

    def _ask(self, waiting: _Waiting, indices: tuple[int, ...], change: Change) -> None:
        entry = change.entry
        place = None if entry.generated else self._source.place(change.path)
        if place and self._form.external and is_native(change.path):
            place = place._replace(native=True)
        if self._batch.add(place, entry.size, (waiting, indices)):
            self._send()

    def _complete(self) -> Iterator[Ingested]:
        while self._window and not self._window[0].missing:
            done = self._window.popleft()
            self._waiting_entries -= done.entries
            yield Ingested(done.directory, done.contents)

    def _advance(self) -> Iterator[Ingested]:
        """Nothing more comes for now: what the first directory waits for is on its way, or is read here."""
        if self._batch.places and self._pool:
            self._send()
        elif self._batch.places:
            batch, self._batch = self._batch, self._new_batch()
            batch.deliver(BatchReader(self._storage, self._form).read(batch.places))
        if self._running:
            self._collect()
        yield from self._complete()

    def _send(self) -> None:
        batch, self._batch = self._batch, self._new_batch()
        while self._running >= self._workers * _BATCHES_PER_WORKER:
            self._collect()
        try:
            future = self._start_pool().submit(batches.read_packed, batches.pack_places(batch.places))
        except BrokenExecutor as error:
            raise _broken(batch) from error
        self._running += 1
        future.add_done_callback(partial(self._note, batch))

    def _note(self, batch: _Batch, future: "Future[PackedContents]") -> None:
        self._done.put((batch, future))

    def _new_batch(self) -> _Batch:
        return _Batch(BATCH_FILES, BATCH_BYTES) if self._pool else _Batch(INLINE_FILES + 1, INLINE_BYTES)

    def _start_pool(self) -> Executor:
        if self._pool is None:
            self._pool = process_pool(self._workers, batches.start_worker, (self._storage, self._form))
        return self._pool

    def _collect(self) -> None:
        """One batch, whichever is ready first: a large file holds up nobody but those behind it in the window."""
        batch, future = self._done.get()
        self._running -= 1
        try:
            batch.deliver(batches.unpack_contents(future.result()))
        except BrokenExecutor as error:
            raise _broken(batch) from error


def _broken(batch: _Batch) -> StoreError:
    first = next((place.path for place in batch.places if place), b"a generated marker")
    return StoreError(
        f"a worker died near {first.decode('utf-8', 'backslashreplace')}; nothing was published, try again"
    )
