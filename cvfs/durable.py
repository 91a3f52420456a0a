"""Files that survive the machine going down: a small one is replaced as a whole, a directory keeps its names."""

import contextlib
import os


def replace_file(path: str, data: bytes, *, mode: int | None = None, owner: tuple[int, int] | None = None) -> None:
    """Put `data` in the place of a small file: after a crash it holds either, whole. Raises OSError, then it is as before.

    One writer at a time: what is written first is `<path>.new`. The name itself is flushed by `sync_directory`. `mode` and
    `owner`, user and group, are its own before anybody can open it; otherwise it is as any new file.
    """
    temporary = f"{path}.new"
    try:
        with open(temporary, "wb", opener=_anew if mode is None else _anew_closed) as file:
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
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


def _anew(path: str, flags: int, mode: int = 0o666) -> int:
    """Never what is there already: it may be a link that somebody else who may write here has put in the way of root."""
    flags |= os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(path, flags, mode)
    except FileExistsError:
        os.unlink(path)
        return os.open(path, flags, mode)


def _anew_closed(path: str, flags: int) -> int:
    """For nobody else, as long as nothing is said of who may read it."""
    return _anew(path, flags, 0o600)
