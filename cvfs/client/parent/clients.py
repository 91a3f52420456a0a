"""A repository's client as a process of its own: started, waited for until it serves, asked to end; it mounts by itself.

It tells that it is ready as services tell systemd (sd_notify(3)), and its messages become messages of ours.
"""

import logging
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Sequence

from cvfs.errors import MountError

log = logging.getLogger(__name__)

_READY = b"READY=1"
_LONGEST = 4096
_CREDENTIALS = struct.Struct("=iII")
_ENDED_WITHIN = 5.0


class Client:
    """The process that mounts and serves one repository. `words` start it."""

    def __init__(self, fqrn: str, words: Sequence[str]) -> None:
        self.fqrn = fqrn
        self._words = words
        self._last_words = ""
        self.pid = 0
        self.descriptor = -1

    def start(self) -> socket.socket:
        """Start the process; where it will tell that it is ready. Raises MountError."""
        news = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            # An address of the kernel's choice, without a file.
            news.bind("")
            news.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._spawn("@" + news.getsockname()[1:].decode())
        except OSError as error:
            news.close()
            raise MountError(f"{self.fqrn}: no process can be started: {error.strerror}") from error
        return news

    def _spawn(self, address: str) -> None:
        self._process = subprocess.Popen(
            self._words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "NOTIFY_SOCKET": address},
            cwd="/",
            # What a terminal sends to us it does not send to them: users of a repository may need it longer.
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.descriptor = os.pidfd_open(self.pid)
        self._listener = threading.Thread(target=self._listen, name=f"client-{self.fqrn}", daemon=True)
        self._listener.start()

    def wait_ready(self, news: socket.socket, deadline: float) -> None:
        """Wait until it serves, at most until `deadline` of the monotonic clock. Raises MountError with its reason."""
        poll = select.poll()
        poll.register(news, select.POLLIN)
        poll.register(self.descriptor, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(1000 * left):
                if descriptor == self.descriptor:
                    raise MountError(self.bury())
                if _is_ready(news):
                    return
        self._process.kill()
        self.bury()
        raise MountError(f"{self.fqrn}: was not mounted in time")

    def bury(self) -> str:
        """Wait for the end of a process that has ended or was killed; its last words, or how it ended."""
        try:
            status = self._process.wait(_ENDED_WITHIN)
        except subprocess.TimeoutExpired:
            return f"{self.fqrn}: process {self.pid} does not end"
        self._listener.join(_ENDED_WITHIN)
        os.close(self.descriptor)
        self.descriptor = -1
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return self._last_words or f"{self.fqrn}: its process ended with {how}"

    def has_ended(self, timeout: float) -> bool:
        """Whether the process ends in so many seconds."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _listen(self) -> None:
        """Its messages, line by line; a line that never ends comes in parts."""
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            while line := pipe.readline(_LONGEST):
                if text := line.decode(errors="replace").strip():
                    # Told in the name of the parent, which is the same program.
                    self._last_words = text.removeprefix("cvfs: ")
                    log.info("%s", self._last_words)


def _is_ready(news: socket.socket) -> bool:
    """Whether this message says so, and comes from our own user: anybody can send to an address without a file."""
    data, ancillary, _, _ = news.recvmsg(_LONGEST, socket.CMSG_SPACE(_CREDENTIALS.size))
    senders = [
        _CREDENTIALS.unpack(body[: _CREDENTIALS.size])[1]
        for level, kind, body in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
    ]
    return senders in ([os.getuid()], [0]) and _READY in data.split(b"\n")
