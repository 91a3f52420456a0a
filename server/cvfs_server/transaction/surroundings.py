"""In whose namespaces work on mounts is done: this process's own, or those that another one keeps; mounts nothing itself."""

import contextlib
import errno
import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol

from cvfs.errors import MountError
from cvfs.kernel import namespaces
from cvfs.kernel.mount_table import MountEntry, find_mount
from cvfs.kernel.mounts import InUse

Work = Callable[[], None]
_DEADLINE = 60.0
_MAX_MESSAGE = 4096


class Surroundings(Protocol):
    """Where the mounts of a transaction are."""

    def run(self, work: Work) -> None:
        """Do some work there. Raises MountError, InUse."""

    def mounted_at(self, place: str) -> MountEntry | None:
        """What is mounted at a place there."""


@dataclass(frozen=True, slots=True)
class Here:
    """This process's own namespaces: everybody on the machine sees the mounts."""

    def run(self, work: Work) -> None:
        """Do it."""
        work()

    def mounted_at(self, place: str) -> MountEntry | None:
        """What is mounted there."""
        return find_mount(place)


@dataclass(frozen=True, slots=True)
class KeptBy:
    """The user and mount namespaces of the process `pid`."""

    pid: int

    def run(self, work: Work) -> None:
        """Do it in a child of this process that joins them; only its failure comes back. It must not start threads."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _work_inside(self.pid, work, writer)
        os.close(writer)
        _await(child, reader, self.pid)

    def mounted_at(self, place: str) -> MountEntry | None:
        """What is mounted there; nothing if that process is gone."""
        return find_mount(place, self.pid)


def _work_inside(pid: int, work: Work, writer: int) -> NoReturn:
    """The child: never returns into the caller's code."""
    report = b"ended"
    try:
        namespaces.join(pid)
        work()
        report = b""
    except MountError as error:
        report = f"{int(isinstance(error, InUse))}{error}".encode("utf-8", "surrogateescape")
    except BaseException as error:
        report = f"0{type(error).__name__}: {error}".encode("utf-8", "surrogateescape")
    finally:
        with contextlib.suppress(OSError):
            os.write(writer, b"." + report[:_MAX_MESSAGE])
        os._exit(0)


def _await(child: int, reader: int, pid: int) -> None:
    with open(reader, "rb") as pipe:
        ready, _, _ = select.select([pipe], [], [], _DEADLINE)
        text = pipe.read(_MAX_MESSAGE).decode("utf-8", "surrogateescape") if ready else ""
    if not text:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0 if text else os.WNOHANG)
    if not text:
        raise MountError(f"the namespaces of process {pid} do not answer within {_DEADLINE:.0f} s")
    if text != ".":
        kind = InUse if text[1] == "1" else MountError
        raise kind(text[2:]) from (OSError(errno.EBUSY, text[2:]) if kind is InUse else None)
