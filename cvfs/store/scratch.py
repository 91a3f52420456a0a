"""Files without a name: they vanish with their last descriptor, whatever happens to the process; nothing here is kept."""

import os
import tempfile

from cvfs.errors import StoreFull

_COPIED = 1024 * 1024


class Scratch:
    """A file to fill and then read: in `directory` while there is room, in memory otherwise.

    `directory` None means memory from the start. Raises StoreFull where even memory cannot hold it.
    """

    def __init__(self, directory: str | None) -> None:
        self._descriptor = _in_memory() if directory is None else _in_directory(directory)
        self._on_disk = directory is not None
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Append all of `piece`."""
        try:
            self._append(piece)
        except OSError as error:
            if not self._on_disk:
                raise StoreFull(f"no room for {self.size + len(piece)} bytes on the way: {error.strerror}") from error
            self._move_to_memory()
            self.write(piece)

    def detach(self) -> int:
        """The descriptor, which is the caller's from now on."""
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def close(self) -> None:
        """Give the file up; harmless after `detach` and when repeated."""
        if self._descriptor >= 0:
            os.close(self.detach())

    def _append(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            # Positioned writes: a piece that failed in its middle is simply written again elsewhere.
            written = os.pwrite(self._descriptor, rest, self.size + len(piece) - len(rest))
            rest = rest[written:]
        self.size += len(piece)

    def _move_to_memory(self) -> None:
        source, size = self.detach(), self.size
        try:
            self._descriptor, self._on_disk, self.size = _in_memory(), False, 0
            while self.size < size:
                self.write(os.pread(source, min(_COPIED, size - self.size), self.size))
        finally:
            os.close(source)


def _in_memory() -> int:
    return os.memfd_create("cvfs", os.MFD_CLOEXEC)


def _in_directory(directory: str) -> int:
    try:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            return os.dup(file.fileno())
    except OSError:
        # Gone, full or read-only: whoever keeps things there says so to the user, here memory serves as well.
        return _in_memory()
