"""A store in a directory: a repository's files on this machine; it never leaves that directory and never writes."""

import errno
import os
import stat
from collections.abc import Iterator

from cvfs.errors import MissingObject, Unreachable

_STEP = 256 * 1024
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}


class LocalStore:
    """Stored bytes below `base`, which holds `data/` and the manifest (FORMAT section 1.1)."""

    def __init__(self, base: bytes | str) -> None:
        self._base = os.fsencode(base)

    def fetch(
        self, path: str, *, fresh: int = 0, span: tuple[int, int] | None = None, patience: float | None = None
    ) -> Iterator[bytes]:
        """See `Store.fetch`; neither cache nor network is on the way."""
        del fresh, patience
        place = self._place(path)
        try:
            descriptor = _open_regular(place, path)
            try:
                yield from _read(descriptor, path, span)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _translated(error, path) from error

    def has(self, path: str, *, patience: float | None = None) -> bool:
        """See `Store.has`."""
        del patience
        try:
            return stat.S_ISREG(os.stat(self._place(path)).st_mode)
        except MissingObject:
            return False
        except OSError as error:
            if error.errno in _ABSENT:
                return False
            raise _translated(error, path) from error

    def _place(self, path: str) -> bytes:
        """Where `path` lies; whatever could lead out of the base is a file that nobody has."""
        parts = os.fsencode(path).split(b"/")
        if not {b"", b".", b".."}.isdisjoint(parts) or b"\0" in os.fsencode(path):
            raise MissingObject(f"{path!r}: not a path below a repository, refused")
        return os.path.join(self._base, *parts)


def _open_regular(place: bytes, path: str) -> int:
    # Without O_NONBLOCK a fifo would hold the thread until somebody writes to it.
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise MissingObject(f"{path}: not a regular file")


def _read(descriptor: int, path: str, span: tuple[int, int] | None) -> Iterator[bytes]:
    """The file from its start to its end, or exactly the span."""
    offset, left = span or (0, None)
    # A buffer for more than there is costs more than reading a small file.
    step = min(_STEP, os.fstat(descriptor).st_size + 1)
    while left is None or left > 0:
        piece = os.pread(descriptor, step if left is None else min(left, step), offset)
        if not piece:
            break
        yield piece
        offset += len(piece)
        left = None if left is None else left - len(piece)
    if left:
        raise Unreachable(f"{path}: the file ends {left} bytes before the asked part does")


def _translated(error: OSError, path: str) -> MissingObject | Unreachable:
    if error.errno in _ABSENT:
        return MissingObject(f"{path}: no such file in this local store")
    return Unreachable(f"{path}: {error.strerror}")
