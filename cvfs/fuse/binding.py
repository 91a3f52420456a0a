"""What a mount needs of the way to the kernel, and the ways there are; it imports none that is not asked for.

`native` speaks the kernel's protocol over Linux's device. `fusepy` is for where that is not to be had.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from cvfs.fuse.filesystem import Filesystem
from cvfs.fuse.mount_points import MountOptions
from cvfs.fuse.server_settings import ServerSettings


class Session(Protocol):
    """A file system that is mounted, and served as soon as `serve` is called. All else any thread may call.

    The kernel is told what changed as far as the binding can; what it cannot say ends by the time-outs it has set.
    """

    def serve(self) -> None:
        """Answer requests until the mount is gone or `stop` is called. Raises CvfsError or OSError if the device fails."""

    def stop(self) -> None:
        """Make `serve` return soon. Requests that wait get no answer: unmount first where possible."""

    def close(self, timeout: float) -> None:
        """Let go of the device, after `serve` or instead of it; waits up to `timeout` seconds for who still answers."""

    def wait_ready(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until the kernel and the server have agreed; False if they have not."""

    def counters(self) -> Mapping[str, int]:
        """Requests so far, by name of the operation."""

    def in_flight(self) -> int:
        """Requests that wait for the network or the disk."""

    def io_errors(self) -> tuple[int, float]:
        """How often EIO was the answer, and the Unix time of the last one (0: never)."""

    def reset_io_errors(self) -> None:
        """Count anew."""

    def settle(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until every request that is being answered now has been; False if not all were."""

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """The name stands for something else, or for something at last."""

    def invalidate_inode(self, ino: int, *, data: bool) -> None:
        """The attributes changed; with `data` the content too."""

    def prune(self, nodes: Iterable[int]) -> None:
        """Give back unused nodes."""

    def flush_notifications(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until the kernel has been told everything so far; False if it has not."""


Mounting = Callable[[Filesystem, str, MountOptions, ServerSettings], Session]

NATIVE = "native"
BINDINGS = {NATIVE: "cvfs.fuse.native", "fusepy": "cvfs.fuse.fusepy_adapter"}
"""The module of each binding; its `mount` is a `Mounting`. What it needs is imported with it, and not before."""


def mount(
    binding: str, filesystem: Filesystem, mountpoint: str, options: MountOptions, settings: ServerSettings
) -> Session:
    """Mount by one of `BINDINGS`; nothing is answered before `serve`. Raises CvfsError; then nothing is mounted."""
    mounting: Mounting = importlib.import_module(BINDINGS[binding]).mount
    return mounting(filesystem, mountpoint, options, settings)


def adopt(descriptor: int, filesystem: Filesystem, settings: ServerSettings) -> Session:
    """Serve a mount of Linux's device that somebody else has made, whatever the binding. Raises OSError."""
    session: Session = importlib.import_module(BINDINGS[NATIVE]).adopt(descriptor, filesystem, settings)
    return session
