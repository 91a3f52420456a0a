"""Where the commands of cvfs are, as units, maps and mount(8) shall call them; it makes steps and does none.

They may come from a package, a virtual environment or the single file: what is written into the system names them by
their absolute paths.
"""

import os
import shlex
import stat
from collections.abc import Iterator, Sequence

from cvfs import interpreter
from cvfs_tools.setup.plan import File, Link, Section, Step

HELPERS = "/usr/sbin"
"""Where mount(8) looks for `mount.<type>`; /sbin is the same directory or is searched as well."""

_EMPTIED = ("/tmp", "/dev/shm")  # noqa: S108  # nothing is put there

_SCRIPT = '#!/bin/sh\n# Made by cvfs setup: mount(8) looks for its helpers here.\nexec {words} "$@"\n'


def words(program: str, directory: str | None = None) -> list[str]:
    """The words that start a program; `directory` is where it will be installed if not here."""
    return [os.path.join(directory, program)] if directory else interpreter.command(program)


def helpers(directory: str | None = None, *, as_cvmfs: bool = False) -> Section:
    """What mount(8) calls for `-t cvfs` and what is mounted so, and for `-t cvmfs` where the original is not installed."""
    # The second is the type in the mount table, which a remount goes by.
    kinds = ("cvfs", "fuse.cvfs", *(("cvmfs",) if as_cvmfs else ()))
    found = words("mount.cvfs", directory)
    return Section("helpers", tuple(step for kind in kinds for step in _helper(f"{HELPERS}/mount.{kind}", found)))


def _helper(place: str, found: list[str]) -> list[Step]:
    if len(found) > 1:
        return [File(place, _SCRIPT.format(words=shlex.join(found)).encode(), 0o755)]
    is_there = os.path.dirname(found[0]) in (HELPERS, "/sbin") and os.path.basename(found[0]) == os.path.basename(place)
    return [] if is_there else [Link(place, found[0])]


def not_roots_alone(words: Sequence[str]) -> str | None:
    """Why the program that these words start may be another one by the time that root runs it; None if it may not.

    The interpreter and the single file count, by all their names.
    """
    for word in words[:2]:
        if os.path.isabs(word) and os.path.exists(word):
            places = dict.fromkeys((*_above(word), *_above(os.path.realpath(word))))
            for reason in filter(None, map(_weakness, places)):
                return reason
    return None


def _above(path: str) -> Iterator[str]:
    """A path, and the directories above it."""
    while path != "/":
        yield path
        path = os.path.dirname(path)


def _weakness(path: str) -> str | None:
    if path in _EMPTIED:
        return f"{path} is emptied at boot, and then anybody's"
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return f"{path} is a link of user {status.st_uid}" if status.st_uid else None
    if status.st_uid:
        return f"{path} belongs to user {status.st_uid}"
    return f"everybody may write to {path}" if status.st_mode & stat.S_IWOTH else None
