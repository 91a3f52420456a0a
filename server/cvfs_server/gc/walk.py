"""Trees of catalogs into an inventory: each catalog once, in parallel where that pays; decides nothing.

A catalog is named by its content, so an equal one in a hundred revisions is read once.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import replace

from cvfs.catalog.reader import NestedCatalog
from cvfs.errors import CorruptObject, FormatError, MissingObject, StoreError
from cvfs.hashes import ContentHash, ObjectKind
from cvfs_server.gc.catalog import CatalogFacts, CatalogReading
from cvfs_server.ingest.worker_pool import process_pool

# So many catalogs are read on the spot before other processes pay.
_INLINE_CATALOGS = 16
_AHEAD_PER_WORKER = 4
_MOST_AHEAD = 256


def root_of(content: ContentHash) -> NestedCatalog:
    """A root catalog as a walk begins with it."""
    return NestedCatalog(b"", content.as_kind(ObjectKind.CATALOG), 0, b"")


class CatalogWalk:
    """One walk over many trees; whoever makes it closes it, so that no worker outlives it.

    `lenient` is told of a catalog that is missing or damaged, and what was in it is left out; without it the walk ends.
    Trees that the walk `beside` knows are left out.
    """

    def __init__(
        self,
        reading: CatalogReading,
        workers: int | None,
        lenient: Callable[[str], None] | None = None,
        beside: "CatalogWalk | None" = None,
    ) -> None:
        self._reading = reading
        self._workers = workers
        self._lenient = lenient
        self._beside = beside
        self._seen: set[bytes] = set()
        self._roots: dict[bytes, CatalogFacts] = {}
        self._pending: list[NestedCatalog] = []
        self._running: deque[tuple[NestedCatalog, Future[CatalogFacts]]] = deque()
        self._pool: Executor | None = None
        self.catalogs = 0

    def close(self) -> None:
        """End the workers."""
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def read_root(self, root: ContentHash) -> CatalogFacts:
        """Read a root catalog now, once; what is below it comes with `finish`. Raises StoreError, FormatError."""
        if root.digest not in self._roots:
            facts = self._reading.read(root_of(root))
            self._seen.add(root.digest)
            self._take(facts)
            # Only what a chain of revisions needs: thousands of them are remembered.
            self._roots[root.digest] = replace(facts, nested=())
        return self._roots[root.digest]

    def plan(self, roots: Iterable[ContentHash]) -> None:
        """Trees to be read with `finish`, unless they are known."""
        self._plan(map(root_of, roots))

    def finish(self) -> None:
        """Read everything that is planned, and below. Raises StoreError, FormatError."""
        inline = 0
        while self._pending or self._running:
            if self._pool is None and (inline < _INLINE_CATALOGS or self._workers == 1):
                inline += 1
                nested = self._pending.pop()
                with self._forgiving(nested):
                    self._take(self._reading.read(nested))
            else:
                self._run_ahead()
                self._collect()

    def knows(self, content: ContentHash) -> bool:
        """Whether a catalog was read, or is planned."""
        return content.digest in self._seen or (self._beside is not None and self._beside.knows(content))

    def _plan(self, catalogs: Iterable[NestedCatalog]) -> None:
        for nested in catalogs:
            if not self.knows(nested.content):
                self._seen.add(nested.content.digest)
                self._pending.append(nested)

    def _take(self, facts: CatalogFacts) -> None:
        self.catalogs += 1
        self._plan(facts.nested)

    def _run_ahead(self) -> None:
        if self._pool is None:
            self._pool = process_pool(self._workers, _start_worker, (self._reading,))
        most = min(_MOST_AHEAD, _AHEAD_PER_WORKER * (self._workers or 64))
        while self._pending and len(self._running) < most:
            nested = self._pending.pop()
            self._running.append((nested, self._pool.submit(_read, nested)))

    def _collect(self) -> None:
        nested, future = self._running.popleft()
        try:
            with self._forgiving(nested):
                self._take(future.result())
        except BrokenExecutor as error:
            raise StoreError("a process that read catalogs died: collect again, with more memory") from error

    @contextlib.contextmanager
    def _forgiving(self, nested: NestedCatalog) -> Iterator[None]:
        try:
            yield
        except (MissingObject, CorruptObject, FormatError) as error:
            what = f"{nested.content.name} at {nested.path.decode(errors='replace') or '/'}: {error}"
            if self._lenient is None:
                raise CorruptObject(f"catalog {what}; nothing was deleted, look at it with check") from error
            self._lenient(what)


_worker_reading: CatalogReading | None = None


def _start_worker(reading: CatalogReading) -> None:
    global _worker_reading  # noqa: PLW0603  # the state of a worker process
    _worker_reading = reading


def _read(nested: NestedCatalog) -> CatalogFacts:
    assert _worker_reading is not None
    return _worker_reading.read(nested)
