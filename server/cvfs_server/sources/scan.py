"""A source tree as an ordered stream of directory listings; reads names and attributes, never contents, writes nothing.

Contract of the stream: a directory's listing comes after the listings of all directories below it, the root's last; each
directory once; entries in the order of their bytes, sub-directories behind the rest and complete with their link count.
Whether a directory starts a nested catalog is known before anything below it is listed. Memory follows the widest directory.
Source: FORMAT sections 5.5, 5.6, 5.10, 9.8.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from cvfs.errors import Unpublishable
from cvfs_server.sources.dirtab import Dirtab
from cvfs_server.sources.dirtab import parse as parse_dirtab

MARKER = b".cvmfscatalog"
DIRTAB = b".cvmfsdirtab"
_VIRTUAL_DIRECTORY = b".cvmfs"
_MAX_DIRTAB = 2**20
_SECOND = 10**9
_GENERATED_MODE = stat.S_IFREG | 0o644


class ScannedEntry(NamedTuple):
    """What the source tree says of one name. The first seven fields are ordered as in a `DirectoryEntry`.

    `links` is the link count as it is published: names of the same file in this directory, or 2 + sub-directories.
    `group` numbers the groups of several such names within one listing, 0 is none. `generated` entries are in no file
    system: the catalog markers that a dirtab asks for.
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

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)


@dataclass(frozen=True, slots=True)
class ScannedCatalog:
    """A catalog that the source tree asks for: where it starts, its root directory, the catalog around it."""

    mountpoint: bytes
    root: ScannedEntry
    parent: "ScannedCatalog | None"

    def encloses(self, mountpoint: bytes) -> bool:
        """Whether the catalog of that mountpoint is this one or one around it."""
        catalog: ScannedCatalog | None = self
        while catalog and len(catalog.mountpoint) > len(mountpoint):
            catalog = catalog.parent
        return catalog is not None and catalog.mountpoint == mountpoint


@dataclass(frozen=True, slots=True)
class Listing:
    """A directory and everything directly in it; `path` is the path in the repository, the root's is empty.

    `familiar` says that this directory, and each one above it, is the one that the last scan found at its path.
    """

    path: bytes
    directory: ScannedEntry
    catalog: ScannedCatalog
    entries: list[ScannedEntry]
    familiar: bool = False


@dataclass(frozen=True, slots=True)
class ScanRules:
    """What of the source tree is published. `recognise` is asked of each directory: is this inode known at this path?"""

    mtime_ns: bool = True
    ignore_special_files: bool = False
    recognise: Callable[[bytes, int], bool] = lambda _path, _inode: False


def scan(source: bytes, rules: ScanRules) -> Iterator[Listing]:
    """All listings below the directory `source`. Raises Unpublishable, naming the path, for what cannot be published."""
    return _Scan(os.path.abspath(source), rules).listings()


class _Frame:
    """A directory on the way from the root: read already, its sub-directories being descended into."""

    __slots__ = ("catalog", "directory", "entries", "familiar", "path", "pending")

    def __init__(
        self,
        path: bytes,
        directory: ScannedEntry,
        catalog: ScannedCatalog,
        found: list[ScannedEntry],
        familiar: bool,
    ) -> None:
        self.familiar = familiar
        self.path = path
        self.directory = directory
        self.catalog = catalog
        self.entries = [entry for entry in found if not entry.is_directory]
        self.pending = iter([entry for entry in found if entry.is_directory])

    def listing(self) -> Listing:
        return Listing(self.path, self.directory, self.catalog, self.entries, self.familiar)


class _Scan:
    def __init__(self, source: bytes, rules: ScanRules) -> None:
        self._source = source
        self._rules = rules
        self._dirtab = Dirtab()

    def listings(self) -> Iterator[Listing]:
        root = self._root()
        self._dirtab = self._read_dirtab()
        # An explicit stack: a path may have more levels than Python allows calls.
        stack = [self._enter(b"", root, None, familiar=True)]
        while stack:
            frame = stack[-1]
            child = next(frame.pending, None)
            if child is not None:
                path = frame.path + b"/" + child.name
                stack.append(self._enter(path, child, frame.catalog, familiar=frame.familiar))
                continue
            stack.pop()
            if stack:
                stack[-1].entries.append(frame.directory)
            yield frame.listing()

    def _root(self) -> ScannedEntry:
        try:
            status = os.stat(self._source)
        except OSError as error:
            raise _unpublishable(self._source, error) from error
        if not stat.S_ISDIR(status.st_mode):
            raise Unpublishable(f"{os.fsdecode(self._source)}: not a directory")
        return self._entry(b"", status)

    def _enter(self, path: bytes, directory: ScannedEntry, parent: ScannedCatalog | None, *, familiar: bool) -> _Frame:
        # Asked in any case: every directory is remembered for the next scan.
        familiar = self._rules.recognise(path, directory.inode) and familiar
        found = self._read_directory(path)
        directory = directory._replace(links=2 + sum(entry.is_directory for entry in found))
        is_mountpoint = self._is_mountpoint(path, found)
        if is_mountpoint:
            directory = directory._replace(is_mountpoint=True)
        if parent is None or is_mountpoint:
            parent = ScannedCatalog(path, directory, parent)
        if is_mountpoint and not any(entry.name == MARKER for entry in found):
            found.append(_generated_marker(directory))
        return _Frame(path, directory, parent, found, familiar)

    def _is_mountpoint(self, path: bytes, found: list[ScannedEntry]) -> bool:
        marker = next((entry for entry in found if entry.name == MARKER), None)
        if marker is None:
            return bool(path) and self._dirtab.matches(path)
        if not path:
            raise Unpublishable(f"/{MARKER.decode()}: the root cannot be a nested catalog, remove this file")
        if not marker.is_regular:
            raise Unpublishable(f"{_shown(path)}/{MARKER.decode()}: must be a regular file")
        return True

    def _read_directory(self, path: bytes) -> list[ScannedEntry]:
        try:
            with os.scandir(self._source + path) as names:
                found = sorted(names, key=_name_of)
        except OSError as error:
            raise _unpublishable(self._source + path, error) from error
        entries: list[ScannedEntry] = []
        linked: list[tuple[int, tuple[int, int]]] = []
        for name in found:
            status = self._status(name)
            entry = self._entry(name.name, status)
            if stat.S_ISLNK(entry.mode):
                entry = self._with_target(name, entry)
            if self._is_left_out(path, entry):
                continue
            if status.st_nlink > 1 and not entry.is_directory:
                linked.append((len(entries), (status.st_dev, status.st_ino)))
            entries.append(entry)
        return _with_groups(entries, linked) if len(linked) > 1 else entries

    def _status(self, name: "os.DirEntry[bytes]") -> os.stat_result:
        try:
            return name.stat(follow_symlinks=False)
        except OSError as error:
            raise _unpublishable(name.path, error) from error

    def _with_target(self, name: "os.DirEntry[bytes]", entry: ScannedEntry) -> ScannedEntry:
        try:
            target = os.readlink(name.path)
        except OSError as error:
            raise _unpublishable(name.path, error) from error
        return entry._replace(symlink=target, size=len(target))

    def _is_left_out(self, path: bytes, entry: ScannedEntry) -> bool:
        if not path and entry.name == _VIRTUAL_DIRECTORY:
            raise Unpublishable("/.cvmfs: this name is reserved for the virtual directory of snapshots")
        return self._rules.ignore_special_files and stat.S_IFMT(entry.mode) not in _ORDINARY

    def _entry(self, name: bytes, status: os.stat_result) -> ScannedEntry:
        mode = status.st_mode
        seconds, nanoseconds = divmod(status.st_mtime_ns, _SECOND)
        return ScannedEntry(
            name,
            mode,
            status.st_size if stat.S_IFMT(mode) in _SIZED else status.st_rdev,
            seconds,
            nanoseconds if self._rules.mtime_ns else None,
            status.st_uid,
            status.st_gid,
            status.st_ctime_ns,
            inode=status.st_ino,
        )

    def _read_dirtab(self) -> Dirtab:
        try:
            descriptor = os.open(self._source + b"/" + DIRTAB, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return Dirtab()
        except OSError as error:
            raise _unpublishable(b"/" + DIRTAB, error) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unpublishable(f"/{DIRTAB.decode()}: must be a regular file")
            text = os.read(descriptor, _MAX_DIRTAB + 1)
        finally:
            os.close(descriptor)
        if len(text) > _MAX_DIRTAB:
            raise Unpublishable(f"/{DIRTAB.decode()}: longer than {_MAX_DIRTAB} bytes")
        return parse_dirtab(text)


_SIZED = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})
_ORDINARY = _SIZED


def _name_of(entry: "os.DirEntry[bytes]") -> bytes:
    return entry.name


def _with_groups(entries: list[ScannedEntry], linked: list[tuple[int, tuple[int, int]]]) -> list[ScannedEntry]:
    """Names of one file within the directory form a group; what is linked from elsewhere stands alone (section 5.6)."""
    members = Counter(identity for _, identity in linked)
    groups: dict[tuple[int, int], int] = {}
    for index, identity in linked:
        if members[identity] > 1:
            group = groups.setdefault(identity, len(groups) + 1)
            entries[index] = entries[index]._replace(links=members[identity], group=group)
    return entries


def _generated_marker(directory: ScannedEntry) -> ScannedEntry:
    return directory._replace(name=MARKER, mode=_GENERATED_MODE, size=0, links=1, is_mountpoint=False, generated=True)


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _unpublishable(path: bytes, error: OSError) -> Unpublishable:
    return Unpublishable(f"{_shown(path)}: {error.strerror}; nothing was published")
