"""Processes that end, and what tells of it; it starts none."""

import ctypes
import os
import select

_PR_SET_PDEATHSIG = 1


def has_ended(pid: int, within: float) -> bool:
    """Whether a process is gone within that many seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within)[0])
    finally:
        os.close(descriptor)


def end_with_parent(parent: int, number: int) -> None:
    """This process gets the signal of that number when its parent, which it must name, ends; also if it has ended already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
