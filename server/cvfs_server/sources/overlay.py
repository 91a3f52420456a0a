"""The upper layer of an overlay as a source: only what was changed; reads no contents, writes nothing, looks at no mount.

What was removed is a device file 0:0 there, or an empty file with a mark; a directory that hides what is published has a mark
too; all other directories are added to. Files were copied up whole. A name that was linked to others before stands alone.
Source: the kernel's documentation of overlayfs; FORMAT sections 5.5 to 5.7.
"""

import contextlib
import os
import stat
from dataclasses import dataclass

from cvfs.catalog.tree import CatalogTree
from cvfs.errors import NotFound, Unpublishable
from cvfs.format.dirent import DirectoryEntry
from cvfs.format.xattrs import pack, stored_attributes
from cvfs_server.ingest.content import pack_attributes
from cvfs_server.sources.base import DirectoryEdit, Part, Place, ScannedEntry
from cvfs_server.sources.scan import ScanRules, TreeSource

_TYPE = 0o170000
# Access control lists name users whom a namespace does not know. Capabilities go, as with every file that is written.
_OUT_OF_REACH = (b"trusted.", b"system.")
_ORDINARY = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})


@dataclass(frozen=True, slots=True)
class OverlayRules:
    """How the layer is to be understood.

    `unprivileged`: its marks are attributes `user.overlay.*`, and what was copied from below keeps its owner and those
    attributes that the user could neither see nor change. Only what is below `subpath` may have been changed, everything if
    it is empty.
    """

    scan: ScanRules
    unprivileged: bool = False
    subpath: bytes = b""


class OverlaySource:
    """The changes in the directory `upper`, which were made on `published`. A `Source`."""

    def __init__(self, upper: bytes, rules: OverlayRules, published: CatalogTree) -> None:
        self._upper = upper
        self._rules = rules
        self._published = published
        # Special files are sorted out here: some of them are marks.
        self._tree = TreeSource(upper, ScanRules(rules.scan.mtime_ns, ignore_special_files=False))
        self._marks = ("user" if rules.unprivileged else "trusted") + ".overlay."

    def root(self) -> ScannedEntry | None:
        """The repository's root, which the upper layer's own directory stands for. Raises Unpublishable."""
        return None if self._rules.subpath else self._owned(b"", self._tree.root())

    def edit(self, path: bytes) -> DirectoryEdit:
        """What was changed in a directory. Raises Unpublishable, for changes that a sub-path forbids too."""
        entries: list[ScannedEntry] = []
        removed: list[bytes] = []
        for entry in self._tree.edit(path).entries:
            place = path + b"/" + entry.name
            self._check_permitted(place, entry)
            if self._is_whiteout(place, entry) or self._is_left_out(entry):
                removed.append(entry.name)
            else:
                self._check_links(place, entry)
                entries.append(self._owned(place, entry))
        return DirectoryEdit(entries, tuple(removed), complete=self._is_opaque(path))

    def place(self, path: bytes) -> Place:
        """The file in the upper layer."""
        where = self._upper + path
        if not any(name.startswith(self._marks) for name in _attribute_names(where)):
            return Place(where)
        try:
            status = os.lstat(where)
        except OSError as error:
            raise _unpublishable(path, error) from error
        return Place(where, Part(0, status.st_size, status.st_mtime_ns, self.attributes(path)))

    def attributes(self, path: bytes) -> bytes | None:
        """The extended attributes without those of the overlay. Raises Unpublishable."""
        if not self._rules.scan.xattrs:
            return None
        packed = pack_attributes(self._upper + path, self._upper + path, self._shown)
        row = self._copied(path)
        if row is None:
            return packed
        out_of_reach = {n: v for n, v in stored_attributes(row.xattr).items() if n.startswith(_OUT_OF_REACH)}
        return pack(stored_attributes(packed) | out_of_reach)

    def _shown(self, name: str) -> str | None:
        """An overlay inside of the overlay has its marks escaped by one more `overlay.`; a mark of this one is nobody's."""
        if not name.startswith(self._marks):
            return name
        inner = name.removeprefix(self._marks)
        return self._marks + inner.removeprefix("overlay.") if inner.startswith("overlay.") else None

    def _is_whiteout(self, path: bytes, entry: ScannedEntry) -> bool:
        if stat.S_ISCHR(entry.mode):
            return entry.size == 0
        return entry.is_regular and entry.size == 0 and self._mark(path, "whiteout") is not None

    def _is_opaque(self, path: bytes) -> bool:
        return self._mark(path, "opaque") == b"y"

    def _is_left_out(self, entry: ScannedEntry) -> bool:
        """A file that is not published is not there; whatever it replaced is not there either."""
        return self._rules.scan.ignore_special_files and stat.S_IFMT(entry.mode) not in _ORDINARY

    def _mark(self, path: bytes, name: str) -> bytes | None:
        with contextlib.suppress(OSError):
            return os.getxattr(self._upper + path, self._marks + name, follow_symlinks=False)
        return None

    def _owned(self, path: bytes, entry: ScannedEntry) -> ScannedEntry:
        """The entry with the owner that it is published with, where nobody could have changed him."""
        row = self._copied(path)
        return entry._replace(uid=row.uid, gid=row.gid) if row and not (entry.mode ^ row.mode) & _TYPE else entry

    def _copied(self, path: bytes) -> DirectoryEntry | None:
        """What an ordinary user's union copied: he sees himself as its owner, and not all of its attributes."""
        if not self._rules.unprivileged or not (path == b"" or self._mark(path, "origin") is not None):
            return None
        try:
            return self._published.find(path)
        except NotFound:
            return None

    def _check_links(self, path: bytes, entry: ScannedEntry) -> None:
        """Not the tree's matter: the kernel links whiteouts to each other wherever they are."""
        if self._rules.scan.ignore_xdir_hardlinks or entry.is_directory:
            return
        if os.lstat(self._upper + path).st_nlink != entry.links:
            raise Unpublishable(
                f"{_shown(path)}: hardlinks across directories; set CVMFS_IGNORE_XDIR_HARDLINKS=true to publish "
                "separate files"
            )

    def _check_permitted(self, path: bytes, entry: ScannedEntry) -> None:
        allowed = self._rules.subpath
        if not allowed or (path + b"/").startswith(allowed + b"/"):
            return
        if not (entry.is_directory and allowed.startswith(path + b"/")):
            raise Unpublishable(
                f"{_shown(path)}: this transaction is for {_shown(allowed)} only: undo that, or abort and open another one"
            )


def _attribute_names(where: bytes) -> list[str]:
    try:
        return os.listxattr(where, follow_symlinks=False)
    except OSError:
        return []


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _unpublishable(path: bytes, error: OSError) -> Unpublishable:
    return Unpublishable(f"{_shown(path)}: {error.strerror}; nothing was published")
