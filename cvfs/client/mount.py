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
from collections.abc import Callable
from typing import Any, NoReturn

from cvfs import __version__
from cvfs.client.control import ControlServer, socket_path
from cvfs.client.reading import Reader
from cvfs.client.refresher import Refresher, newer_revision
from cvfs.client.repository import Repository
from cvfs.client.settings import Settings
from cvfs.client.upkeep import Upkeep
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
        # The process of a mount leaves its working directory.
        self.settings = settings.with_absolute_places()
        self.mountpoint = os.path.abspath(mountpoint)
        self._allow_other = allow_other
        self._reader = Reader()
        self._started = time.time()

    def start(self) -> None:
        """Open the repository, mount, start the threads. Raises CvfsError; then nothing is mounted."""
        prepare_mountpoint(self.mountpoint)
        control = socket_path(self._workspace(), self.settings.fqrn)
        repository = Repository.open_settings(self.settings)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(repository.close)
            self._volume = Volume(repository, self._view(), self._reader)
            self._control = ControlServer(control, self._commands())
            self._channel = device.Channel.open(device.mount(self.mountpoint, self._options()))
            on_failure.callback(device.unmount, self.mountpoint, lazy=True)
            on_failure.callback(self._channel.close)
            self._server = Server(self._volume, self._channel, self._server_settings())
            self._refresher = Refresher(self._volume, self._server, newer_revision)
            self._upkeep = Upkeep(self._volume, self._server)
            self._control.start()
            on_failure.pop_all()
        self._upkeep.start()
        if not self.settings.pinned:
            self._refresher.start()

    def serve(self) -> None:
        """Answer the kernel until the repository is unmounted."""
        try:
            self._server.serve()
        finally:
            self._refresher.stop()
            self._upkeep.stop()
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

    def _workspace(self) -> str:
        if not self.settings.workspace:
            raise UsageError(f"{self.settings.fqrn}: a mount needs a directory for its socket, set CVMFS_WORKSPACE")
        return self.settings.workspace

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
        _run_detached(settings, mountpoint, _Report(writer), allow_other=allow_other)
    os.close(writer)
    return _await_child(pid, reader, mountpoint)


def prepare_mountpoint(mountpoint: str) -> None:
    """Clean what a killed client left; raises AlreadyMounted if a living one is there, UsageError
    unless it is an empty directory.
    """
    device.clean_dead_mount(mountpoint)
    if device.find_mount(mountpoint) is not None:
        raise AlreadyMounted(f"{mountpoint}: is mounted already, unmount it first")
    try:
        if os.listdir(mountpoint):
            raise UsageError(f"{mountpoint}: not empty, a mount would hide what is in it: choose another directory")
    except FileNotFoundError:
        raise UsageError(f"{mountpoint}: no such directory, create it first") from None
    except OSError as error:
        raise UsageError(f"{mountpoint}: {error.strerror}") from error


class MountFailed(CvfsError):
    """The background process could not mount."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class _Report:
    """What the child tells its parent, once: an error's text and exit status, or that all is well."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def ready(self) -> None:
        self._send("", 0)

    def failed(self, message: str, exit_status: int) -> None:
        self._send(message, exit_status)

    def _send(self, message: str, exit_status: int) -> None:
        with self._lock:
            pipe, self._pipe = self._pipe, -1
        if pipe < 0:
            return
        # The parent may have given up waiting.
        with contextlib.suppress(OSError), open(pipe, "wb") as file:
            file.write(json.dumps([message, exit_status]).encode())


def _run_detached(settings: Settings, mountpoint: str, report: _Report, *, allow_other: bool) -> NoReturn:
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
        log.debug("the mount of %s failed", settings.fqrn, exc_info=True)
        report.failed(str(error), error.exit_status)
        status = error.exit_status
    except BaseException as error:
        log.exception("the mount of %s ended", settings.fqrn)
        report.failed(f"{mountpoint}: {type(error).__name__}: {error}", 1)
        status = 1
    os._exit(status)


def _report_ready(mounted: Mount, report: _Report) -> None:
    if mounted.wait_ready():
        report.ready()
    else:
        report.failed(f"{mounted.mountpoint}: the kernel does not answer", 1)


def _await_child(pid: int, reader: int, mountpoint: str) -> int:
    with open(reader, "rb") as pipe:
        ready, _, _ = select.select([pipe], [], [], 2 * _READY_WITHIN)
        text = pipe.read(65536) if ready else b""
    message, exit_status = json.loads(text) if text else (f"{mountpoint}: the mount process did not come up", 1)
    if not message:
        return pid
    _end(pid)
    device.clean_dead_mount(mountpoint)
    raise MountFailed(message, exit_status)


def _end(pid: int) -> None:
    """A process that failed may still be on its way out; one that hangs is not waited for."""
    for attempt in range(600):
        if os.waitpid(pid, os.WNOHANG)[0]:
            return
        if attempt == 100:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


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
