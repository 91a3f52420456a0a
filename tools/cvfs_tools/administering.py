"""cvfs reload, killall, fuser: what an administrator does to running mounts; it changes no configuration."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import click

from cvfs.errors import CvfsError, UsageError
from cvfs.kernel import mount_table
from cvfs_tools.mounting import unmount
from cvfs_tools.mounts import Running, control_socket, converse, pid_of, place_of, running_mounts
from cvfs_tools.running import write_line

_GONE_WITHIN = 10.0
_STEP = 0.05
_CONNECTIONS = "/sys/fs/fuse/connections"


@click.command()
@click.option("-c", "--clean", is_flag=True, help="Empty the caches, too")
@click.argument("repository", required=False)
def reload(repository: str | None, *, clean: bool) -> None:
    """Have running mounts read their configuration again, one REPOSITORY or all. Nothing is unmounted or drained."""
    mounts = [_running(repository)] if repository else running_mounts()
    done = [_in_mount(mount, "reload", *(["cleanup 0"] if clean else [])) for mount in mounts]
    raise SystemExit(0 if all(done) else 1)


@click.command()
@click.option("-r", "abort", is_flag=True, help="Abort the FUSE connections of all mounts first")
@click.option("-s", "abort_stuck", is_flag=True, help="Abort those on which requests wait first")
def killall(*, abort: bool, abort_stuck: bool) -> None:
    """End all mounts at once, whatever uses them."""
    mounts = running_mounts()
    for mount in mounts:
        if abort or (abort_stuck and _waiting(mount)):
            _abort(mount)
    ended = _step("Terminating cvmfs2 processes", _terminate(mounts))
    cleaned = _step("Unmounting stale mount points", _unmount_all())
    raise SystemExit(0 if ended and cleaned else 1)


@click.command()
@click.argument("repository")
def fuser(repository: str) -> None:
    """List the processes that use a mount: those that keep it from being unmounted."""
    write_line(" ".join(str(pid) for pid in sorted(users_of(_running(repository)))))


def users_of(mount: Running) -> Iterator[int]:
    """Processes with a file, a working directory, a program or a library below the mount point; the mount is not asked."""
    place = mount.mountpoint
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and _uses(entry.path, place):
            yield int(entry.name)


def _uses(process: str, place: str) -> bool:
    names = ["cwd", "root", "exe"]
    try:
        names += [f"fd/{number}" for number in os.listdir(f"{process}/fd")]
        with open(f"{process}/maps", "rb") as maps:
            mapped = any(_is_below(os.fsdecode(line.split(None, 5)[-1].strip()), place) for line in maps)
    except OSError:
        mapped = False  # it ended, or is somebody else's
    return mapped or any(_is_below(_target(f"{process}/{name}"), place) for name in names)


def _target(link: str) -> str:
    """As the kernel names it: following it would ask the mount, which may hang."""
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _is_below(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def _running(name: str) -> Running:
    """The mount that is meant. Raises UsageError."""
    place = place_of(name)
    found = next((mount for mount in running_mounts() if mount.mountpoint == place), None)
    if found is None:
        raise UsageError(f"{place}: no cvfs repository is mounted here")
    return found


def _in_mount(mount: Running, *commands: str) -> bool:
    """Whether the first command succeeded; what is in use stays in a cache, whoever cleans it."""
    try:
        socket = control_socket(mount.mountpoint)
        replies = [converse(socket, command) for command in commands]
    except (CvfsError, OSError) as error:
        write_line(f"{mount.fqrn}: {error}")
        return False
    for line in (line for reply in replies for line in reply.answer):
        write_line(f"{mount.fqrn}: {line}")
    return replies[0].ok


def _step(what: str, trouble: list[str]) -> bool:
    """Say how a step went, in the original's words."""
    click.echo(f"{what}... {'Failed!' if trouble else 'OK'}")
    for line in trouble:
        click.echo(line, err=True)
    return not trouble


def _terminate(mounts: list[Running]) -> list[str]:
    """Kill their processes; those that do not even tell their number end with their connection."""
    pids = {}
    for mount in mounts:
        pid = pid_of(mount.mountpoint)
        if pid is None or not _may_serve(pid, mount):
            _abort(mount)
        else:
            pids[pid] = mount.mountpoint
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _GONE_WITHIN
    while any(_lives(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(_STEP)
    return [f"{place}: process {pid} does not end" for pid, place in pids.items() if _lives(pid)]


def _may_serve(pid: int, mount: Running) -> bool:
    """Whether the process is of the user whose mount it is: anybody's mount can call itself ours, and name any process."""
    entry = mount_table.find_mount(mount.mountpoint)
    try:
        return entry is not None and os.stat(f"/proc/{pid}").st_uid == entry.user
    except OSError:
        return False


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def _unmount_all() -> list[str]:
    trouble = []
    for mount in running_mounts():
        try:
            unmount(mount.mountpoint, lazy=True)
        except CvfsError as error:
            # A watchdog may have been quicker.
            if mount_table.find_mount(mount.mountpoint) is not None:
                trouble.append(str(error))
    return trouble


def _waiting(mount: Running) -> bool:
    try:
        with open(f"{_connection(mount)}/waiting", encoding="ascii") as file:
            return int(file.read()) > 0
    except (OSError, ValueError):
        return False


def _abort(mount: Running) -> None:
    """Every request on the connection fails at once. Where the kernel does not show it, nothing is done."""
    try:
        with open(f"{_connection(mount)}/abort", "w", encoding="ascii") as file:
            file.write("1")
    except OSError as error:
        click.echo(f"{mount.mountpoint}: its connection cannot be aborted: {error.strerror}", err=True)


def _connection(mount: Running) -> str:
    entry = mount_table.find_mount(mount.mountpoint)
    return f"{_CONNECTIONS}/{entry.device.partition(':')[2] if entry else 'none'}"
