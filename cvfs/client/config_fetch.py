"""Brings the copy of a configuration repository up to date, in a process of its own that is ended at a deadline.

Whatever hangs there (a server, a disk), the mount that asked comes up in time with the last good copy.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from cvfs.client.config_copy import ConfigCopy, Kept
from cvfs.client.repository import Repository
from cvfs.client.settings import Settings, settings_from
from cvfs.client.settings.tree import Copy
from cvfs.errors import CvfsError, Unreachable
from cvfs.interpreter import python

# Seconds within which a mount goes on; CVFS_CONFIG_REPO_TIMEOUT gives others.
PATIENCE = 5
# A copy is not asked about again for so long, nor is one whose repository could not be reached.
FRESH = 240.0
_REST = 60.0
_LARGEST_ANSWER = 4096

Ask = Callable[[Settings, float], str]


def fetch_copy(settings: Settings, patience: float = PATIENCE, ask: Ask | None = None) -> Copy:
    """The files of the configuration repository that the settings describe, as new as can be had within `patience` seconds.

    Never raises for a repository that cannot be reached or trusted: the last good copy serves, and the reason is a warning.
    """
    copies = ConfigCopy.of(settings)
    if copies is None:
        return Copy(None, None, f"configuration repository {settings.fqrn}: no directory for its copy")
    kept = copies.kept()
    if kept and time.time() - kept.checked < FRESH:
        return Copy(kept.directory, kept.revision)
    if kept and _tried_lately(copies):
        return _with_warning(settings, kept, "it could not be reached a moment ago")
    trouble = (ask or ask_process)(settings, patience)
    if trouble:
        _remember_trial(copies)
        return _with_warning(settings, kept, trouble)
    kept = copies.kept()
    return Copy(kept.directory, kept.revision) if kept else _with_warning(settings, None, "its copy was lost")


def _with_warning(settings: Settings, kept: Kept | None, trouble: str) -> Copy:
    instead = f"its copy of revision {kept.revision} serves" if kept else "there is no copy of it"
    warning = f"configuration repository {settings.fqrn}: {trouble}; {instead}"
    return Copy(kept.directory if kept else None, kept.revision if kept else None, warning)


def _tried_lately(copies: ConfigCopy) -> bool:
    with contextlib.suppress(OSError):
        return abs(time.time() - os.stat(f"{copies.place}.tried").st_mtime) < _REST
    return False


def _remember_trial(copies: ConfigCopy) -> None:
    # Where nothing can be written nothing is remembered.
    with contextlib.suppress(OSError):
        os.makedirs(copies.directory, exist_ok=True)
        with open(f"{copies.place}.tried", "wb"):
            os.utime(f"{copies.place}.tried")


def ask_process(settings: Settings, patience: float) -> str:
    """Let a process of its own update the copy; what went wrong, "" if nothing."""
    request = json.dumps([settings.fqrn, dict(settings.variables), patience]).encode()
    # A new interpreter: a fork of a process with threads may find locks that nobody will open.
    process = subprocess.Popen(
        python(__name__),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        answer, _ = process.communicate(request, timeout=patience)
    except subprocess.TimeoutExpired:
        _end(process)
        return f"no answer within {patience:g} seconds"
    said = answer[:_LARGEST_ANSWER].decode(errors="replace").strip()
    return said or (f"its process ended with status {process.returncode}" if process.returncode else "")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    # One that waits for a dead disk outlives even that, and is left behind.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=1)


def update_copy(settings: Settings) -> None:
    """Fetch the newest revision and copy its files. Raises StoreError, TrustError, FormatError, OSError."""
    copies = ConfigCopy.of(settings)
    if copies is None:
        raise Unreachable("no directory for its copy")
    with _alone(copies):
        kept = copies.kept()
        if kept and time.time() - kept.checked < FRESH:
            return
        with Repository.open_settings(settings) as repository:
            if kept and repository.revision.offline:
                raise Unreachable(repository.revision.trouble or "no server answers")
            copies.keep(repository)


@contextlib.contextmanager
def _alone(copies: ConfigCopy) -> Iterator[None]:
    """Many mounts start at once: one fetches, the others find its copy."""
    os.makedirs(copies.directory, exist_ok=True)
    with open(f"{copies.place}.lock", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    """The process: a request on standard input, on standard output what went wrong."""
    fqrn, parameters, patience = json.loads(sys.stdin.buffer.read())
    # Should the asker be gone nobody else would end this one.
    signal.alarm(int(patience) + 2)
    try:
        update_copy(settings_from(fqrn, parameters))
    except (CvfsError, OSError) as error:
        sys.stdout.write(" ".join(str(error).split()))
