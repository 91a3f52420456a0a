"""A mounted repository: volume, FUSE server, refresher and control socket joined; the only place where they meet.

mount(settings, "/cvmfs/sw.example.org")     serves until it is unmounted
"""

import contextlib
import logging
import os
import signal
import threading
import time

from cvfs.client.control import ControlServer, socket_path
from cvfs.client.presentation import Observation, view_of
from cvfs.client.reading import Reader
from cvfs.client.refresher import Refresher, newer_revision
from cvfs.client.repository import Repository
from cvfs.client.settings import Settings
from cvfs.client.talk import Mounted, all_commands
from cvfs.client.upkeep import Upkeep
from cvfs.client.volume import Volume
from cvfs.errors import PathError, UsageError
from cvfs.fuse import device
from cvfs.fuse.server import Server, ServerSettings

log = logging.getLogger(__name__)

READY_WITHIN = 30.0
_READ_AHEAD = 2**20


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
            self._volume = Volume(repository, view_of(self.settings, self._observation()), self._reader)
            self._channel = device.Channel.open(device.mount(self.mountpoint, self._options()))
            on_failure.callback(device.unmount, self.mountpoint, lazy=True)
            on_failure.callback(self._channel.close)
            self._server = Server(self._volume, self._channel, self._server_settings())
            self._refresher = Refresher(self._volume, self._server, newer_revision)
            self._upkeep = Upkeep(self._volume, self._server)
            self._control = ControlServer(control, all_commands(self._observed()).respond)
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

    def wait_ready(self, timeout: float = READY_WITHIN) -> bool:
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

    def _observed(self) -> Mounted:
        return Mounted(
            mountpoint=self.mountpoint,
            started=self._started,
            volume=self._volume,
            server=self._server,
            refresher=self._refresher,
            reader=self._reader,
            device=self._device,
            reload=lambda: "nothing to read again\n",
        )

    def _device(self) -> str:
        entry = device.find_mount(self.mountpoint)
        return entry.device if entry else "0:0"

    def _workspace(self) -> str:
        if not self.settings.mount.workspace:
            raise UsageError(f"{self.settings.fqrn}: a mount needs a directory for its socket, set CVMFS_WORKSPACE")
        return self.settings.mount.workspace

    def _observation(self) -> Observation:
        return Observation(
            control=lambda: self._control.path,
            due=lambda: self._refresher.due,
            started=self._started,
            requests=lambda: self._server.counters(),  # noqa: PLW0108  # there is no server yet
        )

    def _options(self) -> device.MountOptions:
        allow_other = self._allow_other or os.geteuid() == 0
        return device.MountOptions(
            self.settings.fqrn, allow_other=allow_other, default_permissions=self.settings.view.check_permissions
        )

    def _server_settings(self) -> ServerSettings:
        return ServerSettings(
            zero_message_open=not self.settings.view.open_messages,
            posix_acl=self.settings.view.posix_acl,
            workers=self.settings.view.workers,
        )


def mount(settings: Settings, mountpoint: str, *, allow_other: bool = False) -> None:
    """Mount and serve in this process until SIGTERM, SIGINT or an unmount."""
    mounted = Mount(settings, mountpoint, allow_other=allow_other)
    mounted.start()
    unmount_on_signals(mounted)
    threading.Thread(target=mounted.wait_ready, name="read-ahead", daemon=True).start()
    mounted.serve()


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


def unmount_on_signals(mounted: Mount) -> None:
    """SIGTERM and SIGINT end the mount."""

    # In a thread: unmounting may ask the file system something, and this thread is the one that would answer.
    def unmount(_signal: int, _frame: object) -> None:
        threading.Thread(target=mounted.unmount, name="unmount", daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, unmount)
