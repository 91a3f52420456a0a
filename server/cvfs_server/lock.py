"""One publisher per repository: an advisory lock on a file of the spool area; a killed holder leaves nothing behind."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from cvfs.errors import Locked, StoreFull

_held: set[int] = set()
_MAX_HOLDER = 200


@contextlib.contextmanager
def publisher_lock(path: str, purpose: str) -> Iterator[None]:
    """Hold the lock file for the time of the context. Raises Locked, naming the holder, at once if somebody else does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreFull(f"cannot use the lock file {path}: {error.strerror}") from error
    try:
        _acquire(descriptor, path, purpose)
        _held.add(descriptor)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _acquire(descriptor: int, path: str, purpose: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, _MAX_HOLDER, 0).decode("utf-8", "replace").strip() or "an unknown process"
        raise Locked(f"locked by {holder} ({path}); wait for it, or end it") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()}, {purpose}\n".encode(), 0)


def _let_go_in_child() -> None:
    """A worker that outlives its killed publisher by a moment must not hold the lock."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
