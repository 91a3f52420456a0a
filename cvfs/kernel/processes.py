"""Processes that end, or are ended, and what tells of it; it starts none."""

import contextlib
import ctypes
import os
import select
import signal
import time

_PR_SET_PDEATHSIG = 1
_KILLED_WITHIN = 5.0
_PAUSE = 0.02
_ENDED = (b"Z", b"X")


def has_ended(pid: int, within: float) -> bool:
    """Whether a process is gone within that many seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:
        # Linux before 5.3, or a sandbox that does not know the call.
        return _has_vanished(pid, within)
    try:
        return bool(select.select([descriptor], [], [], within)[0])
    finally:
        os.close(descriptor)


def _has_vanished(pid: int, within: float) -> bool:
    deadline = time.monotonic() + within
    while _lives(pid):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE)
    return True


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # A command's name may hold anything, brackets too.
            return file.read().rpartition(b")")[2].split()[0] not in _ENDED
    except OSError:
        return False


def see_off(pid: int, within: float) -> None:
    """See a process gone, by force if it takes longer than so many seconds; one that hangs in the kernel is left to it."""
    if not has_ended(pid, within):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        has_ended(pid, _KILLED_WITHIN)


def end_with_parent(parent: int, number: int) -> None:
    """This process gets the signal of that number when its parent, which it must name, ends; also if it has ended already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
