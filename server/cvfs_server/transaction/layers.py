"""The directories of a union's upper layer: made as the published root is, emptied afterwards; mounts nothing.

Source: FORMAT section 5.7.
"""

import contextlib
import os
import shutil
import stat
import time

from cvfs.errors import StoreFull
from cvfs.format.dirent import DirectoryEntry
from cvfs.format.xattrs import stored_attributes
from cvfs_server.state import make_directory
from cvfs_server.transaction.layout import Layout

_SECOND = 10**9


def make_layers(layout: Layout, root: DirectoryEntry) -> None:
    """Empty layers; overlayfs shows the attributes of the upper one as those of the root. Raises StoreFull."""
    clear_layers(layout)
    for place in (layout.upper, layout.work):
        make_directory(place)
    for name, value in stored_attributes(root.xattr).items():
        # What this user may not set he cannot change either.
        with contextlib.suppress(OSError):
            os.setxattr(layout.upper, name, value)
    with contextlib.suppress(PermissionError):
        os.chown(layout.upper, root.uid, root.gid)
    stamp = root.mtime * _SECOND + (root.mtime_ns or 0)
    try:
        os.chmod(layout.upper, stat.S_IMODE(root.mode))
        os.utime(layout.upper, ns=(stamp, stamp))
    except OSError as error:
        raise StoreFull(f"cannot use {layout.upper}: {error.strerror}") from error


def clear_layers(layout: Layout) -> None:
    """Forget what was changed: out of sight by one rename, then removed. Raises StoreFull."""
    make_directory(layout.wastebin)
    try:
        for place in (layout.upper, layout.work):
            if os.path.isdir(place):
                os.rename(place, f"{layout.wastebin}/{os.path.basename(place)}.{os.getpid()}.{time.monotonic_ns()}")
        for name in os.listdir(layout.wastebin):
            remove_tree(f"{layout.wastebin}/{name}")
    except OSError as error:
        raise StoreFull(f"cannot empty {layout.wastebin}: {error.strerror}") from error


def remove_tree(place: str) -> None:
    """A tree of this user's, whatever the modes of its directories are. Raises OSError."""
    if os.geteuid() != 0:
        # Kernel and users leave directories behind that nobody may enter.
        pending = [os.fsencode(place)]
        while pending:
            directory = pending.pop()
            with contextlib.suppress(OSError):
                os.chmod(directory, stat.S_IRWXU)
                pending += [entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    shutil.rmtree(os.fsencode(place))
