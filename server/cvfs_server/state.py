"""Small files of a repository's spool area, replaced as a whole; knows none of their contents."""

import os

from cvfs.durable import replace_file
from cvfs.errors import StoreFull
from cvfs_server.founding.ownership import give_new_directories, nearest_directory

_MAX_STATE = 2**16


def write_state(path: str, data: bytes) -> None:
    """Replace a small file. Raises StoreFull."""
    try:
        replace_file(path, data)
    except OSError as error:
        raise StoreFull(f"cannot write {path}: {error.strerror}") from error


def read_state(path: str) -> bytes | None:
    """A small file, None if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_STATE)
    except FileNotFoundError:
        return None


def no_link(path: str, flags: int) -> int:
    """For `open`: never by way of a link that somebody else who may write here has put in the way of root."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


def make_directory(path: str) -> None:
    """Make a directory and what is above it, if it is not there. Raises StoreFull."""
    try:
        above = nearest_directory(path)
        os.makedirs(path, exist_ok=True)
        give_new_directories(above, path)
    except OSError as error:
        raise StoreFull(f"cannot use {path}: {error.strerror}") from error
