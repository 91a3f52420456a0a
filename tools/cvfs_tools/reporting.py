"""cvfs bugreport: what somebody needs who is to find out what is wrong, in one archive; no secrets, bounded size and time."""

import io
import os
import platform
import re
import socket
import tarfile
import time
from collections.abc import Iterator

import click

from cvfs import __version__
from cvfs.client.configuration_sources import etc_directory
from cvfs.client.control import AS_LINES
from cvfs.errors import CvfsError, UsageError
from cvfs_tools.mounts import Running, control_socket, converse, running_mounts
from cvfs_tools.repository_options import etc_of_group
from cvfs_tools.running import write_line

_LARGEST = 2**20
_MOST_FILES = 500
_CONFIGURATION = re.compile(r".*\.(conf|local|pub|sh)|blacklist|default\.\w+")
# Who asks by which password, in URLs with and without a scheme; and what its name says to be a secret.
_SECRETS = (
    (re.compile(r"(://)[^/@\s:;|]+(:[^/@\s;|]*)?@"), r"\1***@"),
    (re.compile(r"([=|;\"'\s])[^/@\s:;|=\"']+:[^/@\s;|]*@"), r"\1***@"),
    (re.compile(r"(?i)(\b\w*(?:passw|secret|token|credential)\w*\s*=)[^\n]+"), r"\1***"),
)
_ASKED = (
    "stat",
    "internal affairs",
    "parameters",
    "host info",
    "proxy info",
    "open catalogs",
    "stack traces",
    "logbuffer",
)
_SYSTEM = (
    "/proc/mounts",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/sys/fs/file-nr",
    "/etc/os-release",
    "/etc/fuse.conf",
)


@click.command()
@click.option("-o", "--output", metavar="FILE", help="The archive to write; a new one in this directory by default")
def bugreport(output: str | None) -> None:
    """Collect configuration, state, logs and stack traces of all mounts in an archive. Passwords are left out."""
    name = f"cvfs-bugreport-{time.strftime('%Y-%m-%d-%H%M%S')}-{socket.gethostname()}"
    place = output or f"{name}.tar.gz"
    with os.fdopen(_created(place), "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for member, text in _collected():
            write_line(f"Gathering {member}")
            _add(archive, f"{name}/{member}", text)
    write_line(f"\nSystem information has been collected in {os.path.abspath(place)}")


def _created(place: str) -> int:
    """A file that was not there: in a directory of everybody's a name may be somebody's link, or his file."""
    try:
        return os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"{place}: is there already, name another file with -o") from None


def _collected() -> Iterator[tuple[str, str]]:
    yield "versions", f"cvfs {__version__}\npython {platform.python_version()}\n{' '.join(platform.uname())}\n"
    for path in _SYSTEM:
        yield f"system{path}", _read(path)
    yield from _configuration(etc_directory(etc_of_group()))
    for mount in running_mounts():
        yield from _of_mount(mount)


def _configuration(etc: str) -> Iterator[tuple[str, str]]:
    """Configuration files and public keys; private keys have other endings."""
    count = 0
    for directory, _, files in os.walk(etc):
        for file in sorted(files):
            if _CONFIGURATION.fullmatch(file) and count < _MOST_FILES:
                count += 1
                path = os.path.join(directory, file)
                yield f"etc/{os.path.relpath(path, etc)}", _read(path)


def _of_mount(mount: Running) -> Iterator[tuple[str, str]]:
    where = f"mounts{mount.mountpoint}"
    try:
        socket_place = control_socket(mount.mountpoint)
    except (CvfsError, OSError) as error:
        yield f"{where}/trouble", f"{error}\n"
        return
    for command in _ASKED:
        yield f"{where}/{command.replace(' ', '_')}", _ask(socket_place, command)
    yield from _traces(where, os.path.dirname(socket_place))


def _traces(where: str, workspace: str) -> Iterator[tuple[str, str]]:
    try:
        names = sorted(os.listdir(workspace))
    except OSError as error:
        yield f"{where}/stacktraces_trouble", f"{workspace}: {error.strerror}\n"
        return
    for name in names:
        if name.startswith("stacktrace."):
            yield f"{where}/{name}", _read(os.path.join(workspace, name))


def _ask(socket_place: str, command: str) -> str:
    try:
        return "\n".join(converse(socket_place, command, AS_LINES).answer) + "\n"
    except CvfsError as error:
        return f"{error}\n"


def _read(path: str) -> str:
    """The end of a file, which is the newest part of a log. Links are not followed: they may lead to a mount."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if size > _LARGEST:
                file.seek(size - _LARGEST)
            return file.read(_LARGEST).decode(errors="replace")
    except OSError as error:
        return f"{path}: {error.strerror}\n"


def without_secrets(text: str) -> str:
    """Names and passwords of proxies and servers are nobody's business."""
    for secret, shown in _SECRETS:
        text = secret.sub(shown, text)
    return text


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = without_secrets(text).encode(errors="surrogateescape")[: 4 * _LARGEST]
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(data), int(time.time()), 0o600
    archive.addfile(member, io.BytesIO(data))
