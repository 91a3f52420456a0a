"""What earlier checks found sound, object by object and with the time, in small files of the spool area.

It saves reading, it proves nothing: what it says is believed only by who asks for it. A file that is damaged or belongs to
another repository says nothing. Bounded by the objects that the repository refers to. One check at a time uses it.
"""

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from cvfs.errors import StoreFull
from cvfs_server.check.references import CLAIM_SIZE

NEVER = float("inf")
_MAGIC = b"cvfs verified objects 1\n"
_TIME = struct.Struct("<I")
_SIZE = CLAIM_SIZE + _TIME.size
_CHECKSUM = 20
_LARGEST = 2**32
_DAY = 86400


@dataclass(frozen=True, slots=True)
class Memory:
    """Where it is kept, for which repository, and what of it is believed: claims found sound at `since` or later.

    `since` is a Unix time, NEVER believes nothing. With `keep_all` claims that are not asked about stay remembered.
    """

    directory: str
    fqrn: str
    since: float = NEVER
    keep_all: bool = False

    def of_part(self, part: int) -> "PartMemory":
        """What is remembered of one part."""
        return PartMemory(f"{self.directory}/{part:02x}", self.fqrn, self.since)


class PartMemory:
    """The claims of one part that were found sound, with the time; to be used by one process."""

    def __init__(self, path: str, fqrn: str, since: float) -> None:
        self._path = path
        self._head = _MAGIC + fqrn.encode() + b"\n"
        self._since = since
        self._known: dict[bytes, int] = {}
        self.is_changed = False

    def load(self) -> None:
        """Read what is there; whatever is damaged is forgotten."""
        with contextlib.suppress(OSError), open(self._path, "rb") as file:
            data = file.read(_LARGEST)
            body = data[len(self._head) + _CHECKSUM :]
            if data.startswith(self._head + _checksum(body)) and not len(body) % _SIZE:
                rows = (body[start : start + _SIZE] for start in range(0, len(body), _SIZE))
                self._known = {row[:CLAIM_SIZE]: _TIME.unpack_from(row, CLAIM_SIZE)[0] for row in rows}

    def knows(self, claim: bytes, now: float) -> bool:
        """Whether it was found sound lately; times to come are those of a clock that was wrong."""
        return self._since <= self._known.get(claim, -1) <= now + _DAY

    def add(self, claim: bytes, now: float) -> None:
        """It was found sound now."""
        self._known[claim] = int(now)
        self.is_changed = True

    def forget(self, claim: bytes) -> None:
        """It is not sound any more."""
        self.is_changed = self._known.pop(claim, None) is not None or self.is_changed

    def keep_only(self, claims: Iterable[bytes]) -> None:
        """Forget everything else."""
        kept = {claim: self._known[claim] for claim in claims if claim in self._known}
        self.is_changed = self.is_changed or len(kept) != len(self._known)
        self._known = kept

    def save(self) -> None:
        """Write it down, if anything changed. Raises StoreFull."""
        if not self.is_changed:
            return
        body = b"".join(claim + _TIME.pack(time) for claim, time in self._known.items())
        try:
            # Not flushed to the disk: what a crash leaves of it fails its check sum, and is read again.
            with open(f"{self._path}.new", "wb") as file:
                file.write(self._head + _checksum(body) + body)
            os.replace(f"{self._path}.new", self._path)
        except OSError as error:
            raise StoreFull(f"cannot write {self._path}: {error.strerror}") from error
        self.is_changed = False


def _checksum(body: bytes) -> bytes:
    return hashlib.sha1(body, usedforsecurity=False).digest()
