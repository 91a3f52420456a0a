"""What only the rows of one catalog together show: paths, subdirectories, hard-link groups, chunks, counters; pure.

Memory follows the directories, the hard-link groups and the chunked files, not the rows. Source: FORMAT sections 4.5, 5.3,
5.6, 5.9.
"""

import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cvfs.catalog.schema import COUNTER_NAMES, Counters
from cvfs.format.dirent import Chunk, DirectoryEntry, Flag
from cvfs_server.check.findings import Finding, fault, shown

Key = tuple[int, int]
# Nothing on the machine could name a longer path, and a catalog whose directories lie in a circle has no end.
_LONGEST_PATH = 2**16
_CHUNKED, _EXTERNAL = int(Flag.CHUNKED), int(Flag.EXTERNAL)


class Directories:
    """The directories of a catalog by the hash of their path: their paths, and how many directories lie in each."""

    def __init__(self, root: Key, mountpoint: bytes) -> None:
        self._root = root
        self._mountpoint = mountpoint
        self._unplaced: dict[Key, tuple[Key, bytes]] = {}
        self._paths: dict[Key, bytes | None] = {root: mountpoint}
        self._subdirectories: Counter[Key] = Counter()

    def add(self, key: Key, parent: Key, name: bytes) -> None:
        """A directory's row."""
        if key != self._root:
            self._unplaced[key] = parent, name
            self._subdirectories[parent] += 1

    def place(self) -> None:
        """Find the paths, once all directories are known."""
        while self._unplaced:
            key = next(iter(self._unplaced))
            chain: list[tuple[Key, bytes]] = []
            # What is taken out is not found again: a circle ends here.
            while key in self._unplaced:
                parent, name = self._unplaced.pop(key)
                chain.append((key, name))
                key = parent
            self._place_chain(self._paths.get(key), chain)

    def path(self, key: Key) -> bytes | None:
        """The path of a directory, None if it is not reached from the root."""
        return self._paths.get(key)

    def subdirectories(self, key: Key) -> int:
        """How many rows are directories in this one."""
        return self._subdirectories[key]

    def _place_chain(self, path: bytes | None, chain: list[tuple[Key, bytes]]) -> None:
        for key, name in reversed(chain):
            path = None if path is None or len(path) > _LONGEST_PATH else b"%b/%b" % (path, name)
            self._paths[key] = path


class _Group:
    """The names of one file in one directory."""

    __slots__ = ("first", "names", "parent", "path")

    def __init__(self, parent: Key, path: bytes, first: DirectoryEntry) -> None:
        self.parent = parent
        self.path = path
        self.first = first
        self.names = 1


class HardlinkGroups:
    """The hard-link groups of a catalog (section 5.6)."""

    def __init__(self) -> None:
        self._groups: dict[int, _Group] = {}

    def add(self, parent: Key, path: bytes, entry: DirectoryEntry) -> Iterator[Finding]:
        """An entry that has a group."""
        number, nameless = entry.hardlink_group, entry._replace(name=b"")
        group = self._groups.get(number)
        if group is None:
            self._groups[number] = _Group(parent, path, nameless)
        elif group.parent != parent:
            yield fault(path, f"in hard-link group {number} of another directory: of {shown(group.path)}")
        else:
            group.names += 1
            if group.first != nameless:
                yield fault(path, f"differs from {shown(group.path)} of the same hard-link group")

    def finish(self) -> Iterator[Finding]:
        """What is wrong now that all rows have been seen."""
        for group in self._groups.values():
            if group.names != group.first.linkcount:
                what = f"link count {group.first.linkcount}, but its hard-link group has {group.names} names here"
                yield fault(group.path, what)


@dataclass(frozen=True, slots=True)
class ChunkedFile:
    """What is to be known of a chunked file when its chunks come; `is_stored` says that they have objects."""

    path: bytes
    size: int
    flags: int
    is_stored: bool


def chunk_findings(file: ChunkedFile, chunks: Iterable[Chunk]) -> Iterator[Finding]:
    """What is wrong with the order and the lengths of a file's chunks, which are at least one."""
    end, contiguous = 0, True
    for chunk in chunks:
        contiguous = contiguous and chunk.offset == end and chunk.size >= 0
        end += chunk.size
    if not contiguous:
        yield fault(file.path, "its chunks do not follow each other without gap or overlap from 0 on")
    elif end != file.size:
        yield fault(file.path, f"its chunks have {end} bytes together, its size is {file.size}")


class Tally:
    """The counters of a catalog, recounted (section 5.9)."""

    def __init__(self) -> None:
        self._kinds: Counter[int] = Counter()
        self._counts: Counter[str] = Counter()

    @property
    def rows(self) -> int:
        return self._kinds.total()

    def add(self, entry: DirectoryEntry) -> None:
        """One row."""
        kind = stat.S_IFMT(entry.mode)
        self._kinds[kind] += 1
        counts = self._counts
        if entry.xattr is not None:
            counts["xattr"] += 1
        if kind != stat.S_IFREG:
            return
        counts["file_size"] += entry.size
        if entry.flags & _CHUNKED:
            counts["chunked"] += 1
            counts["chunked_size"] += entry.size
        if entry.flags & _EXTERNAL:
            counts["external"] += 1
            counts["external_file_size"] += entry.size

    def add_chunk(self) -> None:
        """One row of the chunk table that belongs to a chunked file."""
        self._counts["chunks"] += 1

    def counters(self, nested: int) -> Counters:
        """The sum; `nested` is the number of nested catalogs registered here."""
        kinds = self._kinds
        regular, link, directory = (kinds[kind] for kind in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR))
        special = kinds.total() - regular - link - directory
        return Counters(
            regular=regular, symlink=link, special=special, dir=directory, nested=nested, **dict(self._counts)
        )


def counter_findings(
    mountpoint: bytes, scope: str, counted: Counters, recorded: Counters, missing: frozenset[str]
) -> Iterator[Finding]:
    """Differences between what was counted and what the catalog at `mountpoint` says; `missing` is not compared."""
    for name in COUNTER_NAMES:
        value, should_be = getattr(recorded, name), getattr(counted, name)
        if f"{scope}_{name}" not in missing and value != should_be:
            yield fault(mountpoint, f"statistics: {scope}_{name} is {value}, should be {should_be}")
