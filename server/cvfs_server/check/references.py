"""The objects that catalogs name, written down while catalogs are read: a list on disk, parted by the first byte of the hash.

Memory follows the largest part, not the repository. Several processes write at once, each its own files. Knows no catalog.
Source: FORMAT sections 4.2 to 4.5.
"""

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from cvfs.compression import Compression
from cvfs.errors import StoreFull
from cvfs.format.dirent import COMPRESSION_SHIFT, HASH_SHIFT
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.store.base import Wanted

UNKNOWN_SIZE = -1
PARTS = range(256)
_KINDS = {ObjectKind.FILE: 0, ObjectKind.CHUNK: 1, ObjectKind.MICRO_CATALOG: 2}
_KIND_LIST = tuple(_KINDS)
_ALGORITHMS = tuple(Algorithm)
_COMPRESSIONS = tuple(Compression)
_CODE = 7
# Digest, kind, algorithm | compression, length of the content | length of the path that follows.
_OBJECT = struct.Struct("<20sBB")
_CLAIM = struct.Struct("<20sBBBq")
_RECORD = struct.Struct("<20sBBBqI")
OBJECT_SIZE, CLAIM_SIZE = _OBJECT.size, _CLAIM.size


class Claim(NamedTuple):
    """What entries say of an object: `key` is the claim as bytes, whose first OBJECT_SIZE are the object; a path."""

    key: bytes
    path: bytes

    def wanted(self) -> Wanted:
        """What a store is asked for."""
        digest, kind, algorithm, compression, size = _CLAIM.unpack(self.key)
        content = ContentHash(_ALGORITHMS[algorithm], digest, _KIND_LIST[kind])
        return Wanted(content, _COMPRESSIONS[compression], None if size == UNKNOWN_SIZE else size)


class References:
    """What one process writes down, in files below `directory`; the first `add` makes them."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._files: dict[int, BinaryIO] = {}

    def add(self, kind: ObjectKind, digest: bytes, flags: int, size: int, path: bytes) -> None:
        """An object that the entry at `path` needs; its `flags` hold the codes of hash and compression.

        `size` is the length of the content in bytes or UNKNOWN_SIZE. Digest and codes must be sound. Raises StoreFull.
        """
        algorithm, compression = flags >> HASH_SHIFT & _CODE, flags >> COMPRESSION_SHIFT & _CODE
        record = _RECORD.pack(digest, _KINDS[kind], algorithm, compression, size, len(path))
        try:
            file = self._files.get(digest[0]) or self._open(digest[0])
            file.write(record + path)
        except OSError as error:
            raise self._no_room(error) from error

    def flush(self) -> None:
        """What was written down can be read now. Raises StoreFull."""
        try:
            for file in self._files.values():
                file.flush()
        except OSError as error:
            raise self._no_room(error) from error

    def close(self) -> None:
        """Give up the files; the next `add` opens them again."""
        with contextlib.suppress(OSError), contextlib.ExitStack() as files:
            for file in self._files.values():
                files.callback(file.close)
        self._files = {}

    def _open(self, part: int) -> BinaryIO:
        own = f"{self._directory}/{os.getpid()}"
        os.makedirs(own, exist_ok=True)
        self._files[part] = open(f"{own}/{part:02x}", "ab")  # noqa: SIM115  # closed by `close`
        return self._files[part]

    def _no_room(self, error: OSError) -> StoreFull:
        return StoreFull(f"cannot write the list of references to {self._directory}: {error.strerror}")


def read_claims(directory: str, part: int) -> list[Claim]:
    """The different claims of one part, whoever wrote them down; those about one object stand next to each other."""
    claims: dict[bytes, bytes] = {}
    for path in _files_of(directory, part):
        with open(path, "rb") as file:
            for key, where in _records(file):
                # Which process met an object first is chance; what is reported is not.
                claims[key] = min(where, claims.get(key, where))
    return [Claim(key, claims[key]) for key in sorted(claims)]


def _files_of(directory: str, part: int) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        for writer in sorted(os.listdir(directory)):
            path = f"{directory}/{writer}/{part:02x}"
            if os.path.exists(path):
                yield path


def _records(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while header := file.read(_RECORD.size):
        yield header[:CLAIM_SIZE], file.read(_RECORD.unpack(header)[-1])
