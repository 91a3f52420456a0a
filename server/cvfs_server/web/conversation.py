"""One client's connection: its requests are read within bounds and answered in order; it opens no path by itself.

A short body travels in the same write as its head: as two writes, the second would wait for the acknowledgement of the
first. Source: FORMAT section 1.5.
"""

import email.utils
import functools
import http
import logging
import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from cvfs import __version__
from cvfs.errors import FormatError
from cvfs_server.web.files import WebFile, WebFiles
from cvfs_server.web.request import Request, parse_request

_log = logging.getLogger(__name__)
_RECEIVE = 16 * 1024
# A longer body goes from the file to the socket without passing through this process.
_ONE_WRITE = 64 * 1024
# The kernel sends at most this much at a time; 32-bit systems take no more.
_SENDFILE = 2**30
_LINGER = 1.0
_METHODS = {"GET", "HEAD"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take. `idle`: seconds for the whole head of the next request; `stall`: seconds that an answer may
    take beyond what it needs at `low_speed` bytes per second; `head`: bytes; `connections` at a time.
    """

    idle: float = 60.0
    stall: float = 30.0
    low_speed: int = 1024
    head: int = 16 * 1024
    connections: int = 512


class Conversation:
    """The requests of one connection, one after the other."""

    def __init__(
        self, connection: socket.socket, files: WebFiles, limits: Limits, count: Callable[[int], None]
    ) -> None:
        self._connection = connection
        self._files = files
        self._limits = limits
        self._count = count
        self._received = bytearray()

    def run(self) -> None:
        """Returns when the client leaves, is idle, or was told to; raises OSError if it breaks off or does not read."""
        try:
            while (head := self._next_head()) is not None:
                if not self._answer(parse_request(head)):
                    break
        except FormatError as error:
            self._refuse(None, http.HTTPStatus.BAD_REQUEST, str(error))
        self._linger()

    def _next_head(self) -> bytes | None:
        """The next head without its empty line; None if no more comes. Raises FormatError if it is too long."""
        deadline = time.monotonic() + self._limits.idle
        searched = 0
        while (end := self._received.find(b"\r\n\r\n", searched)) < 0:
            self._check_head(len(self._received))
            searched = max(0, len(self._received) - 3)
            if not self._receive(deadline):
                return None
        self._check_head(end)
        head = bytes(self._received[:end])
        del self._received[: end + 4]
        return head

    def _receive(self, deadline: float) -> bool:
        self._connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            piece = self._connection.recv(_RECEIVE)
        except TimeoutError:
            return False
        self._received += piece
        return bool(piece)

    def _check_head(self, size: int) -> None:
        if size > self._limits.head:
            raise FormatError(f"request head of more than {self._limits.head} bytes")

    def _answer(self, request: Request) -> bool:
        """Answer; whether the connection may go on."""
        _log.debug("%s %r", request.method, request.segments)
        if request.method not in _METHODS:
            return self._refuse(None, http.HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD", "Allow: GET, HEAD")
        try:
            file = self._files.open(request.segments)
        except OSError as error:
            _log.warning("cannot serve %r: %s", b"/".join(request.segments), error.strerror)
            return self._refuse(request, http.HTTPStatus.INTERNAL_SERVER_ERROR, "the file cannot be read")
        if file is None:
            return self._refuse(request, http.HTTPStatus.NOT_FOUND, "no such file")
        try:
            return self._send_file(request, file)
        finally:
            os.close(file.fd)

    def _send_file(self, request: Request, file: WebFile) -> bool:
        span = request.span(file.size)
        if span is not None and not span[1]:
            status = http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            return self._refuse(request, status, "no such range", f"Content-Range: bytes */{file.size}")
        offset, length = span or (0, file.size)
        head = _file_head(request, file, span)
        if request.method == "HEAD":
            self._send(head)
        elif length <= _ONE_WRITE:
            body = os.pread(file.fd, length, offset)
            self._send(head + body, sent=len(body))
            return request.keep_alive and len(body) == length
        else:
            self._send(head, flags=socket.MSG_MORE, sent=length)
            return self._send_body(file.fd, offset, length) and request.keep_alive
        return request.keep_alive

    def _send(self, data: bytes, flags: int = 0, sent: int = 0) -> None:
        # Counted first: whoever has read the answer finds it counted.
        self._count(sent)
        self._connection.settimeout(self._limits.stall)
        self._connection.sendall(data, flags)

    def _send_body(self, fd: int, offset: int, length: int) -> bool:
        """File to socket inside the kernel. False if the file turns out shorter than it was: nothing else fits then."""
        deadline = time.monotonic() + self._limits.stall + length / self._limits.low_speed
        end = offset + length
        while offset < end:
            try:
                sent = os.sendfile(self._connection.fileno(), fd, offset, min(end - offset, _SENDFILE))
            except BlockingIOError:
                self._wait_for_room(deadline)
                continue
            if not sent:
                return False
            offset += sent
        return True

    def _wait_for_room(self, deadline: float) -> None:
        room = select.poll()
        room.register(self._connection, select.POLLOUT)
        patience = min(deadline - time.monotonic(), self._limits.stall)
        if patience <= 0 or not room.poll(patience * 1000):
            raise TimeoutError("the client takes too long to read")

    def _refuse(self, request: Request | None, status: http.HTTPStatus, why: str, *headers: str) -> bool:
        """A short text; without a request that was understood the connection ends with it."""
        keep = request is not None and request.keep_alive
        body = f"{status.value} {status.phrase}: {why}\n".encode()
        lines = ["Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(body)}", *headers]
        head = response_head(status, lines, keep_alive=keep)
        self._send(head if request is not None and request.method == "HEAD" else head + body)
        return keep

    def _linger(self) -> None:
        """Let the client read the last answer: closing over bytes that were not read would throw it away."""
        self._connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _LINGER
        while self._receive(deadline):
            self._received.clear()
            if time.monotonic() > deadline:
                return


def _file_head(request: Request, file: WebFile, span: tuple[int, int] | None) -> bytes:
    status = http.HTTPStatus.OK
    lines = [
        f"Content-Type: {file.content_type}",
        f"Content-Length: {file.size if span is None else span[1]}",
        f"Cache-Control: max-age={file.max_age}",
        "Accept-Ranges: bytes",
    ]
    if span is not None:
        status = http.HTTPStatus.PARTIAL_CONTENT
        lines.append(f"Content-Range: bytes {span[0]}-{span[0] + span[1] - 1}/{file.size}")
    return response_head(status, lines, keep_alive=request.keep_alive)


def response_head(status: http.HTTPStatus, lines: list[str], *, keep_alive: bool) -> bytes:
    """Status line and headers, these in front of and behind `lines`, up to the empty line."""
    first = f"HTTP/1.1 {status.value} {status.phrase}"
    own = [f"Server: cvfs/{__version__}", f"Date: {_date(int(time.time()))}"]
    last = f"Connection: {'keep-alive' if keep_alive else 'close'}"
    return "\r\n".join([first, *own, *lines, last, "\r\n"]).encode()


@functools.lru_cache(maxsize=2)
def _date(now: int) -> str:
    """Proxies reckon the age of what they keep from this header."""
    return email.utils.formatdate(now, usegmt=True)
