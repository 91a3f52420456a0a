"""All repositories of a site, those first whose last check is longest ago; what came of it is in each status file.

Source: FORMAT section 8.4.
"""

import time

from cvfs.errors import CvfsError, UsageError
from cvfs_server.publishers import switching
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import configured_repositories
from cvfs_server.site import Site
from cvfs_server.status import read_status, update_status
from cvfs_server.storage.choice import storage_of
from cvfs_server.tags.dates import parse_date, print_date

_DAY = 86400


def due_repositories(site: Site, now: float) -> list[str]:
    """Who was not checked in the last `CVMFS_CHECK_ALL_MIN_DAYS` days before the Unix time `now`, or cannot be opened."""
    found = []
    for fqrn in configured_repositories(site):
        try:
            repository = PublishedRepository.open(site, fqrn)
            checked = _last_check(repository, now)
            least = repository.settings.check_all_min_days * _DAY
        except CvfsError:
            # Its check will say why.
            checked, least = 0.0, 0
        if not checked or now - checked >= least:
            found.append((checked, fqrn))
    return [fqrn for _, fqrn in sorted(found)]


def note_check(repository: PublishedRepository, *, succeeded: bool) -> None:
    """Write down that a repository has just been checked. Raises StoreError, Locked."""
    storage = storage_of(repository.settings)
    with switching(repository.settings, "check"):
        status = "succeeded" if succeeded else "failed"
        update_status(storage, last_check=print_date(time.time()), check_status=status)


def _last_check(repository: PublishedRepository, now: float) -> float:
    text = read_status(repository.storage).get("last_check", "")
    try:
        return parse_date(text, now) if text else 0.0
    except UsageError:
        return 0.0
