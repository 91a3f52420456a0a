"""The objects of a file fetched several at a time, in the order in which they are needed; it keeps none of them in memory."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future

from cvfs.client.content import Piece
from cvfs.errors import CvfsError, FormatError
from cvfs.store.base import Contents

# Objects on their way for one reader.
_AHEAD = 8
_STEP = 2**20

_Asked = tuple[Piece, "Future[int]"]


def read_range(contents: Contents, pieces: Sequence[Piece], start: int, end: int, pool: Executor) -> bytes:
    """The bytes from `start` up to but not including `end`; `pieces` are those that hold them. Raises StoreError,
    FormatError.
    """
    buffer = memoryview(bytearray(end - start))
    for piece, descriptor in _opened(contents, pieces, pool):
        try:
            first, last = max(start, piece.offset), min(end, piece.offset + piece.size)
            _fill(descriptor, buffer[first - start : last - start], first - piece.offset)
        finally:
            os.close(descriptor)
    return bytes(buffer)


def copy_to(target: int, contents: Contents, pieces: Sequence[Piece], pool: Executor) -> Iterator[int]:
    """Write a whole file to a descriptor, giving the number of bytes of each step. Raises StoreError, FormatError, OSError."""
    for piece, descriptor in _opened(contents, pieces, pool):
        try:
            done = 0
            while done < piece.size:
                count = _some(os.sendfile(target, descriptor, done, min(_STEP, piece.size - done)))
                done += count
                yield count
        finally:
            os.close(descriptor)


def _opened(contents: Contents, pieces: Sequence[Piece], pool: Executor) -> Iterator[tuple[Piece, int]]:
    """Each piece with a descriptor of its object, which the caller closes."""
    if len(pieces) == 1:
        yield pieces[0], contents.open(pieces[0].wanted)
        return
    coming, asked = iter(pieces), deque[_Asked]()
    try:
        while True:
            while len(asked) < _AHEAD and (piece := next(coming, None)):
                asked.append((piece, _begun(contents, piece, pool)))
            if not asked:
                return
            piece, future = asked.popleft()
            # What no thread has begun is opened here: readers may be all that the pool has, and wait for ever for each other.
            yield piece, contents.open(piece.wanted) if future.cancel() else future.result()
    finally:
        for _, future in asked:
            if not future.cancel():
                future.add_done_callback(_drop)


def _begun(contents: Contents, piece: Piece, pool: Executor) -> "Future[int]":
    try:
        return pool.submit(contents.open, piece.wanted)
    except RuntimeError:
        # Somebody else closed the repository, or the program is ending: what is under way comes to its end here.
        return Future()


def _drop(future: "Future[int]") -> None:
    try:
        os.close(future.result())
    except (CvfsError, OSError):
        return  # whoever reads it next gets the error


def _fill(descriptor: int, buffer: memoryview, offset: int) -> None:
    done = 0
    while done < len(buffer):
        done += _some(os.preadv(descriptor, [buffer[done:]], offset + done))


def _some(count: int) -> int:
    if not count:
        raise FormatError("an object is shorter than the catalog says")
    return count
