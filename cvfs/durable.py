"""Files that survive the machine going down: a small one is replaced as a whole, a directory keeps its names."""

import contextlib
import os


def replace_file(path: str, data: bytes) -> None:
    """Put `data` in the place of a small file: after a crash it holds either, whole. Raises OSError, then it is as before.

    One writer at a time: what is written first is `<path>.new`. The name itself is flushed by `sync_directory`.
    """
    temporary = f"{path}.new"
    try:
        with open(temporary, "wb") as file:
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
