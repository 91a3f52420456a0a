"""Where things of an ordinary user lie that no configuration gave a place: by the environment, which is an argument.

Nothing is made in places of the user's own; a directory that others could have made first is made here, or not used.
"""

import contextlib
import logging
import os
import stat
from collections.abc import Iterator, Mapping

from cvfs.errors import UsageError

log = logging.getLogger(__name__)

_SHARED_BY_ALL = ("/var/tmp", "/tmp")  # noqa: S108  # what is made there is checked to be the user's alone
_told: set[str] = set()


def configuration_directory(environment: Mapping[str, str]) -> str | None:
    """The user's own tree of configuration files, if there is one."""
    for directory in _own(environment, "XDG_CONFIG_HOME", ".config"):
        if os.path.isdir(directory):
            return directory
    return None


def cache_directory(environment: Mapping[str, str]) -> str:
    """Where the user's cache lies: in his home, else in a private directory among temporary ones, which is told once.

    Raises UsageError if there is no place at all.
    """
    wanted = list(_own(environment, "XDG_CACHE_HOME", ".cache"))
    for directory in wanted:
        if can_be_made(directory):
            return directory
    for directory in _private(environment):
        if _is_private(directory):
            _tell(wanted[0] if wanted else "", directory)
            return directory
    raise UsageError(
        "no directory for a cache can be written: name one with -c DIR, or CVMFS_CACHE_BASE, XDG_CACHE_HOME"
    )


def _own(environment: Mapping[str, str], variable: str, below_home: str) -> Iterator[str]:
    """By the variable; without it, in the home directory. Relative values count for nothing."""
    named, home = environment.get(variable, ""), os.path.expanduser("~")
    if os.path.isabs(named):
        yield os.path.join(named, "cvfs")
    elif os.path.isabs(home):
        yield os.path.join(home, below_home, "cvfs")


def _private(environment: Mapping[str, str]) -> Iterator[str]:
    """The user's memory-backed directory is the last choice: a cache would fill it."""
    for above in (environment.get("TMPDIR", ""), *_SHARED_BY_ALL, environment.get("XDG_RUNTIME_DIR", "")):
        if os.path.isabs(above):
            yield os.path.join(above, f"cvfs-{os.geteuid()}")


def can_be_made(directory: str) -> bool:
    """Whether it can be written, or made where it is missing."""
    while not os.path.lexists(directory) and directory != "/":
        directory = os.path.dirname(directory)
    return os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK)


def _is_private(directory: str) -> bool:
    """It is there now, a directory, not a link to one, and nobody else's."""
    try:
        # Another process of the user's may be quicker.
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        found = os.lstat(directory)
    except OSError:
        return False
    alone = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return alone and os.access(directory, os.W_OK | os.X_OK)


def _tell(wanted: str, used: str) -> None:
    if used not in _told:
        _told.add(used)
        reason = f"{wanted} cannot be written" if wanted else "you have no home directory"
        log.warning("%s: the cache, and what was seen of repositories, are in %s", reason, used)
