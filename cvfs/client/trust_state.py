"""What a client remembers of a repository's trust: the newest seen, and the documents that proved it.

A few small files outside of the cache, written through to the disk; wiping the cache does not touch them.
"""

import contextlib
import json
import logging
import os
import tempfile
from dataclasses import dataclass

from cvfs.errors import FormatError
from cvfs.trust import Seen

log = logging.getLogger(__name__)

_MAX_FILE = 4 * 2**20
_MAGIC = "cvfs trust 1"


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

    def seen(self) -> Seen | None:
        """The newest ever verified; None at the first time. Raises FormatError if the record is damaged."""
        data = self._read("seen.json")
        try:
            return Seen.parse(data) if data is not None else None
        except FormatError as error:
            raise FormatError(f"{self.directory}/seen.json: {error}: remove it to begin anew") from error

    def kept(self) -> Kept | None:
        """The documents of the last verification, to be verified anew; None if there are none."""
        data = self._read("documents.json")
        if data is None:
            return None
        try:
            magic, accepted, *texts = json.loads(data)
            manifest, whitelist, certificate = (text.encode("latin-1") for text in texts)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise FormatError(f"{self.directory}: the kept documents are damaged, remove them") from error
        if magic != _MAGIC or not isinstance(accepted, float):
            raise FormatError(f"{self.directory}: the kept documents are of another version, remove them")
        return Kept(manifest, whitelist, certificate, accepted)

    def keep(self, kept: Kept, seen: Seen) -> None:
        """Remember a verification. A directory that cannot be written costs protection, not the mount: it is logged."""
        texts = [document.decode("latin-1") for document in (kept.manifest, kept.whitelist, kept.certificate)]
        try:
            os.makedirs(self.directory, exist_ok=True)
            if self._read("seen.json") != seen.serialise():
                self._write("seen.json", seen.serialise())
            self._write("documents.json", json.dumps([_MAGIC, kept.accepted, *texts]).encode())
        except OSError as error:
            log.warning("%s: the newest revision cannot be remembered: %s", self.directory, error.strerror)

    def _read(self, name: str) -> bytes | None:
        try:
            with open(os.path.join(self.directory, name), "rb") as file:
                return file.read(_MAX_FILE)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise FormatError(f"{self.directory}/{name}: {error.strerror}") from error

    def _write(self, name: str, data: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=self.directory)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, os.path.join(self.directory, name))
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
