"""One row of a catalog: what is known of a directory entry. Pure. Source: FORMAT sections 5.2, 5.4 to 5.6."""

import enum
import stat
from typing import NamedTuple, TypeVar

from cvfs.compression import Compression
from cvfs.errors import FormatError
from cvfs.hashes import DIGEST_SIZE, Algorithm, ContentHash, ObjectKind

HASH_SHIFT = 8
COMPRESSION_SHIFT = 11
_CODE_MASK = 7
_GROUP_SHIFT = 32
MOST_LINKS = 2**32 - 1
"""What the lower half of `hardlinks` holds; the number of a group lies above it."""


class Flag(enum.IntFlag):
    """Bits of the column `flags` (section 5.4); the codes of hash and compression lie between them."""

    DIRECTORY = 0x1
    NESTED_MOUNTPOINT = 0x2
    FILE = 0x4
    LINK = 0x8
    SPECIAL = 0x10
    NESTED_ROOT = 0x20
    CHUNKED = 0x40
    EXTERNAL = 0x80
    BIND_MOUNTPOINT = 0x4000
    HIDDEN = 0x8000
    DIRECT_IO = 0x10000


# Plain integers for the hot paths: an IntFlag operation costs a microsecond.
_DIRECTORY, _MOUNTPOINT, _NESTED_ROOT = int(Flag.DIRECTORY), int(Flag.NESTED_MOUNTPOINT), int(Flag.NESTED_ROOT)
_CHUNKED, _EXTERNAL, _BIND = int(Flag.CHUNKED), int(Flag.EXTERNAL), int(Flag.BIND_MOUNTPOINT)
_HIDDEN, _DIRECT_IO = int(Flag.HIDDEN), int(Flag.DIRECT_IO)


class DirectoryEntry(NamedTuple):
    """A directory entry with the columns of its catalog row, in the order in which they are selected.

    `size` is the content's length in bytes, a device number for devices; `mtime_ns` is None if unknown; `hardlinks`
    packs group and link count; `digest` is None (empty in old catalogs) where there is no whole-file object; `xattr`
    is the packed list.
    """

    name: bytes
    mode: int
    size: int
    mtime: int
    mtime_ns: int | None
    uid: int
    gid: int
    hardlinks: int
    digest: bytes | None
    flags: int
    symlink: bytes = b""
    xattr: bytes | None = None

    @property
    def linkcount(self) -> int:
        """Number of names; at least 1."""
        return self.hardlinks & MOST_LINKS or 1

    @property
    def hardlink_group(self) -> int:
        """Number of the hard-link group within its catalog; 0 means none."""
        return self.hardlinks >> _GROUP_SHIFT

    @property
    def algorithm(self) -> Algorithm:
        """Hash algorithm of the content and its chunks."""
        return _code(Algorithm, self.flags >> HASH_SHIFT & _CODE_MASK)

    @property
    def compression(self) -> Compression:
        """Stored form of the content and its chunks."""
        return _code(Compression, self.flags >> COMPRESSION_SHIFT & _CODE_MASK)

    @property
    def content(self) -> ContentHash | None:
        """Hash of the whole-file object, if there is one. Raises FormatError for a digest of the wrong length."""
        if not self.digest:
            return None
        if len(self.digest) != DIGEST_SIZE:
            raise FormatError(f"{self.name!r} has a content hash of {len(self.digest)} bytes")
        return ContentHash(self.algorithm, self.digest, ObjectKind.FILE)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_device(self) -> bool:
        return stat.S_ISBLK(self.mode) or stat.S_ISCHR(self.mode)

    @property
    def is_mountpoint(self) -> bool:
        """A nested catalog starts here, and this is the parent's row."""
        return bool(self.flags & _MOUNTPOINT)

    @property
    def is_nested_root(self) -> bool:
        """The first row of a nested catalog."""
        return bool(self.flags & _NESTED_ROOT)

    @property
    def is_bind_mountpoint(self) -> bool:
        return bool(self.flags & _BIND)

    @property
    def is_chunked(self) -> bool:
        return bool(self.flags & _CHUNKED)

    @property
    def is_external(self) -> bool:
        return bool(self.flags & _EXTERNAL)

    @property
    def is_hidden(self) -> bool:
        return bool(self.flags & _HIDDEN)

    @property
    def is_direct_io(self) -> bool:
        return bool(self.flags & _DIRECT_IO)


class Chunk(NamedTuple):
    """One piece of a chunked file: where it lies in the file, its length in bytes and the digest of its object."""

    offset: int
    size: int
    digest: bytes

    def content(self, entry: DirectoryEntry) -> ContentHash:
        """Hash of the chunk's object; the algorithm is the file's."""
        if len(self.digest) != DIGEST_SIZE:
            raise FormatError(f"a chunk of {entry.name!r} has a hash of {len(self.digest)} bytes")
        return ContentHash(entry.algorithm, self.digest, ObjectKind.CHUNK)


def pack_hardlinks(group: int, count: int) -> int:
    """Group and link count as the column holds them (section 5.6)."""
    return group << _GROUP_SHIFT | count


def type_flags(mode: int) -> Flag:
    """The type bits that belong to a mode: everything but directories is also a file (section 5.4)."""
    if stat.S_ISDIR(mode):
        return Flag.DIRECTORY
    if stat.S_ISREG(mode):
        return Flag.FILE
    if stat.S_ISLNK(mode):
        return Flag.FILE | Flag.LINK
    return Flag.FILE | Flag.SPECIAL


def content_flags(algorithm: Algorithm, compression: Compression) -> int:
    """The two codes of a regular file's content, shifted to their places."""
    return algorithm << HASH_SHIFT | compression << COMPRESSION_SHIFT


_Code = TypeVar("_Code", Algorithm, Compression)


def _code(kind: type[_Code], value: int) -> _Code:
    try:
        return kind(value)
    except ValueError as error:
        raise FormatError(f"unknown {kind.__name__.lower()} code {value} in a catalog") from error
