"""What a repository's settings say of its mount, in the kernel's terms; mounts nothing."""

import os

from cvfs.client.settings import Settings
from cvfs.fuse.mount_points import MountOptions


def mount_options(settings: Settings, owner: tuple[int, int] | None, *, allow_other: bool) -> MountOptions:
    """How the mount appears. Root lets others in, and says whose it is: the user and group `owner`. Raises MountError."""
    return MountOptions(
        settings.fqrn,
        allow_other=allow_other or os.geteuid() == 0,
        default_permissions=settings.view.check_permissions,
        owner=owner,
        suid=settings.view.suid,
        executable=settings.view.executable,
        read_write=settings.view.read_write,
    )
