"""Files that survive the machine going down: a small one is replaced as a whole, a directory keeps its names."""

import contextlib
import os


def replace_file(path: str, data: bytes) -> None:
    """Put `data` in the place of a small file: after a crash it holds either, whole. Raises OSError, then it is as before.

    One writer at a time: what is written first is `<path>.new`. The name itself is flushed by `sync_directory`.
    """
    temporary = f"{path}.new"
    try:
        with open(temporary, "wb", opener=_anew) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def sync_directory(path: str) -> None:
    """Flush the names in a directory to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _anew(path: str, flags: int) -> int:
    """Never what is there already: it may be a link that somebody else who may write here has put in the way of root."""
    flags |= os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o666)
    except FileExistsError:
        os.unlink(path)
        return os.open(path, flags, 0o666)
