"""The mounts of a repository on its publisher: the published tree below, what is changed above, the union where users edit.

It knows neither revisions nor transactions; what is in the layers stays whatever happens to the mounts.
Source: the kernel's documentation of overlayfs.
"""

import functools
from dataclasses import dataclass

from cvfs.kernel import mounts
from cvfs.kernel.room import make_room
from cvfs_server.state import make_directory
from cvfs_server.transaction.layout import Layout
from cvfs_server.transaction.surroundings import KeptBy, Surroundings

# Every change shows in the upper layer as the whole of what was changed, and nothing in it refers to anything else.
_RULES = "redirect_dir=nofollow,index=off,metacopy=off,xino=off"


@dataclass(frozen=True, slots=True)
class Union:
    """The union of one repository, in the surroundings where its client runs."""

    layout: Layout
    where: Surroundings

    @property
    def is_mounted(self) -> bool:
        """Whether it is there, with a layer below."""
        return self._type_at(self.layout.union) == "overlay" and self._type_at(self.layout.lower).startswith("fuse")

    @property
    def is_writable(self) -> bool:
        """Whether users may edit."""
        found = self.where.mounted_at(self.layout.union)
        return bool(found and found.type == "overlay" and found.is_writable)

    def mount(self, *, writable: bool) -> None:
        """Put the union over what the client shows. Raises MountError."""
        layout, apart = self.layout, isinstance(self.where, KeptBy)
        for place in (layout.upper, layout.work):
            make_directory(place)
        layers = {"lowerdir": layout.lower.replace(":", "\\:"), "upperdir": layout.upper, "workdir": layout.work}
        options = ",".join(f"{name}={_quoted(place)}" for name, place in layers.items())
        options = f"{options},{_RULES}" + (",userxattr" if apart else "")

        def work() -> None:
            if apart:
                make_room([layout.union])
            mounts.mount("overlay", layout.union, "overlay", 0 if writable else mounts.MS_RDONLY, options)

        if not apart:
            make_directory(layout.union)
        self.where.run(work)

    def set_writable(self, *, writable: bool) -> None:
        """Allow or forbid editing. Raises InUse if somebody has a file open for writing, MountError."""
        self.where.run(lambda: mounts.remount(self.layout.union, writable=writable))

    def unmount(self, *, lazy: bool = False) -> None:
        """Take everything away that is there; the layers stay. Raises InUse, MountError."""
        for place, kind in ((self.layout.union, "overlay"), (self.layout.lower, "fuse")):
            while self._type_at(place).startswith(kind):
                self.where.run(functools.partial(mounts.unmount, place, lazy=lazy))

    def _type_at(self, place: str) -> str:
        found = self.where.mounted_at(place)
        return found.type if found else ""


def _quoted(place: str) -> str:
    return place.replace("\\", "\\\\").replace(",", "\\,")
