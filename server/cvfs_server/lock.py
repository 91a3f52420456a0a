"""Advisory locks on files of the spool area; a killed holder leaves nothing behind, a worker process inherits none."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from cvfs.errors import Locked, StoreFull
from cvfs_server.founding.ownership import give_to_directory_owner

_held: set[int] = set()
_MAX_HOLDER = 200
_PAUSE = 0.02


@contextlib.contextmanager
def publisher_lock(path: str, purpose: str, patience: float = 0) -> Iterator[None]:
    """Hold the lock file for the time of the context, after waiting at most `patience` seconds for it.

    Raises Locked, naming the holder, if somebody else has it all that time.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        give_to_directory_owner(descriptor, path)
    except OSError as error:
        raise StoreFull(f"cannot use the lock file {path}: {error.strerror}") from error
    try:
        _acquire(descriptor, path, patience)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}, {purpose}\n".encode(), 0)
        _held.add(descriptor)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def is_free(path: str) -> bool:
    """Whether nobody holds the lock file, or it is not there. One that cannot be opened may well be held."""
    try:
        # A lock needs no right to write: root's are there, too, for whoever owns the repository.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        return hold(descriptor)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not hold(descriptor):
        if time.monotonic() >= deadline:
            holder = os.pread(descriptor, _MAX_HOLDER, 0).decode("utf-8", "replace").strip() or "an unknown process"
            raise Locked(f"locked by {holder} ({path}); wait for it, or end it")
        time.sleep(_PAUSE)


def hold(descriptor: int) -> bool:
    """Lock an open file for as long as it is open; False if somebody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _let_go_in_child() -> None:
    """A worker that outlives its killed publisher by a moment must not hold the lock."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
