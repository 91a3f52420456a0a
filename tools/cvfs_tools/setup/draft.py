"""A tree of files as it is to become: looked at and changed in memory, then written; it knows nothing of plans."""

import contextlib
import errno
import os
import stat
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from cvfs.durable import replace_file
from cvfs.errors import UsageError


@dataclass(frozen=True, slots=True)
class Regular:
    """A file. The user and group that it belongs to make it no other one; None stands for whoever makes it."""

    content: bytes
    mode: int = 0o644
    owner: tuple[int, int] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory."""


Node = Regular | Symlink | Folder


class Change(NamedTuple):
    """What becomes of one place; None stands for nothing being there."""

    place: str
    before: Node | None
    after: Node | None


_STEP = 0.1


class Draft:
    """The tree below `root`, by places as the machine that it belongs to names them ("/etc/fstab")."""

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self._nodes: dict[str, Node | None] = {}

    def look(self, place: str) -> Node | None:
        """What is there, by the draft. Raises UsageError for what a set-up cannot handle, OSError."""
        return self._nodes[place] if place in self._nodes else self._on_disk(place)

    def put(self, place: str, node: Node | None) -> None:
        """What is to be there."""
        self._nodes[place] = node

    def is_empty(self, directory: str) -> bool:
        """Whether nothing is to be in a directory. What is mounted there is not in it, and unmounted by then."""
        path = self._inside(directory)
        try:
            names = [] if os.path.ismount(path) else os.listdir(path)
        except OSError:
            names = []
        places = {os.path.join(directory, name) for name in names}
        places |= {place for place in self._nodes if os.path.dirname(place) == directory}
        return all(place in self._nodes and self._nodes[place] is None for place in places)

    def changes(self) -> list[Change]:
        """Where the draft differs from the disk, in the order to be done in: what is made from the top, what goes after."""
        found = [Change(place, self._on_disk(place), node) for place, node in self._nodes.items()]
        found = sorted(change for change in found if change.before != change.after)
        made = [change for change in found if change.after is not None]
        return made + [change for change in reversed(found) if change.after is None]

    def perform(self) -> None:
        """Make the disk as the draft is. Raises OSError, and stops there."""
        for change in self.changes():
            _perform(self._inside(change.place), change)

    def clear_mountpoints(self, patience: float) -> None:
        """Take away directories that were still mounted upon when `perform` came to them: autofs leaves after it was told to.

        Those that are not free within so many seconds stay, as directories do that somebody uses.
        """
        deadline = time.monotonic() + patience
        for change in self.changes():
            if change.after is not None or not isinstance(change.before, Folder):
                continue
            path = self._inside(change.place)
            while os.path.ismount(path) and time.monotonic() < deadline:
                time.sleep(_STEP)
            _remove(path, change.before)

    def _on_disk(self, place: str) -> Node | None:
        path = self._inside(place)
        try:
            status = os.lstat(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            # A mount whose server died, upon a directory.
            if error.errno == errno.ENOTCONN:
                return Folder()
            raise
        if stat.S_ISLNK(status.st_mode):
            return Symlink(os.readlink(path))
        if stat.S_ISDIR(status.st_mode):
            return Folder()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: neither file nor directory nor link, remove it first")
        with open(path, "rb") as file:
            return Regular(file.read(), stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid))

    def _inside(self, place: str) -> str:
        """The path of a place. A link of the tree that leads out of it would change another machine's files: refused."""
        path = os.path.join(self._root, place.lstrip("/"))
        root, above = os.path.realpath(self._root), os.path.realpath(os.path.dirname(path))
        if os.path.commonpath([root, above]) != root:
            raise UsageError(f"{path}: a link leads out of {self._root}: make it relative, or run this inside")
        return path


def _perform(path: str, change: Change) -> None:
    match change.after:
        case None:
            _remove(path, change.before)
        case Folder():
            os.mkdir(path)
        case Symlink(target):
            _clear(path, change.before)
            os.symlink(target, path)
        case Regular(content, mode, owner):
            replace_file(path, content, mode=mode, owner=owner)


def _remove(path: str, before: Node | None) -> None:
    if isinstance(before, Folder):
        # Somebody may have put something there since.
        with contextlib.suppress(OSError):
            os.rmdir(path)
    else:
        _clear(path, before)


def _clear(path: str, before: Node | None) -> None:
    if before is not None:
        os.unlink(path)
