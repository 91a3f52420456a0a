"""Messages to the local syslog daemon, as datagrams that hold up nobody; nothing is written to a file."""

import logging
import os
import socket

from cvfs.client.observe.log_ring import plain

SYSLOG = "/dev/log"

_LOCAL0 = 16
# CVMFS_SYSLOG_LEVEL says with which priority messages are sent that report no trouble.
_PRIORITIES = {1: 7, 2: 6, 3: 5}
_ERROR, _WARNING, _DEBUG = 3, 4, 7


class Syslog(logging.Handler):
    """Sends messages to the local syslog daemon as datagrams; counts those that nobody took."""

    def __init__(self, prefix: str, level: int = 3, facility: int = 5, address: str = SYSLOG) -> None:
        super().__init__(logging.INFO)
        self._prefix = prefix
        self._notice = _PRIORITIES[level]
        self._facility = _LOCAL0 + facility
        self._address = address
        self._socket: socket.socket | None = None
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send one; a daemon that was started anew is found at the second try."""
        tag = f"<{self._facility * 8 + self._priority(record)}>cvfs[{os.getpid()}]: ({self._prefix}) "
        data = (tag + plain(record)).encode(errors="replace")[:8000]
        for _ in range(2):
            try:
                self._connected().send(data)
            except OSError:
                self.close_socket()
            else:
                return
        self.dropped += 1

    def _priority(self, record: logging.LogRecord) -> int:
        if record.levelno >= logging.ERROR:
            return _ERROR
        if record.levelno >= logging.WARNING:
            return _WARNING
        return self._notice if record.levelno >= logging.INFO else _DEBUG

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            self._socket.connect(self._address)
        return self._socket

    def close_socket(self) -> None:
        """Let go of the daemon."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        self.close_socket()
        super().close()
