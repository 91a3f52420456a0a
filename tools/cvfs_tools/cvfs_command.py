"""The command `cvfs`: everything a client does."""

import click

from cvfs import __version__
from cvfs_tools import (
    administering,
    browse,
    caching,
    configuring,
    mounting,
    observing,
    preloading,
    reporting,
    talking,
    trusting,
)
from cvfs_tools.running import Group


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="cvfs")
@click.option("--etc", metavar="DIR", help="Configuration tree in place of /etc/cvmfs, for every verb  [CVFS_ETC]")
def main(etc: str | None) -> None:
    """Read repositories of software: mount them, or look into them without a mount."""
    del etc  # who reads the configuration asks the context for it


for command in (
    mounting.mount,
    mounting.umount,
    observing.stat,
    observing.probe,
    observing.status,
    talking.talk,
    administering.reload,
    administering.killall,
    administering.fuser,
    reporting.bugreport,
    configuring.showconfig,
    configuring.chksetup,
    browse.ls,
    browse.cat,
    browse.cp,
    browse.info,
    caching.fsck,
    caching.wipecache,
    caching.cache,
    preloading.preload,
    trusting.trust,
):
    main.add_command(command)
