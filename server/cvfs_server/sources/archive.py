"""A tar archive as a source: its members are put below a base directory, what else is published stays; writes nothing.

Members are read where they lie in the archive. Directories merge with what is published, everything else replaces it.
Source: FORMAT sections 5.5 to 5.7, 9.8.
"""

import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cvfs.catalog.tree import CatalogTree
from cvfs.errors import FormatError, NotFound, Unpublishable
from cvfs_server.ingest.content import packed_attributes
from cvfs_server.sources.archive_file import ArchiveFile
from cvfs_server.sources.archive_index import ArchiveIndex, Directory
from cvfs_server.sources.base import DirectoryEdit, Part, Place, ScannedEntry, as_published
from cvfs_server.sources.tar_members import TarMember, members
from cvfs_server.sources.walk import MARKER

_SECOND = 10**9
_NEW_DIRECTORY = stat.S_IFDIR | 0o755
_MARKER_MODE = stat.S_IFREG | 0o644
_DIRECTORY_SIZE = 4096
_ORDINARY = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})
# What other systems call their attributes means nothing here.
_NAMESPACES = (b"user.", b"security.", b"system.", b"trusted.")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose everything is to be; None is whoever it was in the archive."""

    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class ArchiveRules:
    """What is made of an archive: `base` is the directory of the repository below which it goes, `now` in Unix nanoseconds
    the time of directories that are made for it; with `catalog` a nested catalog starts at `base`."""

    base: bytes = b""
    owner: Owner = Owner()
    catalog: bool = False
    mtime_ns: bool = True
    xattrs: bool = True
    ignore_special_files: bool = False
    now: int = 0


class ArchiveSource:
    """An archive on top of what is published, removals first. A `Source`."""

    def __init__(
        self, archive: ArchiveFile | None, tree: Directory, published: CatalogTree, rules: ArchiveRules
    ) -> None:
        self._archive = archive
        self._tree = tree
        self._published = published
        self._rules = rules
        self._recent: tuple[bytes, Directory] = (b"", tree)

    @classmethod
    def open(
        cls, archive: ArchiveFile | None, removals: Sequence[bytes], published: CatalogTree, rules: ArchiveRules
    ) -> "ArchiveSource":
        """Reads the whole archive's headers. `removals` are paths that are published. Raises Unpublishable."""
        index = ArchiveIndex(published, rules.base)
        for path in removals:
            index.remove(path)
        if archive:
            base = index.open_base()
            _fill(index, archive)
            if rules.catalog:
                _mark(base, rules)
        return cls(archive, index.finish(), published, rules)

    def root(self) -> ScannedEntry | None:
        """What the archive says of its top, if that becomes the repository's root."""
        member = self._tree.member
        return self._from_member(b"", member) if member else None

    def edit(self, path: bytes) -> DirectoryEdit:
        """What becomes of the directory at `path`. Raises Unpublishable."""
        directory = self._directory(path)
        entries = [self._entry(path, name, directory.children[name]) for name in sorted(directory.children)]
        entries = [entry for entry in entries if not self._is_left_out(entry)]
        removed = tuple(sorted(directory.removed - directory.children.keys()))
        return DirectoryEdit(_with_groups(entries), removed, complete=directory.fresh)

    def place(self, path: bytes) -> Place:
        """Where the member's bytes are. Raises StoreFull, for sparse members, and Unpublishable."""
        archive, member = self._archive, self._member(path)
        assert archive is not None, "only members have a place"
        assert member is not None, "only members have a place"
        attributes = self.attributes(path)
        if member.segments is not None:
            return Place(archive.unpack(member), Part(0, member.size, member.mtime_ns, attributes))
        return Place(archive.path, Part(member.offset, member.size, member.mtime_ns, attributes, archive.mtime_ns))

    def attributes(self, path: bytes) -> bytes | None:
        """What the archive says of the extended attributes. Raises Unpublishable."""
        member = self._member(path)
        if not self._rules.xattrs or member is None or not member.attributes:
            return None
        kept = {name: value for name, value in member.attributes.items() if name.startswith(_NAMESPACES)}
        return packed_attributes(kept, path)

    def _directory(self, path: bytes) -> Directory:
        # A directory's files are asked for one after the other.
        if self._recent[0] != path:
            directory = self._tree
            for step in path.split(b"/")[1:]:
                child = directory.children[step]
                assert isinstance(child, Directory), "only directories are asked for"
                directory = child
            self._recent = (path, directory)
        return self._recent[1]

    def _child(self, path: bytes) -> Directory | TarMember | ScannedEntry:
        parent, _, name = path.rpartition(b"/")
        return self._directory(parent).children[name] if path else self._tree

    def _member(self, path: bytes) -> TarMember | None:
        child = self._child(path)
        if isinstance(child, Directory):
            return child.member
        return child if isinstance(child, TarMember) else None

    def _entry(self, path: bytes, name: bytes, child: Directory | TarMember | ScannedEntry) -> ScannedEntry:
        if isinstance(child, ScannedEntry):
            return child._replace(name=name)
        if isinstance(child, TarMember):
            return self._from_member(name, child)
        if child.member:
            return self._from_member(name, child.member)
        return self._way(path, name, fresh=child.fresh)

    def _way(self, parent: bytes, name: bytes, *, fresh: bool) -> ScannedEntry:
        """A directory of which the archive says nothing but that something is in it."""
        path = parent + b"/" + name
        row = None if fresh else self._published.catalog_at(parent).find(path)
        if row is None:
            seconds, nanoseconds = divmod(self._rules.now, _SECOND)
            return ScannedEntry(
                name,
                _NEW_DIRECTORY,
                _DIRECTORY_SIZE,
                seconds,
                nanoseconds if self._rules.mtime_ns else None,
                self._rules.owner.uid or 0,
                self._rules.owner.gid or 0,
                0,
            )
        if not row.is_directory:
            raise Unpublishable(
                f"{_shown(path)}: is published, and is no directory; remove it (-d) or choose another base directory"
            )
        return as_published(row)

    def _from_member(self, name: bytes, member: TarMember) -> ScannedEntry:
        kind, owner = stat.S_IFMT(member.mode), self._rules.owner
        size = {stat.S_IFDIR: _DIRECTORY_SIZE, stat.S_IFLNK: len(member.target), stat.S_IFREG: member.size}
        seconds, nanoseconds = divmod(member.mtime_ns, _SECOND)
        return ScannedEntry(
            name,
            member.mode,
            size.get(kind, member.device),
            seconds,
            nanoseconds if self._rules.mtime_ns else None,
            member.uid if owner.uid is None else owner.uid,
            member.gid if owner.gid is None else owner.gid,
            0,
            symlink=member.target if kind == stat.S_IFLNK else b"",
            # Names of one file have the same member.
            inode=0 if kind == stat.S_IFDIR else id(member),
        )

    def _is_left_out(self, entry: ScannedEntry) -> bool:
        return self._rules.ignore_special_files and stat.S_IFMT(entry.mode) not in _ORDINARY


def removable(published: CatalogTree, path: bytes) -> bool:
    """Whether there is something at `path` that can be removed."""
    try:
        published.find(path)
    except NotFound:
        return False
    return bool(path)


def _fill(index: ArchiveIndex, archive: ArchiveFile) -> None:
    try:
        for member in members(archive.descriptor):
            index.add(member)
    except FormatError as error:
        raise Unpublishable(f"{archive.name} is no tar archive: {error}; nothing was published") from error
    except OSError as error:
        raise Unpublishable(f"{archive.name}: {error.strerror}; nothing was published") from error


def _mark(base: Directory, rules: ArchiveRules) -> None:
    """Have a nested catalog start at the base directory."""
    if not rules.base:
        raise Unpublishable(f"/{MARKER.decode()}: the root cannot be a nested catalog; give a base directory")
    seconds, nanoseconds = divmod(rules.now, _SECOND)
    base.children.setdefault(
        MARKER,
        ScannedEntry(
            MARKER,
            _MARKER_MODE,
            0,
            seconds,
            nanoseconds if rules.mtime_ns else None,
            rules.owner.uid or 0,
            rules.owner.gid or 0,
            0,
            generated=True,
        ),
    )


def _with_groups(entries: list[ScannedEntry]) -> list[ScannedEntry]:
    """Names of one member within the directory form a group; in other directories they stand alone (section 5.6)."""
    names = Counter(entry.inode for entry in entries if entry.inode)
    numbers = {inode: number for number, inode in enumerate((i for i, count in names.items() if count > 1), 1)}
    if not numbers:
        return entries
    return [
        entry._replace(links=names[entry.inode], group=numbers[entry.inode]) if entry.inode in numbers else entry
        for entry in entries
    ]


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace") or "/"
