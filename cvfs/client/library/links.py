"""Paths followed through symbolic links, as the kernel would follow them below /cvmfs; it reads no file and writes nothing."""

from collections.abc import Callable
from typing import NamedTuple

from cvfs.errors import NotADirectory, NotFound, TooManyLinks
from cvfs.format.dirent import DirectoryEntry

# The kernel's own limits.
MAX_LINKS = 40
_LONGEST_TARGET = 4095


class Found(NamedTuple):
    """Where a path leads: the path without any link, and the entry there (None: there is nothing)."""

    path: bytes
    entry: DirectoryEntry | None


class Paths:
    """The paths of a repository that is taken to be mounted at `home`, so that absolute links back into it are followed.

    `lookup` gives the entry of a path without links, `target` that of a link as users see it.
    """

    def __init__(
        self, home: bytes, lookup: Callable[[bytes], DirectoryEntry], target: Callable[[DirectoryEntry], bytes]
    ) -> None:
        self.home = _parts(home)
        self.lookup = lookup
        self.target = target

    def find(self, path: bytes, *, follow: bool = True) -> tuple[bytes, DirectoryEntry]:
        """The path without links, and its entry; with `follow` also a link at its end is followed.

        Raises NotFound, also if it leads out of the repository, NotADirectory, TooManyLinks.
        """
        direct = self._directly(path)
        if direct is not None and not (follow and direct.is_link):
            return path, direct
        walk = _Walk(self, path, follow=follow)
        walk.run()
        return walk.inside(), walk.entry or self.lookup(walk.inside())

    def resolve(self, path: bytes) -> bytes:
        """The path without links, whether there is something or not: beyond what is there the rest of it as it stands."""
        walk = _Walk(self, path, follow=True)
        while True:
            try:
                walk.run()
                break
            except (NotFound, NotADirectory):
                # What follows may lead back to where there is something.
                if not walk.is_inside():
                    raise
        return walk.inside()

    def _directly(self, path: bytes) -> DirectoryEntry | None:
        """Most paths have no link in them: one look is enough."""
        if b".." in _parts(path):
            return None
        try:
            return self.lookup(path)
        except NotFound:
            return None


class _Walk:
    """One path on its way: `place` is where it is, from the root of the machine, `todo` what comes, the next part last."""

    def __init__(self, paths: Paths, path: bytes, *, follow: bool) -> None:
        self._paths = paths
        self._asked = path
        self._follow = follow
        self._links = 0
        self.place = list(paths.home)
        self.todo = _parts(path)[::-1]
        self.entry: DirectoryEntry | None = None

    def run(self) -> None:
        while self.todo:
            self._step(self.todo.pop())
        if not self.is_inside():
            raise self._outside()

    def is_inside(self) -> bool:
        home = self._paths.home
        return self.place[: len(home)] == home

    def inside(self) -> bytes:
        """The place as a path of the repository."""
        return b"".join(b"/" + part for part in self.place[len(self._paths.home) :])

    def _step(self, part: bytes) -> None:
        self.entry = None
        if part == b"..":
            del self.place[-1:]
            return
        self.place.append(part)
        home = self._paths.home
        if self.place != home[: len(self.place)]:
            if not self.is_inside():
                raise self._outside()
            self._enter(self._paths.lookup(self.inside()))

    def _enter(self, entry: DirectoryEntry) -> None:
        if entry.is_link and (self.todo or self._follow):
            self._turn(self._paths.target(entry))
        elif self.todo and not entry.is_directory:
            raise NotADirectory(f"{_shown(self.inside())}: not a directory, on the way to {_shown(self._asked)}")
        else:
            self.entry = entry

    def _turn(self, target: bytes) -> None:
        """Where the link in `place` says."""
        self._links += 1
        if self._links > MAX_LINKS:
            raise TooManyLinks(f"{_shown(self._asked)}: too many levels of symbolic links")
        if not 0 < len(target) <= _LONGEST_TARGET:
            raise NotFound(f"{_shown(self.inside())}: a symbolic link whose target is no path")
        del self.place[-1:]
        if target.startswith(b"/"):
            self.place.clear()
        self.todo += _parts(target)[::-1]

    def _outside(self) -> NotFound:
        place = b"/" + b"/".join([*self.place, *reversed(self.todo)])
        return NotFound(
            f"{_shown(self._asked)}: leads out of the repository, to {_shown(place)}; a mount can follow it"
        )


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def _shown(path: bytes) -> str:
    return path.decode(errors="replace") or "/"
