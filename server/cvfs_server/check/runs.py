"""Checks of all objects that can be interrupted: when one began is written down until it has come to its end.

What it found sound meanwhile is in `memory`. Looks at no object itself.
"""

import contextlib
import os
import time
from collections.abc import Iterator

from cvfs_server.check.memory import NEVER, Memory
from cvfs_server.lock import publisher_lock
from cvfs_server.settings import RepositorySettings
from cvfs_server.state import make_directory, read_state, write_state

_BEGAN, _LOCK = "began", "lock"


@contextlib.contextmanager
def remembering(
    settings: RepositorySettings, *, resume: bool = False, since: float = NEVER, keep_all: bool = False
) -> Iterator[Memory]:
    """What a check of all objects remembers, for the time of that check; whoever leaves with an error can resume.

    With `resume` what the interrupted check found sound is believed, and in any case what was found so at `since` or later.
    Raises Locked if another check of the repository is under way, StoreFull.
    """
    directory = place(settings)
    make_directory(directory)
    with publisher_lock(f"{directory}/{_LOCK}", "check"):
        began = interrupted(settings) if resume else None
        if began is None:
            write_state(f"{directory}/{_BEGAN}", str(int(time.time())).encode())
        yield Memory(directory, settings.fqrn, min(since, NEVER if began is None else began), keep_all)
        os.unlink(f"{directory}/{_BEGAN}")


def interrupted(settings: RepositorySettings) -> float | None:
    """When the check began that did not come to its end, as a Unix time; None if there is none."""
    text = read_state(f"{place(settings)}/{_BEGAN}") or b""
    return float(text) if text.isdigit() else None


def place(settings: RepositorySettings) -> str:
    """Where a repository's checks keep what they remember."""
    return f"{settings.spool}/check"
