"""A mounted repository: volume, FUSE server, refresher and control socket joined; the only place where they meet.

mount = Mount(settings, "/cvmfs/sw.example.org")
mount.start()
mount.serve()     # until it is unmounted
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable

from cvfs.client import reload
from cvfs.client.config_watch import ConfigWatch
from cvfs.client.control import ControlServer, socket_path
from cvfs.client.identity import acting_for, become, identity, user_number
from cvfs.client.mount_options import mount_options
from cvfs.client.observe.latency import Latencies
from cvfs.client.observe.logs import Logs
from cvfs.client.observe.metrics import MetricsFile
from cvfs.client.observe.mounted import Mounted
from cvfs.client.observe.tracer import Tracer
from cvfs.client.observe.watchdog import Watchdog
from cvfs.client.open_files import DEFAULT_BYTES, OpenFiles
from cvfs.client.presentation import Observation, view_of
from cvfs.client.reading import Reader
from cvfs.client.refresher import Refresher, newer_revision
from cvfs.client.repository import Repository
from cvfs.client.settings import Settings
from cvfs.client.settings.mount import ObservationSettings
from cvfs.client.stable_inodes import open_stable_inodes
from cvfs.client.talk import all_commands
from cvfs.client.upkeep import Upkeep
from cvfs.client.volume import Volume
from cvfs.errors import MountError, PathError, UsageError
from cvfs.fuse import binding, mount_points
from cvfs.fuse.binding import Session
from cvfs.fuse.filesystem import Filesystem
from cvfs.fuse.server_settings import ServerSettings
from cvfs.kernel import mount_table

log = logging.getLogger(__name__)

READY_WITHIN = 30.0
_DRAINED_WITHIN = 2.0
_READ_AHEAD = 2**20

Reread = Callable[[], Settings]
"""Reads the configuration again, as it was read for the mount. Raises CvfsError."""


class AlreadyMounted(PathError):
    """Something is mounted there and alive."""

    exit_status = 32


class Mount:
    """One repository at one mount point. `start`, then `serve` until somebody unmounts it.

    `descriptor` is the device of a mount that was made already, maybe in another namespace: it is served, and who made it
    takes it away. `abandoned` tells that it ended without being unmounted.
    """

    def __init__(
        self,
        settings: Settings,
        mountpoint: str,
        *,
        allow_other: bool = False,
        logs: Logs | None = None,
        watchdog: Watchdog | None = None,
        reread: Reread | None = None,
        descriptor: int | None = None,
    ) -> None:
        # The process of a mount leaves its working directory.
        self.settings = settings.with_absolute_places()
        self.mountpoint = os.path.abspath(mountpoint)
        self._watchdog = watchdog
        self.abandoned = False
        self._allow_other = allow_other
        self._descriptor = descriptor
        self._logs = logs or Logs(settings.fqrn, settings.mount.logs)
        self._reread = reread
        self._reader = Reader(OpenFiles(settings.view.open_objects, _open_bytes(settings.cache.quota)))
        self._started = time.time()
        self._latencies = Latencies() if settings.mount.observation.latencies else None
        self._tracer = _tracer(self.settings.mount.observation)
        self._metrics: MetricsFile | None = None

    def start(self) -> None:
        """Open the repository, mount, start the threads. Raises CvfsError; then nothing is mounted."""
        if self._descriptor is None:
            prepare_mountpoint(self.mountpoint)
        control = self._socket_path()
        chosen = identity(self.settings.mount.process)
        with contextlib.ExitStack() as on_failure:
            with acting_for(chosen):
                repository = Repository.open_settings(self.settings)
                on_failure.callback(repository.close)
                stable = open_stable_inodes(self.settings)
                view = view_of(self.settings, self._observation(), chosen)
                self._volume = Volume(repository, view, self._reader, stable)
            self._server = self._mount(chosen, on_failure)
            become(chosen)
            self._refresher = Refresher(self._volume, self._server, newer_revision)
            self._control = self._control_server(control)
            chores = (self._control.revive, ConfigWatch(self.settings, self._reread).work)
            self._upkeep = Upkeep(self._volume, self._server, chores=chores)
            self._control.start()
            on_failure.pop_all()
        self._start_threads()

    def _mount(self, owner: tuple[int, int] | None, on_failure: contextlib.ExitStack) -> Session:
        """The mount point and whoever answers there; nothing is answered before `serve`."""
        watched, settings = self._watched(), self._server_settings()
        if self._descriptor is not None:
            session = binding.adopt(self._descriptor, watched, settings)
            on_failure.callback(session.close, _DRAINED_WITHIN)
            return session
        options = mount_options(self.settings, owner, allow_other=self._allow_other)
        session = binding.mount(self.settings.mount.fuse_binding, watched, self.mountpoint, options, settings)
        on_failure.callback(session.close, _DRAINED_WITHIN)
        on_failure.callback(mount_points.unmount, self.mountpoint, lazy=True)
        return session

    def _control_server(self, path: str) -> ControlServer:
        owner = self.settings.mount.talk_owner
        commands = all_commands(self._observed())
        return ControlServer(path, commands.respond, user_number(owner) if owner else None)

    def _watched(self) -> Filesystem:
        """The volume, by way of whoever wants to see the calls; nobody by default."""
        watched: Filesystem = self._volume
        if self._tracer:
            watched = self._tracer.watch(watched)
        if self._latencies:
            watched = self._latencies.watch(watched)
        return watched

    def _start_threads(self) -> None:
        self._upkeep.start()
        if not self.settings.pinned:
            self._refresher.start()
        if self._tracer:
            self._tracer.start()
        if self.settings.mount.observation.metrics_file:
            self._metrics = MetricsFile(self.settings.mount.observation.metrics_file, self._observed())
            self._metrics.start()

    def serve(self) -> None:
        """Answer the kernel until the repository is unmounted."""
        try:
            self._server.serve()
        finally:
            self._refresher.stop()
            self._upkeep.stop()
            self._control.stop()
            if self._tracer:
                self._tracer.stop()
            if self._metrics:
                self._metrics.stop()
            with contextlib.closing(self._volume.repository):
                self._server.close(_DRAINED_WITHIN)

    def wait_ready(self, timeout: float = READY_WITHIN) -> bool:
        """Wait until the kernel and the server have agreed."""
        ready = self._server.wait_ready(timeout)
        if ready:
            mount_points.raise_read_ahead(self.mountpoint, _READ_AHEAD)
        return ready

    def unmount(self) -> None:
        """Detach the mount point; `serve` returns when the last user is gone, at once if somebody else made the mount.

        Where that is refused, `serve` returns at once and the mount point is left to the watchdog: who gave up root's
        rights depends on a helper.
        """
        if self._descriptor is not None:
            self._server.stop()
            return
        try:
            mount_points.unmount(self.mountpoint, lazy=True)
        except MountError as error:
            log.warning("%s; it is abandoned", error)
            self.abandoned = True
            self._server.stop()

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
            reload=self._reload,
            log=self._logs.ring.text,
            tracer=self._tracer,
            latencies=self._latencies,
            watchdog=lambda: self._watchdog.pid if self._watchdog else 0,
        )

    def _reload(self) -> str:
        if self._reread is None:
            raise UsageError("this mount was given its settings by a program, there is no configuration to read again")
        return reload.apply(self._observed(), self._logs, self._reread())

    def _device(self) -> str:
        entry = mount_table.find_mount(self.mountpoint)
        return entry.device if entry else "0:0"

    def _socket_path(self) -> str:
        settings = self.settings.mount
        if settings.talk_socket:
            return settings.talk_socket
        if not settings.workspace:
            raise UsageError(f"{self.settings.fqrn}: a mount needs a directory for its socket, set CVMFS_WORKSPACE")
        return socket_path(settings.workspace, self.settings.fqrn)

    def _observation(self) -> Observation:
        return Observation(
            control=lambda: self._control.path,
            due=lambda: self._refresher.due,
            started=self._started,
            log=self._logs.ring.text,
            requests=lambda: self._server.counters(),  # noqa: PLW0108  # there is no server yet
            io_errors=lambda: self._server.io_errors(),  # noqa: PLW0108
            highest_inode=lambda: self._volume.highest_inode(),  # noqa: PLW0108
        )

    def _server_settings(self) -> ServerSettings:
        view = self.settings.view
        longest = ServerSettings().entry_timeout if view.kernel_timeout is None else view.kernel_timeout
        return ServerSettings(
            entry_timeout=longest,
            attribute_timeout=longest,
            # A trace that does not see who opens what would be none.
            zero_message_open=not (view.open_messages or self._tracer),
            posix_acl=view.posix_acl,
            cache_symlinks=view.cache_symlinks,
            statfs_timeout=view.statfs_timeout,
            workers=view.workers,
            exported=view.export.nfs_source,
        )


def _open_bytes(quota: int | None) -> int:
    """What is open occupies the disk although it was evicted: a small part of the quota."""
    return DEFAULT_BYTES if quota is None else min(DEFAULT_BYTES, quota // 8)


def _tracer(settings: ObservationSettings) -> Tracer | None:
    if not settings.trace_file:
        return None
    return Tracer(settings.trace_file, settings.trace_buffer, settings.trace_threshold)


def prepare_mountpoint(mountpoint: str) -> None:
    """Clean what a killed client left; raises AlreadyMounted if a living one is there, UsageError
    unless it is an empty directory.
    """
    mount_points.clean_dead_mount(mountpoint)
    if mount_table.find_mount(mountpoint) is not None:
        raise AlreadyMounted(f"{mountpoint}: is mounted already, unmount it first")
    try:
        if os.listdir(mountpoint):
            raise UsageError(f"{mountpoint}: not empty, a mount would hide what is in it: choose another directory")
    except FileNotFoundError:
        raise UsageError(f"{mountpoint}: no such directory, create it first") from None
    except OSError as error:
        raise UsageError(f"{mountpoint}: {error.strerror}") from error
