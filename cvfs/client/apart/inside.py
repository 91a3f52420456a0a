"""The process that goes into namespaces of its own, mounts there, and becomes the command; it serves nothing.

It talks with the process that started it over a socket: it sends the devices of its mounts, or why it failed; waits for the
word that all of them are served; and from then on only a command that cannot be started is told.
"""

import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Self

from cvfs.client.apart.wanted import Wanted
from cvfs.client.identity import identity
from cvfs.client.mount_options import mount_options
from cvfs.errors import CvfsError, MountError
from cvfs.fuse import mount_points
from cvfs.kernel import namespaces
from cvfs.kernel.processes import end_with_parent
from cvfs.kernel.refusals import Refused, Step
from cvfs.kernel.room import make_room

MOST_REPOSITORIES = 200
"""The kernel hands over 253 descriptors at a time."""

_WITHIN = 60.0
_LONGEST_MESSAGE = 65536
_GO = b"go"
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_READ_AHEAD = 2**20


class Failed(CvfsError):
    """What the process inside failed with, and the exit status for it."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@dataclass(frozen=True, slots=True)
class Mounted:
    """The mounts as they are inside: a device for each repository in order, and the name of their mount namespace.

    `single_user`: one user alone has a number in there.
    """

    devices: tuple[int, ...]
    namespace: str
    single_user: bool


class Inside:
    """The process, as its parent knows it."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.channel = channel

    @classmethod
    def start(cls, mounts: Sequence[Wanted], command: Sequence[str]) -> Self:
        """Start it; call it before any thread is started. It gets no further than mounting without `go`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _become(mounts, command, theirs, parent)
        theirs.close()
        return cls(pid, ours)

    def mounted(self) -> Mounted:
        """What it has mounted. Raises Failed, MountError if that takes too long."""
        answer, devices = self._receive()
        if answer is None:
            raise MountError("the process that mounts ended without a word")
        return Mounted(devices, answer["namespace"], answer["single_user"])

    def go(self) -> None:
        """All is served: it becomes the command. Raises Failed if there is no such command."""
        # Whatever ended it meanwhile is its exit status.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.channel.send(_GO)
            self._receive()
        self.channel.close()

    def kill(self) -> None:
        """End it, whatever it is doing, and with it all that is mounted."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.channel.close()

    def _receive(self) -> tuple[dict[str, Any] | None, tuple[int, ...]]:
        if not select.select([self.channel], [], [], _WITHIN)[0]:
            raise MountError(f"the process that mounts does not answer within {_WITHIN:.0f} s")
        text, devices, _, _ = socket.recv_fds(self.channel, _LONGEST_MESSAGE, MOST_REPOSITORIES)
        if not text:
            return None, ()
        answer = json.loads(text)
        if "error" in answer:
            raise Failed(answer["error"], answer["exit_status"])
        for device in devices:
            os.set_inheritable(device, False)
        return answer, tuple(devices)


def _become(mounts: Sequence[Wanted], command: Sequence[str], channel: socket.socket, parent: int) -> NoReturn:
    """The child: never returns into the caller's code."""
    status = 1
    try:
        end_with_parent(parent, signal.SIGKILL)
        present = _working_directory()
        single_user = namespaces.separate()
        _mount_all(mounts, channel, single_user=single_user)
        if _told_to_go(channel):
            _raise_read_ahead(mounts)
            _execute(command, present)
    except CvfsError as error:
        status = error.exit_status
        _tell(channel, f"{error}{_instead(error)}", status)
    except BaseException as error:
        _tell(channel, f"{type(error).__name__}: {error}", status)
    os._exit(status)


def _instead(error: CvfsError) -> str:
    """What the user can do himself; without the device there is no mount at all."""
    if isinstance(error, Refused) and error.step is not Step.DEVICE:
        return "; without it: cvfs mount with fusermount3 (package fuse3), or cvfs ls, cat, cp, which need no mount"
    return ""


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _mount_all(mounts: Sequence[Wanted], channel: socket.socket, *, single_user: bool) -> None:
    _make_directories(sorted({os.path.dirname(wanted.place) for wanted in mounts}))
    make_room(wanted.place for wanted in mounts)
    devices = [_mount(wanted) for wanted in mounts]
    answer = {"namespace": namespaces.mounts_of("self"), "single_user": single_user}
    socket.send_fds(channel, [json.dumps(answer).encode()], devices)
    for device in devices:
        os.close(device)


def _make_directories(places: Sequence[str]) -> None:
    """A directory for mounts where the user may make one stays, as a mount point does; elsewhere room is made."""
    for place in places:
        if os.path.dirname(place) != "/":
            with contextlib.suppress(OSError):
                os.makedirs(place, exist_ok=True)


def _mount(wanted: Wanted) -> int:
    # Also for the user's programs in namespaces further inside, such as containers: nobody else can get here.
    settings = wanted.settings
    options = mount_options(settings, identity(settings.mount.process), allow_other=True)
    _try_device()
    try:
        return mount_points.mount_root(wanted.place, options)
    except MountError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno:
            raise Refused(Step.MOUNT, cause.errno) from error
        raise


def _try_device() -> None:
    try:
        os.close(os.open(mount_points.DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise Refused(Step.DEVICE, error.errno or 0) from error


def _told_to_go(channel: socket.socket) -> bool:
    """False if the other one gave up. It has its own deadline for what it does meanwhile."""
    return channel.recv(len(_GO)) == _GO


def _raise_read_ahead(mounts: Sequence[Wanted]) -> None:
    for wanted in mounts:
        mount_points.raise_read_ahead(wanted.place, _READ_AHEAD)


def _execute(command: Sequence[str], directory: str | None) -> NoReturn:
    """Raises Failed."""
    if directory:
        # By its name: what had that name may be covered. Where it cannot be entered the user stays where he is.
        with contextlib.suppress(OSError):
            os.chdir(directory)
    # Python ignores them, which programs would inherit.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], list(command))  # noqa: S606  # the user's own command, given as words
    except (FileNotFoundError, ValueError) as error:
        # An empty word is no path for Python.
        raise Failed(f"{command[0] or repr('')}: no such command", _NOT_FOUND) from error
    except OSError as error:
        raise Failed(f"{command[0]}: {error.strerror}", _NOT_EXECUTABLE) from error


def _tell(channel: socket.socket, message: str, exit_status: int) -> None:
    with contextlib.suppress(OSError):
        channel.send(json.dumps({"error": message, "exit_status": exit_status}).encode()[:_LONGEST_MESSAGE])
