"""A mounted repository: volume, FUSE server, refresher and control socket joined; the only place where they meet.

mount(settings, "/cvmfs/sw.example.org")              serves until it is unmounted
mount_in_background(settings, "/cvmfs/sw.example.org")    returns when the kernel can use it
"""

import contextlib
import json
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from cvfs import __version__
from cvfs.client.control import ControlServer, socket_path
from cvfs.client.reading import Reader
from cvfs.client.refresher import Refresher, newer_revision
from cvfs.client.repository import Repository
from cvfs.client.settings import Settings
from cvfs.client.volume import View, Volume
from cvfs.errors import CvfsError, PathError, UsageError
from cvfs.fuse import device
from cvfs.fuse.server import Server, ServerSettings

log = logging.getLogger(__name__)

_READY_WITHIN = 30.0
_READ_AHEAD = 2**20
CONTROL_ATTRIBUTE = b"user.cvfs.control"


class AlreadyMounted(PathError):
    """Something is mounted there and alive."""

    exit_status = 32


class Mount:
    """One repository at one mount point. `start`, then `serve` until somebody unmounts it."""

    def __init__(self, settings: Settings, mountpoint: str, *, allow_other: bool = False) -> None:
        self.settings = settings
        self.mountpoint = os.path.abspath(mountpoint)
        self._allow_other = allow_other
        self._reader = Reader()
        self._started = time.time()

    def start(self) -> None:
        """Open the repository, mount, start the threads. Raises CvfsError; then nothing is mounted."""
        prepare_mountpoint(self.mountpoint)
        repository = Repository.open_settings(self.settings)
        self._volume = Volume(repository, self._view(), self._reader)
        self._control = ControlServer(self._socket(), self._commands())
        self._channel = device.Channel.open(device.mount(self.mountpoint, self._options()))
        self._server = Server(self._volume, self._channel, self._server_settings())
        self._refresher = Refresher(self._volume, self._server, newer_revision)
        with self._undo_mount():
            self._control.start()
            if not self.settings.pinned:
                self._refresher.start()

    def serve(self) -> None:
        """Answer the kernel until the repository is unmounted."""
        try:
            self._server.serve()
        finally:
            self._refresher.stop()
            self._control.stop()
            self._channel.close()
            self._volume.repository.close()

    def wait_ready(self, timeout: float = _READY_WITHIN) -> bool:
        """Wait until the kernel and the server have agreed."""
        ready = self._server.wait_ready(timeout)
        if ready:
            device.raise_read_ahead(self.mountpoint, _READ_AHEAD)
        return ready

    def unmount(self) -> None:
        """Detach the mount point; `serve` returns when the last user is gone."""
        device.unmount(self.mountpoint, lazy=True)

    def refresh(self) -> bool:
        """Check for a new revision now; True if one is shown from now on."""
        return self._refresher.refresh()

    def status(self) -> dict[str, Any]:
        """What `cvfs stat` shows. Sizes in bytes, times in seconds."""
        repository = self._volume.repository
        traffic, opens = repository.plane.traffic(), self._reader.opens
        used, limit = repository.plane.cache_usage()
        return {
            "fqrn": self.settings.fqrn,
            "mountpoint": self.mountpoint,
            "version": __version__,
            "pid": os.getpid(),
            "uptime": int(time.time() - self._started),
            "revision": repository.number,
            "root_hash": str(repository.revision.root_hash),
            "expires": None if self.settings.pinned else max(0, int(self._refresher.due - time.time())),
            "trouble": self._refresher.freshness.trouble,
            "catalogs_open": len(repository.tree.open_catalogs()),
            "inodes": self._volume.known_inodes(),
            "open_objects": len(self._reader.files),
            "cache_used": used,
            "cache_limit": limit,
            "objects_opened": opens,
            "fetched": traffic.requests,
            "received": traffic.bytes,
            "in_flight": self._server.in_flight(),
            "requests": self._server.counters(),
            "servers": list(self.settings.servers),
            "proxy": self.settings.proxy or "DIRECT",
        }

    def _commands(self) -> dict[str, Callable[[list[str]], str]]:
        return {
            "stat": lambda _: json.dumps(self.status()),
            "remount": lambda _: "new revision\n" if self.refresh() else "up to date\n",
            "revision": lambda _: f"{self._volume.repository.number}\n",
            "mountpoint": lambda _: f"{self.mountpoint}\n",
            "pid": lambda _: f"{os.getpid()}\n",
            "version": lambda _: f"{__version__}\n",
        }

    def _socket(self) -> str:
        if not self.settings.workspace:
            raise UsageError(f"{self.settings.fqrn}: a mount needs a directory for its socket, set CVMFS_WORKSPACE")
        return socket_path(self.settings.workspace, self.settings.fqrn)

    def _view(self) -> View:
        variables = {**self.settings.variables, "CVMFS_FQRN": self.settings.fqrn}
        variables.setdefault("CVMFS_ARCH", os.uname().machine)
        return View(
            owner=(os.getuid(), os.getgid()) if self.settings.claim_ownership else None,
            variables={name.encode(): value.encode("utf-8", "surrogateescape") for name, value in variables.items()},
            magic={
                b"user.fqrn": self.settings.fqrn.encode,
                b"user.revision": lambda: str(self._volume.repository.number).encode(),
                b"user.root_hash": lambda: str(self._volume.repository.revision.root_hash).encode(),
                b"user.pid": lambda: str(os.getpid()).encode(),
                b"user.version": __version__.encode,
                CONTROL_ATTRIBUTE: lambda: os.fsencode(self._control.path),
            },
        )

    def _options(self) -> device.MountOptions:
        allow_other = self._allow_other or os.geteuid() == 0
        return device.MountOptions(
            self.settings.fqrn, allow_other=allow_other, default_permissions=self.settings.check_permissions
        )

    def _server_settings(self) -> ServerSettings:
        return ServerSettings(
            zero_message_open=not self.settings.open_messages,
            posix_acl=self.settings.posix_acl,
            workers=self.settings.workers,
        )

    @contextlib.contextmanager
    def _undo_mount(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._channel.close()
            device.unmount(self.mountpoint, lazy=True)
            raise


def mount(settings: Settings, mountpoint: str, *, allow_other: bool = False) -> None:
    """Mount and serve in this process until SIGTERM, SIGINT or an unmount."""
    mounted = Mount(settings, mountpoint, allow_other=allow_other)
    mounted.start()
    _unmount_on_signals(mounted)
    threading.Thread(target=mounted.wait_ready, name="read-ahead", daemon=True).start()
    mounted.serve()


def mount_in_background(settings: Settings, mountpoint: str, *, allow_other: bool = False) -> int:
    """Mount in a process of its own; returns its number as soon as the kernel can use the mount.

    Raises what the other process failed with. Call it before any thread is started: threads do not survive the fork.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _run_detached(settings, mountpoint, writer, allow_other=allow_other)
    os.close(writer)
    return _await_child(pid, reader, mountpoint)


def prepare_mountpoint(mountpoint: str) -> None:
    """Clean what a killed client left; raises AlreadyMounted if a living one is there, UsageError if it is no directory."""
    device.clean_dead_mount(mountpoint)
    if device.find_mount(mountpoint) is not None:
        raise AlreadyMounted(f"{mountpoint}: is mounted already")
    if not os.path.isdir(mountpoint):
        raise UsageError(f"{mountpoint}: no such directory, create it first")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What the child tells its parent: an error's class, text and exit status, or nothing."""

    message: str = ""
    exit_status: int = 0


class MountFailed(CvfsError):
    """The background process could not mount."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def _run_detached(settings: Settings, mountpoint: str, report: int, *, allow_other: bool) -> NoReturn:
    """The child: mount, tell the parent, serve, exit. Never returns into the caller's code."""
    status = 0
    try:
        os.setsid()
        mounted = Mount(settings, mountpoint, allow_other=allow_other)
        mounted.start()
        _unmount_on_signals(mounted)
        threading.Thread(target=_report_ready, args=(mounted, report), name="ready", daemon=True).start()
        _detach_terminal()
        mounted.serve()
    except CvfsError as error:
        _report(report, _Outcome(str(error), error.exit_status))
        status = error.exit_status
    except BaseException as error:
        log.exception("the mount of %s ended", settings.fqrn)
        _report(report, _Outcome(f"{mountpoint}: {type(error).__name__}: {error}", 1))
        status = 1
    os._exit(status)


def _report_ready(mounted: Mount, report: int) -> None:
    ready = mounted.wait_ready()
    _report(report, _Outcome() if ready else _Outcome(f"{mounted.mountpoint}: the kernel does not answer", 1))


def _report(report: int, outcome: _Outcome) -> None:
    # The parent may have given up waiting, and the report is made once only.
    with contextlib.suppress(OSError):
        os.write(report, json.dumps([outcome.message, outcome.exit_status]).encode())
        os.close(report)


def _await_child(pid: int, reader: int, mountpoint: str) -> int:
    with open(reader, "rb") as pipe:
        ready, _, _ = select.select([pipe], [], [], 2 * _READY_WITHIN)
        text = pipe.read(65536) if ready else b""
    if not text:
        os.kill(pid, signal.SIGKILL)
        device.clean_dead_mount(mountpoint)
        raise MountFailed(f"{mountpoint}: the mount process did not come up in time", 1)
    message, exit_status = json.loads(text)
    if message:
        os.waitpid(pid, 0)
        raise MountFailed(message, exit_status)
    return pid


def _detach_terminal() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    sys.stdout.flush()
    sys.stderr.flush()
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    os.chdir("/")


def _unmount_on_signals(mounted: Mount) -> None:
    # In a thread: unmounting may ask the file system something, and this thread is the one that would answer.
    def unmount(_signal: int, _frame: object) -> None:
        threading.Thread(target=mounted.unmount, name="unmount", daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, unmount)
