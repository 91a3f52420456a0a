"""Scratch directories of those who only look; what killed ones left is cleared away by the next, who finds it free.

Each is held by a lock on the directory itself, which processes that its owner forked share.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

from cvfs.errors import StoreFull
from cvfs_server.lock import hold

_ATTEMPTS = 10


@contextlib.contextmanager
def scratch_directory(parent: str, prefix: str) -> Iterator[str]:
    """A new directory below `parent`, which exists; it vanishes with everything in it. Raises StoreFull."""
    _clear_dead(parent, prefix)
    path, descriptor = _make(parent, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def _make(parent: str, prefix: str) -> tuple[str, int]:
    """A directory and a descriptor that holds it."""
    for _ in range(_ATTEMPTS):
        try:
            path = tempfile.mkdtemp(prefix=prefix, dir=parent)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreFull(f"cannot use {parent}: {error.strerror}") from error
        # Somebody who cleared away may have taken it for a dead one before it was held.
        if hold(descriptor) and os.path.isdir(path):
            return path, descriptor
        os.close(descriptor)
    raise StoreFull(f"cannot keep a scratch directory in {parent}: somebody removes it again and again")


def _clear_dead(parent: str, prefix: str) -> None:
    for name in os.listdir(parent):
        path = f"{parent}/{name}"
        if not name.startswith(prefix):
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            # Gone meanwhile, another user's, or no directory: nothing that was left here by this program.
            continue
        try:
            if hold(descriptor):
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(descriptor)
