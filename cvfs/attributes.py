"""POSIX attributes of an entry, as stat(2) shows them; shared by the volume, FUSE and the commands."""

from typing import NamedTuple


class Attributes(NamedTuple):
    """What stat(2) tells. Sizes in bytes, `blocks` in 512-byte units, times in seconds and nanoseconds."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    mtime: int
    mtime_ns: int


class FilesystemSize(NamedTuple):
    """What statfs(2) tells: the cache as the disk, the repository's entries as inodes."""

    block_size: int
    blocks: int
    blocks_free: int
    files: int
    files_free: int
    name_max: int = 255
