"""Where the bytes of a regular file come from: one object, or chunks in order; pure. Source: FORMAT sections 4.5, 4.6."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from cvfs.compression import Compression
from cvfs.errors import FormatError
from cvfs.format.dirent import Chunk, DirectoryEntry
from cvfs.store.base import Wanted
from cvfs.store.http import encode_place


@dataclass(frozen=True, slots=True)
class Piece:
    """A contiguous part of a file, in bytes, and the object that holds it."""

    offset: int
    size: int
    wanted: Wanted


def whole(path: bytes, entry: DirectoryEntry) -> Piece:
    """The single piece of a file that is one object. Raises FormatError for a row without a hash."""
    content = entry.content
    if content is None:
        raise FormatError(f"{path.decode(errors='replace')}: the catalog names no object for this file")
    place = encode_place(path) if entry.is_external else None
    return Piece(0, entry.size, Wanted(content, entry.compression, entry.size, place))


def chunked(path: bytes, entry: DirectoryEntry, chunks: Sequence[Chunk]) -> tuple[Piece, ...]:
    """The pieces of a chunked file. Raises FormatError unless they start at 0, touch each other and add up."""
    position = 0
    for chunk in chunks:
        if chunk.offset != position or chunk.size < 0:
            raise FormatError(f"{path.decode(errors='replace')}: chunks leave a gap at byte {position}")
        position += chunk.size
    if position != entry.size or not chunks:
        raise FormatError(f"{path.decode(errors='replace')}: chunks hold {position} bytes of {entry.size}")
    return tuple(_piece(path, entry, chunk) for chunk in chunks)


def _piece(path: bytes, entry: DirectoryEntry, chunk: Chunk) -> Piece:
    content = chunk.content(entry)
    if not entry.is_external:
        return Piece(chunk.offset, chunk.size, Wanted(content, entry.compression, chunk.size))
    # Only a range of the stored bytes can be asked for, so these are never compressed (section 4.6).
    span = (chunk.offset, chunk.size)
    return Piece(chunk.offset, chunk.size, Wanted(content, Compression.NONE, chunk.size, encode_place(path), span))


def pieces_between(pieces: Sequence[Piece], start: int, end: int) -> Sequence[Piece]:
    """The pieces that hold bytes from `start` up to but not including `end`."""
    first = max(0, bisect_right(pieces, start, key=lambda piece: piece.offset) - 1)
    last = bisect_right(pieces, end - 1, key=lambda piece: piece.offset)
    return pieces[first:last]
