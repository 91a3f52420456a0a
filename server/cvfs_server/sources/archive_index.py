"""The members of an archive as a tree of names, put below a base directory of the repository; reads no archive, no content.

Later members replace earlier ones. A hard link is the very member it points to. Names never leave the base directory, and
nothing is followed: what lies below a name that is no directory is refused, by name.
"""

import stat
from dataclasses import dataclass, field
from typing import NamedTuple

from cvfs.catalog.tree import CatalogTree
from cvfs.errors import Unpublishable
from cvfs_server.sources.base import MAX_NAME, MAX_PATH, ScannedEntry
from cvfs_server.sources.revision import known_entry
from cvfs_server.sources.tar_members import TarMember

_MAX_ENTRIES = 10**7
_DIRECTORY = 0o040000


@dataclass(slots=True)
class Directory:
    """A directory of which something is said: by `member`, or only that something is in it.

    `removed` are published names that go away. With `fresh` nothing of what is published in it stays.
    """

    fresh: bool = False
    member: TarMember | None = None
    children: "dict[bytes, Directory | TarMember | ScannedEntry]" = field(default_factory=dict)
    removed: set[bytes] = field(default_factory=set)


class _Link(NamedTuple):
    """A hard link whose target was not known when it came."""

    directory: Directory
    name: bytes
    member: TarMember

    @property
    def waits(self) -> bool:
        """Whether it is still there, and not resolved."""
        return self.directory.children.get(self.name) is self.member


class ArchiveIndex:
    """What is to be done, from the repository's root on. Removals come first, then members, then `finish`."""

    def __init__(self, published: CatalogTree, base: bytes) -> None:
        self._published = published
        self._base = base
        self._root = Directory()
        self._top = self._root
        self._recent: tuple[bytes | None, Directory] = (None, self._root)
        self._links: list[_Link] = []
        self._entries = 0

    def remove(self, path: bytes) -> None:
        """What is published at `path` goes away; it is there."""
        *way, name = path.split(b"/")[1:]
        directory = self._root
        for step in way:
            if step in directory.removed:
                return
            directory = self._enter(directory, step)
        directory.removed.add(name)
        # What was to be removed below is gone with it.
        directory.children.pop(name, None)

    def open_base(self) -> Directory:
        """The directory below which the members go; from now on it is there."""
        self._top = self._root
        for step in self._base.split(b"/")[1:]:
            self._top = self._enter(self._top, step)
        return self._top

    def add(self, member: TarMember) -> None:
        """The next member. Raises Unpublishable, naming it."""
        self._entries += 1
        if self._entries > _MAX_ENTRIES:
            raise Unpublishable(f"the archive has more than {_MAX_ENTRIES} members; publish it in parts")
        if stat.S_ISLNK(member.mode) and not 0 < len(member.target) <= MAX_PATH:
            raise _refused(member.name, f"is a symbolic link to nothing, or to more than {MAX_PATH} bytes")
        directory, name = self._place(member.name)
        if member.mode & 0o170000 == _DIRECTORY:
            self._add_directory(directory, name, member)
        elif not name:
            raise _refused(member.name, "is the archive's top, and no directory")
        else:
            self._add_file(directory, name, member)

    def finish(self) -> Directory:
        """The whole tree, from the repository's root, all hard links being resolved. Raises Unpublishable."""
        for link in self._links:
            self._settle(link)
        return self._root

    def directory(self, path: bytes) -> Directory:
        """The directory at a path of the repository; it is in the tree."""
        found = self._root
        for step in path.split(b"/")[1:]:
            child = found.children[step]
            assert isinstance(child, Directory)
            found = child
        return found

    def _add_directory(self, directory: Directory, name: bytes, member: TarMember) -> None:
        if not name:
            directory.member = member
            return
        child = directory.children.get(name)
        if not isinstance(child, Directory):
            directory.children.pop(name, None)
            child = self._enter(directory, name)
        child.member = member

    def _add_file(self, directory: Directory, name: bytes, member: TarMember) -> None:
        present = directory.children.get(name)
        if isinstance(present, Directory):
            if present.children:
                raise _refused(member.name, "is a directory that is not empty, and something else, in one archive")
            self._recent = (None, self._root)
        if member.is_link:
            target = self._target(member)
            if target is None:
                self._links.append(_Link(directory, name, member))
            elif target is present:
                return
            else:
                member = target  # type: ignore[assignment]
        directory.children[name] = member

    def _target(self, link: TarMember) -> TarMember | ScannedEntry | None:
        """What a hard link points to, if that is known by now. Raises Unpublishable for a directory."""
        found = self._find(link.target)[2]
        if isinstance(found, Directory):
            raise _refused(link.name, "is a hard link to a directory")
        # A link that waits itself is no target yet.
        return None if isinstance(found, TarMember) and found.is_link else found

    def _find(self, target: bytes) -> "tuple[Directory, bytes, Directory | TarMember | ScannedEntry | None]":
        """What is at the place that a hard link names: the directory, the name in it, what is there."""
        *way, name = _steps(target) or [b""]
        directory = self._top
        for step in way:
            child = directory.children.get(step)
            if not isinstance(child, Directory):
                return directory, step, None
            directory = child
        return directory, name, directory.children.get(name) if name else directory

    def _settle(self, link: _Link) -> None:
        """Resolve a link, and before it those that it waits for: each is looked at once."""
        waiting: list[_Link] = []
        seen: set[int] = set()
        following: _Link | None = link
        while following and following.waits and id(following.member) not in seen:
            seen.add(id(following.member))
            waiting.append(following)
            directory, name, found = self._find(following.member.target)
            following = _Link(directory, name, found) if isinstance(found, TarMember) and found.is_link else None
        for last in reversed(waiting):
            # One that is nowhere in the archive can only be in what is published before.
            if not self._resolve(*last):
                self._resolve_published(*last)

    def _resolve(self, directory: Directory, name: bytes, link: TarMember) -> bool:
        target = self._target(link)
        if target is None:
            return False
        directory.children[name] = target
        return True

    def _resolve_published(self, directory: Directory, name: bytes, link: TarMember) -> None:
        """A link to a file that is in the repository already: another file with the same content."""
        path = self._base + b"".join(b"/" + step for step in _steps(link.target))
        parent = path[: path.rfind(b"/")]
        row = None if self._is_removed(path) else self._published.catalog_at(parent).find(path)
        if row is None or row.is_directory:
            target = link.target.decode("utf-8", "backslashreplace")
            raise _refused(
                link.name, f"is a hard link to {target}, a file neither of the archive nor of the repository"
            )
        directory.children[name] = known_entry(self._published, path, row)._replace(links=1)

    def _is_removed(self, path: bytes) -> bool:
        directory: Directory | TarMember | ScannedEntry | None = self._root
        for step in path.split(b"/")[1:]:
            if not isinstance(directory, Directory):
                return False
            if directory.fresh or step in directory.removed:
                return True
            directory = directory.children.get(step)
        return False

    def _place(self, name: bytes) -> tuple[Directory, bytes]:
        """Where a member goes: the directory, and the name in it, empty for the top."""
        head, _, tail = name.rpartition(b"/")
        # Members of one directory mostly follow each other.
        if head == self._recent[0] and tail not in {b"", b".", b".."}:
            _check(name, [tail])
            return self._recent[1], tail
        *way, last = _steps(name) or [b""]
        directory = self._top
        for step in way:
            child = directory.children.get(step)
            if child is not None and not isinstance(child, Directory):
                raise _refused(name, f"lies below {step.decode('utf-8', 'backslashreplace')}, which is no directory")
            directory = child or self._enter(directory, step)
        if last == tail:
            self._recent = (head, directory)
        return directory, last

    def _enter(self, directory: Directory, name: bytes) -> Directory:
        child = directory.children.get(name)
        if not isinstance(child, Directory):
            self._entries += 1
            child = Directory(directory.fresh or name in directory.removed)
            directory.children[name] = child
        return child


def _steps(name: bytes) -> list[bytes]:
    """The names on the way. A slash in front means the base directory. Raises Unpublishable."""
    steps = [step for step in name.split(b"/") if step not in {b"", b"."}]
    _check(name, steps)
    return steps


def _check(name: bytes, steps: list[bytes]) -> None:
    if b".." in steps:
        raise _refused(name, "leaves the directory it belongs to")
    if b"\0" in name:
        raise _refused(name, "has a NUL in its name")
    if len(name) > MAX_PATH or any(len(step) > MAX_NAME for step in steps):
        raise _refused(name, f"is longer than {MAX_PATH} bytes, or {MAX_NAME} between two slashes")


def _refused(name: bytes, reason: str) -> Unpublishable:
    shown = name[:MAX_PATH].decode("utf-8", "backslashreplace")
    return Unpublishable(f"{shown} in the archive {reason}; nothing was published")
