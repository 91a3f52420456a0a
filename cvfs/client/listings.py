"""A directory as it was when its reader began, and how it follows a new revision; it gives out no numbers itself."""

import sys
from collections.abc import Callable, Sequence
from typing import overload

from cvfs.attributes import Attributes
from cvfs.client.directories import Directories, Directory
from cvfs.errors import NotADirectory, NotFound
from cvfs.format.dirent import DirectoryEntry

Entries = Sequence[tuple[bytes, Attributes]]


class Listing(Sequence[tuple[bytes, Attributes]]):
    """The entries of `path`. `describe` gives numbers to the part that is looked at.

    After a new revision the part behind the reader is left alone, and the rest loses what is there no more: nothing old
    may be handed out, and the reader's position must go on meaning the same.
    """

    def __init__(
        self,
        describe: "Callable[[Listing, int, int, bool, bool], Entries]",
        shown: Directories,
        path: bytes,
        entries: list[DirectoryEntry],
    ) -> None:
        self.path = path
        self.entries = entries
        self._describe = describe
        self._shown = shown

    def part(self, start: int, stop: int, wait: bool = True, counted: bool = False) -> Entries:
        """The entries at these places; `counted`: one reference to each. Raises BlockingIOError if `wait` is false
        and a new revision has to be looked at whose catalog is not at hand.
        """
        return self._describe(self, start, stop, wait, counted)

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> tuple[bytes, Attributes]: ...

    @overload
    def __getitem__(self, index: slice) -> Entries: ...

    def __getitem__(self, index: int | slice) -> tuple[bytes, Attributes] | Entries:
        if isinstance(index, int):
            place = range(len(self.entries))[index]
            return self.part(place, place + 1)[0]
        start, stop, step = index.indices(len(self.entries))
        return self.part(start, stop if stop < len(self.entries) else sys.maxsize)[::step]

    def follow(self, shown: Directories, start: int, *, wait: bool) -> None:
        """Bring the entries from `start` on up to the revision that is shown now."""
        if shown is self._shown:
            return
        now = _present(shown, self.path, wait=wait)
        kept = [now[entry.name] for entry in self.entries[start:] if entry.name in now]
        self.entries = self.entries[:start] + kept
        self._shown = shown


def _present(shown: Directories, path: bytes, *, wait: bool) -> Directory:
    try:
        return shown.read(path, wait=wait)
    except (NotFound, NotADirectory):
        return {}
