"""What a file system must offer to be served to the kernel: numbers and bytes, no paths; it knows no protocol."""

from collections.abc import Sequence
from typing import Protocol

from cvfs.attributes import Attributes, FilesystemSize

Listing = Sequence[tuple[bytes, Attributes]]


class Filesystem(Protocol):
    """A read-only tree of numbered nodes; node 1 is its root.

    Called by several threads at once. With `wait=False` a method must answer from memory or local files or raise the
    builtin `BlockingIOError`; it is then called again, with `wait=True`, from a thread that may block. Failures are
    `cvfs.errors.CvfsError`; their `errno` is what the process sees.

    The kernel holds references to nodes: `lookup` and `reference` count one, `forget` gives them back. A node's number
    stands for one content as long as it is referenced.
    """

    def lookup(self, parent: int, name: bytes, wait: bool) -> Attributes:
        """The entry `name` of a directory; counts one reference. NotFound makes a negative entry.

        NFS export asks for "." (the node itself, which the kernel may have forgotten) and "..".
        """

    def forget(self, ino: int, count: int) -> None:
        """The kernel gives back `count` references."""

    def getattr(self, ino: int, wait: bool) -> Attributes:
        """Attributes of a referenced node."""

    def readlink(self, ino: int) -> bytes:
        """Target of a symbolic link."""

    def read(self, ino: int, offset: int, size: int, wait: bool) -> bytes | memoryview:
        """Up to `size` bytes; fewer only at the end of the file. A memoryview must be of bytes and contiguous."""

    def listing(self, ino: int, wait: bool) -> Listing:
        """All entries of a directory in a stable order, without "." and ".."; counts no reference, supports slices."""

    def reference(self, ino: int, name: bytes, attributes: Attributes) -> None:
        """An entry of the listing of `ino` is handed to the kernel: counts one reference to `attributes.ino`."""

    def getxattr(self, ino: int, name: bytes, wait: bool) -> bytes:
        """Value of an extended attribute, or NoSuchAttribute.

        `ls -l` asks `security.*` and `system.posix_acl_*` of every file and the kernel does not remember the answer:
        these must come from memory.
        """

    def listxattr(self, ino: int, wait: bool) -> list[bytes]:
        """Names of the extended attributes."""

    def statfs(self) -> FilesystemSize:
        """What df(1) shows."""

    def opened(self, ino: int, wait: bool) -> None:
        """A file was opened: keep its bytes. Called only without zero-message open."""

    def released(self, ino: int) -> None:
        """The counterpart of `opened`."""

    def is_direct_io(self, ino: int) -> bool:
        """The kernel shall not cache this file's pages. Asked only without zero-message open."""
