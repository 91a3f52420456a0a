"""Keeps a running mount's copy of the configuration repository current: revoked keys and blacklists count without a remount.

What else changed waits for a reload.
"""

import logging
import time
from collections.abc import Callable

from cvfs.client.settings import Settings
from cvfs.errors import CvfsError

log = logging.getLogger(__name__)

EVERY = 3600.0


class ConfigWatch:
    """Something to do once in a while; `reread` reads the configuration, which brings the copy up to date."""

    def __init__(
        self, settings: Settings, reread: Callable[[], object] | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # The repository of the configuration itself, and a mount without one, have nothing to follow.
        name = settings.variables.get("CVMFS_CONFIG_REPOSITORY", "").strip()
        self._reread = reread if name and name != settings.fqrn else None
        self._fqrn = settings.fqrn
        self._clock = clock
        self._due = clock() + EVERY

    def work(self) -> None:
        """Do it if it is time; takes no longer than the configuration repository may. Trouble is logged."""
        if self._reread is None or self._clock() < self._due:
            return
        self._due = self._clock() + EVERY
        try:
            self._reread()
        except (CvfsError, OSError) as error:
            log.warning("%s: the configuration cannot be read again: %s", self._fqrn, error)
