"""What is mounted where, out of /proc: nothing here looks into a mount, whose server may be dead or hang."""

import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class MountEntry(NamedTuple):
    """A line of /proc/…/mountinfo: device number as "major:minor", place, type, source, whether it may be written.

    Of a FUSE mount also its user. What is mounted in one that `is_shared` shows in other mount namespaces, too.
    """

    device: str
    mountpoint: bytes
    type: str
    source: str
    is_writable: bool
    user: int | None = None
    is_shared: bool = False


def find_mount(place: str | bytes, pid: int | None = None) -> MountEntry | None:
    """The topmost mount at a place, as this or another process sees it; None if there is none, or no such process."""
    wanted = absolute(place)
    found = [entry for entry in mount_table(pid) if entry.mountpoint == wanted]
    return found[-1] if found else None


def mount_around(place: str | bytes, pid: int | None = None) -> MountEntry | None:
    """The mount in which a place lies, or that lies there; None if no mount is seen at all."""
    return mount_around_in(mount_table(pid), absolute(place))


def mount_around_in(table: Iterable[MountEntry], place: bytes) -> MountEntry | None:
    """The same in a table: of those above the place, the last one with the longest name."""
    above = [entry for entry in table if (place + b"/").startswith(entry.mountpoint.rstrip(b"/") + b"/")]
    above.sort(key=lambda entry: len(entry.mountpoint))
    return above[-1] if above else None


def mount_table(pid: int | None = None) -> list[MountEntry]:
    """All mounts that this or another process sees, in the order of mounting; none of a process that has ended."""
    try:
        with open(f"/proc/{pid or 'self'}/mountinfo", "rb") as table:
            return list(parse_mountinfo(table.read()))
    except OSError:
        # Also EINVAL, which is what /proc says of a process that has ended and that nobody has waited for.
        if pid:
            return []
        raise


def parse_mountinfo(table: bytes) -> Iterator[MountEntry]:
    """The lines of /proc/…/mountinfo (proc_pid_mountinfo(5))."""
    for line in table.splitlines():
        place, _, origin = line.partition(b" - ")
        fields, source = place.split(b" "), origin.split(b" ")
        user = re.search(rb"(?:^|,)user_id=(\d+)", source[-1])
        yield MountEntry(
            fields[2].decode(),
            _unescape(fields[4]),
            source[0].decode(),
            os.fsdecode(_unescape(source[1])),
            b"rw" in source[-1].split(b","),
            int(user[1]) if user else None,
            any(word.startswith(b"shared:") for word in fields[6:]),
        )


def _unescape(field: bytes) -> bytes:
    """The kernel writes blanks, line ends and backslashes as three octal digits."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)


def absolute(place: str | bytes) -> bytes:
    """As the kernel names the place: links resolved, but never the mount point itself looked at."""
    parent, name = os.path.split(os.path.abspath(os.fsencode(place)))
    return os.path.join(os.path.realpath(parent), name)
