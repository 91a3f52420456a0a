"""Going where an open transaction has its mounts: the process becomes the command that it was asked to run there."""

import os
from collections.abc import Sequence
from typing import NoReturn

from cvfs.errors import MountError, UsageError
from cvfs.kernel import namespaces
from cvfs_server.settings import load_settings
from cvfs_server.site import Site
from cvfs_server.transaction.record import open_record
from cvfs_server.transaction.stage import Stage


def enter_transaction(site: Site, fqrn: str, command: Sequence[str], *, fakeroot: bool = False) -> NoReturn:
    """Never returns. `fakeroot`: an ordinary user appears as root there, else as himself.

    Raises UsageError if no transaction is open, or for a command that is not there, MountError for one without mounts.
    """
    stage = Stage.of(site, load_settings(site, fqrn))
    record = open_record(stage.layout)
    if not stage.is_up(record.keeper):
        raise MountError(f"{fqrn}: its transaction is not mounted: bring it back with cvfs-server mount {fqrn}")
    user, group = os.geteuid(), os.getegid()
    if record.apart:
        namespaces.join(record.keeper)
        if not fakeroot:
            namespaces.become(user, group)
    try:
        os.chdir(stage.layout.union)
        os.execvp(command[0], list(command))  # noqa: S606  # the user's own command, given as words
    except OSError as error:
        raise UsageError(f"{command[0]}: {error.strerror}") from error
