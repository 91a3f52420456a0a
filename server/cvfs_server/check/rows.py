"""What one catalog row may say by itself: a table of rules for each file type; pure, knows neither parent nor catalog.

Source: FORMAT sections 5.4 to 5.7, 5.14.
"""

import stat
from collections.abc import Callable, Iterable
from typing import NamedTuple

from cvfs.catalog.schema import Version
from cvfs.compression import Compression
from cvfs.errors import FormatError
from cvfs.format import xattrs
from cvfs.format.dirent import COMPRESSION_SHIFT, HASH_SHIFT, DirectoryEntry, Flag
from cvfs.hashes import DIGEST_SIZE, Algorithm

_DIRECTORY, _FILE, _LINK, _SPECIAL = int(Flag.DIRECTORY), int(Flag.FILE), int(Flag.LINK), int(Flag.SPECIAL)
_TYPES = _DIRECTORY | _FILE | _LINK | _SPECIAL
_NESTED, _NESTED_ROOT, _BIND = int(Flag.NESTED_MOUNTPOINT), int(Flag.NESTED_ROOT), int(Flag.BIND_MOUNTPOINT)
_PLACES = _NESTED | _NESTED_ROOT | _BIND
_CHUNKED, _EXTERNAL, _DIRECT_IO = int(Flag.CHUNKED), int(Flag.EXTERNAL), int(Flag.DIRECT_IO)
_CODE, _LINKS, _GROUP_SHIFT = 7, 0xFFFFFFFF, 32
_ALGORITHMS, _COMPRESSIONS = len(Algorithm), len(Compression)


class _Rule(NamedTuple):
    """`text` is said, with the entry in it, where `is_broken` holds."""

    text: str
    is_broken: Callable[[DirectoryEntry], object]


class RowFault(NamedTuple):
    """A rule that a row breaks."""

    what: str
    is_warning: bool = False


def row_faults(entry: DirectoryEntry, version: Version) -> list[RowFault]:
    """Every rule that the row breaks; `version` is that of its catalog."""
    rules = _RULES.get(stat.S_IFMT(entry.mode))
    if rules is None:
        return [RowFault(f"mode {entry.mode:o} is no known file type")]
    found = [RowFault(rule.text.format(entry=entry)) for rule in rules if rule.is_broken(entry)]
    if entry.flags & _TYPES != _expected_type(entry, version):
        found.append(RowFault(f"flags {entry.flags:#x} belong to another file type than mode {entry.mode:o}"))
    found += _warnings(entry)
    return found


def _expected_type(entry: DirectoryEntry, version: Version) -> int:
    kind = stat.S_IFMT(entry.mode)
    # What is special was not marked in older catalogs.
    return _TYPE_FLAGS.get(kind, _FILE | _SPECIAL) & version.flag_mask


def _warnings(entry: DirectoryEntry) -> Iterable[RowFault]:
    if entry.digest == b"":
        yield RowFault("an empty content hash where there should be none (NULL)", is_warning=True)
    if entry.xattr is not None and not _is_list(entry.xattr):
        yield RowFault("its extended attributes are no list that a client reads: it shows none", is_warning=True)


def _is_list(column: bytes) -> bool:
    try:
        xattrs.unpack(column)
    except FormatError:
        return False
    return True


def _has_bad_digest(entry: DirectoryEntry) -> bool:
    return bool(entry.digest) and len(entry.digest or b"") != DIGEST_SIZE


def has_unknown_code(entry: DirectoryEntry) -> bool:
    """Whether no reader knows how to hash or to inflate the content."""
    algorithm, compression = entry.flags >> HASH_SHIFT & _CODE, entry.flags >> COMPRESSION_SHIFT & _CODE
    return algorithm >= _ALGORITHMS or compression >= _COMPRESSIONS


_TYPE_FLAGS = {stat.S_IFDIR: _DIRECTORY, stat.S_IFREG: _FILE, stat.S_IFLNK: _FILE | _LINK}

_EVERY = (
    _Rule("link count 0", lambda e: not e.hardlinks & _LINKS),
    _Rule("its content hash has another length than 20 bytes", _has_bad_digest),
)
_NO_DIRECTORY = (
    _Rule("link count {entry.linkcount}, but no hard-link group", lambda e: 1 < e.hardlinks <= _LINKS),
    _Rule("flags {entry.flags:#x} of a mountpoint, but it is no directory", lambda e: e.flags & _PLACES),
)
_NO_FILE = (
    _Rule("marked chunked, but it is no regular file", lambda e: e.flags & _CHUNKED),
    _Rule("marked external, but it is no regular file", lambda e: e.flags & _EXTERNAL),
    _Rule("marked for direct I/O, but it is no regular file", lambda e: e.flags & _DIRECT_IO),
)
_NO_LINK = (_Rule("has the target of a symbolic link, but is none", lambda e: e.symlink),)
_NO_CONTENT = (_Rule("has a content hash, but no content", lambda e: e.digest),)

_DIRECTORY_RULES = (
    *_EVERY,
    *_NO_FILE,
    *_NO_LINK,
    _Rule("a directory in hard-link group {entry.hardlink_group}", lambda e: e.hardlinks >> _GROUP_SHIFT),
    _Rule("both mountpoint and root of a nested catalog", lambda e: e.flags & _NESTED and e.flags & _NESTED_ROOT),
    _Rule("both nested and bind mountpoint", lambda e: e.flags & _NESTED and e.flags & _BIND),
)
_REGULAR_RULES = (
    *_EVERY,
    *_NO_DIRECTORY,
    *_NO_LINK,
    _Rule("neither content hash nor chunks", lambda e: not e.digest and not e.flags & _CHUNKED),
    _Rule("flags {entry.flags:#x} have an unknown code for hash or compression", has_unknown_code),
)
_LINK_RULES = (
    *_EVERY,
    *_NO_DIRECTORY,
    *_NO_FILE,
    *_NO_CONTENT,
    _Rule("size {entry.size} is not the length of its target", lambda e: e.size != len(e.symlink)),
)
_DEVICE_RULES = (*_EVERY, *_NO_DIRECTORY, *_NO_FILE, *_NO_LINK, *_NO_CONTENT)
_QUEUE_RULES = (*_DEVICE_RULES, _Rule("a fifo or socket of size {entry.size}, not 0", lambda e: e.size))
_RULES: dict[int, tuple[_Rule, ...]] = {
    stat.S_IFDIR: _DIRECTORY_RULES,
    stat.S_IFREG: _REGULAR_RULES,
    stat.S_IFLNK: _LINK_RULES,
    stat.S_IFCHR: _DEVICE_RULES,
    stat.S_IFBLK: _DEVICE_RULES,
    stat.S_IFIFO: _QUEUE_RULES,
    stat.S_IFSOCK: _QUEUE_RULES,
}
