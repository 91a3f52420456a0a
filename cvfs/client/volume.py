"""The POSIX view of a mounted repository: attributes, listing, readlink, xattrs, read. Knows inodes, but no FUSE.

With `wait=False` a method answers from memory, open catalogs and the local cache or raises BlockingIOError. A look-up that is
overtaken by a new revision starts again, so nothing of the old revision is handed out after the switch.
"""

import itertools
import stat
import threading
from collections.abc import Iterable, Mapping, Sequence

from cvfs.attributes import Attributes, FilesystemSize
from cvfs.catalog.diff import Difference
from cvfs.client.directories import Directories, Directory
from cvfs.client.inodes import ROOT, Inodes, Key, Node, NumberInUse, StaleNode
from cvfs.client.listings import Entries, Listing
from cvfs.client.magic.attributes import Subject, split_page
from cvfs.client.open_files import OpenFile
from cvfs.client.packed_rows import has_attributes, pack
from cvfs.client.presentation import View
from cvfs.client.reading import Reader
from cvfs.client.repository import Repository
from cvfs.client.stable_inodes import StableInodes, named
from cvfs.errors import NotADirectory, NotALink, NotFound
from cvfs.format.dirent import MOST_LINKS, DirectoryEntry
from cvfs.format.xattrs import stored_attributes
from cvfs.hashes import parent_path

_STATFS_BLOCK = 512
_NO_NUMBERS: Mapping[Key, int] = {}


class Volume:
    """A mounted repository. Every method may be called from several threads."""

    def __init__(
        self,
        repository: Repository,
        view: View | None = None,
        reader: Reader | None = None,
        stable: StableInodes | None = None,
    ) -> None:
        self._shown = Directories(repository)
        self._view = view or View()
        self._reader = reader or Reader()
        self._stable = stable
        self._inodes = Inodes(repository.tree.find(b""))
        self._opened: dict[int, list[OpenFile]] = {}
        self._lock = threading.Lock()

    @property
    def repository(self) -> Repository:
        """The revision that is shown now."""
        return self._shown.repository

    def lookup(self, parent: int, name: bytes, wait: bool = True) -> Attributes:
        """The entry `name` of a directory; counts one reference. Raises NotFound.

        "." and ".." are what the kernel asks for a file handle: the node itself, and the directory above it.
        """
        node = self._node(parent, wait=wait)
        if name in (b".", b".."):
            return self._lookup_dots(node, name, wait=wait)
        while True:
            shown = self._shown
            _check_directory(node)
            entry = shown.entry(node.path, name, wait=wait)
            if entry is None and shown is self._shown:
                raise NotFound(f"{node.path.decode(errors='replace')}: no {name.decode(errors='replace')} in it")
            found = self._give_number(shown, node.path, entry, wait=wait) if entry else None
            if found is not None:
                return found

    def _give_number(
        self, shown: Directories, parent: bytes, entry: DirectoryEntry, *, wait: bool
    ) -> Attributes | None:
        """As `_give_numbers` for one entry, counted: most look-ups pass here."""
        if self._stable:
            found = self._give_numbers(shown, parent, [entry], wait=wait, counted=True)
            return found[0][1] if found else None
        with self._lock:
            if shown is not self._shown:
                return None
            node = self._assign(shown, parent, entry, _NO_NUMBERS)
            self._inodes.reference((node,))
            return self._view.attributes(node.ino, entry)

    def _lookup_dots(self, node: Node, name: bytes, *, wait: bool) -> Attributes:
        path = node.path if name == b"." else parent_path(node.path)
        entry = node.entry if name == b"." else self.repository.tree.find(path, wait=wait)
        numbers = self._reserve({path: path}, wait=wait) if name == b".." and path else _NO_NUMBERS
        with self._lock:
            if name == b"..":
                node = self._inodes.assign(path, path, entry, numbers)
            self._inodes.reference((node,))
            return self._attributes(node)

    def _node(self, ino: int, *, wait: bool) -> Node:
        """What a number stands for; one that lasts may have been given out before this mount began."""
        try:
            return self._inodes.node(ino)
        except StaleNode:
            if self._stable is None:
                raise
        if not wait:
            raise BlockingIOError
        return self._restore(ino, self._stable)

    def _restore(self, ino: int, stable: StableInodes) -> Node:
        entry_of, shown = stable.entry_of(ino), self._shown
        try:
            path = entry_of[1] if entry_of else b""
            entry = shown.repository.tree.find(path) if path else None
        except NotFound:
            entry = None
        key = self._key(shown, path, entry) if entry else b""
        with self._lock:
            if entry is None or shown is not self._shown or named(key, path) != entry_of:
                raise StaleNode(f"inode {ino} is not known any more")
            return self._inodes.assign(key, path, entry, {key: ino})

    def forget(self, ino: int, count: int) -> None:
        """The kernel gives back references."""
        with self._lock:
            self._inodes.forget(ino, count)

    def getattr(self, ino: int, wait: bool = True) -> Attributes:  # noqa: ARG002  # never has to wait
        """Attributes of a node."""
        return self._attributes(self._inodes.node(ino))

    def readlink(self, ino: int) -> bytes:
        """Target of a symbolic link, variables filled in."""
        entry = self._inodes.node(ino).entry
        if not entry.is_link:
            raise NotALink(f"inode {ino} is no symbolic link")
        return self._view.target(entry)

    def read(self, ino: int, offset: int, size: int, wait: bool = True) -> memoryview:
        """Up to `size` bytes; fewer only at the end. Valid until the calling thread reads again."""
        return self._reader.read(self.repository, self._inodes.node(ino), offset, size, wait=wait)

    def listing(self, ino: int, wait: bool = True) -> Listing:
        """The entries of a directory in a stable order, without `.` and `..`; counts no reference."""
        node, shown = self._inodes.node(ino), self._shown
        entries = [e for e in self._directory(shown, node, wait=wait).values() if not e.is_hidden]
        return Listing(self._describe, shown, node.path, entries)

    def withhold(self, entries: Entries) -> None:
        """Entries of a listing were counted, but the kernel did not get them."""
        with self._lock:
            for _, attributes in entries:
                self._inodes.withhold(attributes.ino)

    def getxattr(self, ino: int, name: bytes, wait: bool = True, group: int = 0) -> bytes:
        """Value of an extended attribute; published ones come from memory. Raises NoSuchAttribute.

        A page number is taken off whatever the name, so published names with one in them cannot be read (FORMAT 9.7).
        """
        node, magic = self._inodes.node(ino), self._view.magic
        base = split_page(name)[0] if b"~" in name or b"@" in name else name
        if base in magic.by_name:
            return magic.get(name, group, Subject(self.repository, self._reader, node, wait))
        value = stored_attributes(node.entry.xattr).get(base) if has_attributes(node.row) else None
        if value is None:
            raise self._view.lacks(name)
        return value

    def listxattr(self, ino: int, wait: bool = True) -> list[bytes]:  # noqa: ARG002
        """Names of the magic attributes that are shown here, and of the published ones."""
        entry = self._inodes.node(ino).entry
        return self._view.magic.names(entry, is_root=ino == ROOT) + self._view.names(stored_attributes(entry.xattr))

    def statfs(self) -> FilesystemSize:
        """The cache as the disk, the repository's entries as inodes (FORMAT section 9.4)."""
        used, limit = self.repository.plane.cache_usage()
        own, below = self.repository.tree.root().counters()
        free = max(0, limit - used)
        return FilesystemSize(_STATFS_BLOCK, limit // _STATFS_BLOCK, free // _STATFS_BLOCK, (own + below).entries, 0)

    def opened(self, ino: int, wait: bool = True) -> None:
        """Keep the bytes of a file until `released`; for mounts without zero-message open."""
        node = self._inodes.node(ino)
        if node.entry.is_regular and not node.entry.is_chunked:
            file = self._reader.whole(self.repository, node, wait=wait)
            with self._lock:
                self._opened.setdefault(ino, []).append(file)

    def released(self, ino: int) -> None:
        """The counterpart of `opened`."""
        with self._lock:
            files = self._opened.get(ino, [])
            if files:
                files.pop()
            if not files:
                self._opened.pop(ino, None)

    def is_direct_io(self, ino: int) -> bool:
        """The publisher asked that the kernel shall not cache this file."""
        return self._inodes.node(ino).entry.is_direct_io

    def known_inodes(self) -> int:
        """How many numbers are in use."""
        return len(self._inodes)

    def highest_inode(self) -> int:
        """The largest number in use, about."""
        return self._inodes.highest

    def oldest_files(self, count: int) -> list[int]:
        """Up to `count` of the numbers that were given out first and stand for no directory."""
        if count <= 0:
            return []
        with self._lock:
            files = (node.ino for node in self._inodes if not node.is_directory)
            return list(itertools.islice(files, count))

    def replaced(self) -> list[int]:
        """The numbers that no path leads to any more; the kernel may hold on to them, for whoever has them open or not."""
        with self._lock:
            return self._inodes.detached()

    def known_directories(self) -> list[Node]:
        """The directories that the kernel may hold something of, parents before their children."""
        with self._lock:
            return sorted(self._referenced_directories(), key=lambda node: node.path)

    def path_of(self, ino: int) -> bytes:
        """The path by which a node was found, the root empty. Raises StaleNode."""
        return self._inodes.node(ino).path

    def number_of(self, path: bytes) -> int | None:
        """The number of the node that shows a path, if it has one."""
        with self._lock:
            node = self._inodes.at(path)
        return node.ino if node else None

    def remember(self, differences: Iterable[Difference]) -> None:
        """Before a switch: chunk lists of files that are about to change, for readers who have them open."""
        for difference in differences:
            with self._lock:
                node = self._known(difference)
            if node and node.references and node.entry.is_chunked:
                self._reader.pieces(self.repository, node, wait=True)

    def switch(
        self, repository: Repository, differences: Sequence[Difference], compared: set[bytes], *, force: bool = False
    ) -> bool:
        """Show another revision from now on: changed metadata under the same number, changed content under new ones.

        Does nothing and returns False if the kernel has learned of a directory that is not in `compared`; with `force`
        the caller compares that one afterwards and calls `follow`.
        """
        shown, root = Directories(repository), repository.tree.find(b"")
        with self._lock:
            if not force and any(d.path not in compared for d in self._referenced_directories()):
                return False
            # Detached first and shown last: a reader that meets the new revision finds its old numbers marked.
            self._replace(differences)
            self._inodes.detach_files_outside(compared)
            self._inodes.node(ROOT).entry = root
            self._shown = shown
        return True

    def follow(self, differences: Sequence[Difference]) -> None:
        """After a switch: what was found to differ too late for it."""
        with self._lock:
            self._replace(differences)

    def _describe(self, listing: Listing, start: int, stop: int, wait: bool, counted: bool) -> Entries:
        """Entries of a listing with their attributes; those without a number get one."""
        while True:
            shown = self._shown
            listing.follow(shown, start, wait=wait)
            entries = listing.entries[start:stop]
            if not entries:
                return []
            found = self._give_numbers(shown, listing.path, entries, wait=wait, counted=counted)
            if found is not None:
                return found

    def _give_numbers(
        self, shown: Directories, parent: bytes, entries: Sequence[DirectoryEntry], *, wait: bool, counted: bool
    ) -> Entries | None:
        """Entries of a directory with their attributes; None if another revision is shown by now: read it again."""
        while True:
            numbers = self._reserve_all(shown, parent, entries, wait=wait) if self._stable else _NO_NUMBERS
            try:
                with self._lock:
                    if shown is not self._shown:
                        return None
                    nodes = self._assign_all(shown, parent, entries, numbers)
                    if counted:
                        self._inodes.reference(nodes)
                    attributes = self._view.attributes
                    return [(e.name, attributes(node.ino, e)) for e, node in zip(entries, nodes, strict=True)]
            except NumberInUse as used:
                self._renew(used, wait=wait)

    def _reserve_all(
        self, shown: Directories, parent: bytes, entries: Sequence[DirectoryEntry], *, wait: bool
    ) -> Mapping[Key, int]:
        paths = [parent + b"/" + entry.name for entry in entries]
        keys = [self._key(shown, path, entry) for path, entry in zip(paths, entries, strict=True)]
        return self._reserve(dict(zip(keys, paths, strict=True)), wait=wait)

    def _reserve(self, paths: Mapping[Key, bytes], *, wait: bool) -> Mapping[Key, int]:
        """Numbers that last, on disk before they are given out; nothing where numbers need not last."""
        if self._stable is None:
            return _NO_NUMBERS
        numbers = self._stable.numbers([named(key, path) for key, path in paths.items()], wait=wait)
        return dict(zip(paths, numbers, strict=True))

    def _renew(self, used: NumberInUse, *, wait: bool) -> None:
        if not wait:
            raise BlockingIOError
        if self._stable:
            self._stable.renew(named(used.key, used.path))

    def _referenced_directories(self) -> list[Node]:
        return [node for node in self._inodes if node.is_directory and node.references]

    def _replace(self, differences: Iterable[Difference]) -> None:
        # All are found before one is moved: the members of a hard-link group are one node.
        nodes = [(self._known(difference), difference.new) for difference in differences]
        self._succeed((node, new) for node, new in nodes if node is not None)

    def _known(self, difference: Difference) -> Node | None:
        return self._inodes.at(self._key(self._shown, difference.path, difference.old))

    def _directory(self, shown: Directories, node: Node, *, wait: bool) -> Directory:
        _check_directory(node)
        return shown.read(node.path, wait=wait)

    def _assign_all(
        self, shown: Directories, parent: bytes, entries: Sequence[DirectoryEntry], numbers: Mapping[Key, int]
    ) -> list[Node]:
        """As `_assign` for each. Nearly all are new to the kernel, or as it knows them, and have one name: a few steps each."""
        inodes, prefix, nodes = self._inodes, parent + b"/", []
        at, add = inodes.at, inodes.add
        for entry in entries:
            path = prefix + entry.name
            node = at(path)
            if numbers or entry.hardlinks > MOST_LINKS or (node is not None and node.row != pack(entry)):
                node = self._assign(shown, parent, entry, numbers)
            nodes.append(node or add(path, path, entry))
        return nodes

    def _assign(self, shown: Directories, parent: bytes, entry: DirectoryEntry, numbers: Mapping[Key, int]) -> Node:
        path = b"%b/%b" % (parent, entry.name)
        key = self._key(shown, path, entry) if entry.hardlinks > MOST_LINKS else path
        node = self._inodes.at(key)
        # Names differ within a hard-link group. Anything else is left from a revision in which nobody compared this
        # directory.
        if node is not None:
            if node.row == pack(entry):
                return node
            self._succeed([(node, entry)])
        return self._inodes.assign(key, path, entry, numbers)

    def _key(self, shown: Directories, path: bytes, entry: DirectoryEntry | None) -> Key:
        if entry is None or entry.is_directory or not entry.hardlink_group:
            return path
        # Group numbers are the catalog's own and may be used anew, so the content is part of the key.
        # That one is known: the row came out of it. Nothing may wait here, since the lock is held.
        catalog = shown.repository.tree.governing(path[: path.rindex(b"/")], wait=False)
        return catalog.path, entry.hardlink_group, entry.digest or b"", entry.mtime

    def _succeed(self, successions: Iterable[tuple[Node, DirectoryEntry | None]]) -> None:
        """What the nodes' paths show from now on. All requests wait meanwhile: the table is gone through once at most."""
        gone: set[bytes] = set()
        for node, new in successions:
            if keeps_number(node.entry, new) and new is not None:
                node.entry = new
            elif node.is_directory:
                gone.add(node.path)
            else:
                self._inodes.detach(node)
        if gone:
            self._inodes.detach_below(gone)

    def _attributes(self, node: Node) -> Attributes:
        return self._view.attributes(node.ino, node.entry)


def keeps_number(old: DirectoryEntry | None, new: DirectoryEntry | None) -> bool:
    """Whether a number may go on: directories always; others if their bytes, or target, are certainly the same."""
    if old is None or new is None or stat.S_IFMT(old.mode) != stat.S_IFMT(new.mode):
        return False
    if old.is_directory:
        return True
    if old.is_chunked or new.is_chunked:
        return False
    return (old.size, old.digest, old.symlink) == (new.size, new.digest, new.symlink)


def _check_directory(node: Node) -> None:
    if not node.is_directory:
        raise NotADirectory(f"{node.path.decode(errors='replace')}: not a directory")
