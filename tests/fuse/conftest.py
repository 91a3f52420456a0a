"""A tree in memory behind the interface that `cvfs.fuse` serves; any method can be made to wait until it is told."""

import stat
import threading
from collections import Counter

import pytest

from cvfs.attributes import Attributes, FilesystemSize
from cvfs.errors import IsADirectory, NoSuchAttribute, NotADirectory, NotALink, NotFound

ROOT = 1
MTIME = 1_700_000_000


class MemoryFilesystem:
    """Nodes by number. `stalled` holds the names of methods that wait; `release` lets them go on.

    `references` counts what the kernel holds, `calls` what was asked, `opens` what is open.
    """

    def __init__(self) -> None:
        self.nodes: dict[int, Attributes] = {}
        self.contents: dict[int, bytes] = {}
        self.children: dict[int, dict[bytes, int]] = {}
        self.xattrs: dict[int, dict[bytes, bytes]] = {}
        self.references: Counter[int] = Counter()
        self.opens: Counter[int] = Counter()
        self.calls: Counter[str] = Counter()
        self.direct: set[int] = set()
        self.stalled: set[str] = set()
        self.arrived = threading.Semaphore(0)
        self.release = threading.Event()
        self.broken: Exception | None = None
        self.deadline = 20.0
        self._node(stat.S_IFDIR | 0o755)
        self.children[ROOT] = {}

    # --- building -----------------------------------------------------------------------------------------------------

    def _node(self, mode: int, size: int = 0, rdev: int = 0) -> int:
        ino = len(self.nodes) + 1
        blocks = (size + 511) // 512
        self.nodes[ino] = Attributes(ino, mode, 1, 0, 0, rdev, size, blocks, MTIME, 5)
        return ino

    def add_file(self, name: bytes, content: bytes, parent: int = ROOT) -> int:
        ino = self._node(stat.S_IFREG | 0o644, len(content))
        self.contents[ino] = content
        self.children[parent][name] = ino
        return ino

    def add_link(self, name: bytes, target: bytes, parent: int = ROOT) -> int:
        ino = self._node(stat.S_IFLNK | 0o777, len(target))
        self.contents[ino] = target
        self.children[parent][name] = ino
        return ino

    def add_directory(self, name: bytes, parent: int = ROOT) -> int:
        ino = self._node(stat.S_IFDIR | 0o755)
        self.children[ino] = {}
        self.children[parent][name] = ino
        return ino

    # --- the interface ------------------------------------------------------------------------------------------------

    def _enter(self, method: str, wait: bool) -> None:
        self.calls[method] += 1
        if self.broken is not None:
            raise self.broken
        if method in self.stalled:
            if not wait:
                raise BlockingIOError
            self.arrived.release()
            assert self.release.wait(self.deadline), "nobody released the stalled request"

    def _attributes(self, ino: int) -> Attributes:
        try:
            return self.nodes[ino]
        except KeyError:
            raise NotFound(f"inode {ino}") from None

    def _children(self, ino: int) -> dict[bytes, int]:
        self._attributes(ino)
        if ino not in self.children:
            raise NotADirectory(f"inode {ino}")
        return self.children[ino]

    def lookup(self, parent: int, name: bytes, wait: bool) -> Attributes:
        self._enter("lookup", wait)
        children = self._children(parent)
        if name not in children:
            raise NotFound(repr(name))
        ino = children[name]
        self.references[ino] += 1
        return self.nodes[ino]

    def forget(self, ino: int, count: int) -> None:
        self.calls["forget"] += 1
        self.references[ino] -= count

    def getattr(self, ino: int, wait: bool) -> Attributes:
        self._enter("getattr", wait)
        return self._attributes(ino)

    def readlink(self, ino: int) -> bytes:
        if not stat.S_ISLNK(self._attributes(ino).mode):
            raise NotALink(f"inode {ino}")
        return self.contents[ino]

    def read(self, ino: int, offset: int, size: int, wait: bool) -> memoryview:
        self._enter("read", wait)
        if ino in self.children:
            raise IsADirectory(f"inode {ino}")
        return memoryview(self.contents[ino])[offset : offset + size]

    def listing(self, ino: int, wait: bool) -> list[tuple[bytes, Attributes]]:
        self._enter("listing", wait)
        return [(name, self.nodes[child]) for name, child in self._children(ino).items()]

    def reference(self, ino: int, name: bytes, attributes: Attributes) -> None:
        self.references[attributes.ino] += 1

    def getxattr(self, ino: int, name: bytes, wait: bool) -> bytes:
        self._enter("getxattr", wait)
        try:
            return self.xattrs[ino][name]
        except KeyError:
            raise NoSuchAttribute(repr(name)) from None

    def listxattr(self, ino: int, wait: bool) -> list[bytes]:
        self._enter("listxattr", wait)
        return list(self.xattrs.get(ino, ()))

    def statfs(self) -> FilesystemSize:
        return FilesystemSize(4096, 1000, 250, 77, 11)

    def opened(self, ino: int, wait: bool) -> None:
        self._enter("opened", wait)
        self.opens[ino] += 1

    def released(self, ino: int) -> None:
        self.opens[ino] -= 1

    def is_direct_io(self, ino: int) -> bool:
        return ino in self.direct

    def referenced(self) -> dict[int, int]:
        """Nodes that the kernel holds at present."""
        return {ino: count for ino, count in self.references.items() if count}


@pytest.fixture
def tree() -> MemoryFilesystem:
    """An empty root."""
    return MemoryFilesystem()
