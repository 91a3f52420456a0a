"""Who owns a repository's files: the user who publishes, even where root works for them; makes no users, follows no links."""

import contextlib
import os
import pwd
from typing import NamedTuple

from cvfs.errors import StoreFull, UsageError


class Owner(NamedTuple):
    """A user of this machine, with the user's own group."""

    name: str
    uid: int
    gid: int


def current_owner() -> Owner:
    """Whoever runs this process; a user without an account is called by the number."""
    uid = os.geteuid()
    with contextlib.suppress(KeyError):
        found = pwd.getpwuid(uid)
        return Owner(found.pw_name, found.pw_uid, found.pw_gid)
    return Owner(str(uid), uid, os.getegid())


def owner_named(name: str) -> Owner:
    """The user of that name. Raises UsageError if there is none, or if only root may make files for that user."""
    own = current_owner()
    if name in {own.name, str(own.uid)}:
        return own
    try:
        found = pwd.getpwnam(name)
    except (KeyError, ValueError) as error:
        raise UsageError(f"no user {name!r} on this machine: choose the owner of the repository with -o") from error
    if os.geteuid() != 0:
        raise UsageError(f"only root can make a repository for {name}: you are {own.name}")
    return Owner(found.pw_name, found.pw_uid, found.pw_gid)


def give(path: str, owner: Owner) -> None:
    """Let a file or directory belong to a user. Raises StoreFull."""
    if not _is_others(owner):
        return
    try:
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
    except OSError as error:
        raise StoreFull(f"cannot give {path} to {owner.name}: {error.strerror}") from error


def give_tree(top: str, owner: Owner) -> None:
    """Let a directory and all below it belong to a user. Raises StoreFull."""
    if not _is_others(owner):
        return
    give(top, owner)
    for where, directories, files in os.walk(top):
        for name in (*directories, *files):
            give(f"{where}/{name}", owner)


def give_to_directory_owner(descriptor: int, path: str) -> None:
    """Let an open file that root made belong to the owner of its directory, who will want to use it. Raises OSError."""
    if os.geteuid() == 0:
        there = os.stat(os.path.dirname(path) or ".")
        os.fchown(descriptor, there.st_uid, there.st_gid)


def nearest_directory(path: str) -> str:
    """The path itself, or what is nearest above it, that is there; absolute."""
    path = os.path.abspath(path)
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def give_new_directories(above: str, path: str) -> None:
    """Let the directories that root made from below `above` down to `path` belong to the owner of `above`. Raises OSError."""
    path = os.path.abspath(path)
    if os.geteuid() != 0 or path == above:
        return
    there = os.stat(above)
    while path != above:
        os.chown(path, there.st_uid, there.st_gid, follow_symlinks=False)
        path = os.path.dirname(path)


def _is_others(owner: Owner) -> bool:
    return os.geteuid() == 0 and owner.uid != 0
