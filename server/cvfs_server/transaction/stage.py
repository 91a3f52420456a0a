"""Where users edit, put up and taken down as a whole: client, union, the link into a namespace; knows no transaction.

Who may mount does so for everybody; anybody else in a user namespace, which the client keeps. From outside its owner goes
there by way of /proc/<client>/root.
"""

import contextlib
import os
from dataclasses import dataclass

from cvfs.errors import CvfsError
from cvfs.hashes import ContentHash
from cvfs.kernel.mounts import InUse
from cvfs.kernel.processes import see_off
from cvfs_server.settings import RepositorySettings
from cvfs_server.site import Site
from cvfs_server.state import make_directory
from cvfs_server.transaction.client import is_client, shown_root, start_client
from cvfs_server.transaction.layout import Layout
from cvfs_server.transaction.surroundings import Here, KeptBy
from cvfs_server.transaction.union import Union
from cvfs_server.transaction.users import named, users_of

_PROC = "/proc/"
_GONE_WITHIN, _GONE_SOON = 10.0, 0.5


@dataclass(frozen=True, slots=True)
class Stage:
    """Where one repository is edited. A `keeper` is the process whose namespaces hold the mounts, 0 for everybody's."""

    site: Site
    settings: RepositorySettings
    layout: Layout

    @classmethod
    def of(cls, site: Site, settings: RepositorySettings) -> "Stage":
        """The stage of a repository of this machine."""
        return cls(site, settings, Layout.of(site, settings))

    def union(self, keeper: int) -> Union:
        """The mounts, up or not."""
        return Union(self.layout, KeptBy(keeper) if keeper else Here())

    def is_up(self, keeper: int) -> bool:
        """Whether all of it is there, and alive."""
        if keeper and not is_client(keeper, self.layout):
            return False
        return self.union(keeper).is_mounted and _answers(self.place(keeper))

    def shows(self, root: ContentHash) -> bool:
        """Whether it is up for everybody, and shows this revision."""
        return shown_root(self.layout) == str(root) and self.is_up(0)

    def put_up(self, root: ContentHash, *, writable: bool, apart: bool) -> int:
        """Show a revision, with the upper layer over it; returns the keeper. `apart`: in a user namespace.

        Raises MountError, StoreFull.
        """
        if not apart:
            remove_link(self.layout)
        make_directory(os.path.dirname(self.layout.union))
        client = start_client(self.site, self.settings, self.layout, root, apart=apart)
        keeper = client if apart else 0
        try:
            self.union(keeper).mount(writable=writable)
        except CvfsError:
            self.take_down(keeper, lazy=True)
            raise
        if apart:
            _link(self.layout, keeper)
        return keeper

    def take_down(self, keeper: int, *, lazy: bool = False) -> None:
        """Take away whatever is there; the layers stay. Raises InUse naming who uses it, MountError."""
        union = self.union(keeper)
        if keeper and not is_client(keeper, self.layout):
            remove_link(self.layout)
            return
        try:
            union.unmount(lazy=lazy)
        except InUse as error:
            raise self.in_use(error) from error
        if keeper:
            remove_link(self.layout)
            # It serves as long as somebody uses its files.
            see_off(keeper, _GONE_SOON if lazy else _GONE_WITHIN)

    def in_use(self, error: InUse) -> InUse:
        """The same with the names of those who use it."""
        users = named(users_of(self.layout.union))
        return InUse(f"{self.layout.union} is in use by {users}: let them end, or force it with -f") if users else error

    def place(self, keeper: int) -> str:
        """The path by which this process's user reaches the union."""
        return f"{_PROC}{keeper}/root{self.layout.union}" if keeper else self.layout.union


def remove_link(layout: Layout) -> None:
    """Take away the link into a namespace."""
    with contextlib.suppress(OSError):
        if os.readlink(layout.union).startswith(_PROC):
            os.unlink(layout.union)


def _link(layout: Layout, keeper: int) -> None:
    """Users find the union at its place; where they may not have a link there, `enter` brings them to it."""
    remove_link(layout)
    with contextlib.suppress(OSError):
        if not os.listdir(layout.union):
            os.rmdir(layout.union)
    with contextlib.suppress(OSError):
        os.symlink(f"{_PROC}{keeper}/root{layout.union}", layout.union)


def _answers(place: str) -> bool:
    """A client that was killed leaves a mount that answers nothing."""
    with contextlib.suppress(OSError):
        os.listdir(place)
        return True
    return False
