"""What a client remembers of a repository's trust: the newest seen, and the documents that proved it.

Two small files outside of the cache, written through to the disk under a lock that all processes share: what is remembered
never goes backwards, except by `forget`. Wiping the cache does not touch them.
"""

import contextlib
import errno
import fcntl
import functools
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cvfs.durable import replace_file, sync_directory
from cvfs.errors import FormatError, Locked, UsageError
from cvfs.trust import Seen, Verified

log = logging.getLogger(__name__)

_SEEN, _DOCUMENTS, _LOCK = "seen.json", "documents.json", "lock"
_MAX_FILE = 4 * 2**20
_MAGIC = "cvfs trust 1"
# Whoever holds the lock writes two small files.
_PATIENCE = 5.0
_STEP = 0.02
# Documents that did not change are written again only to remember when they were last good, in seconds.
_REWRITE_AFTER = 3600.0


@dataclass(frozen=True, slots=True)
class Kept:
    """The three documents of one verification, and the Unix time at which they were accepted."""

    manifest: bytes
    whitelist: bytes
    certificate: bytes
    accepted: float


class TrustState:
    """The state of one repository in the directory `<base>/<fqrn>`."""

    def __init__(self, base: str, fqrn: str) -> None:
        self.directory = os.path.join(base, fqrn)
        self._fqrn = fqrn

    def seen(self) -> Seen | None:
        """The newest ever verified; None at the first time.

        Raises FormatError if the record is damaged, UsageError if it cannot be read: who cannot tell what was seen must
        not take anything for new.
        """
        data = self._read(_SEEN)
        try:
            return Seen.parse(data) if data is not None else None
        except FormatError as error:
            hint = f"begin anew with cvfs trust reset {self._fqrn}"
            raise FormatError(f"{self.directory}/{_SEEN}: {error}: {hint}") from error

    def kept(self) -> Kept | None:
        """The documents of the last verification, to be verified anew; None if there are none.

        Raises FormatError, UsageError.
        """
        data = self._read(_DOCUMENTS)
        if data is None:
            return None
        try:
            magic, accepted, *texts = json.loads(data)
            manifest, whitelist, certificate = (text.encode("latin-1") for text in texts)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise FormatError(f"{self._path(_DOCUMENTS)}: the kept documents are damaged: remove it") from error
        if magic != _MAGIC or not isinstance(accepted, float):
            raise FormatError(f"{self._path(_DOCUMENTS)}: the kept documents are of another version: remove it")
        return Kept(manifest, whitelist, certificate, accepted)

    def keep(self, kept: Kept, verified: Verified) -> None:
        """Remember a verification, unless another process has remembered a newer one meanwhile.

        A directory that cannot be written costs protection, not the mount: it is logged, once.
        """
        try:
            os.makedirs(self.directory, exist_ok=True)
            with self._locked():
                self._keep(kept, verified)
        except (OSError, Locked, FormatError, UsageError) as error:
            _warn_once(self.directory, _reason(error))

    def forget(self) -> list[str]:
        """Remove what is remembered; returns the files that were there. Raises Locked, UsageError."""
        if not os.path.isdir(self.directory):
            return []
        try:
            with self._locked():
                return [path for path in map(self._path, (_SEEN, _DOCUMENTS)) if _remove(path)]
        except OSError as error:
            raise UsageError(f"{self.directory}: {_reason(error)}: {self._advice(error)}") from error

    def _keep(self, kept: Kept, verified: Verified) -> None:
        now, before = verified.seen, self.seen()
        if before and not verified.is_not_older_than(before):
            log.info("%s: another process has seen a newer revision meanwhile", self._fqrn)
            return
        # In this order: between the two, what is kept is newer than what was seen, which is no contradiction.
        if self._is_worth_writing(kept):
            texts = [document.decode("latin-1") for document in (kept.manifest, kept.whitelist, kept.certificate)]
            self._write(_DOCUMENTS, json.dumps([_MAGIC, kept.accepted, *texts]).encode())
        if now != before:
            self._write(_SEEN, now.serialise())

    def _is_worth_writing(self, kept: Kept) -> bool:
        try:
            before = self.kept()
        except FormatError:
            return True
        same = before is not None and replace(before, accepted=kept.accepted) == kept
        return not (same and before and 0 <= kept.accepted - before.accepted < _REWRITE_AFTER)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time. Raises Locked if the lock is not free within `_PATIENCE`, OSError."""
        descriptor = os.open(self._path(_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(descriptor, self.directory)
            yield
        finally:
            os.close(descriptor)

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _read(self, name: str) -> bytes | None:
        try:
            with open(self._path(name), "rb") as file:
                return file.read(_MAX_FILE)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UsageError(f"{self._path(name)}: {_reason(error)}: {self._advice(error)}") from error

    def _advice(self, error: OSError) -> str:
        """What a person can do about it."""
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"it is for user {_owner(self.directory)} to change, or choose a place with CVFS_TRUST_STATE_DIR"
        return f"begin anew with cvfs trust reset {self._fqrn}"

    def _write(self, name: str, data: bytes) -> None:
        replace_file(self._path(name), data)
        sync_directory(self.directory)


def _lock(descriptor: int, directory: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise Locked(f"{directory}: another process holds its lock") from error
            time.sleep(_STEP)


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _owner(directory: str) -> str:
    """Whose the directory is, or the nearest one above it that can be looked at."""
    while True:
        try:
            return str(os.stat(directory).st_uid)
        except OSError:
            if directory in ("/", ""):
                return "0"
            directory = os.path.dirname(directory)


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


@functools.lru_cache(maxsize=64)
def _warn_once(directory: str, reason: str) -> None:
    """A refresh every few minutes for a year would fill the log."""
    log.warning("%s: the newest revision cannot be remembered: %s", directory, reason)
