"""HTTP connections that give up on a peer that dribbles; this module sends nothing itself.

A socket's time-out starts anew with every byte, so a peer that sends one byte a second would hold a thread for ever.
Here every read from the socket is counted: an average below `low_speed` bytes per second over a whole window ends the
response with TimeoutError. The window is the connection's read time-out; it begins with the headers, then with the body.
"""

import functools
import http.client
import io
import socket
import time
from typing import Any, cast

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from cvfs.store.dial import dial
from cvfs.store.names import Names

# http.client allows 100 header lines of 64 KiB and any number of "100 Continue" answers: no honest server comes near this.
_MAX_HEADERS = 256 * 1024
# For a socket without a time-out, which nobody here makes; seconds.
_UNSET_TIMEOUT = 10.0


class _PacedReader(io.RawIOBase):
    """The bytes of one response as they leave the socket, counted against the clock."""

    def __init__(self, source: io.RawIOBase, window: float, low_speed: int) -> None:
        self._source = source
        self._window = window
        self._low_speed = low_speed
        self._started = time.monotonic()
        self._seen = 0
        self._header_room: int | None = _MAX_HEADERS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._judge()
        count = self._source.readinto(buffer) or 0
        self._seen += count
        if self._header_room is not None:
            self._header_room -= count
            if self._header_room < 0:
                raise TimeoutError(f"its headers do not end within {_MAX_HEADERS} bytes")
        return count

    def close(self) -> None:
        self._source.close()
        super().close()

    def end_headers(self) -> None:
        """From here on the bytes are counted anew, and there may be any number."""
        self._header_room = None
        self._started = time.monotonic()
        self._seen = 0

    def _judge(self) -> None:
        """At the end of a window: enough bytes and a new window begins, or it is over."""
        elapsed = time.monotonic() - self._started
        if elapsed < self._window:
            return
        if self._seen < elapsed * self._low_speed:
            raise TimeoutError(f"{self._seen} bytes in {elapsed:.1f} s, slower than {self._low_speed} bytes per second")
        self._started += elapsed
        self._seen = 0


class _PacedFile:
    """What http.client takes for a socket: all it asks of it is a file to read from."""

    def __init__(self, sock: socket.socket, low_speed: int) -> None:
        source = cast("io.RawIOBase", sock.makefile("rb", buffering=0))
        self.reader = _PacedReader(source, sock.gettimeout() or _UNSET_TIMEOUT, low_speed)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self.reader, 64 * 1024)


class _PacedResponse(http.client.HTTPResponse):
    """A response read through a paced reader."""

    def __init__(self, sock: socket.socket, low_speed: int, **options: Any) -> None:
        self._paced = _PacedFile(sock, low_speed)
        super().__init__(cast("socket.socket", self._paced), **options)

    def begin(self) -> None:
        super().begin()
        self._paced.reader.end_headers()


def pool_classes(names: Names, low_speed: int) -> dict[str, type[HTTPConnectionPool]]:
    """Connection pools, by URL scheme, whose connections are dialled by name and whose responses are not slower."""
    return {
        "http": _paced_pool(HTTPConnectionPool, HTTPConnection, names, low_speed),
        "https": _paced_pool(HTTPSConnectionPool, HTTPSConnection, names, low_speed),
    }


def _paced_pool(
    pool: type[HTTPConnectionPool], connection: type[HTTPConnection], names: Names, low_speed: int
) -> type[HTTPConnectionPool]:
    def connect(self: HTTPConnection) -> socket.socket:
        within = self.timeout if isinstance(self.timeout, (int, float)) else _UNSET_TIMEOUT
        return dial(names, self._dns_host, self.port, within, self.socket_options or ())

    respond = staticmethod(functools.partial(_PacedResponse, low_speed=low_speed))
    paced = type(f"Paced{connection.__name__}", (connection,), {"response_class": respond, "_new_conn": connect})
    return type(f"Paced{pool.__name__}", (pool,), {"ConnectionCls": paced})
