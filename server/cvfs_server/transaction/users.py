"""Who uses the files below a place: what lsof(8) would tell, from /proc; looks at names only, never into the place."""

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

_MOST_NAMED = 5
_MAX_MAPS = 2**22


class User(NamedTuple):
    """A process, and whether it may still write."""

    pid: int
    command: str
    writes: bool


def users_of(place: str) -> list[User]:
    """The processes that work, run or have files open below a place, as far as this user may know; not this one."""
    below = os.fsencode(place)
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                uses = list(_uses(f"/proc/{name}", below))
                if uses:
                    found.append(User(int(name), _command(name), any(uses)))
    return found


def named(users: list[User]) -> str:
    """For a message."""
    shown = [f"{user.command} ({user.pid}{', writes' if user.writes else ''})" for user in users[:_MOST_NAMED]]
    return ", ".join(shown) + (f" and {len(users) - _MOST_NAMED} more" if len(users) > _MOST_NAMED else "")


def works_in(place: str) -> bool:
    """Whether the working directory of this process is there."""
    with contextlib.suppress(OSError):
        return _is_below(os.readlink(b"/proc/self/cwd"), os.fsencode(place))
    return False


def _uses(process: str, below: bytes) -> Iterator[bool]:
    """For each use whether it writes."""
    for link in ("cwd", "root", "exe"):
        with contextlib.suppress(OSError):
            if _is_below(os.readlink(f"{process}/{link}".encode()), below):
                yield False
    for descriptor in os.listdir(f"{process}/fd"):
        with contextlib.suppress(OSError):
            if _is_below(os.readlink(f"{process}/fd/{descriptor}".encode()), below):
                yield _is_writing(f"{process}/fdinfo/{descriptor}")
    with contextlib.suppress(OSError), open(f"{process}/maps", "rb") as maps:
        if b" " + below + b"/" in maps.read(_MAX_MAPS):
            yield False


def _is_writing(information: str) -> bool:
    with open(information, encoding="ascii", errors="replace") as file:
        flags = next(line for line in file if line.startswith("flags:"))
    return bool(int(flags.split()[1], 8) & (os.O_WRONLY | os.O_RDWR))


def _is_below(place: bytes, above: bytes) -> bool:
    return place == above or place.startswith(above + b"/")


def _command(name: str) -> str:
    with open(f"/proc/{name}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().strip()
