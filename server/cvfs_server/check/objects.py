"""The objects that catalogs name: written down while catalogs are read, then looked at once each, in parallel.

References lie in files of the scratch directory, parted by the first byte of the hash: memory follows the largest part, not
the repository, and a part is one directory of `data/`. Knows no catalog. Source: FORMAT sections 4.2 to 4.5, 5.14.
"""

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from cvfs.compression import Compression
from cvfs.errors import CorruptObject, MissingObject, StoreError, StoreFull
from cvfs.format.dirent import COMPRESSION_SHIFT, HASH_SHIFT
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.store.base import Store, Wanted
from cvfs.store.verified import Verified
from cvfs_server.check.findings import Finding, fault
from cvfs_server.worker_pool import process_pool

UNKNOWN_SIZE = -1
_PARTS = 256
_KINDS = {ObjectKind.FILE: 0, ObjectKind.CHUNK: 1, ObjectKind.MICRO_CATALOG: 2}
_KIND_LIST = tuple(_KINDS)
_CODE = 7
# Digest, kind, algorithm | compression, length of the content | length of the path that follows.
_OBJECT = struct.Struct("<20sBB")
_CLAIM = struct.Struct("<20sBBBq")
_RECORD = struct.Struct("<20sBBBqI")
# Fewer references than these are looked at before another process would be there.
_INLINE_REFERENCES = 1000


class References:
    """Every reference to an object, in files below `directory`. Not open before `start`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._files: list[BinaryIO] = []
        self.count = 0

    def start(self) -> None:
        """Make the files. Raises StoreFull."""
        try:
            os.makedirs(self._directory)
            self._files += (open(path, "wb") for path in self.parts())  # noqa: SIM115  # closed by `close`
        except OSError as error:
            raise _no_room(self._directory, error) from error

    def add(self, kind: ObjectKind, digest: bytes, flags: int, size: int, path: bytes) -> None:
        """An object that the entry at `path` needs; its `flags` hold the codes of hash and compression.

        `size` is the length of the content in bytes or UNKNOWN_SIZE. Digest and codes must be sound. Raises StoreFull.
        """
        algorithm, compression = flags >> HASH_SHIFT & _CODE, flags >> COMPRESSION_SHIFT & _CODE
        record = _RECORD.pack(digest, _KINDS[kind], algorithm, compression, size, len(path))
        try:
            self._files[digest[0]].write(record + path)
        except OSError as error:
            raise _no_room(self._directory, error) from error
        self.count += 1

    def finish(self) -> None:
        """Everything is written down. Raises StoreFull."""
        try:
            for file in self._files:
                file.close()
        except OSError as error:
            raise _no_room(self._directory, error) from error

    def close(self) -> None:
        """Give up the files, finished or not."""
        with contextlib.suppress(OSError), contextlib.ExitStack() as files:
            for file in self._files:
                files.callback(file.close)

    def parts(self) -> list[str]:
        """The files, each with all references to its objects."""
        return [f"{self._directory}/{number:02x}" for number in range(_PARTS)]


class PartResult(NamedTuple):
    """What one part gave: its faults, and how many objects were looked at."""

    findings: list[Finding]
    objects: int


@dataclass(frozen=True, slots=True)
class ObjectCheck:
    """Looks at objects of one store, by reading and inflating them or by asking whether they are there."""

    store: Store
    scratch: str
    integrity: bool

    def check_part(self, path: str) -> PartResult:
        """Every object of one part, once. Raises FormatError where this machine lacks a hash or a decoder."""
        claims = _read_part(path)
        findings, last = [], b""
        objects = 0
        # Claims about one object stand next to each other; more than one is a quarrel, or two ways to read it.
        for key in sorted(claims):
            known = key.startswith(last) if last else False
            objects += not known
            last = key[: _OBJECT.size]
            if (self.integrity or not known) and (what := self._trouble(_wanted(key))):
                findings.append(fault(claims[key], what))
        return PartResult(findings, objects)

    def _trouble(self, wanted: Wanted) -> str | None:
        try:
            if self.integrity:
                _drain(Verified(self.store, self.scratch), wanted)
            elif not self.store.has(wanted.path):
                return f"its object {wanted.path} is missing"
        except MissingObject:
            return f"its object {wanted.path} is missing"
        except StoreFull:
            raise
        except StoreError as error:
            return f"its object: {error}"
        return None


def check_objects(check: ObjectCheck, references: References, workers: int | None) -> Iterator[PartResult]:
    """Every part, in order: in other processes where that pays; `workers` of 1 means in this one.

    Stores that are looked at by several processes must work as copies.
    """
    parts = references.parts()
    if workers == 1 or references.count < _INLINE_REFERENCES:
        yield from map(check.check_part, parts)
        return
    pool = process_pool(workers, _start_worker, (check,))
    try:
        yield from pool.map(_check_part, parts)
    except BrokenProcessPool as error:
        raise StoreError(
            "a process that looked at objects died: check again, with more memory or one worker"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def inflate(store: Store, content: ContentHash, path: str, limit: int) -> int:
    """Write the content of a zlib object of at most `limit` bytes to the new file `path`; its length.

    Raises StoreError, and then leaves no file: StoreFull where it cannot be written, CorruptObject for a longer one.
    """
    wanted = Wanted(content, Compression.ZLIB, None)
    with contextlib.closing(Verified(store, os.path.dirname(path)).read(wanted)) as pieces:
        return write_bounded(pieces, path, limit)


def write_bounded(pieces: Iterable[bytes], path: str, limit: int) -> int:
    """Write at most `limit` bytes to the new file `path`; their number. Raises as `inflate` does."""
    size = 0
    try:
        with open(path, "xb") as file:
            for piece in pieces:
                size += len(piece)
                if size > limit:
                    raise CorruptObject(f"longer than {limit} bytes, refused")
                file.write(piece)
    except OSError as error:
        _forget(path)
        raise StoreFull(f"cannot write {path}: {error.strerror}") from error
    except StoreError:
        _forget(path)
        raise
    return size


def _forget(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _drain(verified: Verified, wanted: Wanted) -> None:
    for _ in verified.read(wanted):
        pass


def _read_part(path: str) -> dict[bytes, bytes]:
    """The different claims about the objects of a part, each with the first path that makes it."""
    claims: dict[bytes, bytes] = {}
    with open(path, "rb") as file:
        while header := file.read(_RECORD.size):
            where = file.read(_RECORD.unpack(header)[-1])
            claims.setdefault(header[: _CLAIM.size], where)
    return claims


def _wanted(claim: bytes) -> Wanted:
    digest, kind, algorithm, compression, size = _CLAIM.unpack(claim)
    content = ContentHash(Algorithm(algorithm), digest, _KIND_LIST[kind])
    return Wanted(content, Compression(compression), None if size == UNKNOWN_SIZE else size)


def _no_room(directory: str, error: OSError) -> StoreFull:
    return StoreFull(f"cannot write the list of references to {directory}: {error.strerror}")


_worker_check: ObjectCheck | None = None


def _start_worker(check: ObjectCheck) -> None:
    global _worker_check  # noqa: PLW0603  # the state of a worker process
    _worker_check = check


def _check_part(path: str) -> PartResult:
    assert _worker_check is not None
    return _worker_check.check_part(path)
