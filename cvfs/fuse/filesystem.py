"""What a file system must offer to be served to the kernel: numbers and bytes, no paths; it knows no protocol."""

from collections.abc import Sequence
from typing import Protocol

from cvfs.attributes import Attributes, FilesystemSize

Entries = Sequence[tuple[bytes, Attributes]]


class Listing(Protocol):
    """A directory as it was when its reader began, in a stable order, without "." and ".."."""

    def part(self, start: int, stop: int, wait: bool, counted: bool) -> Entries:
        """The entries at these places, as far as there are any; `counted`: one reference to each, or to none if this fails."""


class Filesystem(Protocol):
    """A read-only tree of numbered nodes; node 1 is its root.

    Called by several threads at once. With `wait=False` a method must answer from memory or local files or raise the
    builtin `BlockingIOError`; it is then called again, with `wait=True`, from a thread that may block. Failures are
    `cvfs.errors.CvfsError`; their `errno` is what the process sees.

    The kernel holds references to nodes: `lookup` and a counted part of a listing count one, `forget` gives them back. A
    node's number stands for one content as long as it is referenced.
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
        """All entries of a directory."""

    def withhold(self, entries: Entries) -> None:
        """These were counted, but the kernel did not get them: gives back one reference to each."""

    def getxattr(self, ino: int, name: bytes, wait: bool, group: int) -> bytes:
        """Value of an extended attribute for a process of that group, or NoSuchAttribute.

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
