"""HTTP connections that give up on a peer that dribbles; this module sends and decides nothing itself.

A socket's time-out starts anew with every byte, so a peer that sends one byte a second would hold a thread for ever.
Here every read from the socket is counted: an average below `low_speed` bytes per second over a whole window, which is
the connection's read time-out, ends the response with TimeoutError, while its headers are read as well as in its body.
"""

import functools
import http.client
import io
import socket
import time
from typing import Any, cast

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

# http.client allows 100 header lines of 64 KiB and any number of "100 Continue" answers: no honest server comes near this.
_MAX_HEADERS = 256 * 1024


class _PacedReader(io.RawIOBase):
    """The bytes of one response as they leave the socket, counted against the clock."""

    def __init__(self, source: io.RawIOBase, window: float, low_speed: int) -> None:
        self._source = source
        self._window = window
        self._low_speed = low_speed
        self._started = time.monotonic()
        self._seen = 0
        self.header_room: int | None = _MAX_HEADERS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._judge()
        count = self._source.readinto(buffer) or 0
        self._seen += count
        if self.header_room is not None:
            self.header_room -= count
            if self.header_room < 0:
                raise TimeoutError(f"its headers do not end within {_MAX_HEADERS} bytes")
        return count

    def close(self) -> None:
        self._source.close()
        super().close()

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
        window = sock.gettimeout() or socket.getdefaulttimeout() or 10.0
        source = cast("io.RawIOBase", sock.makefile("rb", buffering=0))
        self.reader = _PacedReader(source, window, low_speed)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self.reader, 64 * 1024)


class _PacedResponse(http.client.HTTPResponse):
    """A response read through a paced reader."""

    def __init__(self, sock: socket.socket, low_speed: int, **options: Any) -> None:
        paced = _PacedFile(sock, low_speed)
        self._reader = paced.reader
        super().__init__(cast("socket.socket", paced), **options)

    def begin(self) -> None:
        super().begin()
        self._reader.header_room = None


def pool_classes(low_speed: int) -> dict[str, type[HTTPConnectionPool]]:
    """Connection pools, by URL scheme, whose responses must not be slower than `low_speed` bytes per second."""
    return {
        "http": _paced_pool(HTTPConnectionPool, HTTPConnection, low_speed),
        "https": _paced_pool(HTTPSConnectionPool, HTTPSConnection, low_speed),
    }


def _paced_pool(
    pool: type[HTTPConnectionPool], connection: type[HTTPConnection], low_speed: int
) -> type[HTTPConnectionPool]:
    respond = staticmethod(functools.partial(_PacedResponse, low_speed=low_speed))
    paced = type(f"Paced{connection.__name__}", (connection,), {"response_class": respond})
    return type(f"Paced{pool.__name__}", (pool,), {"ConnectionCls": paced})
