"""The command `mount.cvfs`, which mount(8) calls for type cvfs: `mount -t cvfs -o options <fqrn> <mount point>`."""

import click

from cvfs.client.background import mount_in_background
from cvfs_tools.repository_options import settings
from cvfs_tools.running import plain_errors, start_logging


@click.command(context_settings={"help_option_names": ["--help"]})
@click.argument("repository")
@click.argument("mountpoint")
@click.option("-o", "options", multiple=True, metavar="OPTIONS", help="Mount options, CVMFS_* parameters, config=FILE")
@click.option("-f", "fake", is_flag=True, help="Check the options, mount nothing")
@click.option("-s", "sloppy", is_flag=True, hidden=True)
@click.option("-n", "no_mtab", is_flag=True, hidden=True)
@click.option("-v", "verbose", is_flag=True, help="Say what is mounted")
def main(
    repository: str,
    mountpoint: str,
    options: tuple[str, ...],
    *,
    fake: bool,
    sloppy: bool,
    no_mtab: bool,
    verbose: bool,
) -> None:
    """Mount REPOSITORY at MOUNTPOINT; for fstab and mount(8)."""
    del sloppy, no_mtab  # nothing to do for these habits of mount(8)
    start_logging()
    with plain_errors("mount.cvfs"):
        chosen = settings(repository.removeprefix("cvfs#"), options=options)
        if not fake:
            mount_in_background(chosen, mountpoint)
        if verbose:
            print(f"mount.cvfs: {chosen.fqrn} mounted on {mountpoint}")
