"""One request and its answer in HTTP/1.1 over a connected socket; it neither connects nor judges what a status means.

Only what objects need is spoken, and all of it within bounds. http.client builds a message as mail has it for every answer:
that took ten times as long as everything else about a small object. Source: RFC 9112.

A socket's time-out starts anew with every byte, so a peer that sends one byte a second would hold a thread for ever.
Here every read from the socket is counted: an average below `low_speed` bytes per second over a whole window ends the
answer with TimeoutError. The window is the socket's time-out; it begins with the request, then with the body.
"""

import re
import socket
import time
from collections.abc import Mapping
from typing import NamedTuple

# No honest server comes near this, all interim answers together.
_MAX_HEADERS = 64 * 1024
_MAX_LINE = 4096
_MAX_TRAILERS = 100
_STEP = 64 * 1024
# For a socket without a time-out, which nobody here makes; seconds.
_UNSET_TIMEOUT = 10.0
_EMPTY_LINE = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([^\r\n]*))?\r?")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r?")
_LENGTH = re.compile(r"[0-9]{1,18}")
_VISIBLE = re.compile(r"[!-~]+")
_HEADER = re.compile(r"[!-9;-~]+: [^\r\n\0]*\r\n")
_WITHOUT_BODY = {204, 304}


class _Head(NamedTuple):
    """What comes before a body. Names of headers are in lower case; several of one name are one, with commas."""

    minor: int
    status: int
    reason: str
    headers: Mapping[str, str]


class _Incoming:
    """The bytes of one answer as they leave the socket, counted against the clock."""

    def __init__(self, sock: socket.socket, low_speed: int) -> None:
        self._sock = sock
        self._low_speed = low_speed
        self._window = sock.gettimeout() or _UNSET_TIMEOUT
        self._started = time.monotonic()
        self._seen = 0
        self._room = _MAX_HEADERS
        # What was received, and how much of it has been read.
        self._data = b""
        self._position = 0

    @property
    def surplus(self) -> bool:
        """Whether there are bytes that nobody has read."""
        return self._position < len(self._data)

    def head(self) -> bytes:
        """Everything before the next empty line. Raises ConnectionResetError if there is none."""
        while (end := _EMPTY_LINE.search(self._data, self._position)) is None:
            if not self._receive_more(self._room):
                raise ConnectionResetError("hangs up before its answer")
        head = self._data[self._position : end.start()]
        self._room -= end.end() - self._position
        self._position = end.end()
        return head

    def line(self) -> bytes:
        """The next line, without its end."""
        while (end := self._data.find(b"\n", self._position)) < 0:
            if not self._receive_more(_MAX_LINE):
                raise ValueError("breaks off within a chunk")
        line, self._position = self._data[self._position : end], end + 1
        return line.removesuffix(b"\r")

    def read(self, most: int) -> bytes:
        """The next bytes; none at the end."""
        if not self.surplus:
            return self._receive(most)
        piece = self._data[self._position : self._position + most]
        self._position += len(piece)
        return piece

    def begin_body(self) -> None:
        """From here on the bytes are counted anew."""
        self._started, self._seen = time.monotonic(), 0

    def _receive_more(self, room: int) -> bool:
        """Whether more came behind what is unread, which may have `room` bytes."""
        unread = self._data[self._position :]
        if len(unread) > room:
            raise ValueError(f"has a line, or headers, that do not end within {room} bytes")
        piece = self._receive(_STEP)
        self._data, self._position = unread + piece, 0
        return bool(piece)

    def _receive(self, most: int) -> bytes:
        self._judge()
        piece = self._sock.recv(most)
        self._seen += len(piece)
        return piece

    def _judge(self) -> None:
        """At the end of a window: enough bytes and a new window begins, or it is over."""
        elapsed = time.monotonic() - self._started
        if elapsed < self._window:
            return
        if self._seen < elapsed * self._low_speed:
            raise TimeoutError(f"{self._seen} bytes in {elapsed:.1f} s, slower than {self._low_speed} bytes per second")
        self._started += elapsed
        self._seen = 0


class Answer:
    """The answer to one request, its body to be read. Names of headers are in lower case."""

    def __init__(self, incoming: _Incoming, head: _Head, *, bodiless: bool) -> None:
        self.status = head.status
        self.reason = head.reason
        self.headers = head.headers
        self._incoming = incoming
        self._chunked = not bodiless and _is_chunked(head)
        self._between_chunks = False
        # Bytes that are still to come, of the chunk where it comes in chunks; None: until the end of the connection.
        self._left = 0 if bodiless or self._chunked else _announced(head)
        self._persistent = _is_persistent(head)

    @property
    def reusable(self) -> bool:
        """Whether the connection is as it was before the request."""
        return self._persistent and self._left == 0 and not self._chunked and not self._incoming.surplus

    def read(self, count: int) -> bytes:
        """The next `count` bytes of the body, fewer only at its end. Raises ValueError or OSError.

        What came before a peer fell silent is not given out: as if nothing had come, others are asked sooner.
        """
        piece = self._some(count)
        if len(piece) == count or not piece:
            return piece
        pieces, missing = [piece], count - len(piece)
        while missing and (piece := self._some(missing)):
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces) if len(pieces) > 1 else pieces[0]

    def _some(self, most: int) -> bytes:
        """The next bytes, at most so many; none at the end."""
        if self._chunked and not self._left:
            self._next_chunk()
        if self._left == 0:
            return b""
        piece = self._incoming.read(most if self._left is None else min(most, self._left))
        if self._left is not None:
            if not piece:
                raise ValueError(f"ends {self._left} bytes early")
            self._left -= len(piece)
        return piece

    def _next_chunk(self) -> None:
        line = self._incoming.line
        if self._between_chunks and line():
            raise ValueError("a chunk is longer than announced")
        found = _CHUNK.fullmatch(line())
        if found is None:
            raise ValueError("a chunk without a length")
        self._between_chunks = True
        self._left = int(found[1], 16)
        if not self._left:
            self._chunked = False
            if not any(line() == b"" for _ in range(_MAX_TRAILERS)):
                raise ValueError("trailers without an end")


def request(method: str, target: str, host: str, lines: bytes) -> bytes:
    """A request without a body, as it is sent. Raises ValueError for a target or host that would be more than a word."""
    if not (_VISIBLE.fullmatch(target) and _VISIBLE.fullmatch(host)):
        raise ValueError(f"{target[:200]!r} at {host[:200]!r} cannot be asked for")
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n".encode() + lines + b"\r\n"


def header_lines(headers: Mapping[str, str]) -> bytes:
    """Headers as they are sent. Raises ValueError for one that would be more than a line."""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    wrong = next((line for line in lines if not _HEADER.fullmatch(line)), None)
    if wrong is not None:
        raise ValueError(f"{wrong[:200]!r} is no header")
    return "".join(lines).encode("latin-1")


def ask(sock: socket.socket, message: bytes, low_speed: int) -> Answer:
    """Send a request and read the head of its answer.

    Raises ConnectionError if the connection ends before that, TimeoutError if it takes too long or comes too slowly,
    ValueError for what is not HTTP.
    """
    sock.sendall(message)
    incoming = _Incoming(sock, low_speed)
    head = _parse(incoming.head())
    while head.status < 200:
        head = _parse(incoming.head())
    incoming.begin_body()
    return Answer(incoming, head, bodiless=message.startswith(b"HEAD ") or head.status in _WITHOUT_BODY)


def _parse(head: bytes) -> _Head:
    first, *lines = head.decode("latin-1").split("\n")
    found = _STATUS_LINE.fullmatch(first)
    if found is None:
        raise ValueError(f"does not answer as HTTP does: {first[:80]!r}")
    headers: dict[str, str] = {}
    name = ""
    for line in lines:
        if line[0] in " \t" and name:
            headers[name] += " " + line.strip()
            continue
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip()
        if not colon or name.split() != [name]:
            raise ValueError(f"answers with a line that is no header: {line[:80]!r}")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return _Head(int(found[1]), int(found[2]), (found[3] or "").strip(), headers)


def _is_chunked(head: _Head) -> bool:
    """Whether the body comes in chunks. Raises ValueError for any other coding on the way: none was asked for."""
    coding = head.headers.get("transfer-encoding", "").lower()
    if coding not in {"", "chunked"}:
        raise ValueError(f"sends transfer coding {coding[:80]!r} that nobody asked for")
    return coding == "chunked"


def _announced(head: _Head) -> int | None:
    """The length of the body, if it is announced. Raises ValueError for an announcement that is none."""
    text = head.headers.get("content-length")
    if text is None:
        return None
    values = {value.strip() for value in text.split(",")}
    if len(values) > 1 or not _LENGTH.fullmatch(text := values.pop()):
        raise ValueError(f"announces a length of {text[:80]!r}")
    return int(text)


def _is_persistent(head: _Head) -> bool:
    words = head.headers.get("connection", "" if head.minor else "close").lower()
    return "keep-alive" in words or "close" not in words
