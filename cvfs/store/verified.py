"""Contents out of stored bytes: the hash is checked before a decoder sees a single byte; it keeps nothing.

Source: FORMAT sections 4.2 to 4.4, 4.6.
"""

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Generator, Iterator

from cvfs.compression import Compression, decode_stream
from cvfs.errors import CorruptObject
from cvfs.hashes import new_hasher
from cvfs.store.base import Store, Wanted
from cvfs.store.scratch import Scratch

_log = logging.getLogger(__name__)

SPOOL_MEMORY = 16 * 2**20
# Of all objects on their way together: dozens of large ones may be under way at once.
SPOOL_MEMORY_TOTAL = 64 * 2**20
_STEP = 256 * 1024
# How many copies of an object must be bad before it is given up.
_COPIES = 3


class Verified:
    """The contents of objects in a store.

    Stored bytes wait in memory until their hash is known; beyond `memory` bytes of an object, or when `budget` is used
    up, in a file without a name in `directory` (None: in memory as well). A corrupt object is asked for twice more: past
    every cache on the way, then from another server.
    """

    def __init__(
        self,
        store: Store,
        directory: str | None = None,
        memory: int = SPOOL_MEMORY,
        budget: "MemoryBudget | None" = None,
    ) -> None:
        self._store = store
        self._directory = directory
        self._memory = memory
        self._budget = budget or _OF_THIS_PROCESS

    def read(self, wanted: Wanted) -> Generator[bytes, None, None]:
        """The content piece by piece; nothing is asked for before the first piece is.

        Raises MissingObject, CorruptObject or Unreachable; FormatError where this machine lacks a codec or a hash;
        StoreFull where there is no room for the bytes on their way. A content whose length is not `wanted.size`
        raises CorruptObject behind its last piece, a longer one before `wanted.size` is exceeded.
        """
        spool = self._received(wanted)
        with contextlib.closing(spool):
            try:
                yield from _exactly(decode_stream(spool.pieces(), wanted.compression, wanted.limit), wanted)
            except CorruptObject as error:
                raise CorruptObject(f"{wanted.path}: {error}") from error

    def _received(self, wanted: Wanted) -> "_Spool":
        """The stored bytes, with the right hash: bad copies are asked for again, past the caches, then elsewhere."""
        for fresh in range(_COPIES - 1):
            try:
                return self._receive(wanted, self._spool(), fresh)
            except CorruptObject as error:
                _log.warning("%s; asked for again", error)
        return self._receive(wanted, self._spool(), _COPIES - 1)

    def _spool(self) -> "_Spool":
        return _Spool(self._directory, self._memory, self._budget)

    def _receive(self, wanted: Wanted, spool: "_Spool", fresh: int) -> "_Spool":
        try:
            self._fill(spool, wanted, fresh)
        except BaseException:
            spool.close()
            raise
        return spool

    def _fill(self, spool: "_Spool", wanted: Wanted, fresh: int) -> None:
        hasher = new_hasher(wanted.content.algorithm)
        most = stored_limit(wanted)
        for piece in self._store.fetch(wanted.path, fresh=fresh, span=wanted.span):
            spool.write(piece)
            if spool.size > most:
                raise CorruptObject(f"{wanted.path}: longer than the {most} bytes it may have")
            hasher.update(piece)
        if hasher.digest() != wanted.content.digest:
            raise CorruptObject(f"{wanted.path}: its {spool.size} bytes do not have the hash {wanted.content}")


def stored_limit(wanted: Wanted) -> int:
    """The most bytes that the stored form of `wanted` may have: no encoder adds an eighth to what it cannot compress."""
    if wanted.span is not None:
        return wanted.span[1]
    if wanted.compression is Compression.NONE:
        return wanted.limit
    return wanted.limit + wanted.limit // 8 + 4096


def _exactly(pieces: Iterator[bytes], wanted: Wanted) -> Iterator[bytes]:
    """The pieces, refused if they end before the length that the catalog gives."""
    size = 0
    for piece in pieces:
        size += len(piece)
        yield piece
    if wanted.size not in {None, size}:
        raise CorruptObject(f"has {size} bytes of content, the catalog says {wanted.size}")


class MemoryBudget:
    """Bytes of memory that many share: what one takes, others have to do without until it is given back."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether that many were left; then they are taken."""
        with self._lock:
            enough = size <= self._left
            self._left -= size if enough else 0
            return enough

    def give_back(self, size: int) -> None:
        """Undo a `take`."""
        with self._lock:
            self._left += size

    @property
    def left(self) -> int:
        """Bytes that nobody uses."""
        return self._left


_OF_THIS_PROCESS = MemoryBudget(SPOOL_MEMORY_TOTAL)


class _Spool:
    """Stored bytes that wait for their verdict: the first ones as they came, the rest in a file."""

    def __init__(self, directory: str | None, memory: int, budget: MemoryBudget) -> None:
        self._directory = directory
        self._room = memory
        self._budget = budget
        self._head: deque[bytes] = deque()
        self._tail: Scratch | None = None
        self.size = 0

    def write(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._tail is None and self.size <= self._room and self._budget.take(len(piece)):
            self._head.append(piece)
            return
        if self._tail is None:
            self._tail = Scratch(self._directory)
        self._tail.write(piece)

    def pieces(self) -> Iterator[bytes]:
        """Everything once, in order; what was handed out is forgotten."""
        while self._head:
            piece = self._head.popleft()
            self._budget.give_back(len(piece))
            yield piece
        if self._tail is None:
            return
        descriptor = self._tail.detach()
        try:
            offset = 0
            while piece := os.pread(descriptor, _STEP, offset):
                yield piece
                offset += len(piece)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        while self._head:
            self._budget.give_back(len(self._head.popleft()))
        if self._tail is not None:
            self._tail.close()
