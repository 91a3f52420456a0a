"""The mounts of this machine and how to reach them: found in the mount table, asked with a deadline; it mounts nothing."""

import errno
import json
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from cvfs.client.configuration_sources import Sources
from cvfs.client.control import AS_JSON, AS_LINES, ask, socket_path
from cvfs.client.presentation import CONTROL_ATTRIBUTE
from cvfs.client.settings.tree import DEFAULT_MOUNT_DIR
from cvfs.errors import CvfsError, MountError, UsageError
from cvfs.fuse import mount_points
from cvfs.kernel import mount_table
from cvfs_tools.repository_options import etc_of_group

Found = TypeVar("Found")

ASKED_WITHIN = 120.0
"""Seconds that a command may take which waits for the network, as `remount` and `host probe` do."""


class Running(NamedTuple):
    """A mount in the mount table; whether its server lives is not known."""

    fqrn: str
    mountpoint: str


class Reply(NamedTuple):
    """What a mount answered: whether it could do it, and lines of text or a structure."""

    ok: bool
    answer: Any


def running_mounts() -> list[Running]:
    """Every mount of cvfs, the topmost at each place, in the order of the mount table."""
    found = {os.fsdecode(entry.mountpoint): entry for entry in mount_table.mount_table()}
    return [Running(entry.source, place) for place, entry in found.items() if entry.type == mount_points.TYPE]


def place_of(name: str) -> str:
    """The mount point meant by a path, or by a repository's name, which has no slash: the whole one or the short one."""
    fqrn = None if "/" in name or mount_table.find_mount(name) is not None else _fqrn_of(name)
    if fqrn is None:
        return os.path.abspath(name)
    mounted = [mount.mountpoint for mount in running_mounts() if mount.fqrn == fqrn]
    default = os.path.join(mount_directory(), fqrn)
    return default if default in mounted or not mounted else mounted[0]


def _fqrn_of(name: str) -> str | None:
    """A whole name as it is; a short one is in CVMFS_DEFAULT_DOMAIN, and without that it is a path."""
    if "." in name:
        return name
    try:
        return Sources(etc=etc_of_group()).common().fqrn_of(name)
    except CvfsError:
        return None


def mount_directory() -> str:
    """Where repositories are mounted by default: CVMFS_MOUNT_DIR."""
    try:
        configured = Sources(etc=etc_of_group()).common().text("CVMFS_MOUNT_DIR")
    except CvfsError:
        configured = ""
    return configured or DEFAULT_MOUNT_DIR


def control_socket(mounted: str, cache: str | None = None) -> str:
    """Where the socket of a mount lies: what the mount itself says, or in the cache directory that is named.

    Raises UsageError if no mount is there, MountError if its server does not answer in time.
    """
    if cache:
        return socket_path(cache, os.path.basename(mounted.rstrip("/")))
    place = place_of(mounted)
    try:
        return os.fsdecode(within_deadline(place, lambda: os.getxattr(place, CONTROL_ATTRIBUTE.decode())))
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            raise UsageError(
                f"{place}: the process of this mount died, mount it again with the same command"
            ) from error
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT):
            raise UsageError(f"{place}: no cvfs repository is mounted here") from error
        raise


def within_deadline(place: str, look: Callable[[], Found]) -> Found:
    """Look at a mount in a thread of its own: a server that hangs would hold the asker for ever.

    Raises MountError if that takes too long, and whatever `look` raises.
    """
    answer: list[Found] = []
    failure: list[OSError] = []

    def probe() -> None:
        try:
            answer.append(look())
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=probe, name="look", daemon=True)
    thread.start()
    thread.join(mount_points.PROBE_DEADLINE)
    if failure:
        raise failure[0]
    if not answer:
        raise MountError(f"{place}: mounted, but its server does not answer: unmount it with cvfs umount -l")
    return answer[0]


def converse(socket: str, command: str, form: str = AS_LINES) -> Reply:
    """The answer of a mount to a command, in lines or, AS_JSON, as it is for programs.

    Raises Unreachable, UsageError for an answer that makes no sense.
    """
    text = ask(socket, f"{form} {command}", ASKED_WITHIN)
    try:
        answer = json.loads(text)
        return Reply(bool(answer["ok"]), answer["answer"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{socket}: {text.strip()[:200] or 'no answer'}") from error


def state_of(mounted: str, cache: str | None = None) -> dict[str, Any]:
    """All numbers of a mount. Raises CvfsError."""
    reply = converse(control_socket(mounted, cache), "stat", AS_JSON)
    if not isinstance(reply.answer, dict):
        raise UsageError(f"{mounted}: {reply.answer}")
    return reply.answer


def pid_of(mounted: str) -> int | None:
    """The process of a mount; None if it is dead, or does not answer."""
    try:
        return int(within_deadline(mounted, lambda: os.getxattr(mounted, "user.pid")))
    except (CvfsError, OSError, ValueError):
        return None
