"""The command `cvfs`: everything a client does."""

import click

from cvfs import __version__
from cvfs_tools import browse, mounting
from cvfs_tools.running import Group


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="cvfs")
def main() -> None:
    """Read repositories of software: mount them, or look into them without a mount."""


for command in (mounting.mount, mounting.umount, mounting.stat, browse.ls, browse.cat, browse.cp, browse.info):
    main.add_command(command)
