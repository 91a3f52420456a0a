"""Packed extended attributes of a catalog row; pure. Source: FORMAT section 5.7.

A list that breaks a rule is refused whole; a reader then shows the file without attributes (`stored_attributes`).
"""

from collections.abc import Mapping

from cvfs.errors import FormatError

VERSION = 1
# Lengths and the count are single bytes.
MAX_LENGTH = 255


def fits(key: bytes, value: bytes) -> bool:
    """Whether the format can hold this attribute."""
    return 0 < len(key) <= MAX_LENGTH and b"\0" not in key and len(value) <= MAX_LENGTH


def pack(attributes: Mapping[bytes, bytes]) -> bytes | None:
    """The blob for the column `xattr`, None for no attributes. Raises FormatError for what the format cannot hold."""
    if not attributes:
        return None
    if len(attributes) > MAX_LENGTH:
        raise FormatError(f"{len(attributes)} extended attributes: at most {MAX_LENGTH} can be stored")
    packed = bytearray((VERSION, len(attributes)))
    for key, value in sorted(attributes.items()):
        if not fits(key, value):
            raise FormatError(
                f"extended attribute {key[:80]!r}: name 1 to {MAX_LENGTH} bytes, value up to {MAX_LENGTH}"
            )
        packed += bytes((len(key), len(value))) + key + value
    return bytes(packed)


def unpack(blob: bytes) -> dict[bytes, bytes]:
    """Values by full name. Raises FormatError for a list that readers must refuse; bytes behind it are ignored."""
    if len(blob) < 2 or blob[0] != VERSION:
        raise FormatError("extended attributes: not a list of version 1")
    attributes = {}
    start = 2
    for _ in range(blob[1]):
        middle, end = _extent(blob, start)
        key = blob[start + 2 : middle]
        if not key or b"\0" in key:
            raise FormatError("extended attributes: an empty name or a NUL in a name")
        attributes[key] = blob[middle:end]
        start = end
    return attributes


def stored_attributes(column: bytes | None) -> dict[bytes, bytes]:
    """What a reader shows for the column `xattr`: nothing if it is NULL or breaks a rule."""
    if column is None:
        return {}
    try:
        return unpack(column)
    except FormatError:
        return {}


def _extent(blob: bytes, start: int) -> tuple[int, int]:
    """Where the value of the attribute at `start` begins and ends."""
    if start + 2 > len(blob):
        raise FormatError("extended attributes: the list is cut off")
    middle = start + 2 + blob[start]
    end = middle + blob[start + 1]
    if end > len(blob):
        raise FormatError("extended attributes: a length runs over the end")
    return middle, end
