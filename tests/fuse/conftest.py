"""A tree in memory behind the interface that `cvfs.fuse` serves, and ways to serve it without and with a kernel."""

import contextlib
import socket
import stat
import struct
import threading
from collections import Counter

import pytest
from bindings import require_fusepy

from cvfs.attributes import Attributes, FilesystemSize
from cvfs.errors import IsADirectory, NoSuchAttribute, NotADirectory, NotALink, NotFound
from cvfs.fuse import abi, binding, mount_points
from cvfs.fuse.abi import Opcode
from cvfs.fuse.device import Channel
from cvfs.fuse.mount_points import MountOptions
from cvfs.fuse.server import Server, ServerSettings
from cvfs.kernel import mount_table

ROOT = 1
MTIME = 1_700_000_000
EVERYTHING = 0xFFFFFFFF
DEADLINE = 20.0
OPTIONS = MountOptions("test.cern.ch", allow_other=True)
LARGE = bytes(range(256)) * (3 << 12) + b"the end"


class MemoryFilesystem:
    """Nodes by number; any method can be made to wait. `stalled` holds the names of methods that wait; `release` lets them go on.

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
        self.files = 77
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

    def populate(self) -> None:
        """A few entries of each kind."""
        directory = self.add_directory(b"dir")
        deeper = self.add_directory(b"deeper", directory)
        self.add_file(b"file", b"in depth\n", deeper)
        small = self.add_file(b"small", b"hello\n")
        self.xattrs[small] = {b"user.hash": b"0123\xff", b"user.empty": b""}
        self.add_file(b"large", LARGE)
        self.add_file(b"empty", b"")
        self.add_file(b"not UTF-8 \xff\xfe", b"named\n")
        self.add_link(b"link", b"dir/deeper/file")

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

    def listing(self, ino: int, wait: bool) -> "MemoryListing":
        self._enter("listing", wait)
        return MemoryListing(self, [(name, self.nodes[child]) for name, child in self._children(ino).items()])

    def withhold(self, entries: list[tuple[bytes, Attributes]]) -> None:
        for _, attributes in entries:
            self.references[attributes.ino] -= 1

    def getxattr(self, ino: int, name: bytes, wait: bool, group: int) -> bytes:
        self._enter("getxattr", wait)
        if name == b"user.group":
            return b"%d" % group
        try:
            return self.xattrs[ino][name]
        except KeyError:
            raise NoSuchAttribute(repr(name)) from None

    def listxattr(self, ino: int, wait: bool) -> list[bytes]:
        self._enter("listxattr", wait)
        return list(self.xattrs.get(ino, ()))

    def statfs(self) -> FilesystemSize:
        return FilesystemSize(4096, 1000, 250, self.files, 11)

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


class MemoryListing:
    """The entries of a directory, as they were."""

    def __init__(self, tree: MemoryFilesystem, entries: list[tuple[bytes, Attributes]]) -> None:
        self._tree = tree
        self._entries = entries

    def part(self, start: int, stop: int, wait: bool, counted: bool) -> list[tuple[bytes, Attributes]]:
        self._tree._enter("part", wait)
        found = self._entries[start:stop]
        for _, attributes in found if counted else ():
            self._tree.references[attributes.ino] += 1
        return found


@pytest.fixture
def tree() -> MemoryFilesystem:
    """An empty root."""
    return MemoryFilesystem()


# --- without a kernel --------------------------------------------------------------------------------------------------


class Kernel:
    """The other end of the channel: sends requests, takes replies, in whatever order they come."""

    def __init__(self, tree, **settings) -> None:
        self.tree = tree
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(DEADLINE)
        self.channel = Channel.open(theirs.detach())
        self.server = Server(tree, self.channel, ServerSettings(**settings))
        self.thread = threading.Thread(target=self.server.serve, daemon=True)
        self.thread.start()
        self.unique = 0

    def send(self, opcode: int, node: int = ROOT, body: bytes = b"") -> int:
        self.unique += 2
        self.socket.send(abi.IN_HEADER.pack(40 + len(body), opcode, self.unique, node, 0, 0, 0, 0, 0) + body)
        return self.unique

    def take(self) -> tuple[int, int, bytes]:
        """(unique, error, payload) of the next message."""
        message = self.socket.recv(1 << 20)
        length, error, unique = abi.OUT_HEADER.unpack_from(message)
        assert length == len(message)
        return unique, error, message[16:]

    def ask(self, opcode: int, node: int = ROOT, body: bytes = b"") -> tuple[int, bytes]:
        """(positive errno, payload) of the reply to this request."""
        sent = self.send(opcode, node, body)
        unique, error, payload = self.take()
        assert unique == sent
        return -error, payload

    def lookup(self, name: bytes, node: int = ROOT) -> tuple[int, bytes]:
        return self.ask(Opcode.LOOKUP, node, name + b"\0")

    def init(self, major: int = 7, minor: int = 45, flags: int = EVERYTHING) -> tuple[int, bytes]:
        return self.ask(Opcode.INIT, 0, struct.pack("=IIIII44x", major, minor, 131072, flags, 0))

    def read(self, node: int, offset: int, size: int, opcode: int = Opcode.READ) -> tuple[int, bytes]:
        return self.ask(opcode, node, abi.READ_IN.pack(0, offset, size, 0, 0, 0, 0))

    def xattr(self, node: int, name: bytes, room: int) -> tuple[int, bytes]:
        return self.ask(Opcode.GETXATTR, node, abi.GETXATTR_IN.pack(room, 0) + name + b"\0")

    def settle(self) -> None:
        """All requests sent before have been handled by the loop once this one is answered."""
        assert self.ask(Opcode.STATFS)[0] == 0

    def stop(self) -> None:
        self.socket.close()
        self.tree.release.set()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()
        self.channel.close()


@pytest.fixture
def kernels(tree):
    """Gives kernels with settings; stops them."""
    made = []

    def kernel(**settings) -> Kernel:
        made.append(Kernel(tree, **settings))
        return made[-1]

    yield kernel
    for one in made:
        one.stop()


@pytest.fixture
def kernel(kernels) -> Kernel:
    return kernels()


# --- with the kernel ---------------------------------------------------------------------------------------------------


class NativeMount:
    """Serves a tree by cvfs's own server; `requests` is what the kernel asked since the last call."""

    def __init__(self, tree, path: str, mount=mount_points.mount_root, **settings) -> None:
        self.path = path
        self.tree = tree
        self.channel = Channel.open(mount(path, OPTIONS))
        self.server = Server(tree, self.channel, ServerSettings(**settings))
        self.thread = threading.Thread(target=self.server.serve, daemon=True)
        self.thread.start()
        assert self.server.wait_ready(DEADLINE)
        self._before = self.server.counters()

    def requests(self) -> dict[str, int]:
        now = self.server.counters()
        changed = {name: count - self._before.get(name, 0) for name, count in now.items()}
        self._before = now
        return {name: count for name, count in changed.items() if count}

    def die(self) -> None:
        """As a killed server: the mount stays, nobody answers."""
        self.tree.release.set()
        self.server.stop()
        self.thread.join(DEADLINE)
        self.channel.close()

    def stop(self) -> None:
        if mount_table.find_mount(self.path) is not None:
            mount_points.unmount(self.path, lazy=True)
        self.die()
        assert not self.thread.is_alive()


class FusepyMount:
    """The same tree by libfuse 2, which answers in threads of its own."""

    def __init__(self, tree, path: str, **settings) -> None:
        self.path = path
        self.tree = tree
        self.session = binding.mount("fusepy", tree, path, OPTIONS, ServerSettings(**settings))
        self.thread = threading.Thread(target=self.session.serve, daemon=True)
        self.thread.start()
        assert self.session.wait_ready(DEADLINE)

    def stop(self) -> None:
        self.tree.release.set()
        if mount_table.find_mount(self.path) is not None:
            mount_points.unmount(self.path, lazy=True)
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()
        self.session.close(DEADLINE)


@pytest.fixture
def place(tmp_path) -> str:
    """An empty mount point whose name has what mountinfo must escape."""
    path = tmp_path / "mount point\\1"
    path.mkdir()
    return str(path)


@pytest.fixture
def native(tree, place):
    """Mounts natively with these settings; stops what was mounted."""
    with contextlib.ExitStack() as stack:

        def mount(**settings) -> NativeMount:
            mounted = NativeMount(tree, place, **settings)
            stack.callback(mounted.stop)
            return mounted

        yield mount


@pytest.fixture
def fusepy(tree, place):
    """Mounts by libfuse with these settings; stops what was mounted."""
    require_fusepy()
    with contextlib.ExitStack() as stack:

        def mount(**settings) -> FusepyMount:
            mounted = FusepyMount(tree, place, **settings)
            stack.callback(mounted.stop)
            return mounted

        yield mount


@pytest.fixture(params=["native", "fusepy"])
def mounted(request, tree):
    """A populated tree, mounted by one binding after the other."""
    tree.populate()
    return request.getfixturevalue(request.param)()
