"""The source trees of the original's repositories, made again."""

import base64
import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cvfs.client.repository import Repository

_TYPES = {"fifo": stat.S_IFIFO, "chr": stat.S_IFCHR, "blk": stat.S_IFBLK}
_SECOND = 10**9


class _Rebuilding:
    """Attributes as the original client showed them; contents and raw link targets out of the repository."""

    def __init__(self, manifest: dict[str, Any], repository: Repository, tree: Path) -> None:
        self._entries = [entry for entry in manifest["entries"] if not _was_generated(entry["path"])]
        self._repository = repository
        self._tree = os.fsencode(tree)
        self._groups: dict[object, bytes] = {}

    def run(self) -> None:
        for name in os.scandir(self._tree):
            shutil.rmtree(name.path) if name.is_dir(follow_symlinks=False) else os.unlink(name.path)
        for entry in self._entries:
            self._make(entry, self._place(entry))
        # Children change their directory's time stamp: the deepest come first.
        for entry in sorted(self._entries, key=lambda entry: -entry["path"].count("/")):
            self._dress(entry, self._place(entry))

    def _place(self, entry: dict[str, Any]) -> bytes:
        return self._tree + os.fsencode(entry["path"])

    def _make(self, entry: dict[str, Any], place: bytes) -> None:
        first = self._groups.setdefault(_group(entry), place)
        if first != place:
            os.link(first, place, follow_symlinks=False)
        elif entry["type"] == "dir":
            os.makedirs(place, exist_ok=True)
        elif entry["type"] == "file":
            Path(os.fsdecode(place)).write_bytes(self._repository.read(os.fsencode(entry["path"])))
        elif entry["type"] == "symlink":
            os.symlink(self._repository.readlink(os.fsencode(entry["path"])), place)
        elif entry["type"] == "socket":
            self._make_socket(place)
        else:
            os.mknod(place, _TYPES[entry["type"]] | 0o600, os.makedev(*entry.get("rdev", (0, 0))))

    def _make_socket(self, place: bytes) -> None:
        # The name of a socket must be short.
        with socket.socket(socket.AF_UNIX) as bound:
            there = os.open(os.path.dirname(place), os.O_RDONLY)
            bound.bind(f"/proc/self/fd/{there}/{os.fsdecode(os.path.basename(place))}")
            os.close(there)

    def _dress(self, entry: dict[str, Any], place: bytes) -> None:
        # A change of owner takes away bits of the mode, and attributes of files that run with privileges.
        os.chown(place, entry["uid"], entry["gid"], follow_symlinks=False)
        if entry["type"] != "symlink":
            os.chmod(place, int(entry["mode"], 8))
        for name, value in entry.get("xattrs", {}).items():
            os.setxattr(place, name, base64.b64decode(value), follow_symlinks=False)
        stamp = entry["mtime"] * _SECOND + entry["mtime_ns"]
        os.utime(place, ns=(stamp, stamp), follow_symlinks=False)


def _group(entry: dict[str, Any]) -> object:
    """What names of one file have in common; for links it is written nowhere but follows from their count."""
    if entry["type"] == "symlink" and entry["nlink"] > 1:
        return os.path.dirname(entry["path"]), entry["target"]
    return entry.get("hardlink_group", entry["path"])


def _was_generated(path: str) -> bool:
    """The markers that the publisher made because `.cvmfsdirtab` asks for them."""
    parts = path.split("/")
    return len(parts) == 4 and parts[1] == "versions" and parts[3] == ".cvmfscatalog"


@pytest.fixture
def rebuild() -> Callable[[dict[str, Any], Repository, Path], None]:
    """Turns a directory into the source tree of a tag."""
    return lambda manifest, repository, tree: _Rebuilding(manifest, repository, tree).run()
