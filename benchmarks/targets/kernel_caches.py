"""What this machine keeps of files in memory: dropped, or brought there; it measures nothing."""

import os
from pathlib import Path

from benchmarks.model import Unavailable

_DROP = Path("/proc/sys/vm/drop_caches")
_PAGES_AND_NAMES = "3\n"
_PIECE = 2**20


def drop() -> None:
    """All of it, for all of the machine. Raises Unavailable for those who may not."""
    os.sync()
    try:
        _DROP.write_text(_PAGES_AND_NAMES)
    except OSError as error:
        raise Unavailable(
            f"the kernel's caches cannot be dropped: {error.strerror}; only root may, outside of containers"
        ) from error


def fill(directory: Path) -> None:
    """Whatever is below the directory is read once."""
    buffer = bytearray(_PIECE)
    for place, _, names in os.walk(directory):
        for name in names:
            _read(os.path.join(place, name), buffer)


def _read(path: str, buffer: bytearray) -> None:
    try:
        # Sockets and pipes are nothing to be read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        while os.readv(descriptor, [buffer]):
            pass
    except OSError:
        return
    finally:
        os.close(descriptor)
