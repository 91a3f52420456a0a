"""Small files that an administrator names: read whole or not at all; it knows no format, and waits for no writer."""

import os
import stat

from cvfs.errors import UsageError


def read_local(path: str, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes. Raises UsageError."""
    try:
        data = read_start(path, limit + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if len(data) > limit:
        raise UsageError(f"{path}: longer than {limit} bytes, refused")
    return data


def read_start(path: str, count: int) -> bytes:
    """At most the first `count` bytes of a regular file. Raises OSError, and UsageError for anything else."""
    # A pipe without a writer would hold the opener for ever.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UsageError(f"{path}: not a file")
        return file.read(count)
