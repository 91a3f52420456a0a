"""A process that says when it is ready, as services tell systemd (sd_notify(3)): waited for, or said; it starts none."""

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Self

from cvfs.kernel.processes import has_ended

VARIABLE = "NOTIFY_SOCKET"
"""The variable by which a process hears where somebody wants to know."""

_READY = b"READY=1"
_LONGEST = 4096
_PAUSE = 0.05
_CREDENTIALS = struct.Struct("=iII")


class Readiness:
    """Where a process that is about to be started will say that it is ready; its VARIABLE is to be `address`."""

    def __init__(self, news: socket.socket) -> None:
        self._news = news
        # An address of the kernel's choice, without a file.
        self.address = "@" + news.getsockname()[1:].decode()

    @classmethod
    def listen(cls) -> Self:
        """From here on it may be said. Raises OSError."""
        news = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            news.bind("")
            news.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            return cls(news)
        except OSError:
            news.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._news.close()

    def wait(self, pid: int, deadline: float) -> bool:
        """Wait until it is said, at most until `deadline` of the monotonic clock; False if it was not in time.

        Nor is it waited for if the process, a child, has ended.
        """
        poll = select.poll()
        poll.register(self._news, select.POLLIN)
        with _end_of(pid) as end:
            if end is not None:
                poll.register(end, select.POLLIN)
            while (left := deadline - time.monotonic()) > 0:
                for descriptor, _ in poll.poll(1000 * (left if end is not None else min(left, _PAUSE))):
                    if descriptor != end and self._is_said():
                        return True
                if has_ended(pid, 0):
                    return False
        return False

    def _is_said(self) -> bool:
        """Whether this message says so, and comes from our own user: anybody can send to an address without a file."""
        data, ancillary, _, _ = self._news.recvmsg(_LONGEST, socket.CMSG_SPACE(_CREDENTIALS.size))
        senders = [
            _CREDENTIALS.unpack(body[: _CREDENTIALS.size])[1]
            for level, kind, body in ancillary
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
        ]
        return senders in ([os.getuid()], [0]) and _READY in data.split(b"\n")


@contextlib.contextmanager
def _end_of(pid: int) -> Iterator[int | None]:
    """A descriptor that can be read when the process has ended; None where the kernel has no such thing."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def tell_ready(environment: Mapping[str, str]) -> None:
    """Say so, if anybody wants to hear it; who has gone away in between is told nothing."""
    address = environment.get(VARIABLE, "")
    if not address.startswith(("/", "@")):
        return
    # An address that begins with @ has no file.
    place = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as news:
        news.setblocking(False)
        news.sendto(_READY, place)
