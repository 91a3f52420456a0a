"""Compression of objects: zlib (fast path through ISA-L), zstd, stored; bounded and streaming, both ways.

Reading goes by the code in the catalog's flags; writing by a repository's choice: several encoders may share one code.
zstd (code 2) is understood by cvfs only: a foreign client sees an object of the wrong length and answers EIO, so a zstd
object never has the length of its content. Source: FORMAT sections 4.3, 4.4; DESIGN section 6.
"""

import enum
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from isal import igzip_lib, isal_zlib

from cvfs.errors import CorruptObject, FormatError
from cvfs.hashes import Bytes

try:
    import zstandard
except ImportError:  # the opt-in extra `cvfs[zstd]`
    zstandard = None  # type: ignore[assignment]

ZLIB_LEVEL = 6
FAST_LEVEL = 3
ZSTD_LEVEL = 3
# An empty skippable frame: ignored by every zstd decoder, makes an object eight bytes longer (RFC 8878, 3.1.2).
_SKIPPABLE_FRAME = b"\x50\x2a\x4d\x18\x00\x00\x00\x00"
_STEP = 256 * 1024
# zstd's decoder cannot be told to stop: it is fed in slices whose worst expansion (128 KiB for four bytes) stays small.
_ZSTD_SLICE = 2048


class Compression(enum.IntEnum):
    """Code of the stored form in the flags of a catalog row."""

    ZLIB = 0
    NONE = 1
    ZSTD = 2


class Compressor(Protocol):
    """One object on its way into a store."""

    def compress(self, data: Bytes, /) -> bytes:
        """Stored bytes that became ready."""

    def flush(self) -> bytes:
        """The rest. Nothing may be fed afterwards."""


class _Stored:
    """No compression."""

    def compress(self, data: Bytes) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


class _Zstd:
    """A zstd frame that is never as long as its content, see the text of this module."""

    def __init__(self) -> None:
        self._compressor = _idle_compressor()
        self._frame = self._compressor.compressobj()
        self._read = self._written = 0

    def compress(self, data: Bytes) -> bytes:
        self._read += len(data)
        return self._count(self._frame.compress(data))

    def flush(self) -> bytes:
        rest = self._count(self._frame.flush())
        _idle_compressors.append(self._compressor)
        return rest + _SKIPPABLE_FRAME if self._written == self._read else rest

    def _count(self, data: bytes) -> bytes:
        self._written += len(data)
        return data


def _zstd_at_once(data: Bytes) -> bytes:
    # An encoder that knows the size uses smaller tables: less of the processor's caches is lost.
    compressor = _idle_compressor()
    frame: bytes = compressor.compress(data)
    _idle_compressors.append(compressor)
    return frame + _SKIPPABLE_FRAME if len(frame) == len(data) else frame


# Making one costs as much as compressing a small file. One that is in use, or was given up half-way, is not here.
_idle_compressors: list[Any] = []
_of_this_thread = threading.local()


def _idle_compressor() -> Any:
    try:
        return _idle_compressors.pop()
    except IndexError:
        return _zstd().ZstdCompressor(level=ZSTD_LEVEL)


def _idle_decompressor() -> Any:
    """One for each thread: making one costs more than a small file."""
    if not hasattr(_of_this_thread, "decompressor"):
        _of_this_thread.decompressor = _zstd().ZstdDecompressor()
    return _of_this_thread.decompressor


def _zstd() -> Any:
    if zstandard is None:
        raise FormatError("a zstd object, but this installation lacks the decoder: pip install 'cvfs[zstd]'")
    return zstandard


@dataclass(frozen=True, slots=True)
class Encoder:
    """A repository's way to compress: its name in configuration, the code it writes, a fresh compressor per object.

    `at_once` is a quicker way for an object that is all there; it may give other bytes.
    """

    name: str
    code: Compression
    start: Callable[[], Compressor]
    at_once: Callable[[Bytes], bytes] | None = None

    def encode(self, data: Bytes) -> bytes:
        """One object at once."""
        if self.at_once:
            return self.at_once(data)
        compressor = self.start()
        return compressor.compress(data) + compressor.flush()


ZLIB = Encoder("zlib", Compression.ZLIB, lambda: zlib.compressobj(ZLIB_LEVEL))
ENCODERS = {
    "zlib": ZLIB,
    "default": ZLIB,
    "zlib-fast": Encoder("zlib-fast", Compression.ZLIB, lambda: isal_zlib.compressobj(FAST_LEVEL)),
    "zstd": Encoder("zstd", Compression.ZSTD, _Zstd, _zstd_at_once),
    "none": Encoder("none", Compression.NONE, _Stored),
}


def encoder_named(name: str) -> Encoder:
    """The encoder for `CVMFS_COMPRESSION_ALGORITHM`; raises FormatError for an unknown name."""
    if name not in ENCODERS:
        raise FormatError(f"unknown compression {name!r}: use zlib, zlib-fast, zstd or none")
    if name == "zstd":
        _zstd()
    return ENCODERS[name]


def decode(data: Bytes, code: Compression, limit: int) -> bytes:
    """The content of one stored object; raises CorruptObject if it is broken or longer than `limit` bytes."""
    return b"".join(decode_stream([data], code, limit))


def holds(data: Bytes, code: Compression, size: int) -> bool:
    """Whether one stored object has exactly `size` bytes of content: quickly, and without keeping them.

    True is certain. False says no more than that `decode_stream` is to be asked.
    """
    if code is Compression.ZLIB:
        inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)
        try:
            content = inflater.decompress(data, size + 1)
        except igzip_lib.IsalError:  # type: ignore[misc]  # an untyped class
            return False
        return len(content) == size and inflater.eof and not inflater.unused_data
    if code is Compression.NONE:
        return len(data) == size
    return _zstd_frame_holds(data, size)


def decode_stream(pieces: Iterable[Bytes], code: Compression, limit: int) -> Iterator[bytes]:
    """The content, piece by piece and never more than `limit` bytes, of an object that arrives in pieces.

    Raises CorruptObject for a broken, truncated or longer stream, and for bytes behind its end.
    """
    total = 0
    # No more room than for what there may be, and for the byte that shows that it is longer: large room is new memory.
    for piece in _DECODERS[code](pieces, min(_STEP, limit + 1)):
        total += len(piece)
        if total > limit:
            raise CorruptObject(f"inflates to more than {limit} bytes")
        yield piece


def _decode_stored(pieces: Iterable[Bytes], _step: int) -> Iterator[bytes]:
    return (bytes(piece) for piece in pieces)


def _decode_zlib(pieces: Iterable[Bytes], step: int) -> Iterator[bytes]:
    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)
    try:
        for piece in pieces:
            data: Bytes = piece
            if inflater.eof and len(data):
                raise CorruptObject("bytes behind the end of the zlib stream")
            while not inflater.eof and (len(data) or not inflater.needs_input):
                yield inflater.decompress(data, step)
                data = b""
            if inflater.eof and inflater.unused_data:
                raise CorruptObject("bytes behind the end of the zlib stream")
    except igzip_lib.IsalError as error:  # type: ignore[misc]  # an untyped class
        raise CorruptObject(f"not a zlib stream: {error}") from error
    if not inflater.eof:
        raise CorruptObject("the zlib stream ends early")


def _decode_zstd(pieces: Iterable[Bytes], _step: int) -> Iterator[bytes]:
    frames = _ZstdFrames()
    try:
        for piece in pieces:
            for start in range(0, len(piece), _ZSTD_SLICE):
                yield from frames.feed(bytes(piece[start : start + _ZSTD_SLICE]))
    except _zstd().ZstdError as error:
        raise CorruptObject(f"not a zstd stream: {error}") from error
    if not frames.complete:
        raise CorruptObject("the zstd stream ends early")


def _zstd_frame_holds(data: Bytes, size: int) -> bool:
    """For a single frame. The decoder makes room for what the frame says, or else for `size` bytes, and no more."""
    try:
        if not size or _zstd().frame_content_size(data) not in {-1, size}:
            return False
        return len(_idle_decompressor().decompress(data, max_output_size=size, allow_extra_data=False)) == size
    except _zstd().ZstdError:
        return False


class _ZstdFrames:
    """Decoder of consecutive frames, skippable ones included, that knows whether the last one is complete."""

    def __init__(self) -> None:
        self._decoder = _zstd().ZstdDecompressor()
        self._frame: Any = None
        self.complete = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            self._frame = self._frame or self._decoder.decompressobj()
            yield self._frame.decompress(data)
            data = self._frame.unused_data
            self.complete = self._frame.eof
            if self.complete:
                self._frame = None


_DECODERS: dict[Compression, Callable[[Iterable[Bytes], int], Iterator[bytes]]] = {
    Compression.ZLIB: _decode_zlib,
    Compression.NONE: _decode_stored,
    Compression.ZSTD: _decode_zstd,
}
