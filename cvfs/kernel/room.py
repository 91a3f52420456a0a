"""Room for mounts, in a mount namespace of our own: directories where there were none, everything beside them kept.

Nothing is made or changed in what lies below: a place is covered by a small read-only file system, and its entries show in
there. Where even the root lacks an entry, the whole root is rebuilt that way. Source: pivot_root(2), mount(2).
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping

from cvfs.errors import MountError
from cvfs.kernel import mounts
from cvfs.kernel.mount_table import mount_table

Kinds = Mapping[str, str]
"""What is mounted where: places, and the type of the topmost mount."""

_ON_DEMAND = ("autofs", "fuse.cvfs-parent")
_OF_A_SERVER = ("fuse", "autofs", "nfs", "cifs", "smb")
_SMALL = "mode=755,size=4m"
# Where the new root is put together: any directory would do, but for those whose file systems are the kernel's own.
_WORKSHOPS = ("tmp", "usr", "etc", "home", "var", "opt", "run")


def make_room(places: Iterable[str]) -> None:
    """Directories at all of these absolute paths, from here on. Raises MountError."""
    kinds = {os.fsdecode(entry.mountpoint): entry.type for entry in mount_table()}
    missing: dict[str, list[str]] = {}
    for place in places:
        # What is mounted is not looked into: its server may be dead, or hang.
        if place not in kinds and not _is_there(place, kinds):
            above = _deepest_directory(place, kinds)
            missing.setdefault(above, []).append(os.path.relpath(place, above))
    for above, inside in missing.items():
        try:
            _rebuild_root(inside, kinds) if above == "/" else _cover(above, inside, kinds)
        except OSError as error:
            place, advice = os.path.join(above, inside[0]), "make that directory first, or use another"
            raise MountError(f"cannot make room for {place}: {error.strerror}: {advice}") from error


def _is_there(place: str, kinds: Kinds) -> bool:
    """What would be mounted if it was looked at is not there: that may take long, and be for everybody."""
    return kinds.get(os.path.dirname(place)) not in _ON_DEMAND and _is_directory(place)


def _is_directory(place: str) -> bool:
    """A link to one is none: it may lead where others see it."""
    return os.path.isdir(place) and not os.path.islink(place)


def _deepest_directory(place: str, kinds: Kinds) -> str:
    above = os.path.dirname(place)
    return above if above in kinds or os.path.isdir(above) else _deepest_directory(above, kinds)


def _cover(above: str, inside: Iterable[str], kinds: Kinds) -> None:
    """Over a directory another one, with its entries and new directories."""
    names = _names_beside(above, inside, kinds)
    with _working_in(above) as covered:
        mounts.mount("tmpfs", above, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, _SMALL)
        # Where there is nothing to be shown, what is covered need not even answer.
        if names:
            os.fchdir(covered)
        for name in names:
            _show(name, f"{above}/{name}", kinds.get(f"{above}/{name}", ""))
        for path in inside:
            os.makedirs(f"{above}/{path}")
    mounts.seal(above)


def _names_beside(above: str, inside: Iterable[str], kinds: Kinds) -> list[str]:
    taken = {path.partition("/")[0] for path in inside}
    if kinds.get(above) in _ON_DEMAND:
        found = [os.path.basename(place) for place in kinds if os.path.dirname(place) == above]
    else:
        found = os.listdir(above)
    return [name for name in found if name not in taken]


def _rebuild_root(inside: Iterable[str], kinds: Kinds) -> None:
    """Another root, with the entries of this one and new directories."""
    names = _names_beside("/", inside, kinds)
    workshop = _workshop(names)
    top = f"/{workshop}"
    with _working_in(top) as covered:
        mounts.mount("tmpfs", top, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, _SMALL)
        os.fchdir(covered)
        os.mkdir(f"{top}/{workshop}")
        mounts.bind(".", f"{top}/{workshop}")
        # What is mounted over the workshop was bound with it: the new root itself.
        mounts.unmount(f"{top}/{workshop}", lazy=True)
        os.chdir("/")
        for name in names:
            if name != workshop:
                _show(name, f"{top}/{name}", kinds.get(f"/{name}", ""))
        for path in inside:
            os.makedirs(f"{top}/{path}")
        mounts.seal(top)
        _change_root(top)


def _change_root(top: str) -> None:
    os.chdir(top)
    code = mounts.attempt("pivot_root", b".", b".")
    if code == 0:
        # The old root lies over the new one now.
        mounts.unmount(".", lazy=True)
    elif code == errno.EINVAL:
        # In a chroot, or on the first root of all, the root cannot be exchanged.
        os.chroot(".")
    else:
        raise OSError(code, os.strerror(code))
    os.chdir("/")


def _workshop(names: Iterable[str]) -> str:
    for name in _WORKSHOPS:
        if name in names and _is_directory(f"/{name}"):
            return name
    raise MountError(f"cannot rebuild the root: none of {', '.join(_WORKSHOPS)} is a directory in it")


def _show(name: str, place: str, kind: str) -> None:
    """An entry of the working directory, with all that is mounted there, at another place. One that vanishes is left out.

    `kind` is the type of what is mounted there, empty if nothing is.
    """
    with contextlib.suppress(FileNotFoundError):
        # A repository, or an export: its server may be dead, hang, or let nobody in.
        mode = stat.S_IFDIR if kind.startswith(_OF_A_SERVER) else os.lstat(name).st_mode
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(name), place)
            return
        if stat.S_ISDIR(mode):
            os.mkdir(place)
        else:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        mounts.bind(f"./{name}", place)


@contextlib.contextmanager
def _working_in(directory: str) -> Iterator[int]:
    """The descriptor of a directory that is about to be covered; the working directory is the same again afterwards."""
    covered = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    present = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield covered
    finally:
        os.fchdir(present)
        os.close(covered)
        os.close(present)
