"""cvfs mount, umount."""

import functools
import os
from typing import Any

import click

from cvfs.client.background import mount_in_background
from cvfs.client.process import mount_in_foreground
from cvfs.client.readiness import tell_ready
from cvfs.client.settings.mount import FUSE_BINDINGS
from cvfs.errors import CvfsError, MountError
from cvfs.fuse import mount_points
from cvfs.kernel import mount_table
from cvfs.kernel.namespaces import separate_as_root
from cvfs_tools.mounts import place_of, running_mounts
from cvfs_tools.repository_options import etc_of_group, repository_options, settings
from cvfs_tools.running import start_logging


@click.command()
@click.argument("repository")
@click.argument("mountpoint", required=False)
@click.option("-f", "--foreground", is_flag=True, help="Serve in this process; end with Ctrl-C")
@click.option("-d", "--debug", is_flag=True, help="Log everything")
@click.option("--log", "logfile", metavar="FILE", help="Write messages there")
@click.option("--allow-other", is_flag=True, help="Let other users in (always so for root)")
@click.option(
    "--fuse-binding",
    type=click.Choice(FUSE_BINDINGS),
    help="The way to the kernel: cvfs's own, or libfuse 2  [CVFS_FUSE_BINDING]",
    default=None,
)
@click.option("--apart", is_flag=True, hidden=True)
@repository_options
def mount(
    repository: str,
    mountpoint: str | None,
    *,
    foreground: bool,
    debug: bool,
    logfile: str | None,
    allow_other: bool,
    apart: bool,
    **options: Any,
) -> None:
    """Mount a REPOSITORY (fqrn or URL) read-only, by default at /cvmfs/<fqrn>."""
    start_logging(debug=debug, file=logfile)
    if apart:
        # For a transaction, whose namespaces are those of this process.
        separate_as_root()
    # A mount reads its configuration again when there is no command line any more.
    options["etc"] = options["etc"] or etc_of_group()
    chosen = settings(repository, mounting=True, **options)
    place = mountpoint or os.path.join(chosen.mount_dir, chosen.fqrn)
    # Asked of the mount table: a mount whose server died or hangs is not looked into.
    if not mountpoint and mount_table.find_mount(place) is None:
        _make_default_place(place)
    in_foreground = functools.partial(mount_in_foreground, on_ready=lambda: tell_ready(os.environ))
    start = in_foreground if foreground else mount_in_background
    start(chosen, place, allow_other=allow_other, reread=lambda: settings(repository, **options))


@click.command()
@click.argument("mountpoints", nargs=-1)
@click.option("-l", "--lazy", is_flag=True, help="Detach now, although it is in use")
def umount(mountpoints: tuple[str, ...], *, lazy: bool) -> None:
    """Unmount repositories, given by mount point or by fqrn; all of them if none is given."""
    for name in mountpoints:
        unmount(place_of(name), lazy=lazy)
    if not mountpoints:
        failed = [mount for mount in running_mounts() if not _unmount_aloud(mount.mountpoint, lazy=lazy)]
        raise SystemExit(1 if failed else 0)


def unmount(place: str, *, lazy: bool) -> None:
    """Take one mount away. Raises MountError."""
    # A server that hangs cannot be asked whether it is dead, and need not be.
    entry = mount_table.find_mount(place)
    if entry is None:
        raise MountError(f"{place}: nothing is mounted there")
    if not entry.type.startswith("fuse"):
        raise MountError(f"{place}: a mount of type {entry.type}, not of cvfs: use umount")
    # A watchdog may have been quicker.
    if lazy or not (mount_points.clean_dead_mount(place) or mount_table.find_mount(place) is None):
        mount_points.unmount(place, lazy=lazy)


def _unmount_aloud(place: str, *, lazy: bool) -> bool:
    """One of all, in the original's words; a mount that is busy does not keep the others."""
    click.echo(f"Unmounting {place}: ", nl=False)
    try:
        unmount(place, lazy=lazy)
    except CvfsError as error:
        click.echo("Failed!")
        click.echo(str(error), err=True)
        return False
    click.echo("OK")
    return True


def _make_default_place(place: str) -> None:
    try:
        os.makedirs(place, exist_ok=True)
    except OSError as error:
        raise MountError(f"{place}: {error.strerror}: name another directory to mount at, or use cvfs exec") from error
