"""What libfuse does to its process besides serving, and what it cannot be told in its call; it knows no file system.

Source: libfuse 2.9, lib/fuse_signals.c and lib/mount.c.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator

_LONGEST_COMPLAINT = 65536
_STDERR = 2


def take_back_signals() -> None:
    """libfuse ends a mount by its own handlers where there were none: a signal that nobody handles ends the process.

    By way of the C library, here and below: Python itself changes signals in its main thread only.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_DFL:
            _set_handler(number, signal.SIG_DFL)


def take_back_broken_pipes() -> None:
    """At its end libfuse lets SIGPIPE kill the process again, although Python had ignored it, not libfuse."""
    _set_handler(signal.SIGPIPE, signal.SIG_IGN)


def _set_handler(number: signal.Signals, handler: signal.Handlers) -> None:
    function = ctypes.CDLL(None).signal
    function.argtypes, function.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    function(number, int(handler))


@contextlib.contextmanager
def real_user(owner: tuple[int, int] | None) -> Iterator[None]:
    """Mount for another user and group, as root: libfuse tells the kernel the real ones of the process."""
    if owner is None:
        yield
        return
    user, group = os.getuid(), os.getgid()
    os.setresgid(owner[1], -1, -1)
    os.setresuid(owner[0], -1, -1)
    try:
        yield
    finally:
        os.setresuid(user, -1, -1)
        os.setresgid(group, -1, -1)


@contextlib.contextmanager
def complaints() -> Iterator[Callable[[], str]]:
    """What the process writes to its standard error meanwhile, as one line: libfuse and fusermount give reasons only there."""
    try:
        kept = os.dup(_STDERR)
    except OSError:
        # There is none.
        yield str
        return
    reader, writer = os.pipe()
    # Whoever writes more than there is room for shall not wait for us.
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    os.dup2(writer, _STDERR)
    os.close(writer)
    try:
        yield lambda: _line(reader)
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
        os.close(reader)


def _line(reader: int) -> str:
    try:
        text = os.read(reader, _LONGEST_COMPLAINT).decode(errors="replace")
    except BlockingIOError:
        return ""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
