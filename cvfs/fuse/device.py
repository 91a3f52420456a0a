"""The FUSE device as the channel of one mount: requests in, replies out; it never interprets a request."""

import errno
import os
import select
import time
from typing import Self

from cvfs.fuse import abi

BUFFER_SIZE = 1 << 16
"""Bytes of the receive buffer. The kernel demands 8 KiB; a larger one takes more forgotten nodes at a time."""

# Seconds. To be woken takes a virtual machine as long as to answer a look-up; a program that looks up names asks again sooner.
_WATCHED = 50e-6
_SOON = 100e-6

_GONE = frozenset({errno.ENODEV, errno.EBADF, errno.ECONNABORTED, errno.ENOTCONN, errno.EPIPE, errno.ECONNRESET})


class Channel:
    """Requests in, replies and notifications out. One thread receives; any thread may write: a message is one call.

    While requests follow each other closely it looks for the next one for a moment before it sleeps: not where there is
    but one processor, and not again once nothing came in that moment, until one came soon after it had gone to sleep.
    """

    def __init__(self, descriptor: int, bell: int) -> None:
        self._descriptor = descriptor
        self._bell = bell
        self.buffer = bytearray(BUFFER_SIZE)
        self._vector = [self.buffer]
        self._poll = select.poll()
        self._may_watch = len(os.sched_getaffinity(0)) > 1
        self._brisk = False

    @classmethod
    def open(cls, descriptor: int) -> Self:
        """A channel over the descriptor of a mount, which it owns from here on; closed if there can be no channel."""
        try:
            channel = cls(descriptor, os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        except OSError:
            os.close(descriptor)
            raise
        # A read that blocks could not be woken by `wake`. Trying first and waiting second costs nothing under load.
        os.set_blocking(descriptor, False)
        channel._poll.register(descriptor, select.POLLIN)
        channel._poll.register(channel._bell, select.POLLIN)
        return channel

    def receive(self, *, alert: bool = False) -> int:
        """Wait for a request; its length in `buffer`, or 0 when the mount is gone or `wake` was called.

        `alert` says that no other thread is at work on a request: watching would take the interpreter from it.
        """
        while True:
            watching = alert and self._brisk
            try:
                if (length := self._look(watching=watching)) is not None:
                    return length
            except OSError as error:
                if error.errno in _GONE:
                    return 0
                # ENOENT: the request was taken back by a signal before it could be read.
                if error.errno != errno.ENOENT:
                    raise
            if not self._sleep(watched=watching):
                return 0

    def _look(self, *, watching: bool) -> int | None:
        """The length of a request; None if there is none, or while this was watching none came. Raises OSError."""
        until = 0.0
        while True:
            try:
                return os.readv(self._descriptor, self._vector)
            except BlockingIOError:
                if not watching:
                    return None
                now = time.monotonic()
                until = until or now + _WATCHED
                if now > until:
                    return None

    def _sleep(self, *, watched: bool) -> bool:
        """Until there is a request; False if `wake` was called. Who `watched` in vain does not begin again at once."""
        began = time.monotonic()
        ready = self._poll.poll()
        self._brisk = self._may_watch and not watched and time.monotonic() - began < _SOON
        return len(ready) == 1 and ready[0][0] != self._bell

    def wake(self) -> None:
        """Make `receive` return, now and from now on. For any thread and for signal handlers."""
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def reply(self, unique: int, payload: abi.Message) -> bool:
        """Answer a request; False if nobody waits for it any more. Raises OSError."""
        return self._write((abi.OUT_HEADER.pack(16 + len(payload), 0, unique), payload))

    def reply_error(self, unique: int, code: int) -> bool:
        """Answer a request with a positive errno; False if nobody waits for it any more. Raises OSError."""
        return self._write((abi.OUT_HEADER.pack(16, -code, unique),))

    def notify(self, message: bytes) -> bool:
        """Tell the kernel something; False if the mount is gone or has nothing of that name. Raises OSError.

        May block as long as a request on the same directory is in flight: never call it from the receiving thread.
        """
        return self._write((message,))

    def _write(self, parts: tuple[abi.Message, ...]) -> bool:
        try:
            os.writev(self._descriptor, parts)
        except OSError as error:
            # ENOENT: the request was aborted, or (for a notification) the kernel does not know the node.
            if error.errno == errno.ENOENT or error.errno in _GONE:
                return False
            raise
        return True

    def abandon(self) -> None:
        """Let go of the device although somebody may be about to write to it. Raises OSError.

        The number of the descriptor stays taken: a late reply must not end up in a file that was opened meanwhile.
        """
        if self._descriptor >= 0:
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, self._descriptor, inheritable=False)
            os.close(nowhere)
            self._descriptor = -1
        self.close()

    def close(self) -> None:
        """Let go of the device, which ends the mount, once nobody writes to it. Idempotent; a later reply is dropped."""
        closed = (self._descriptor, self._bell)
        self._descriptor = self._bell = -1
        for descriptor in closed:
            if descriptor >= 0:
                os.close(descriptor)
