"""A repository in a bucket of an S3 server, below one name, with the original's keys; this machine holds only what is on
its way.

An object is put with a sum that the server verifies, and written down; `sync` asks the server for each of them again, so
that nothing is signed that it acknowledged and lost. Source: FORMAT sections 1.1, 1.5.
"""

import contextlib
import hashlib
import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import IO, Self, TypeVar

from cvfs.errors import MissingObject, StoreError, StoreFull, Unreachable, UsageError
from cvfs.hashes import Bytes
from cvfs.store.base import fetch_document
from cvfs_server.storage.bucket import Bucket, Labels, Listed
from cvfs_server.storage.s3_settings import S3Upstream, load_s3_settings
from cvfs_server.storage.written import Acknowledged, Written

_OBJECT = Labels("application/x-cvmfs", "max-age=259200")
_DOCUMENT = Labels("application/x-cvmfs", "max-age=61")
_JSON = Labels("application/json", "max-age=61")
_IN_MEMORY = 2**20
# From here on an object comes in parts: a broken connection costs one of them.
_PARTS_FROM = 64 * 2**20
_SMALLEST_PART = 8 * 2**20
_MOST_PARTS = 10_000
# A list tells of a thousand objects, and costs as much as asking for this many one by one.
_LIST_WORTH = 8

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class S3Storage:
    """The repository whose keys begin with `alias`. Used by several threads; copies of it work in other processes.

    Whatever changes it raises StoreFull if the server refuses, Unreachable if it does not answer.
    """

    bucket: Bucket
    alias: str
    staging: str
    publisher: str = ""

    @classmethod
    def at(cls, upstream: S3Upstream) -> Self:
        """The one that a server.conf names; asks nobody yet. Raises NotFound, UsageError."""
        return cls(Bucket(load_s3_settings(upstream.configuration)), upstream.alias, upstream.staging)

    @property
    def place(self) -> str:
        """Server, bucket and name."""
        return f"{self.bucket.name}/{self.alias}"

    @property
    def parallel(self) -> int:
        """The server's answers are waited for: so many of CVMFS_S3_MAX_NUMBER_OF_PARALLEL_CONNECTIONS are one process's."""
        return self.bucket.settings.parallel

    def staged_by(self, publisher: str) -> Self:
        """The same repository, with a record of what that publisher puts."""
        return replace(self, publisher=publisher)

    def create(self) -> None:
        """Make the bucket, if there is none; a repository without objects needs nothing more."""
        self.bucket.create()

    def has(self, path: str) -> bool:
        """Whether the server has it now. Raises Unreachable."""
        return self.bucket.head(self.key(path)) is not None

    def fetch(self, path: str, *, fresh: int = 0, span: tuple[int, int] | None = None) -> Iterator[bytes]:
        """The bytes at `path`, piece by piece. Raises MissingObject or Unreachable."""
        del fresh  # no cache is on the way
        return self.bucket.get(self.key(path), span)

    def put(self, path: str, data: Bytes) -> bool:
        """Keep one object; False if it was there before."""
        if self._has_whole(path, len(data)):
            return False
        body = data if isinstance(data, bytes) else bytes(data)
        etag = self.bucket.put(self.key(path), body, _md5(body), _OBJECT)
        self._acknowledged(Acknowledged(path, len(body), etag))
        return True

    def start_upload(self) -> "S3Upload":
        """An object too large for memory: it waits in a file without a name until its own name is known."""
        directory = self._written.directory
        with _converted(directory):
            os.makedirs(directory, exist_ok=True)
            return S3Upload(self, tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=directory))

    def put_file(self, path: str, file: IO[bytes], size: int, md5: bytes) -> bool:
        """Keep one object that is in a file, `md5` being its sum; False if it was there before."""
        if self._has_whole(path, size):
            return False
        key = self.key(path)
        etag = self._put_parts(key, file, size) if size >= _PARTS_FROM else self.bucket.put(key, file, md5, _OBJECT)
        self._acknowledged(Acknowledged(path, size, etag))
        return True

    def replace(self, path: str, data: Bytes) -> None:
        """Switch a mutable file to new bytes; when this returns, the server gives them out.

        Raises StoreError if it does not, although it said so.
        """
        key, body = self.key(path), bytes(data)
        try:
            etag = self.bucket.put(key, body, _md5(body), _JSON if path.endswith(".json") else _DOCUMENT)
        except Unreachable:
            # It may have arrived, and the answer got lost.
            if not self._gives(path, body):
                raise
            return
        if not self.bucket.confirms(Listed(key, len(body), etag)):
            raise StoreError(f"{self.place}/{path}: the server acknowledged it and does not have it; try again")

    def objects(self, since: float = 0) -> Iterator[tuple[str, int]]:
        """Path and stored size of everything below `data/`, in no order.

        With `since`, a Unix time, only what was written then or later, by the server's clock.
        """
        for found in self._list():
            path = found.key.removeprefix(f"{self.alias}/")
            if found.written >= math.floor(since) and len(path.split("/")) == 3:
                yield path, found.size

    def discard(self, path: str) -> None:
        """Remove a file, if it is there."""
        self.bucket.delete(self.key(path))

    def discard_many(self, paths: Iterable[str]) -> None:
        """Remove many files, a thousand with a request."""
        size = self.bucket.settings.delete_batch
        for keys in _slices(map(self.key, paths), size * self.bucket.settings.connections):
            remove = self.bucket.delete_all if size > 1 else self._delete_one
            self._each(remove, [keys[start : start + size] for start in range(0, len(keys), size)])

    def clear_staging(self, publisher: str) -> None:
        """Give up what a publisher that is dead, or done, left in parts, and forget what it put."""
        written = self.staged_by(publisher)._written  # noqa: SLF001  # its own kind
        for key, attempt in written.unfinished():
            self.bucket.abort_parts(key, attempt)
        written.forget()

    def sync(self) -> None:
        """Return when the server has said once more that it has each object that this publisher put, in any process.

        Raises StoreError, naming one that it lost.
        """
        if not self.publisher:
            return
        for batch in self._written.batches():
            groups: dict[str, list[Listed]] = {}
            for put in batch:
                groups.setdefault(os.path.dirname(put.path), []).append(self._expected(put))
            self._each(self._confirm, list(groups.values()))

    def key(self, path: str) -> str:
        """The key of a file. Raises UsageError for a path that leads elsewhere."""
        if not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise UsageError(f"{path!r} is no place inside of a repository")
        return f"{self.alias}/{path}"

    @property
    def _written(self) -> Written:
        return Written(f"{self.staging}/{self.publisher or 'nobody'}.s3")

    def _acknowledged(self, put: Acknowledged) -> None:
        """Written down for `sync`; asked for at once if it is nobody's, whose record nobody would clear away."""
        if self.publisher:
            self._written.put(*put)
        else:
            self._confirm([self._expected(put)])

    def _has_whole(self, path: str, size: int) -> bool:
        """Whether it is there already; not asked with CVMFS_S3_PEEK_BEFORE_PUT=no."""
        if not self.bucket.settings.peek:
            return False
        found = self.bucket.head(self.key(path))
        return found is not None and found.size == size

    def _gives(self, path: str, body: bytes) -> bool:
        try:
            return fetch_document(self, path, len(body)) == body
        except StoreError:
            return False

    def _put_parts(self, key: str, file: IO[bytes], size: int) -> str:
        """What fails here is given up by `clear_staging`."""
        attempt = self.bucket.start_parts(key, _OBJECT)
        self._written.started(key, attempt)
        file.seek(0)
        step = max(_SMALLEST_PART, -(-size // _MOST_PARTS))
        tags: list[str] = []
        while data := file.read(step):
            tags.append(self.bucket.put_part(key, attempt, len(tags) + 1, data))
        try:
            etag = self.bucket.finish_parts(key, attempt, tags)
        except MissingObject:
            # A repetition of what had been done, with the answer being lost?
            found = self.bucket.head(key)
            if found is None or found.size != size:
                raise
            etag = found.etag
        self._written.ended(key, attempt)
        return etag

    def _expected(self, put: Acknowledged) -> Listed:
        return Listed(self.key(put.path), put.size, put.etag)

    def _confirm(self, expected: list[Listed]) -> None:
        """Raises StoreError if one of the objects, all of one directory, is not there as it was acknowledged."""
        for one in self._not_listed(expected):
            if not self.bucket.confirms(one):
                raise StoreError(
                    f"{self.bucket.name}/{one.key}: the server acknowledged it and does not have it;"
                    " nothing was published, try again"
                )

    def _not_listed(self, expected: list[Listed]) -> list[Listed]:
        """Those that must be asked for one by one: lists may be behind, and tell of a thousand others."""
        waiting, doubtful = sorted(expected), []
        while len(waiting) >= _LIST_WORTH:
            # What is just before the first one: the list begins with it.
            page, more = self.bucket.page(f"{os.path.dirname(waiting[0].key)}/", waiting[0].key[:-1])
            listed = {found.key: found for found in page}
            rest = [one for one in waiting if more and one.key > page[-1].key]
            doubtful += [one for one in waiting[: len(waiting) - len(rest)] if not one.is_in(listed)]
            if len(waiting) - len(rest) < _LIST_WORTH:
                return doubtful + rest
            waiting = rest
        return doubtful + waiting

    def _list(self) -> Iterator[Listed]:
        """All objects, by as many requests at a time as there may be connections."""
        base = f"{self.alias}/data/"
        page, more = self.bucket.page(base)
        if not more:
            yield from page
            return
        threads = self.bucket.settings.connections
        asked: deque[tuple[str, str]] = deque((f"{base}{digit:x}", "") for digit in range(16))
        running: deque[tuple[str, Future[tuple[list[Listed], bool]]]] = deque()
        with _threads(threads) as pool:
            while asked or running:
                while asked and len(running) < threads:
                    prefix, after = asked.popleft()
                    running.append((prefix, pool.submit(self.bucket.page, prefix, after)))
                prefix, future = running.popleft()
                page, more = future.result()
                if more:
                    asked.appendleft((prefix, page[-1].key))
                yield from page

    def _each(self, work: Callable[[_Item], None], items: list[_Item]) -> None:
        """Do something with each, over several connections; the first failure ends it."""
        if len(items) == 1:
            work(items[0])
            return
        with _threads(min(len(items), self.bucket.settings.connections)) as pool:
            for _ in pool.map(work, items):
                pass

    def _delete_one(self, keys: list[str]) -> None:
        self.bucket.delete(keys[0])


class S3Upload:
    """One object on its way: in memory while it is small, then in a file without a name."""

    __slots__ = ("_file", "_md5", "_size", "_storage")

    def __init__(self, storage: S3Storage, file: "tempfile.SpooledTemporaryFile[bytes]") -> None:
        self._storage = storage
        self._file = file
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._size = 0

    def write(self, data: Bytes) -> None:
        """The next stored bytes. Raises StoreFull."""
        with _converted(self._storage.staging):
            self._file.write(data)
        self._md5.update(data)
        self._size += len(data)

    def commit(self, path: str) -> bool:
        """Make it visible at `path`; False if it was there before. Ends the upload."""
        try:
            return self._storage.put_file(path, self._file, self._size, self._md5.digest())
        finally:
            self.abort()

    def abort(self) -> None:
        """Forget it; of no effect after a commit."""
        self._file.close()


@contextlib.contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """What has not begun when the caller fails is not begun at all."""
    pool = ThreadPoolExecutor(count, "s3")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _converted(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreFull(f"cannot write {place}: {error.strerror}") from error


def _slices(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    source = iter(items)
    while part := list(islice(source, size)):
        yield part


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
