"""The command `mount.cvfs`, which mount(8) calls for type cvfs: `mount -t cvfs -o options <fqrn> <mount point>`.

Its exit statuses are those that mount(8) knows, not those of `cvfs`.
"""

import contextlib
import functools
from collections.abc import Iterator

import click

from cvfs.client.background import mount_in_background
from cvfs.errors import CvfsError, MountError, PathError
from cvfs.fuse import mount_points
from cvfs.kernel.mount_table import find_mount
from cvfs_tools.repository_options import settings, without_unknown
from cvfs_tools.running import plain_errors, start_logging

_WRONG_INVOCATION = 1
_MOUNT_FAILURE = 32
_REMOUNT = "remount"


@contextlib.contextmanager
def _statuses_of_mount() -> Iterator[None]:
    """What mount(8) would say itself: 1 for a wrong invocation, 32 for whatever else kept it from mounting."""
    try:
        yield
    except CvfsError as error:
        # On the object, which goes on its way.
        error.exit_status = _WRONG_INVOCATION if error.exit_status == PathError.exit_status else _MOUNT_FAILURE
        raise


@click.command(context_settings={"help_option_names": ["--help"]})
@click.argument("repository")
@click.argument("mountpoint")
@click.option("-o", "options", multiple=True, metavar="OPTIONS", help="Mount options, CVMFS_* parameters, config=FILE")
@click.option("-f", "fake", is_flag=True, help="Check the options, mount nothing")
@click.option("-s", "sloppy", is_flag=True, help="Let options be that are not known")
@click.option("-v", "verbose", is_flag=True, help="Say what is mounted")
@click.option("-n", "no_mtab", is_flag=True, hidden=True)
@click.option("-t", "kind", hidden=True)
def main(
    repository: str,
    mountpoint: str,
    options: tuple[str, ...],
    *,
    fake: bool,
    sloppy: bool,
    verbose: bool,
    no_mtab: bool,
    kind: str | None,
) -> None:
    """Mount REPOSITORY at MOUNTPOINT; for fstab and mount(8)."""
    del no_mtab, kind  # nothing to do for these habits of mount(8)
    start_logging()
    with plain_errors("mount.cvfs"), _statuses_of_mount():
        fqrn = repository.removeprefix("cvfs#")
        if any(_REMOUNT in option.split(",") for option in options):
            _check_mounted(fqrn, mountpoint)
            return
        read = functools.partial(settings, fqrn, options=without_unknown(options) if sloppy else options)
        chosen = read(mounting=True)
        if not fake:
            mount_in_background(chosen, mountpoint, reread=read)
        if verbose:
            print(f"mount.cvfs: {chosen.fqrn} mounted on {mountpoint}")


def _check_mounted(fqrn: str, mountpoint: str) -> None:
    """A remount changes nothing: a mount is read-only, and its parameters are read again by `cvfs reload`."""
    entry = find_mount(mountpoint)
    if entry is None or (entry.type, entry.source) != (mount_points.TYPE, fqrn):
        raise MountError(f"{mountpoint}: {fqrn} is not mounted there, mount it without -o remount")
