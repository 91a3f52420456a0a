"""The messages of the kernel's FUSE protocol (linux/fuse.h, 7.26 to 7.45) as values; it never does input or output.

Everything is in the byte order of the host. All structures are naturally aligned, so the standard sizes of `struct`
need no padding. Parsers raise `struct.error` for a message that is too short.
"""

import math
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple

from cvfs.attributes import Attributes, FilesystemSize

VERSION = 7
OLDEST_MINOR = 26
NEWEST_MINOR = 45
PRUNE_MINOR = 45
ROOT = 1
BLOCK_SIZE = 4096

Message = bytes | bytearray | memoryview


class Opcode(IntEnum):
    """What a request asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


WRITE_OPCODES = frozenset(
    {
        Opcode.SETATTR,
        Opcode.SYMLINK,
        Opcode.MKNOD,
        Opcode.MKDIR,
        Opcode.UNLINK,
        Opcode.RMDIR,
        Opcode.RENAME,
        Opcode.LINK,
        Opcode.WRITE,
        Opcode.SETXATTR,
        Opcode.REMOVEXATTR,
        Opcode.CREATE,
        Opcode.FALLOCATE,
        Opcode.RENAME2,
        Opcode.COPY_FILE_RANGE,
        Opcode.TMPFILE,
        Opcode.COPY_FILE_RANGE_64,
    }
)


class Init(IntFlag):
    """Abilities that INIT negotiates: the kernel offers, the server takes."""

    ASYNC_READ = 1 << 0
    EXPORT_SUPPORT = 1 << 4
    DO_READDIRPLUS = 1 << 13
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    POSIX_ACL = 1 << 20
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24


class Open(IntFlag):
    """How the kernel shall treat an open file."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    CACHE_DIR = 1 << 3


class Notify(IntEnum):
    """Messages that the server sends unasked."""

    INVAL_INODE = 2
    INVAL_ENTRY = 3
    PRUNE = 9


# Length, opcode, unique, node, user, group, process, extension length, padding.
IN_HEADER = struct.Struct("=IIQQIIIHH")
REQUEST = struct.Struct("=IIQQ")
GROUP = struct.Struct("=I")
GROUP_OFFSET = 28
OUT_HEADER = struct.Struct("=IiQ")
INIT_IN = struct.Struct("=IIII")
INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
# Times are signed: the kernel reads them as s64, and files older than 1970 exist.
ATTR = struct.Struct("=QQQqqqIIIIIIIIII")
ENTRY_OUT = struct.Struct("=QQQQII" + ATTR.format[1:])
ATTR_OUT = struct.Struct("=QII" + ATTR.format[1:])
OPEN_IN = struct.Struct("=II")
OPEN_OUT = struct.Struct("=QII")
READ_IN = struct.Struct("=QQIIQII")
FORGET_IN = struct.Struct("=Q")
FORGET_ONE = struct.Struct("=QQ")
BATCH_FORGET_IN = struct.Struct("=II")
GETXATTR_IN = struct.Struct("=II")
GETXATTR_OUT = struct.Struct("=II")
INTERRUPT_IN = struct.Struct("=Q")
STATFS_OUT = struct.Struct("=QQQQQIIII24x")
DIRENT = struct.Struct("=QQII")
INVAL_INODE_OUT = struct.Struct("=Qqq")
INVAL_ENTRY_OUT = struct.Struct("=QII")
PRUNE_OUT = struct.Struct("=IIQ")

BODY = IN_HEADER.size
DIRENTPLUS_SIZE = ENTRY_OUT.size + DIRENT.size
LARGEST_RECORD = DIRENTPLUS_SIZE + 256
"""Bytes of the longest entry. The kernel offers a page or more; with less room an empty reply, which means the end of
the directory, could stand for an entry that did not fit."""
_DIRECTORY_TYPE = stat.S_IFDIR >> 12
# Records are padded to 8 bytes: one layout per padded name length packs name and padding in the same call.
_DIRENT = [struct.Struct(f"{DIRENT.format}{8 * n}s") for n in range(33)]
_DIRENTPLUS = [struct.Struct(f"{ENTRY_OUT.format}{DIRENT.format[1:]}{8 * n}s") for n in range(33)]


class Request(NamedTuple):
    """The part of a request's header that a read-only file system acts upon."""

    length: int
    opcode: int
    unique: int
    node: int


class Offer(NamedTuple):
    """What the kernel says of itself in INIT. `max_readahead` in bytes."""

    major: int
    minor: int
    max_readahead: int
    flags: int


class Validity(NamedTuple):
    """How long the kernel may believe a name and its attributes."""

    entry_seconds: int
    attribute_seconds: int
    entry_nanoseconds: int
    attribute_nanoseconds: int

    @classmethod
    def of(cls, entry: float, attribute: float) -> "Validity":
        """Timeouts in seconds, as the protocol splits them."""
        entry_fraction, entry_whole = math.modf(entry)
        attribute_fraction, attribute_whole = math.modf(attribute)
        return cls(int(entry_whole), int(attribute_whole), int(entry_fraction * 1e9), int(attribute_fraction * 1e9))


class ListedEntry(NamedTuple):
    """One entry of a READDIRPLUS reply; `node` is 0 when the kernel gets no reference with it."""

    node: int
    offset: int
    name: bytes


# --- requests ---------------------------------------------------------------------------------------------------------


def parse_request(message: Message) -> Request:
    """The header of a request."""
    return Request(*REQUEST.unpack_from(message))


def parse_init(message: Message) -> Offer:
    """The body of INIT; what newer kernels append does not matter here."""
    return Offer(*INIT_IN.unpack_from(message, BODY))


def parse_name(message: Message, length: int, start: int = BODY) -> bytes:
    """The name that ends a request of `length` bytes, without its NUL."""
    return bytes(message[start : length - 1])


def parse_open(message: Message) -> int:
    """The flags of OPEN, as open(2) takes them."""
    flags: int = OPEN_IN.unpack_from(message, BODY)[0]
    return flags


def parse_read(message: Message) -> tuple[int, int]:
    """Offset and size, in bytes, of READ, READDIR or READDIRPLUS."""
    _, offset, size, *_ = READ_IN.unpack_from(message, BODY)
    return offset, size


def parse_getxattr(message: Message, length: int) -> tuple[int, bytes]:
    """Room for the value in bytes (0 asks for its size) and the attribute's name."""
    size, _ = GETXATTR_IN.unpack_from(message, BODY)
    return size, parse_name(message, length, BODY + GETXATTR_IN.size)


def parse_group(message: Message) -> int:
    """The group of the process that asks, as it counts for file systems."""
    group: int = GROUP.unpack_from(message, GROUP_OFFSET)[0]
    return group


def parse_forget(message: Message) -> int:
    """How many references the kernel gives back."""
    count: int = FORGET_IN.unpack_from(message, BODY)[0]
    return count


def parse_batch_forget(message: Message) -> Iterator[tuple[int, int]]:
    """(node, references given back) for each node of BATCH_FORGET."""
    count, _ = BATCH_FORGET_IN.unpack_from(message, BODY)
    start = BODY + BATCH_FORGET_IN.size
    return FORGET_ONE.iter_unpack(memoryview(message)[start : start + count * FORGET_ONE.size])


def parse_interrupt(message: Message) -> int:
    """The `unique` of the request that nobody waits for any more."""
    unique: int = INTERRUPT_IN.unpack_from(message, BODY)[0]
    return unique


# --- replies ----------------------------------------------------------------------------------------------------------


def pack_init(
    minor: int,
    flags: int,
    *,
    max_readahead: int,
    max_background: int,
    congestion_threshold: int,
    max_write: int,
    max_pages: int,
) -> bytes:
    """What the server takes of the kernel's offer; times have a granularity of one nanosecond."""
    return INIT_OUT.pack(
        VERSION, minor, max_readahead, flags, max_background, congestion_threshold, max_write, 1, max_pages, 0, 0
    )


def pack_entry(attributes: Attributes, validity: Validity) -> bytes:
    """Reply to LOOKUP: the kernel holds one reference to the node from here on."""
    ino, mode, nlink, uid, gid, rdev, size, blocks, mtime, nsec = attributes
    return ENTRY_OUT.pack(
        *(ino, 0, *validity, ino, size, blocks, mtime, mtime, mtime, nsec, nsec, nsec),
        *(mode, nlink, uid, gid, rdev & 0xFFFFFFFF, BLOCK_SIZE, 0),
    )


def pack_negative_entry(validity: Validity) -> bytes:
    """Reply to LOOKUP: no such name, and the kernel may remember that. Node 0 stands for nothing."""
    return ENTRY_OUT.pack(0, 0, *validity, *([0] * 16))


def pack_attributes(attributes: Attributes, validity: Validity) -> bytes:
    """Reply to GETATTR."""
    ino, mode, nlink, uid, gid, rdev, size, blocks, mtime, nsec = attributes
    return ATTR_OUT.pack(
        *(validity[1], validity[3], 0, ino, size, blocks, mtime, mtime, mtime, nsec, nsec, nsec),
        *(mode, nlink, uid, gid, rdev & 0xFFFFFFFF, BLOCK_SIZE, 0),
    )


def pack_open(flags: int) -> bytes:
    """Reply to OPEN and OPENDIR; the node says everything, so no file handle is used."""
    return OPEN_OUT.pack(0, flags, 0)


def pack_xattr_size(size: int) -> bytes:
    """Reply to GETXATTR and LISTXATTR when only the size was asked for."""
    return GETXATTR_OUT.pack(size, 0)


def pack_statfs(size: FilesystemSize) -> bytes:
    """Reply to STATFS."""
    return STATFS_OUT.pack(
        *(size.blocks, size.blocks_free, size.blocks_free, size.files, size.files_free),
        *(size.block_size, size.name_max, size.block_size, 0),
    )


def pack_dots(buffer: bytearray, node: int, offset: int, *, plus: bool) -> int:
    """Put "." and ".." (from `offset` 0 or 1 on) at the start of `buffer`; returns the bytes used.

    Both carry the number of the directory itself: the protocol takes any, and the parent's would cost a look-up.
    """
    used = 0
    for index, name in list(enumerate((b".", b"..")))[offset:]:
        record = (node, index + 1, len(name), _DIRECTORY_TYPE, name)
        if plus:
            _DIRENTPLUS[1].pack_into(buffer, used, *([0] * 22), *record)
        else:
            _DIRENT[1].pack_into(buffer, used, *record)
        used += (DIRENTPLUS_SIZE if plus else DIRENT.size) + 8
    return used


def pack_dirents(
    buffer: bytearray, used: int, entries: Sequence[tuple[bytes, Attributes]], offset: int
) -> tuple[int, int]:
    """Append entries, the first of which follows `offset`, until `buffer` is full; (bytes used, entries taken)."""
    limit, taken = len(buffer), 0
    for name, attributes in entries:
        words = (len(name) + 7) >> 3
        end = used + DIRENT.size + 8 * words
        if end > limit:
            break
        taken += 1
        _DIRENT[words].pack_into(buffer, used, attributes[0], offset + taken, len(name), attributes[1] >> 12, name)
        used = end
    return used, taken


def pack_direntplus(
    buffer: bytearray, used: int, entries: Sequence[tuple[bytes, Attributes]], offset: int, validity: Validity
) -> tuple[int, int]:
    """As `pack_dirents`, with what LOOKUP would say: the kernel gets one reference for each entry taken."""
    limit, taken, layouts = len(buffer), 0, _DIRENTPLUS
    valid_entry, valid_attr, valid_entry_ns, valid_attr_ns = validity
    for name, (ino, mode, nlink, uid, gid, rdev, size, blocks, mtime, nsec) in entries:
        length = len(name)
        words = (length + 7) >> 3
        end = used + 152 + 8 * words  # 152 is DIRENTPLUS_SIZE: this loop is the hottest of the server
        if end > limit:
            break
        taken += 1
        # fmt: off
        layouts[words].pack_into(
            buffer, used, ino, 0, valid_entry, valid_attr, valid_entry_ns, valid_attr_ns,
            ino, size, blocks, mtime, mtime, mtime, nsec, nsec, nsec, mode, nlink, uid, gid, rdev & 0xFFFFFFFF, 4096, 0,
            ino, offset + taken, length, mode >> 12, name,
        )
        # fmt: on
        used = end
    return used, taken


# --- notifications ----------------------------------------------------------------------------------------------------


def _notification(code: Notify, body: bytes) -> bytes:
    return OUT_HEADER.pack(OUT_HEADER.size + len(body), code, 0) + body


def pack_inval_inode(node: int, *, data: bool) -> bytes:
    """Forget the attributes of a node; with `data` its pages too, or the cached listing of a directory."""
    return _notification(Notify.INVAL_INODE, INVAL_INODE_OUT.pack(node, 0 if data else -1, 0))


def pack_inval_entry(parent: int, name: bytes) -> bytes:
    """Forget what `name` in `parent` stands for, or that it stands for nothing."""
    return _notification(Notify.INVAL_ENTRY, INVAL_ENTRY_OUT.pack(parent, len(name), 0) + name + b"\0")


def pack_prune(nodes: Iterable[int]) -> bytes:
    """Drop the nodes nobody uses from the kernel's caches (since 7.45), so that it gives their references back."""
    numbers = list(nodes)
    return _notification(Notify.PRUNE, PRUNE_OUT.pack(len(numbers), 0, 0) + struct.pack(f"={len(numbers)}Q", *numbers))


# --- replies, read back -----------------------------------------------------------------------------------------------


def entry_node(payload: Message) -> int:
    """The node that a LOOKUP reply gave a reference to; 0 for a negative entry."""
    node: int = FORGET_IN.unpack_from(payload)[0]
    return node


def iter_direntplus(payload: Message) -> Iterator[ListedEntry]:
    """The entries of a READDIRPLUS reply."""
    position = 0
    while position < len(payload):
        _, offset, length, _ = DIRENT.unpack_from(payload, position + ENTRY_OUT.size)
        start = position + DIRENTPLUS_SIZE
        yield ListedEntry(entry_node(payload[position:start]), offset, bytes(payload[start : start + length]))
        position = start + ((length + 7) & ~7)
