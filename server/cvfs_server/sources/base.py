"""What a publish brings, as a description of changes; knows no catalog file, writes nothing.

A source says for each directory that it touches what is in it now. A whole tree touches every directory and says everything
about each; the upper layer of an overlay, an archive or another revision say only what changed. `walk` makes the ordered
stream of listings out of it. Source: FORMAT sections 5.5, 5.6, 5.10.
"""

import stat
from typing import NamedTuple, Protocol

from cvfs.catalog.schema import Counters
from cvfs.errors import UsageError
from cvfs.format.dirent import Chunk, DirectoryEntry
from cvfs.hashes import ContentHash

# NAME_MAX and PATH_MAX: what is longer, no program can open.
MAX_NAME = 255
MAX_PATH = 4095


class Known(NamedTuple):
    """Content that need not be read: its digest, the flags of its row, chunks and packed extended attributes.

    `chunks` None means those that are published at the same path.
    """

    digest: bytes | None
    flags: int
    chunks: tuple[Chunk, ...] | None
    xattr: bytes | None


class WholeCatalog(NamedTuple):
    """A nested catalog that is stored already: its hash, size of the file in bytes, what is in and below it."""

    content: ContentHash
    size: int
    counters: Counters


class ScannedEntry(NamedTuple):
    """What a source says of one name. The first seven fields are ordered as in a `DirectoryEntry`.

    `links` is the link count as it is published: names of the same file in this directory, or 2 + sub-directories.
    `group` numbers the groups of several such names within one listing, 0 is none. `generated` entries are in no file
    system: the catalog markers that a dirtab asks for. With `known` nothing of it is read. `kept` is what is published
    already at this path and stays, but for link counts and the catalog that holds it. A directory with `whole` becomes that
    nested catalog, and nobody asks what is in it; what is published there is no directory, or a nested catalog as well.
    """

    name: bytes
    mode: int
    size: int
    mtime: int
    mtime_ns: int | None
    uid: int
    gid: int
    ctime_ns: int
    links: int = 1
    group: int = 0
    symlink: bytes = b""
    is_mountpoint: bool = False
    generated: bool = False
    inode: int = 0
    known: Known | None = None
    kept: bool = False
    whole: WholeCatalog | None = None

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)


class Part(NamedTuple):
    """A file inside of another one, for instance in an archive: its first byte and length there, and what a file system
    would say of it. `archive_mtime_ns` is when the file around it was last modified, if it must not have changed since."""

    offset: int
    size: int
    mtime_ns: int
    xattr: bytes | None = None
    archive_mtime_ns: int | None = None


class Place(NamedTuple):
    """Where the content of a file is read: a file of this machine, or a part of one.

    What is `native` is stored even where all others are external.
    """

    path: bytes
    part: Part | None = None
    native: bool = False


class DirectoryEdit(NamedTuple):
    """What a source says of one directory: names with what they are now, names that are removed.

    With `complete` there is nothing else in it; otherwise all other published names stay. Entries in the order of their
    bytes. Every directory among the entries is asked for in turn.
    """

    entries: list[ScannedEntry]
    removed: tuple[bytes, ...] = ()
    complete: bool = True


class Source(Protocol):
    """Changes to be published. Paths are those of the repository: the root's is empty, all others begin with a slash."""

    def root(self) -> ScannedEntry | None:
        """The root directory itself; None leaves it as it is published. Raises Unpublishable."""

    def edit(self, path: bytes) -> DirectoryEdit:
        """What is in the directory `path`, which is the root or was among the entries of its parent.

        Asked for once, the directory before those below it. Raises Unpublishable, naming the path.
        """

    def place(self, path: bytes) -> Place:
        """Where the content of a regular file without `known` is read."""

    def attributes(self, path: bytes) -> bytes | None:
        """The packed extended attributes of an entry without `known`. Raises Unpublishable."""


def as_published(row: DirectoryEntry) -> ScannedEntry:
    """An entry that stays what it is."""
    known = Known(row.digest, row.flags, None, row.xattr)
    return ScannedEntry(
        *row[:7],
        ctime_ns=0,
        links=row.linkcount,
        symlink=row.symlink,
        is_mountpoint=row.is_mountpoint,
        known=known,
        kept=True,
    )


def check_path(path: bytes) -> None:
    """Raises UsageError for a path of the repository that no file of a mount can have; it comes as `as_path` makes it."""
    steps = path.split(b"/")
    shown = path[:MAX_NAME].decode("utf-8", "backslashreplace")
    if b".." in steps or b"\0" in path:
        raise UsageError(f"{shown}: a path of the repository has no '..'")
    if len(path) > MAX_PATH or max(map(len, steps)) > MAX_NAME:
        raise UsageError(
            f"{shown}: longer than {MAX_PATH} bytes, or {MAX_NAME} between two slashes; choose another path"
        )
