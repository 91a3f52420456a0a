"""A file system of numbers for who asks by paths: each is walked down from the root; it knows neither kernel nor library."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from cvfs.attributes import Attributes, FilesystemSize
from cvfs.fuse import abi
from cvfs.fuse.filesystem import Entries, Filesystem
from cvfs.fuse.known_paths import KnownPaths


class Opened(NamedTuple):
    """What a reader gets: its handle, and what the kernel shall do with its pages."""

    handle: int
    direct_io: bool
    keep_cache: bool


class PathOperations:
    """Paths are absolute and bytes. With `wait=False` the methods raise BlockingIOError where those of `Filesystem` do.

    Failures are `cvfs.errors.CvfsError`.
    """

    def __init__(self, filesystem: Filesystem, timeout: float) -> None:
        self._filesystem = filesystem
        self._known = KnownPaths(filesystem, timeout)

    def attributes(self, path: bytes, wait: bool) -> Attributes:
        """What the kernel is told of a path."""
        with self._walk(path, wait) as nodes:
            if len(nodes) == 1:
                return nodes[0]
            return self._known.tell(path, nodes.pop())

    def attributes_of(self, handle: int, wait: bool) -> Attributes:
        """The attributes of what a reader has open."""
        return self._filesystem.getattr(self._known.node_of(handle), wait)

    def readlink(self, path: bytes, wait: bool) -> bytes:
        """Target of a symbolic link."""
        with self._walk(path, wait) as nodes:
            return self._filesystem.readlink(nodes[-1].ino)

    def listing(self, path: bytes, wait: bool) -> Entries:
        """All entries of a directory, without "." and ".."."""
        with self._walk(path, wait) as nodes:
            return self._filesystem.listing(nodes[-1].ino, wait).part(0, sys.maxsize, wait, counted=False)

    def exists(self, path: bytes, wait: bool) -> None:
        """Raises NotFound, NotADirectory unless there is something at the path."""
        with self._walk(path, wait):
            pass

    def open(self, path: bytes, wait: bool) -> Opened:
        """A reader of a file, until `close`."""
        with self._walk(path, wait) as nodes:
            handle, node = self._known.open(path, nodes.pop())
        try:
            self._filesystem.opened(node, wait)
            direct = self._filesystem.is_direct_io(node)
        except BaseException:
            self._known.close(handle)
            raise
        return Opened(handle, direct, not direct and self._known.has_its_pages(handle))

    def read(self, handle: int, offset: int, size: int, wait: bool) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        return bytes(self._filesystem.read(self._known.read(handle), offset, size, wait))

    def close(self, handle: int) -> None:
        """The end of a reader."""
        self._filesystem.released(self._known.close(handle))

    def getxattr(self, path: bytes, name: bytes, group: int, wait: bool) -> bytes:
        """Value of an extended attribute for a process of that group."""
        with self._walk(path, wait) as nodes:
            return self._filesystem.getxattr(nodes[-1].ino, name, wait, group)

    def listxattr(self, path: bytes, wait: bool) -> list[bytes]:
        """Names of the extended attributes."""
        with self._walk(path, wait) as nodes:
            return self._filesystem.listxattr(nodes[-1].ino, wait)

    def statfs(self) -> FilesystemSize:
        """What df(1) shows."""
        return self._filesystem.statfs()

    def drop(self, nodes: list[int]) -> None:
        """Give these nodes back where nothing depends on them."""
        self._known.drop(set(nodes))

    @contextmanager
    def _walk(self, path: bytes, wait: bool) -> Iterator[list[Attributes]]:
        """The nodes from the root to the end of the path; the references of all but those taken out are given back."""
        nodes = [self._filesystem.getattr(abi.ROOT, wait)._replace(ino=abi.ROOT)]
        try:
            for name in path.split(b"/"):
                if name:
                    nodes.append(self._filesystem.lookup(nodes[-1].ino, name, wait))
            yield nodes
        finally:
            for node in nodes[1:]:
                self._filesystem.forget(node.ino, 1)
