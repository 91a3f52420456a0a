"""An archive as a file that can be read at every place: where it lies, or unpacked once into a scratch directory.

What is compressed, or comes through a pipe, is unpacked as it arrives; only the disk bounds it. Knows no members; the archive
itself is never written. Source: the magic numbers of gzip (RFC 1952), bzip2, xz and zstd (RFC 8878).
"""

import bz2
import contextlib
import gzip
import itertools
import lzma
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from cvfs.compression import Compression, decode_stream
from cvfs.errors import CorruptObject, FormatError, StoreFull, Unpublishable
from cvfs_server.sources.tar_members import TarMember

STANDARD_INPUT = "-"
_STEP = 2**20
_NO_LIMIT = 2**63
# Headers of xz may ask for any amount of memory.
_MAX_XZ_MEMORY = 2**30
_READING = os.O_RDONLY | os.O_CLOEXEC
_WRITING = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

Pieces = Iterator[bytes]


class ArchiveFile:
    """An open tar file, to be closed, which was last modified at `mtime_ns`. Sparse members are unpacked into `scratch`.

    `path` is where it is read, `name` what people call it.
    """

    def __init__(self, name: str, path: bytes, descriptor: int, scratch: str) -> None:
        self.name = "the standard input" if name == STANDARD_INPUT else name
        self.path = path
        self.descriptor = descriptor
        self._scratch = scratch
        self._unpacked: dict[int, bytes] = {}
        self.mtime_ns = os.fstat(descriptor).st_mtime_ns

    def unpack(self, member: TarMember) -> bytes:
        """The path of a sparse member's content as a file of its own, with its holes. Raises StoreFull, Unpublishable."""
        if member.offset not in self._unpacked:
            path = os.fsencode(f"{self._scratch}/sparse.{len(self._unpacked)}")
            with _written(path):
                target = os.open(path, _WRITING, 0o600)
                try:
                    self._fill(target, member)
                finally:
                    os.close(target)
            if os.fstat(self.descriptor).st_mtime_ns != self.mtime_ns:
                raise Unpublishable(f"{self.name}: changed since it was opened; nothing was published")
            self._unpacked[member.offset] = path
        return self._unpacked[member.offset]

    def close(self) -> None:
        """Let go of the archive."""
        os.close(self.descriptor)

    def _fill(self, target: int, member: TarMember) -> None:
        os.ftruncate(target, member.size)
        offset = member.offset
        for segment in member.segments or ():
            place, left = segment.offset, segment.size
            while left and (data := os.pread(self.descriptor, min(left, _STEP), offset)):
                _write_fully(target, data, place)
                place, offset, left = place + len(data), offset + len(data), left - len(data)


def open_archive(name: str, scratch: str) -> ArchiveFile:
    """The archive in the file `name`, `-` being the standard input. Raises Unpublishable, StoreFull."""
    path = os.fsencode(f"{scratch}/archive.tar")
    if name == STANDARD_INPUT:
        return ArchiveFile(name, path, _spooled(_standard_input(), path, name), scratch)
    descriptor = _open(name)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and _codec(os.pread(descriptor, 8, 0)) is None:
            return ArchiveFile(name, os.path.realpath(os.fsencode(name)), os.dup(descriptor), scratch)
        return ArchiveFile(name, path, _spooled(_pieces(descriptor), path, name), scratch)
    finally:
        os.close(descriptor)


def _standard_input() -> Pieces:
    if sys.stdin is None:
        raise Unpublishable("cannot read the archive from the standard input: it is closed")
    while data := sys.stdin.buffer.read(_STEP):
        yield data


def _open(name: str) -> int:
    try:
        descriptor = os.open(name, _READING)
    except OSError as error:
        raise Unpublishable(f"cannot open the archive {name}: {error.strerror}") from error
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unpublishable(f"{name} is a directory, not an archive; publish --from takes directories")
    return descriptor


def _pieces(descriptor: int) -> Pieces:
    # Waits as long as whoever writes to the pipe needs; an interrupt ends it.
    while data := os.read(descriptor, _STEP):
        yield data


def _spooled(pieces: Pieces, path: bytes, name: str) -> int:
    """The tar file unpacked at `path`, open."""
    with _written(path):
        target = os.open(path, _WRITING, 0o600)
    try:
        place = 0
        for data in _readable(_plain(pieces), name):
            with _written(path):
                _write_fully(target, data, place)
            place += len(data)
    except BaseException:
        os.close(target)
        raise
    return target


def _plain(pieces: Pieces) -> Pieces:
    """The bytes that the pieces are, or are the compressed form of."""
    first = next(pieces, b"")
    while len(first) < 8 and (more := next(pieces, b"")):
        first += more
    codec, whole = _codec(first), itertools.chain([first], pieces)
    return codec(whole) if codec else whole


def _codec(first: bytes) -> Callable[[Pieces], Pieces] | None:
    return next((codec for magic, codec in _CODECS.items() if first.startswith(magic)), None)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _decompressed(pieces: Pieces, start: Callable[[], _Decompressor]) -> Pieces:
    """Streams one after the other, zeros between them being padding."""
    stream: _Decompressor | None = None
    for piece in pieces:
        data = piece
        while data or (stream and not stream.needs_input):
            if stream is None:
                data = data.lstrip(b"\0")
                if not data:
                    break
                stream = start()
            yield stream.decompress(data, _STEP)
            data = b""
            if stream.eof:
                data, stream = stream.unused_data, None
    if stream is not None:
        raise EOFError


class _Joined:
    """Pieces as a file, for the standard library's gzip."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        if not self._rest:
            self._rest = next(self._pieces, b"")
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def _gzip(pieces: Pieces) -> Pieces:
    with gzip.GzipFile(fileobj=_Joined(pieces), mode="rb") as file:  # type: ignore[call-overload]
        while data := file.read(_STEP):
            yield data


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(memlimit=_MAX_XZ_MEMORY)


_CODECS: dict[bytes, Callable[[Pieces], Pieces]] = {
    b"\x1f\x8b": _gzip,
    b"BZh": lambda pieces: _decompressed(pieces, bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": lambda pieces: _decompressed(pieces, _xz),
    b"\x28\xb5\x2f\xfd": lambda pieces: decode_stream(pieces, Compression.ZSTD, _NO_LIMIT),
}


def _readable(pieces: Iterable[bytes], name: str) -> Pieces:
    """The same; whatever is wrong with them means that the archive cannot be read."""
    shown = "the standard input" if name == STANDARD_INPUT else name
    try:
        yield from pieces
    except EOFError as error:
        raise Unpublishable(f"{shown}: the compressed archive was cut off; nothing was published") from error
    except (OSError, lzma.LZMAError, zlib.error, CorruptObject, FormatError) as error:
        raise Unpublishable(f"{shown}: cannot be unpacked: {error}; nothing was published") from error


def _write_fully(target: int, data: bytes, place: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(target, view, place)
        view, place = view[done:], place + done


@contextlib.contextmanager
def _written(path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = os.fsdecode(os.path.dirname(path))
        raise StoreFull(f"cannot unpack the archive into {place}: {error.strerror}; make room there") from error
