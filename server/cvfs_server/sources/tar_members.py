"""The members of a tar archive, read from a file that can be read at every place; unpacks nothing, knows no repository.

Reads v7, ustar, pax, star and GNU archives with long names, sparse files and extended attributes. Everything is bounded, and
a broken archive is refused as a whole. The standard library's reader keeps every member and every extension header in
memory, rounds time stamps, has names as text, and needs three times as long. Source: POSIX.1-2017 pax; GNU tar manual,
appendix D.
"""

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cvfs.errors import FormatError
from cvfs_server.sources.tar_extensions import (
    MAX_EXTENSION,
    Keywords,
    Segment,
    attributes_of,
    check_segments,
    decimal,
    nanoseconds,
    parse_pax,
    sparse_of,
)

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_WINDOW = 128 * 1024
_SECOND = 10**9
_MAX_ID = 0xFFFFFFFE
_MAX_SECONDS = 2**62
# name mode uid gid size mtime checksum type link magic user group major minor prefix
_FIELDS = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_BLANK_CHECKSUM = 8 * ord(" ")
_KINDS = {
    b"0": stat.S_IFREG,
    b"\0": stat.S_IFREG,
    b"7": stat.S_IFREG,
    b"S": stat.S_IFREG,
    b"1": stat.S_IFREG,
    b"2": stat.S_IFLNK,
    b"3": stat.S_IFCHR,
    b"4": stat.S_IFBLK,
    b"5": stat.S_IFDIR,
    b"6": stat.S_IFIFO,
    b"D": stat.S_IFDIR,
}
_EXTENSIONS = frozenset((b"x", b"X", b"g", b"L", b"K"))
_VOLUME_LABEL = b"V"
# For other types the size field says nothing of bytes behind the header.
_WITH_DATA = frozenset((b"0", b"\0", b"7", b"S", b"D", _VOLUME_LABEL)) | _EXTENSIONS
_MAX_MAP_BLOCKS = 2**14


class TarMember(NamedTuple):
    """What an archive says of one name. Names and targets are as they stand there.

    `mode` has the type bits; of a hard link, `is_link`, only the target counts. `size` is the content's length; its bytes
    are `stored` bytes from `offset` on, which belong to `segments` where the file is sparse.
    """

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    target: bytes
    is_link: bool
    device: int
    offset: int
    stored: int
    attributes: dict[bytes, bytes] | None = None
    segments: tuple[Segment, ...] | None = None


def members(descriptor: int) -> Iterator[TarMember]:
    """All members of the archive in an open regular file, in order. Raises FormatError if it is none, or is cut off."""
    return _Archive(descriptor, os.fstat(descriptor).st_size).members()


class _Header(NamedTuple):
    name: bytes
    kind: bytes
    size: int
    fields: tuple[bytes, ...]
    block: bytes


@dataclass(slots=True)
class _Extension:
    """What headers before a member say of it."""

    name: bytes = b""
    target: bytes = b""
    pax: Keywords = field(default_factory=Keywords)
    is_used: bool = False


class _Archive:
    def __init__(self, descriptor: int, length: int) -> None:
        self._descriptor = descriptor
        self._length = length
        self._start = 0
        self._window = b""
        self._everywhere: dict[str, bytes] = {}

    def members(self) -> Iterator[TarMember]:
        position, extension = 0, _Extension()
        while (header := self._header(position)) is not None:
            data = position + _BLOCK
            end = data + header.size
            if header.kind in _EXTENSIONS:
                self._extend(extension, header, data)
            elif header.kind in _KINDS:
                member = self._member(_with_pax_size(header, extension.pax), data, extension)
                end = member.offset + member.stored
                self._check_inside(member.name, end)
                yield member
                extension = _Extension()
            elif header.kind != _VOLUME_LABEL:
                raise FormatError(f"{header.name!r} is of the unknown type {header.kind!r}")
            position = end + -end % _BLOCK
        if extension.is_used:
            raise FormatError("it ends behind an extension header; it was cut off")

    def _header(self, position: int) -> _Header | None:
        block = self._read(position, _BLOCK)
        if block == _ZEROS:
            return None
        if len(block) < _BLOCK:
            raise FormatError(f"it ends at byte {self._length} without the mark of an end; it was cut off")
        fields = _FIELDS.unpack(block)
        if not _is_checked(block, fields[6]):
            raise FormatError(f"there is no tar header at byte {position}")
        kind = fields[7]
        size = _number(fields[4]) if kind in _WITH_DATA else 0
        if size < 0:
            raise FormatError(f"there is a size below zero at byte {position}")
        return _Header(_name(fields, block), kind, size, fields, block)

    def _extend(self, extension: _Extension, header: _Header, data: int) -> None:
        if header.size > MAX_EXTENSION:
            raise FormatError(f"it has an extension header of {header.size} bytes: at most {MAX_EXTENSION} are read")
        self._check_inside(header.name, data + header.size)
        text = self._read(data, header.size)
        if header.kind == b"L":
            extension.name = text.split(b"\0", 1)[0]
        elif header.kind == b"K":
            extension.target = text.split(b"\0", 1)[0]
        elif header.kind == b"g":
            self._everywhere.update(parse_pax(text).values)
            if sum(len(name) + len(value) for name, value in self._everywhere.items()) > MAX_EXTENSION:
                raise FormatError("its global extension headers are too long")
            return
        else:
            extension.pax = parse_pax(text)
        extension.is_used = True

    def _member(self, header: _Header, data: int, extension: _Extension) -> TarMember:
        member = _plain(header, data, extension)
        pax = extension.pax
        if pax.values or self._everywhere:
            member = _refined(member, {**self._everywhere, **pax.values})
        if header.kind == b"S":
            return self._with_old_map(member, header)
        sparse = sparse_of(pax, lambda offset: self._read(data + offset, _BLOCK)) if pax.values else None
        if sparse is None:
            return member
        stored = member.stored - sparse.offset
        check_segments(sparse.segments, sparse.size, stored)
        return member._replace(
            name=pax.values.get("GNU.sparse.name", member.name),
            size=sparse.size,
            offset=data + sparse.offset,
            stored=stored,
            segments=sparse.segments,
        )

    def _with_old_map(self, member: TarMember, header: _Header) -> TarMember:
        """The map of an old GNU sparse file: four segments in the header, the rest in blocks behind it."""
        block, size = header.block, _number(header.block[483:495])
        segments, more = _segments(block[386:482]), block[482]
        offset = member.offset
        while more:
            block = self._read(offset, _BLOCK)
            offset += _BLOCK
            if len(block) < _BLOCK or offset > member.offset + _MAX_MAP_BLOCKS * _BLOCK:
                raise FormatError(f"{member.name!r}: the map of a sparse file has no end")
            segments += _segments(block[:504])
            more = block[504]
        check_segments(segments, size, member.stored)
        return member._replace(size=size, offset=offset, segments=tuple(segments))

    def _check_inside(self, name: bytes, end: int) -> None:
        if end > self._length:
            raise FormatError(f"{name!r} goes beyond its last byte; it was cut off")

    def _read(self, position: int, size: int) -> bytes:
        """Bytes at a position, fewer at the end of the file."""
        index = position - self._start
        if index < 0 or index + size > len(self._window):
            self._window = _read_fully(self._descriptor, position, max(size, _WINDOW))
            self._start, index = position, 0
        return self._window[index : index + size]


def _read_fully(descriptor: int, position: int, size: int) -> bytes:
    pieces = []
    while size and (piece := os.pread(descriptor, size, position)):
        pieces.append(piece)
        position += len(piece)
        size -= len(piece)
    return b"".join(pieces)


def _plain(header: _Header, data: int, extension: _Extension) -> TarMember:
    """What the header block and GNU's long names say."""
    fields, kind = header.fields, header.kind
    name = extension.name or header.name
    type_bits = _KINDS[kind]
    # The oldest archives have no type for directories.
    if kind == b"\0" and name.endswith(b"/"):
        type_bits = stat.S_IFDIR
    target = extension.target or _text(fields[8])
    return TarMember(
        name,
        type_bits | _number(fields[1]) & 0o7777,
        _identity(_number(fields[2])),
        _identity(_number(fields[3])),
        header.size if type_bits == stat.S_IFREG else 0,
        _seconds(_number(fields[5])) * _SECOND,
        target if kind in {b"1", b"2"} else b"",
        kind == b"1",
        _device(fields) if kind in {b"3", b"4"} else 0,
        data,
        header.size,
    )


def _with_pax_size(header: _Header, pax: Keywords) -> _Header:
    # Eight gigabytes and more do not fit into the octal field.
    if "size" in pax.values and header.kind in _WITH_DATA:
        return header._replace(size=decimal(pax.values["size"]))
    return header


def _refined(member: TarMember, values: dict[str, bytes]) -> TarMember:
    """What pax keywords say better than the header block."""
    changes: dict[str, Any] = {"attributes": attributes_of(values)}
    if values.get("path"):
        changes["name"] = values["path"]
    if values.get("linkpath") and member.target:
        changes["target"] = values["linkpath"]
    for keyword in ("uid", "gid"):
        if keyword in values:
            changes[keyword] = _identity(decimal(values[keyword]))
    if "mtime" in values:
        changes["mtime_ns"] = nanoseconds(values["mtime"])
    return member._replace(**changes)


def _name(fields: tuple[bytes, ...], block: bytes) -> bytes:
    name = _text(fields[0])
    # GNU headers have other things in the place of the prefix; star's are shorter.
    if fields[9][:6] != b"ustar\0":
        return name
    prefix = _text(fields[14][:131] if block[508:] == b"tar\0" else fields[14])
    return prefix + b"/" + name if prefix else name


def _text(text: bytes) -> bytes:
    return text.split(b"\0", 1)[0]


def _number(text: bytes) -> int:
    """Octal digits, or, with the first bit set, a signed binary number."""
    if text[0] & 0x80:
        value = int.from_bytes(text, "big", signed=True)
        # The mark is not part of a positive number.
        return value if text[0] == 0xFF else value + (1 << 8 * len(text) - 1)
    digits = text.split(b"\0", 1)[0].strip()
    if not digits:
        return 0
    if not digits.isdigit():
        raise FormatError(f"{digits!r} is not an octal number")
    try:
        return int(digits, 8)
    except ValueError:
        raise FormatError(f"{digits!r} is not an octal number") from None


def _identity(number: int) -> int:
    if not 0 <= number <= _MAX_ID:
        raise FormatError(f"{number} is not the number of a user or a group")
    return number


def _seconds(number: int) -> int:
    if abs(number) > _MAX_SECONDS:
        raise FormatError(f"{number} is not a time")
    return number


def _device(fields: tuple[bytes, ...]) -> int:
    major, minor = _number(fields[12]), _number(fields[13])
    if not 0 <= major < 2**12 or not 0 <= minor < 2**20:
        raise FormatError(f"{major}, {minor} is not the number of a device")
    return os.makedev(major, minor)


def _is_checked(block: bytes, checksum: bytes) -> bool:
    digits = checksum.split(b"\0", 1)[0].strip()
    if not digits.isdigit():
        return False
    try:
        wanted = int(digits, 8)
    except ValueError:
        return False
    unsigned = sum(block) - sum(checksum) + _BLANK_CHECKSUM
    # Some old programs added signed bytes.
    return wanted == unsigned or wanted == unsigned - 256 * sum(byte > 0x7F for byte in block[:148] + block[156:])


def _segments(table: bytes) -> list[Segment]:
    """Segments of an old GNU map: offset and size of twelve bytes each, up to the first empty one."""
    found = []
    for start in range(0, len(table), 24):
        if not table[start : start + 24].strip(b"\0"):
            break
        found.append(Segment(_number(table[start : start + 12]), _number(table[start + 12 : start + 24])))
    return found
