"""Catalog rows as a mount remembers them: a tenth of a kilobyte instead of half a one, for each number in use; pure.

The name is left out: who remembers a row knows its path.
"""

import struct
from functools import lru_cache

from cvfs.format.dirent import DirectoryEntry
from cvfs.hashes import DIGEST_SIZE

# Kind, mode, size, mtime, nanoseconds, user, group, hard links, flags, length of the link's target.
_HEAD = struct.Struct("<BHIIIIIIIH")
_MODE = 1
_DIGEST, _EMPTY_DIGEST, _XATTR = 1, 2, 4
_NO_NANOSECONDS = 2**32 - 1
# Decoding takes a microsecond; what is being read or looked at is decoded once.
_DECODED_AT_HAND = 1024

PackedRow = bytes | DirectoryEntry
"""The few rows that do not fit (hard links, files of 4 GiB, times before 1970) stay as they are, without their names."""


def pack(entry: DirectoryEntry) -> PackedRow:
    """The short form of a row. Equal rows have equal short forms, whatever their names."""
    _, mode, size, mtime, mtime_ns, uid, gid, hardlinks, digest, flags, symlink, xattr = entry
    kind = 0 if xattr is None else _XATTR
    if digest is not None:
        if digest and len(digest) != DIGEST_SIZE:
            return entry._replace(name=b"")
        kind |= _DIGEST if digest else _EMPTY_DIGEST
    nanoseconds = _NO_NANOSECONDS if mtime_ns is None else mtime_ns
    try:
        head = _HEAD.pack(kind, mode, size, mtime, nanoseconds, uid, gid, hardlinks, flags, len(symlink))
    except struct.error:
        return entry._replace(name=b"")
    if digest and kind == _DIGEST and not symlink:
        return head + digest
    return b"".join((head, digest or b"", symlink, xattr or b""))


def mode_of(row: PackedRow) -> int:
    """Type and permissions."""
    return row[_MODE] | row[_MODE + 1] << 8 if isinstance(row, bytes) else row.mode


def has_attributes(row: PackedRow) -> bool:
    """Whether the row has extended attributes, without decoding it."""
    return bool(row[0] & _XATTR) if isinstance(row, bytes) else row.xattr is not None


def unpack(row: PackedRow) -> DirectoryEntry:
    """The row again, its name empty."""
    return _decode(row) if isinstance(row, bytes) else row


@lru_cache(_DECODED_AT_HAND)
def _decode(row: bytes) -> DirectoryEntry:
    kind, mode, size, mtime, nanoseconds, uid, gid, hardlinks, flags, target = _HEAD.unpack_from(row)
    start = _HEAD.size
    digest = b"" if kind & _EMPTY_DIGEST else None
    if kind & _DIGEST:
        digest = row[start : start + DIGEST_SIZE]
        start += DIGEST_SIZE
    symlink = row[start : start + target]
    xattr = row[start + target :] if kind & _XATTR else None
    mtime_ns = None if nanoseconds == _NO_NANOSECONDS else nanoseconds
    return DirectoryEntry(b"", mode, size, mtime, mtime_ns, uid, gid, hardlinks, digest, flags, symlink, xattr)
