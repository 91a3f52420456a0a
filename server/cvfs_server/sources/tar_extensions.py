"""What tar archives say beyond the header block: pax keywords, extended attributes, sparse files. Pure, reads no file.

Everything is bounded; what breaks a rule raises FormatError. Source: POSIX.1-2017 pax; GNU tar manual, appendix D.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from cvfs.errors import FormatError
from cvfs_server.sources.posix_acl import pack_acl

MAX_EXTENSION = 2**20
_MAX_SEGMENTS = 2**18
# A sparse file says its length itself: beyond this nobody means it.
_MAX_SPARSE = 2**44
_BLOCK = 512
_MAX_MAP_BLOCKS = 2**13
_SECOND = 10**9
_TIME = re.compile(rb"(-?)(\d{1,18})(?:\.(\d*))?")
_ATTRIBUTE = "SCHILY.xattr."
_LIBARCHIVE_ATTRIBUTE = "LIBARCHIVE.xattr."
_ACLS = {"SCHILY.acl.access": b"system.posix_acl_access", "SCHILY.acl.default": b"system.posix_acl_default"}


class Segment(NamedTuple):
    """Bytes of a sparse file that are in the archive: where they belong in the file."""

    offset: int
    size: int


class Sparse(NamedTuple):
    """A sparse file: its length, its segments, and how many bytes of the member's data are the map of them."""

    size: int
    segments: tuple[Segment, ...]
    offset: int


@dataclass(slots=True)
class Keywords:
    """The records of a pax header, later ones winning; numbers of the oldest sparse format stand in `segments`."""

    values: dict[str, bytes] = field(default_factory=dict)
    segments: list[int] = field(default_factory=list)


def parse_pax(text: bytes) -> Keywords:
    """The records `<length> <keyword>=<value>` of a pax header."""
    found, start = Keywords(), 0
    # GNU tar pads headers with zeros.
    while start < len(text) and text[start]:
        blank = text.find(b" ", start, start + 20)
        length = decimal(text[start:blank]) if blank > 0 else 0
        keyword, equals, value = text[blank + 1 : start + length - 1].partition(b"=")
        if not equals or not keyword or text[start + length - 1 : start + length] != b"\n":
            raise FormatError(f"a pax header has no record at byte {start}")
        name = keyword.decode("utf-8", "surrogateescape")
        if name in {"GNU.sparse.offset", "GNU.sparse.numbytes"}:
            found.segments.append(decimal(value))
        else:
            found.values[name] = value
        start += length
    return found


def decimal(text: bytes) -> int:
    """A number that cannot be negative."""
    if not text.isdigit() or len(text) > 20:
        raise FormatError(f"{text[:40]!r} is not a number")
    return int(text)


def nanoseconds(text: bytes) -> int:
    """A time as pax writes it, in Unix nanoseconds; finer digits are cut off."""
    found = _TIME.fullmatch(text)
    if not found:
        raise FormatError(f"{text[:40]!r} is not a time")
    value = int(found[2]) * _SECOND + int((found[3] or b"")[:9].ljust(9, b"0"))
    return -value if found[1] else value


def attributes_of(values: dict[str, bytes]) -> dict[bytes, bytes] | None:
    """The extended attributes among the keywords, access control lists included; None if there are none."""
    found: dict[bytes, bytes] = {}
    for keyword, value in values.items():
        if keyword.startswith(_LIBARCHIVE_ATTRIBUTE):
            name = unquote_to_bytes(keyword.removeprefix(_LIBARCHIVE_ATTRIBUTE).encode("utf-8", "surrogateescape"))
            # Where a program writes both, they say the same.
            found.setdefault(name, _unarmoured(value))
        elif keyword.startswith(_ATTRIBUTE):
            found[keyword.removeprefix(_ATTRIBUTE).encode("utf-8", "surrogateescape")] = value
        elif keyword in _ACLS and (packed := pack_acl(value)):
            found[_ACLS[keyword]] = packed
    return found or None


def _unarmoured(value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4))
    except binascii.Error as error:
        raise FormatError(f"an extended attribute is not in base64: {error}") from error


def sparse_of(keywords: Keywords, read: Callable[[int], bytes]) -> Sparse | None:
    """The sparse file that pax keywords describe, if they do; `read` gives the block at an offset of the member's data."""
    values = keywords.values
    size = decimal(values.get("GNU.sparse.realsize") or values.get("GNU.sparse.size") or b"0")
    if values.get("GNU.sparse.major") == b"1":
        numbers, offset = _map_in_data(read)
        return Sparse(size, _paired(numbers), offset)
    if "GNU.sparse.map" in values:
        return Sparse(size, _paired([decimal(number) for number in values["GNU.sparse.map"].split(b",") if number]), 0)
    if "GNU.sparse.size" in values:
        return Sparse(size, _paired(keywords.segments), 0)
    return None


def _map_in_data(read: Callable[[int], bytes]) -> tuple[list[int], int]:
    """The numbers of a map in front of the data: their count, then offset and size of each, a line each."""
    numbers: list[int] = []
    text = b""
    for index in range(_MAX_MAP_BLOCKS):
        *lines, text = (text + read(index * _BLOCK)).split(b"\n")
        for line in lines:
            numbers.append(decimal(line))
            if len(numbers) == 1 + 2 * numbers[0]:
                return numbers[1:], (index + 1) * _BLOCK
    raise FormatError("the map of a sparse file has no end")


def _paired(numbers: list[int]) -> tuple[Segment, ...]:
    if len(numbers) % 2 or len(numbers) > 2 * _MAX_SEGMENTS:
        raise FormatError("the map of a sparse file is broken")
    return tuple(Segment(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True))


def check_segments(segments: Iterable[Segment], size: int, stored: int) -> None:
    """Refuse segments that are not in order, not within the file, or not all of what is stored."""
    end = total = 0
    for segment in segments:
        if segment.size < 0 or segment.offset < end or segment.offset + segment.size > size:
            raise FormatError("the map of a sparse file is broken")
        end = segment.offset + segment.size
        total += segment.size
    if total != stored or not 0 <= size <= _MAX_SPARSE:
        raise FormatError("the map of a sparse file does not fit its data")
