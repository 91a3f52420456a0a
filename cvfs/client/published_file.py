"""A published file as a raw stream of the io module: objects are opened as they are touched, few at a time; no catalogs."""

import io
import os
from collections.abc import Sequence

from cvfs.client.content import Piece, pieces_between
from cvfs.errors import FormatError
from cvfs.store.base import Contents

_OPEN_PIECES = 4


class PublishedFile(io.RawIOBase):
    """`size` bytes in `pieces`. Keeps the last few objects open. For one thread at a time, as every stream."""

    def __init__(self, contents: Contents, pieces: Sequence[Piece], size: int) -> None:
        self._contents = contents
        self._pieces = pieces
        self._size = size
        self._position = 0
        self._open: dict[int, int] = {}
        self._own: int | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}.get(whence)
        if base is None:
            raise ValueError(f"whence value {whence} unsupported")
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = min(len(buffer), self._size - self._position)
        if count <= 0:
            return 0
        piece = pieces_between(self._pieces, self._position, self._position + 1)[0]
        inside = self._position - piece.offset
        done = os.preadv(self._descriptor(piece), [memoryview(buffer)[: min(count, piece.size - inside)]], inside)
        if not done:
            # No end of the file, which is what 0 bytes would say.
            raise FormatError("an object is shorter than the catalog says")
        self._position += done
        return done

    def readall(self) -> bytes:
        """The rest, without the small steps of the io module."""
        rest = memoryview(bytearray(max(0, self._size - self._position)))
        done = 0
        while done < len(rest) and (count := self.readinto(rest[done:])):
            done += count
        return bytes(rest[:done])

    def fileno(self) -> int:
        """A descriptor with a position of its own, for mmap(2) and programs that take one.

        Only a file that is one object has one: of any other, io.UnsupportedOperation is raised.
        """
        if len(self._pieces) != 1:
            raise io.UnsupportedOperation("a file in several chunks has no descriptor: read it, or copy it")
        if self._own is None:
            # Opened anew: what a cache hands out may share its position with another reader.
            self._own = os.open(f"/proc/self/fd/{self._descriptor(self._pieces[0])}", os.O_RDONLY | os.O_CLOEXEC)
        return self._own

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
        if self._own is not None:
            os.close(self._own)
            self._own = None
        super().close()

    def _descriptor(self, piece: Piece) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if piece.offset not in self._open:
            while len(self._open) >= _OPEN_PIECES:
                os.close(self._open.pop(next(iter(self._open))))
            self._open[piece.offset] = self._contents.open(piece.wanted)
        return self._open[piece.offset]
