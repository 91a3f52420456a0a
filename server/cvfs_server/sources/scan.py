"""A directory tree of this machine as a source: reads names and attributes, never contents, writes nothing.

Every directory is complete: what the tree lacks is removed. Source: FORMAT sections 5.5, 5.6.
"""

import os
import stat
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from cvfs.errors import Unpublishable
from cvfs_server.ingest.content import pack_attributes
from cvfs_server.settings import RepositorySettings
from cvfs_server.sources.base import DirectoryEdit, Place, ScannedEntry

_SECOND = 10**9


@dataclass(frozen=True, slots=True)
class ScanRules:
    """What of a tree is published."""

    mtime_ns: bool = True
    ignore_special_files: bool = False
    xattrs: bool = True
    ignore_xdir_hardlinks: bool = True


def scan_rules(settings: RepositorySettings) -> ScanRules:
    """As a repository's settings say."""
    return ScanRules(settings.mtime_ns, settings.ignore_special_files, settings.xattrs, settings.ignore_xdir_hardlinks)


class TreeSource:
    """The tree below the directory `path`. A `Source`."""

    def __init__(self, path: bytes, rules: ScanRules) -> None:
        self._path = path
        self._rules = rules

    def root(self) -> ScannedEntry:
        """The directory itself. Raises Unpublishable."""
        try:
            status = os.stat(self._path)
        except OSError as error:
            raise _unpublishable(self._path, error) from error
        if not stat.S_ISDIR(status.st_mode):
            raise Unpublishable(f"{os.fsdecode(self._path)}: not a directory")
        return self._entry(b"", status)

    def edit(self, path: bytes) -> DirectoryEdit:
        """Everything in the directory at `path`. Raises Unpublishable."""
        return DirectoryEdit(self._names(path))

    def place(self, path: bytes) -> Place:
        """The file itself."""
        return Place(self._path + path)

    def attributes(self, path: bytes) -> bytes | None:
        """Its extended attributes, unless they are not wanted. Raises Unpublishable."""
        return pack_attributes(self._path + path, self._path + path) if self._rules.xattrs else None

    def _names(self, path: bytes) -> list[ScannedEntry]:
        directory = self._path + path
        try:
            # Not scandir: its entries would keep everything that stat says, for as long as the list lives.
            names = sorted(os.listdir(directory))
        except OSError as error:
            raise _unpublishable(directory, error) from error
        entries: list[ScannedEntry] = []
        linked: list[_Linked] = []
        for name in names:
            place = directory + b"/" + name
            try:
                status = os.lstat(place)
            except OSError as error:
                raise _unpublishable(place, error) from error
            kind = stat.S_IFMT(status.st_mode)
            if kind not in _ORDINARY and self._rules.ignore_special_files:
                continue
            entry = self._entry(name, status)
            if kind == stat.S_IFLNK:
                entry = _with_target(place, entry)
            if status.st_nlink > 1 and kind != stat.S_IFDIR:
                linked.append(_Linked(len(entries), (status.st_dev, status.st_ino), status.st_nlink))
            entries.append(entry)
        if linked and not self._rules.ignore_xdir_hardlinks:
            _refuse_scattered(path, entries, linked)
        return _with_groups(entries, linked) if len(linked) > 1 else entries

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


_SIZED = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})
_ORDINARY = _SIZED


def _with_target(place: bytes, entry: ScannedEntry) -> ScannedEntry:
    try:
        target = os.readlink(place)
    except OSError as error:
        raise _unpublishable(place, error) from error
    return entry._replace(symlink=target, size=len(target))


class _Linked(NamedTuple):
    """A name of a file that has several: its position in the listing, which file it is, and how many names that has."""

    position: int
    identity: tuple[int, int]
    links: int


def _refuse_scattered(path: bytes, entries: list[ScannedEntry], linked: list[_Linked]) -> None:
    """Names of one file in several directories are published as several files: that is not always wanted."""
    members = Counter(name.identity for name in linked)
    for name in linked:
        if members[name.identity] != name.links:
            where = _shown(path + b"/" + entries[name.position].name)
            raise Unpublishable(
                f"{where}: hardlinks across directories; set CVMFS_IGNORE_XDIR_HARDLINKS=true to publish separate files"
            )


def _with_groups(entries: list[ScannedEntry], linked: list[_Linked]) -> list[ScannedEntry]:
    """Names of one file within the directory form a group; what is linked from elsewhere stands alone (section 5.6)."""
    members = Counter(name.identity for name in linked)
    groups: dict[tuple[int, int], int] = {}
    for index, identity, _ in linked:
        if members[identity] > 1:
            group = groups.setdefault(identity, len(groups) + 1)
            entries[index] = entries[index]._replace(links=members[identity], group=group)
    return entries


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _unpublishable(path: bytes, error: OSError) -> Unpublishable:
    return Unpublishable(f"{_shown(path)}: {error.strerror}; nothing was published")
