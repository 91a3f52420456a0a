"""Who uses a cache directory: each process says so by a lock that dies with it; nothing here touches a content.

    <directory>/<token>.lock              held by flock(2) as long as a process of that session lives
    <directory>/<token>.<pid>.<number>    what a session has under way

Unlike process numbers, locks tell the truth across containers that share the directory, and they pass to a daemon over
its fork.
"""

import contextlib
import fcntl
import os
from typing import NamedTuple


class DeadSession(NamedTuple):
    """A session whose processes ended without ending it, and whether the machine went down with them."""

    token: str
    with_machine: bool


class Session:
    """The life of a process, and of those forked from it, as seen by other users of the directory."""

    def __init__(self, token: str, lock: int, path: str) -> None:
        self.token = token
        self._lock = lock
        self._path = path

    @classmethod
    def start(cls, directory: str) -> "Session":
        """A new session with its lock held. Raises OSError."""
        token = os.urandom(8).hex()
        path = os.path.join(directory, token)
        lock = os.open(f"{path}.new", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(lock, _boot())
            # Under its name only now: a lock file that others see is locked, or its session is dead.
            os.rename(f"{path}.new", f"{path}.lock")
        except OSError:
            os.close(lock)
            raise
        return cls(token, lock, f"{path}.lock")

    def is_known(self) -> bool:
        """Whether others can still see the lock: somebody may have emptied the directory."""
        return os.path.exists(self._path)

    def end(self) -> None:
        """Release the lock; the last process of the session does so by ending, too."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        os.close(self._lock)


def bury_dead(directory: str) -> list[DeadSession]:
    """Remove what sessions left whose lock is free; the rest, and the unexplained, stay. Raises OSError."""
    names = os.listdir(directory)
    dead = [
        DeadSession(name.removesuffix(".lock"), boot != _boot())
        for name in names
        if name.endswith(".lock") and (boot := _boot_of_dead(os.path.join(directory, name))) is not None
    ]
    tokens = {session.token for session in dead}
    for name in names:
        if name.split(".", 1)[0] in tokens:
            # Another process may clean up at the same time, or be another user's.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                os.unlink(os.path.join(directory, name))
    return dead


def _boot_of_dead(path: str) -> bytes | None:
    """What the session noted at its start if nobody holds its lock any more, else None."""
    try:
        # Whoever shares the directory may have put a pipe there, which would be read for ever.
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.read(lock, 64)
    except OSError:
        # Held, or a file system that cannot tell: alive as far as anybody knows.
        return None
    finally:
        os.close(lock)


def _boot() -> bytes:
    """Names this start of the machine, where Linux tells."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(64).strip()
    except OSError:
        return b"unknown"
