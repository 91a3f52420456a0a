"""The parent mount as a whole: mounted, served until it is taken away or a signal comes, taken away with all that is in it."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable

from cvfs.client.parent.keeper import Keeper, StartWords, Where
from cvfs.client.parent.kin import Kin
from cvfs.client.parent.names import Names
from cvfs.client.parent.server import ParentServer
from cvfs.errors import MountError
from cvfs.fuse import mount_points
from cvfs.fuse.device import Channel
from cvfs.fuse.workers import Workers
from cvfs.kernel import mounts
from cvfs.kernel.mount_table import absolute, find_mount, mount_table

log = logging.getLogger(__name__)

SUBTYPE = "cvfs-parent"
"""The mount's type in the mount table is `fuse.cvfs-parent`: what is mounted below it has the type of repositories."""
SOURCE = "cvfs"
_AT_ONCE = 16
_READY_WITHIN = 30.0


class Parent:
    """A directory in which repositories are mounted on first access. `start`, then `serve` until it ends."""

    def __init__(self, where: Where, words: StartWords) -> None:
        # Only who has the right to mount can ask the kernel what lies idle.
        idle = where.idle if mounts.may_mount() else 0.0
        self._where = Where(os.fsdecode(absolute(where.directory)), idle)
        self._words = words

    def start(self) -> None:
        """Mount the directory. What a killed one left is taken away first. Raises MountError; then nothing is mounted."""
        directory = self._where.directory
        prepare(directory)
        # Also for a user: fusermount, which mounts repositories for him, is somebody else and wants to write where it mounts.
        options = mount_points.MountOptions(
            SOURCE, allow_other=True, subtype=SUBTYPE, read_write=not mounts.may_mount()
        )
        with contextlib.ExitStack() as on_failure:
            descriptor = mount_points.mount(directory, options)
            on_failure.callback(mount_points.unmount, directory, lazy=True)
            self._channel = Channel.open(descriptor)
            kin = Kin()
            names, self._workers = Names(kin.includes), Workers(_AT_ONCE)
            self._server = ParentServer(self._channel, names, kin, self._want)
            self._keeper = Keeper(self._where, self._words, names, kin, self._server.send)
            self._keeper.start()
            on_failure.pop_all()

    def serve(self) -> None:
        """Answer the kernel until it is unmounted or `end` is called."""
        try:
            self._server.serve()
        finally:
            self._workers.stop()
            self._channel.close()

    def wait_ready(self) -> bool:
        """Wait until the kernel and the server have agreed."""
        return self._server.wait_ready(_READY_WITHIN)

    def end(self) -> None:
        """Take all repositories away, then the directory; `serve` returns. Not from the thread that serves."""
        self._keeper.end()
        try:
            mount_points.unmount(self._where.directory, lazy=True)
        except MountError as error:
            log.warning("%s", error)
        self._server.stop()

    def _want(self, text: bytes) -> None:
        self._workers.submit(lambda: self._keeper.mount(text))


def prepare(directory: str) -> None:
    """Make the directory if it is missing, clean what a killed parent left. Raises MountError if it is in use."""
    try:
        if find_mount(directory) is None:
            os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise MountError(f"{directory}: {error.strerror}: name another directory, or make it first") from error
    mount_points.clean_dead_mount(directory)
    below = os.fsencode(directory) + b"/"
    for entry in mount_table():
        if entry.mountpoint == os.fsencode(directory) or entry.mountpoint.startswith(below):
            raise MountError(f"{os.fsdecode(entry.mountpoint)}: is mounted already, unmount it first")


def run(where: Where, words: StartWords, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serve a parent mount until SIGTERM, SIGINT or an unmount; `on_ready` is called when it can be used. Raises CvfsError."""
    parent = Parent(where, words)
    parent.start()

    def end(_signal: int, _frame: object) -> None:
        # In a thread: this one answers what unmounting asks.
        threading.Thread(target=parent.end, name="end", daemon=True).start()

    def tell() -> None:
        if parent.wait_ready():
            on_ready()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    threading.Thread(target=tell, name="ready", daemon=True).start()
    parent.serve()
