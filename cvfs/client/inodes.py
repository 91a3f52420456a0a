"""Numbers for entries: one number stands for one content, for as long as the kernel remembers it.

A file whose content changes gets a new number; the old one keeps showing the old bytes until it is forgotten. The members of a
hard-link group share a number. Numbers stay below 2^32: old 32-bit programs fail with EOVERFLOW otherwise.
"""

import stat
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Mapping

from cvfs.client.content import Piece
from cvfs.client.number_table import NumberTable
from cvfs.client.packed_rows import mode_of, pack, unpack
from cvfs.errors import PathError
from cvfs.format.dirent import DirectoryEntry
from cvfs.hashes import parent_path

ROOT = 1
FIRST = 256
LAST = 2**32 - 1
# Entries that were listed but never handed to the kernel; kept for a while so that their numbers do not change at once.
_UNREFERENCED_LIMIT = 16384

Key = bytes | tuple[bytes, int, bytes, int]


_NONE: Mapping[Key, int] = {}


class StaleNode(PathError):
    """A number that means nothing any more."""

    errno = 116  # ESTALE


class NumberInUse(PathError):
    """The number that an entry has for ever still stands for what the entry was before."""

    def __init__(self, key: Key, path: bytes) -> None:
        super().__init__(f"{path.decode(errors='replace')}: its number is in use")
        self.key = key
        self.path = path


class Node:
    """What a number stands for. `pieces` are kept for chunked files that were read; the type of a node never changes.

    A `detached` node is not what its path shows any more: nothing may be looked up for it by its path.
    """

    __slots__ = ("ino", "key", "path", "pieces", "references", "row")

    def __init__(self, ino: int, key: Key, path: bytes, entry: DirectoryEntry) -> None:
        self.ino = ino
        self.key: Key | None = key
        self.path = path
        self.row = pack(entry)
        self.references = 0
        self.pieces: tuple[Piece, ...] | None = None

    @property
    def detached(self) -> bool:
        """Whether the path shows something else by now."""
        return self.key is None

    @property
    def is_directory(self) -> bool:
        """Its type, without decoding the row."""
        return stat.S_ISDIR(mode_of(self.row))

    @property
    def entry(self) -> DirectoryEntry:
        """The catalog's row, without the name, which `path` ends with."""
        return unpack(self.row)

    @entry.setter
    def entry(self, entry: DirectoryEntry) -> None:
        self.row = pack(entry)


class Inodes:
    """The table. Not locked: the volume holds its lock around every call."""

    def __init__(self, root: DirectoryEntry) -> None:
        node = Node(ROOT, b"", b"", root)
        node.references = 1
        self._by_number: NumberTable[Node] = NumberTable()
        self._by_number.put(ROOT, node)
        self._by_key: dict[Key, Node] = {b"": node}
        self._unreferenced: OrderedDict[int, None] = OrderedDict()
        self._detached: set[int] = set()
        self._next = FIRST
        self.highest = ROOT

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._by_number)

    def node(self, ino: int) -> Node:
        """What the number stands for. Raises StaleNode."""
        node = self._by_number.get(ino)
        if node is None:
            raise StaleNode(f"inode {ino} is not known any more")
        return node

    def at(self, key: Key) -> Node | None:
        """The node that shows a path, or a hard-link group, in the current revision."""
        return self._by_key.get(key)

    def assign(self, key: Key, path: bytes, entry: DirectoryEntry, numbers: Mapping[Key, int] = _NONE) -> Node:
        """The node of an entry, with a new number if it has none yet, the one in `numbers` if there is one.

        Counts no reference. Raises NumberInUse.
        """
        node = self._by_key.get(key)
        return self.add(key, path, entry, numbers.get(key, 0)) if node is None else node

    def add(self, key: Key, path: bytes, entry: DirectoryEntry, number: int = 0) -> Node:
        """The node of an entry that has none, with the number that is given, if one is. Raises NumberInUse."""
        if not number:
            number = self._free_number()
        elif number in self._by_number:
            raise NumberInUse(key, path)
        node = self._by_key[key] = Node(number, key, path, entry)
        self._by_number.put(number, node)
        self._unreferenced[number] = None
        if len(self._unreferenced) > _UNREFERENCED_LIMIT:
            self._trim()
        return node

    def reference(self, nodes: Iterable[Node]) -> None:
        """The kernel was given these numbers once more."""
        unreferenced = self._unreferenced
        for node in nodes:
            if not node.references:
                unreferenced.pop(node.ino, None)
            node.references += 1

    def withhold(self, ino: int) -> None:
        """A reference that was counted did not reach the kernel; the number stays for a while, as before it."""
        node = self._by_number.get(ino)
        if node is None or ino == ROOT:
            return
        node.references -= 1
        if node.references <= 0:
            node.references = 0
            self._unreferenced[ino] = None
            self._trim()

    def forget(self, ino: int, count: int) -> None:
        """The kernel gives back references; at zero the number is free."""
        node = self._by_number.get(ino)
        if node is None or ino == ROOT:
            return
        node.references -= count
        if node.references <= 0:
            self._drop(node)

    def detach(self, node: Node) -> None:
        """The node's path shows something else from now on; the number lives until it is forgotten."""
        key, node.key = node.key, None
        if key is not None and self._by_key.get(key) is node:
            del self._by_key[key]
        self._detached.add(node.ino)

    def detached(self) -> list[int]:
        """The numbers of what is not shown any more."""
        return list(self._detached)

    def detach_files_outside(self, directories: Container[bytes]) -> None:
        """Nobody knows whether the path of an entry still shows the same, except in `directories`."""
        for node in list(self._by_key.values()):
            if not node.is_directory and parent_path(node.path) not in directories:
                self.detach(node)

    def detach_below(self, directories: Container[bytes]) -> None:
        """These directories are gone, and with them everything beneath: one pass, however many they are."""
        for node in list(self._by_key.values()):
            path = node.path
            while path and path not in directories:
                path = parent_path(path)
            if path:
                self.detach(node)

    def _drop(self, node: Node) -> None:
        self._by_number.remove(node.ino)
        self._unreferenced.pop(node.ino, None)
        self.detach(node)
        self._detached.discard(node.ino)

    def _trim(self) -> None:
        while len(self._unreferenced) > _UNREFERENCED_LIMIT:
            ino, _ = self._unreferenced.popitem(last=False)
            self._drop(self.node(ino))

    def _free_number(self) -> int:
        number, used = self._next, self._by_number
        while number in used:
            number = number + 1 if number < LAST else FIRST
        self.highest = max(self.highest, number)
        self._next = number + 1 if number < LAST else FIRST
        return number
