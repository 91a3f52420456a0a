"""The native binding: Linux's device, mounted and joined with the server; it needs no library."""

from cvfs.errors import MountError
from cvfs.fuse import mount_points
from cvfs.fuse.device import Channel
from cvfs.fuse.filesystem import Filesystem
from cvfs.fuse.mount_points import MountOptions
from cvfs.fuse.server import Server
from cvfs.fuse.server_settings import ServerSettings


def mount(filesystem: Filesystem, mountpoint: str, options: MountOptions, settings: ServerSettings) -> Server:
    """Mount; nothing is answered before `serve`. Raises MountError; then nothing is mounted."""
    descriptor = mount_points.mount(mountpoint, options)
    try:
        return adopt(descriptor, filesystem, settings)
    except OSError as error:
        mount_points.unmount(mountpoint, lazy=True)
        raise MountError(f"mount {mountpoint}: {error.strerror}") from error


def adopt(descriptor: int, filesystem: Filesystem, settings: ServerSettings) -> Server:
    """Serve what somebody else has mounted, by the descriptor of the device, owned from here on. Raises OSError."""
    return Server(filesystem, Channel.open(descriptor), settings)
