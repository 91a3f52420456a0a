"""The objects that catalogs name, looked at once each: by reading and inflating them, or by what the storage says of them.

A part of the references is one task. Knows no catalog. Source: FORMAT sections 4.2 to 4.5, 5.14.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from cvfs.compression import Compression, holds
from cvfs.errors import CorruptObject, MissingObject, StoreError, StoreFull
from cvfs.hashes import ContentHash, new_hasher
from cvfs.store.base import Store, Wanted
from cvfs.store.verified import Verified, stored_limit
from cvfs_server.check.crew import StopFlag
from cvfs_server.check.findings import Finding, fault
from cvfs_server.check.inventory import read_inventory, size_trouble
from cvfs_server.check.memory import Memory, PartMemory
from cvfs_server.check.references import OBJECT_SIZE, Claim, read_claims

# Up to so many stored bytes an object is read, hashed and inflated in one go.
_WHOLE = 4 * 2**20
# So many are under way together, at most; what was found sound is written down between them, if it is time.
_BATCH = 256
_MOST_FINDINGS = 10_000
_SECONDS_BETWEEN_NOTES = 5
# The answer of one who did not look, because nobody waits for it any more.
_UNSEEN = ""


class PartResult(NamedTuple):
    """What one part gave: its faults, how many objects were looked at, and how many were believed to be sound."""

    findings: list[Finding]
    objects: int
    believed: int


@dataclass(frozen=True, slots=True)
class ObjectCheck:
    """Looks at the objects of one store.

    `references` and `inventory` are directories; without an inventory the store is asked for each object. `integrity` reads
    them, `parallel` at a time, but those that `memory` knows. Works as a copy in other processes.
    """

    store: Store
    scratch: str
    references: str
    integrity: bool
    inventory: str | None = None
    memory: Memory | None = None
    parallel: int = 1
    stop: StopFlag = field(default_factory=StopFlag)

    def check_part(self, part: int) -> PartResult:
        """Every object of one part, once. Raises FormatError where this machine lacks a hash or a decoder, StoreFull."""
        return _Part(self, part).check()


class _Part:
    """The objects of one part while they are looked at."""

    def __init__(self, check: ObjectCheck, part: int) -> None:
        self._check = check
        self._part = part
        self._claims = read_claims(check.references, part)
        self._sizes = read_inventory(check.inventory, part) if check.inventory else None
        self._memory = check.memory.of_part(part) if check.memory and check.integrity else None
        self._verified = Verified(check.store, check.scratch)
        self._now = time.time()
        self._noted = time.monotonic()

    def check(self) -> PartResult:
        if self._memory is not None:
            self._memory.load()
        findings: list[Finding] = []
        believed = self._look(findings)
        # More than one claim about an object is a quarrel, or two ways to read it.
        objects = len({claim.key[:OBJECT_SIZE] for claim in self._claims})
        if len(findings) > _MOST_FINDINGS:
            more = f"and {len(findings) - _MOST_FINDINGS} more objects of this part"
            findings = [*findings[:_MOST_FINDINGS], Finding(f"data/{self._part:02x}", more)]
        return PartResult(findings, objects, believed)

    def _look(self, findings: list[Finding]) -> int:
        """How many claims were believed."""
        if not self._check.integrity:
            firsts = [
                next(claims) for _, claims in itertools.groupby(self._claims, lambda claim: claim.key[:OBJECT_SIZE])
            ]
            self._judge(firsts, findings)
            return 0
        doubtful = [claim for claim in self._claims if not self._is_believed(claim)]
        for start in range(0, len(doubtful), _BATCH):
            self._judge(doubtful[start : start + _BATCH], findings)
            if time.monotonic() - self._noted > _SECONDS_BETWEEN_NOTES:
                self._remember()
        self._remember()
        return len(self._claims) - len(doubtful)

    def _is_believed(self, claim: Claim) -> bool:
        known = self._memory is not None and self._memory.knows(claim.key, self._now)
        return known and self._presence(claim.wanted()) is None

    def _judge(self, claims: Sequence[Claim], findings: list[Finding]) -> None:
        look = self._read if self._check.integrity else self._presence_of
        if self._check.parallel > 1:
            with ThreadPoolExecutor(self._check.parallel) as pool:
                troubles = list(pool.map(look, claims))
        else:
            troubles = list(map(look, claims))
        for claim, what in zip(claims, troubles, strict=True):
            if what:
                findings.append(fault(claim.path, what))
            if self._memory is not None and what != _UNSEEN:
                _note(self._memory, claim, sound=what is None, now=self._now)

    def _remember(self) -> None:
        if self._check.memory is None or self._memory is None:
            return
        if not self._check.memory.keep_all:
            self._memory.keep_only(claim.key for claim in self._claims)
        self._memory.save()
        self._noted = time.monotonic()

    def _presence_of(self, claim: Claim) -> str | None:
        return self._presence(claim.wanted())

    def _presence(self, wanted: Wanted) -> str | None:
        """What is wrong with an object as far as it shows without reading it."""
        if self._sizes is not None:
            stored = self._sizes.get(wanted.path)
            return _missing(wanted) if stored is None else size_trouble(wanted, stored)
        try:
            return None if self._check.store.has(wanted.path) else _missing(wanted)
        except StoreError as error:
            return f"its object: {error}"

    def _read(self, claim: Claim) -> str | None:
        """What is wrong with an object, or _UNSEEN."""
        if self._check.stop:
            return _UNSEEN
        wanted = claim.wanted()
        if self._is_sound(wanted):
            return None
        try:
            for _ in self._verified.read(wanted):
                if self._check.stop:
                    return _UNSEEN
        except MissingObject:
            return _missing(wanted)
        except StoreFull:
            raise
        except StoreError as error:
            return f"its object: {error}"
        return None

    def _is_sound(self, wanted: Wanted) -> bool:
        """Whether a small object is, in one go; False says nothing: `_verified` knows what is wrong, and asks again."""
        if wanted.size is None or (most := stored_limit(wanted)) > _WHOLE:
            return False
        data = bytearray()
        try:
            for piece in self._check.store.fetch(wanted.path):
                data += piece
                if len(data) > most:
                    return False
        except StoreError:
            return False
        hasher = new_hasher(wanted.content.algorithm)
        hasher.update(data)
        return hasher.digest() == wanted.content.digest and holds(data, wanted.compression, wanted.size)


def _note(memory: PartMemory, claim: Claim, *, sound: bool, now: float) -> None:
    if sound:
        memory.add(claim.key, now)
    else:
        memory.forget(claim.key)


def _missing(wanted: Wanted) -> str:
    return f"its object {wanted.path} is missing"


def inflate(store: Store, content: ContentHash, path: str, limit: int) -> int:
    """Write the content of a zlib object of at most `limit` bytes to the new file `path`; its length.

    Raises StoreError, and then leaves no file: StoreFull where it cannot be written, CorruptObject for a longer one.
    """
    wanted = Wanted(content, Compression.ZLIB, None)
    with contextlib.closing(Verified(store, os.path.dirname(path)).read(wanted)) as pieces:
        return write_bounded(pieces, path, limit)


def write_bounded(pieces: Iterable[bytes], path: str, limit: int) -> int:
    """Write at most `limit` bytes to the new file `path`; their number. Raises as `inflate` does."""
    size = 0
    try:
        with open(path, "xb") as file:
            for piece in pieces:
                size += len(piece)
                if size > limit:
                    raise CorruptObject(f"longer than {limit} bytes, refused")
                file.write(piece)
    except OSError as error:
        _forget(path)
        raise StoreFull(f"cannot write {path}: {error.strerror}") from error
    except StoreError:
        _forget(path)
        raise
    return size


def _forget(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
