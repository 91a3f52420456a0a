"""What the scan of the last publish saw: when, of which tree, which directory was which. Only a hint that saves reading.

A renamed directory carries files whose own status never changed: equal attributes prove nothing unless every directory on the
way is the one that was scanned. A record that is missing, damaged or of another tree costs a full reading, nothing else.
"""

import json
import os
import struct
from dataclasses import dataclass, field

from cvfs.errors import Unpublishable
from cvfs.hashes import path_hash
from cvfs_server.state import write_state

_NAME = "last_scan"
_PAIR = struct.Struct("<qQ")
_MAX_RECORD = 2**30


@dataclass(frozen=True, slots=True)
class Tree:
    """Which directory is published, and what was asked of it: another tree moved to the same path is another one."""

    path: str
    device: int
    inode: int
    xattrs: bool

    @classmethod
    def at(cls, source: bytes, *, xattrs: bool) -> "Tree":
        """The tree at a path. Raises Unpublishable."""
        try:
            status = os.stat(source)
        except OSError as error:
            raise Unpublishable(f"{os.fsdecode(source)}: {error.strerror}; nothing was published") from error
        return cls(os.fsdecode(source), status.st_dev, status.st_ino, xattrs)


@dataclass(frozen=True, slots=True)
class LastScan:
    """When the scan began, in Unix nanoseconds (0: nothing is known), and the inodes of its directories by path."""

    started_ns: int = 0
    directories: dict[int, int] = field(default_factory=dict)


class DirectoryMemory:
    """Compares the directories of this scan with those of the last one, and remembers them."""

    def __init__(self, last: LastScan) -> None:
        self._before = last.directories
        self.directories: dict[int, int] = {}

    def recognise(self, path: bytes, inode: int) -> bool:
        """Whether the directory at `path` is the one that the last scan found there."""
        key = path_hash(path)[0]
        self.directories[key] = inode
        return self._before.get(key) == inode


def load_last_scan(spool: str, root: str, tree: Tree) -> LastScan:
    """The record of the scan that made the root catalog `root` out of `tree`; an empty one if there is none."""
    try:
        with open(f"{spool}/{_NAME}", "rb") as file:
            header, _, pairs = file.read(_MAX_RECORD).partition(b"\n")
        found = json.loads(header)
        if found != _header(root, tree, found["started_ns"]) or not isinstance(found["started_ns"], int):
            return LastScan()
        return LastScan(found["started_ns"], dict(_PAIR.iter_unpack(pairs)))
    except (OSError, ValueError, TypeError, KeyError, RecursionError, struct.error):
        return LastScan()


def keep_last_scan(spool: str, root: str, tree: Tree, scan: LastScan) -> None:
    """Remember a scan whose result is published. Raises StoreFull."""
    header = json.dumps(_header(root, tree, scan.started_ns)).encode()
    write_state(f"{spool}/{_NAME}", header + b"\n" + b"".join(_PAIR.pack(*pair) for pair in scan.directories.items()))


def _header(root: str, tree: Tree, started_ns: int) -> dict[str, object]:
    return {"root": root, "tree": [tree.path, tree.device, tree.inode, tree.xattrs], "started_ns": started_ns}
