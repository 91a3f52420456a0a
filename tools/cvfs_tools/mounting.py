"""cvfs mount, umount, stat."""

import errno
import json
import os
import threading
from typing import Any

import click

from cvfs.client.background import mount_in_background
from cvfs.client.control import ask, socket_path
from cvfs.client.presentation import CONTROL_ATTRIBUTE
from cvfs.client.process import mount_in_foreground
from cvfs.errors import MountError, UsageError
from cvfs.fuse import device
from cvfs_tools.repository_options import repository_options, settings
from cvfs_tools.running import start_logging, write_line

DEFAULT_PARENT = "/cvmfs"


@click.command()
@click.argument("repository")
@click.argument("mountpoint", required=False)
@click.option("-f", "--foreground", is_flag=True, help="Serve in this process; end with Ctrl-C")
@click.option("-d", "--debug", is_flag=True, help="Log everything")
@click.option("--log", "logfile", metavar="FILE", help="Write messages there")
@click.option("--allow-other", is_flag=True, help="Let other users in (always so for root)")
@repository_options
def mount(
    repository: str,
    mountpoint: str | None,
    *,
    foreground: bool,
    debug: bool,
    logfile: str | None,
    allow_other: bool,
    **options: Any,
) -> None:
    """Mount a REPOSITORY (fqrn or URL) read-only, by default at /cvmfs/<fqrn>."""
    start_logging(debug=debug, file=logfile)
    chosen = settings(repository, **options)
    place = mountpoint or os.path.join(DEFAULT_PARENT, chosen.fqrn)
    # Asked of the mount table: a mount whose server died or hangs is not looked into.
    if not mountpoint and device.find_mount(place) is None:
        _make_default_place(place)
    if foreground:
        mount_in_foreground(chosen, place, allow_other=allow_other)
    else:
        mount_in_background(chosen, place, allow_other=allow_other)


@click.command()
@click.argument("mountpoints", nargs=-1, required=True)
@click.option("-l", "--lazy", is_flag=True, help="Detach now, although it is in use")
def umount(mountpoints: tuple[str, ...], *, lazy: bool) -> None:
    """Unmount repositories, given by mount point or by fqrn."""
    for name in mountpoints:
        place = place_of(name)
        # A server that hangs cannot be asked whether it is dead, and need not be.
        entry = device.find_mount(place)
        if entry is None:
            raise MountError(f"{place}: nothing is mounted there")
        if not entry.type.startswith("fuse"):
            raise MountError(f"{place}: a mount of type {entry.type}, not of cvfs: use umount")
        if lazy or not device.clean_dead_mount(place):
            device.unmount(place, lazy=lazy)


@click.command()
@click.argument("mounted")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object")
@click.option("-c", "--cache", metavar="DIR", help="Where the control socket lies, if the mount does not answer")
def stat(mounted: str, *, as_json: bool, cache: str | None) -> None:
    """Show the state of a mount, given by mount point or fqrn: revision, cache, requests by operation."""
    answer = ask(_control_socket(mounted, cache), "stat")
    if not answer.startswith("{"):
        raise UsageError(f"{mounted}: {answer.strip()}")
    if as_json:
        write_line(answer)
        return
    state = json.loads(answer)
    requests = state.pop("requests")
    for name, value in state.items():
        write_line(f"{name:<16} {value if value is not None else 'never'}")
    write_line("requests of the kernel by operation:")
    for name, count in sorted(requests.items(), key=lambda pair: -pair[1]):
        write_line(f"  {name:<14} {count}")


def place_of(name: str) -> str:
    """The mount point meant by a path, or by a repository's name, which has a dot in it and no slash."""
    is_path = "/" in name or "." not in name or device.find_mount(name) is not None
    return os.path.abspath(name) if is_path else os.path.join(DEFAULT_PARENT, name)


def _make_default_place(place: str) -> None:
    try:
        os.makedirs(place, exist_ok=True)
    except OSError as error:
        raise MountError(f"{place}: {error.strerror}: name another directory to mount at") from error


def _control_socket(mounted: str, cache: str | None) -> str:
    if cache:
        return socket_path(cache, os.path.basename(mounted.rstrip("/")))
    place = place_of(mounted)
    try:
        return os.fsdecode(_attribute(place, CONTROL_ATTRIBUTE.decode()))
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            raise UsageError(
                f"{place}: the process of this mount died, mount it again with the same command"
            ) from error
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT):
            raise UsageError(f"{place}: no cvfs repository is mounted here") from error
        raise


def _attribute(place: str, name: str) -> bytes:
    """Asked in a thread of its own: a server that hangs would hold the asker for ever."""
    answer: list[bytes | OSError] = []

    def probe() -> None:
        try:
            answer.append(os.getxattr(place, name))
        except OSError as error:
            answer.append(error)

    thread = threading.Thread(target=probe, name="attribute", daemon=True)
    thread.start()
    thread.join(device.PROBE_DEADLINE)
    if not answer:
        raise MountError(f"{place}: mounted, but its server does not answer: unmount it with cvfs umount -l")
    if isinstance(answer[0], OSError):
        raise answer[0]
    return answer[0]
