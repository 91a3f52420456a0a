"""The command `cvfs`: everything a client does."""

import click

from cvfs import __version__
from cvfs_tools.running import Verbs

VERBS = {
    "mount": "mounting.mount",
    "exec": "executing.execute",
    "umount": "mounting.umount",
    "automount": "automounting.automount",
    "service": "service.service",
    "setup": "setup.command.setup",
    "stat": "observing.stat",
    "probe": "observing.probe",
    "status": "observing.status",
    "talk": "talking.talk",
    "reload": "administering.reload",
    "killall": "administering.killall",
    "fuser": "administering.fuser",
    "bugreport": "reporting.bugreport",
    "showconfig": "configuring.showconfig",
    "chksetup": "configuring.chksetup",
    "ls": "browse.ls",
    "cat": "browse.cat",
    "cp": "browse.cp",
    "info": "browse.info",
    "fsck": "caching.fsck",
    "wipecache": "caching.wipecache",
    "cache": "caching.cache",
    "preload": "preloading.preload",
    "trust": "trusting.trust",
    "completion": "completing.completion",
}
"""Each verb, and the function in this package that does it."""


@click.group(cls=Verbs, verbs=VERBS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="cvfs")
@click.option("--etc", metavar="DIR", help="Configuration tree in place of /etc/cvmfs, for every verb  [CVFS_ETC]")
def main(etc: str | None) -> None:
    """Read repositories of software: mount them, or look into them without a mount.

    A REPOSITORY is named by its fqrn, its whole name (sw.example.org), if /etc/cvmfs or the CVMFS_* variables say where it is
    and which key it is signed with; or by its URL (http://stratum1.example.org/cvmfs/sw.example.org), with -k KEY.
    """
    del etc  # who reads the configuration asks the context for it
