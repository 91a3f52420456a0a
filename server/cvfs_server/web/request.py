"""The head of an HTTP/1 request as a value, its target as path segments, its range; pure, and opens no file.

A request that could be read in two ways, or that has a body, is refused whole: what follows it on the connection would be
uncertain. Source: FORMAT section 1.5.
"""

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from cvfs.errors import FormatError

MAX_HEADERS = 100
_VERSIONS = {b"HTTP/1.0", b"HTTP/1.1"}
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"(?:[Hh][Tt][Tt][Pp]://[^/?]*)?(/[^?#]*)(?:\?.*)?", re.DOTALL)
# Eighteen digits are more than any file has, and int() takes its time over thousands of them.
_RANGE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. `segments` are decoded and safe to join; they are empty where no file can have such a name."""

    method: str
    segments: tuple[bytes, ...]
    headers: Mapping[bytes, bytes]
    keep_alive: bool

    def span(self, size: int) -> tuple[int, int] | None:
        """Offset and length of the part that is asked for of a file of `size` bytes; None for all of it.

        A length of 0 means that the file has no such part. Several ranges, or one that depends on a version of the
        file, are answered with the whole, as the protocol allows.
        """
        wanted = self.headers.get(b"range")
        if wanted is None or self.method != "GET" or b"if-range" in self.headers:
            return None
        return _span(wanted, size)


def parse_request(head: bytes) -> Request:
    """The request whose head, up to the empty line, is given. Raises FormatError."""
    line, *rest = head.split(b"\r\n")
    method, target, version = _request_line(line)
    headers = _headers(rest)
    if b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0":
        raise FormatError("request with a body, none is read here")
    return Request(method, path_segments(target), headers, _keep_alive(version, headers))


def path_segments(target: bytes) -> tuple[bytes, ...]:
    """The components of the path of a request target; none at all if no published file can be meant."""
    match = _TARGET.fullmatch(target)
    if match is None:
        return ()
    path = urllib.parse.unquote_to_bytes(match[1])
    # Clients join a base URL that may end in a slash with a path that begins with one.
    segments = tuple(segment for segment in path.split(b"/") if segment)
    impossible = path.endswith(b"/") or b"\0" in path or not {b".", b".."}.isdisjoint(segments)
    return () if impossible else segments


def _request_line(line: bytes) -> tuple[str, bytes, bytes]:
    words = line.split(b" ")
    if len(words) != 3 or not _TOKEN.fullmatch(words[0]) or not words[1] or words[2] not in _VERSIONS:
        raise FormatError(f"request line {line[:80]!r} is not of HTTP/1.0 or HTTP/1.1")
    return words[0].decode(), words[1], words[2]


def _headers(lines: list[bytes]) -> dict[bytes, bytes]:
    """Values by lower-case name; one that is given several times is joined with commas."""
    if len(lines) > MAX_HEADERS:
        raise FormatError(f"request with {len(lines)} headers, at most {MAX_HEADERS} are read")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or b"\0" in line or b"\n" in line:
            raise FormatError(f"request header {line[:80]!r} is none")
        key, value = name.lower(), value.strip(b" \t")
        headers[key] = headers[key] + b"," + value if key in headers else value
    return headers


def _keep_alive(version: bytes, headers: Mapping[bytes, bytes]) -> bool:
    options = {option.strip() for option in headers.get(b"connection", b"").lower().split(b",")}
    return b"close" not in options and (version == b"HTTP/1.1" or b"keep-alive" in options)


def _span(wanted: bytes, size: int) -> tuple[int, int] | None:
    match = _RANGE.fullmatch(wanted)
    if match is None or match[0] == b"bytes=-":
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        return size - length, length
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    if match[2] and int(match[2]) < first:
        return None
    return first, max(0, last - first + 1)
