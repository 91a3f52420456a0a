"""The end of a repository on this machine; removes what is known to be a repository's, and nothing else that lies there."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator

from cvfs.errors import Locked, StoreFull, UsageError
from cvfs_server.publishers import living, registry, switching
from cvfs_server.settings import RepositorySettings, load_settings
from cvfs_server.signing.keychain import CERTIFICATE, KEY, MASTER_KEY, PUBLIC_KEY
from cvfs_server.site import Site
from cvfs_server.storage.choice import storage_of
from cvfs_server.transaction.layers import remove_tree
from cvfs_server.transaction.transactions import unmount_everything

# First of all what makes clients believe the rest.
_DOCUMENTS = (
    ".cvmfspublished",
    ".cvmfswhitelist",
    ".cvmfsreflog",
    ".cvmfs_master_replica",
    ".cvmfs_status.json",
    ".cvmfs_last_snapshot",
)
_PATIENCE = 20
_PAUSE = 0.05
_KEYS = (MASTER_KEY, PUBLIC_KEY, KEY, CERTIFICATE, "gw")


def remove_repository(site: Site, fqrn: str, *, preserve: bool = False) -> list[str]:
    """Remove configuration and spool area and, unless they are to be preserved, published files and keys.

    What is in S3 stays there. Returns places that were left because something else is there too. Raises Locked while anybody
    publishes, MountError while the union is in use, UsageError for a spool area that cannot be only this repository's.
    """
    settings = load_settings(site, fqrn)
    _check_spool(settings)
    with _nobody_else(settings):
        unmount_everything(site, settings)
        left = [] if preserve or settings.s3 else _remove_published(settings)
        if not preserve:
            _remove_keys(site, fqrn)
    _remove_tree(settings.spool)
    # Last: as long as it is there, all of this can be done again.
    _remove_configuration(site, fqrn)
    return left


@contextlib.contextmanager
def _nobody_else(settings: RepositorySettings) -> Iterator[None]:
    with switching(settings, "rmfs"), registry(settings):
        if names := living(settings):
            raise Locked(f"{settings.fqrn}: {len(names)} publishers are at work: wait for them, or end them")
        yield


def _check_spool(settings: RepositorySettings) -> None:
    if settings.fqrn not in os.path.basename(settings.spool.rstrip("/")):
        raise UsageError(f"{settings.spool} is not called {settings.fqrn}: others may use it, remove it by hand")


def _remove_published(settings: RepositorySettings) -> list[str]:
    storage = storage_of(settings)
    for name in _DOCUMENTS:
        storage.discard(name)
    _remove_tree(f"{settings.storage}/data")
    return _remove_empty(settings.storage)


def _remove_keys(site: Site, fqrn: str) -> None:
    for kind in _KEYS:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(site.key(fqrn, kind))


def _remove_configuration(site: Site, fqrn: str) -> None:
    directory = os.path.dirname(site.configuration(fqrn))
    _remove_tree(directory)


def _remove_tree(place: str) -> None:
    if os.path.ismount(place):
        raise UsageError(f"{place} is a mount point: unmount it first")
    deadline = time.monotonic() + _PATIENCE
    while os.path.lexists(place):
        try:
            remove_tree(place)
        except OSError as error:
            # The client of a mount that was taken away ends by itself, and writes down its cache first.
            if error.errno not in {errno.ENOTEMPTY, errno.ENOENT} or time.monotonic() > deadline:
                raise StoreFull(f"cannot remove {_named(error, place)}: {error.strerror}; try again") from error
            time.sleep(_PAUSE)


def _named(error: OSError, place: str) -> str:
    return os.fsdecode(error.filename) if error.filename else place


def _remove_empty(place: str) -> list[str]:
    try:
        os.rmdir(place)
    except FileNotFoundError:
        return []
    except OSError:
        return [place]
    return []
