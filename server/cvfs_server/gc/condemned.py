"""The objects that garbage collection is about to delete, in a sorted file, and those that publishers rescued from it.

Deletes nothing. Whoever relies on an object that is there already asks `Condemned.spare` before: afterwards the object is
gone already, and has to be stored anew, or it stays. Source: docs/decisions.md, "Garbage collection beside publishers".
"""

import bisect
import contextlib
import mmap
import os
import secrets
from collections.abc import Callable, Iterable, Iterator

from cvfs.errors import FormatError, StoreFull
from cvfs.hashes import DIGEST_SIZE, Algorithm, ContentHash, ObjectKind
from cvfs_server.founding.ownership import give_to_directory_owner
from cvfs_server.lock import publisher_lock
from cvfs_server.settings import RepositorySettings
from cvfs_server.state import no_link

RECORD_SIZE = DIGEST_SIZE + 1
_MAGIC = b"cvfs condemned 1"
_NAME_SIZE = 16
_HEADER_SIZE = len(_MAGIC) + _NAME_SIZE
_KINDS = tuple(ObjectKind)
_KIND_CODES = {kind: code for code, kind in enumerate(_KINDS)}
_KIND_BITS = 3
_BUFFER = 2**20
_SWEEP_PATIENCE = 600


def record_of(digest: bytes, algorithm: int, kind: ObjectKind) -> bytes:
    """An object as a list writes it down: its digest, then one byte for algorithm and kind."""
    return digest + bytes((algorithm << _KIND_BITS | _KIND_CODES[kind],))


def content_of(record: bytes) -> ContentHash:
    """The object of a record. Raises FormatError for a record that means none."""
    code = record[DIGEST_SIZE]
    try:
        return ContentHash(Algorithm(code >> _KIND_BITS), record[:DIGEST_SIZE], _KINDS[code & (1 << _KIND_BITS) - 1])
    except (ValueError, IndexError) as error:
        raise FormatError(f"a list of condemned objects with a code that means nothing: {code}") from error


def area_of(settings: RepositorySettings) -> str:
    """Where garbage collection keeps its state: a directory of the spool area, which need not be there."""
    return f"{settings.spool}/gc"


def list_path(area: str) -> str:
    """The list of condemned objects."""
    return f"{area}/condemned"


def rescued_path(area: str) -> str:
    """What publishers rescued from it."""
    return f"{area}/rescued"


@contextlib.contextmanager
def sweep_lock(area: str, purpose: str) -> Iterator[None]:
    """Nothing is deleted or rescued meanwhile; for moments. Raises Locked, StoreFull."""
    with publisher_lock(f"{area}/sweep.lock", purpose, _SWEEP_PATIENCE):
        yield


class CondemnedList:
    """A finished list in memory pages of its file, ordered by digest; stays readable when the file has lost its name."""

    __slots__ = ("_map", "name")

    def __init__(self, mapped: mmap.mmap) -> None:
        self._map = mapped
        self.name = mapped[len(_MAGIC) : _HEADER_SIZE].hex()

    @classmethod
    def open(cls, path: str) -> "CondemnedList | None":
        """The list in a file, None if there is none. Raises FormatError for a file that is no list."""
        try:
            with open(path, "rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise FormatError(f"{path}: cannot be read: {error}") from error
        if mapped[: len(_MAGIC)] != _MAGIC or (len(mapped) - _HEADER_SIZE) % RECORD_SIZE:
            raise FormatError(f"{path}: no list of condemned objects; remove it, and collect with --orphans later")
        return cls(mapped)

    def __len__(self) -> int:
        return (len(self._map) - _HEADER_SIZE) // RECORD_SIZE

    def __getitem__(self, index: int) -> bytes:
        start = _HEADER_SIZE + index * RECORD_SIZE
        if not _HEADER_SIZE <= start < len(self._map):
            raise IndexError(index)
        return self._map[start : start + RECORD_SIZE]

    def __iter__(self) -> Iterator[bytes]:
        return map(self.__getitem__, range(len(self)))

    def matching(self, digest: bytes) -> list[bytes]:
        """All records of a digest: objects of several kinds may have the same bytes."""
        index, found = bisect.bisect_left(self, digest), []
        while index < len(self) and self[index].startswith(digest):
            found.append(self[index])
            index += 1
        return found

    def part(self, number: int) -> Iterator[bytes]:
        """The records whose digest begins with this byte, in order."""
        for index in range(bisect.bisect_left(self, bytes((number,))), len(self)):
            record = self[index]
            if record[0] != number:
                return
            yield record


def write_list(path: str, records: Iterable[bytes]) -> int:
    """Write a list to a new file, its records in order and each once, under a name of its own; their number.

    Raises StoreFull.
    """
    count = 0
    try:
        with open(path, "xb", _BUFFER) as file:
            file.write(_MAGIC + secrets.token_bytes(_NAME_SIZE))
            for record in records:
                file.write(record)
                count += 1
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreFull(f"cannot write {path}: {error.strerror}") from error
    return count


def present_name(area: str) -> str:
    """The name of the list that is being worked on, empty if there is none."""
    try:
        with open(list_path(area), "rb") as file:
            return file.read(_HEADER_SIZE)[len(_MAGIC) :].hex()
    except FileNotFoundError:
        return ""


def read_rescued(area: str, start: int = 0) -> tuple[list[bytes], int]:
    """The records rescued so far from the offset `start` on, and the offset where the next ones will be."""
    try:
        with open(rescued_path(area), "rb") as file:
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return [], start
    whole = len(data) - len(data) % RECORD_SIZE
    return [data[at : at + RECORD_SIZE] for at in range(0, whole, RECORD_SIZE)], start + whole


def is_condemned(settings: RepositorySettings, content: ContentHash) -> bool:
    """Whether an object is about to be deleted: a root catalog that is may not get a new name.

    The caller holds `switching`: nothing is condemned meanwhile.
    """
    found = CondemnedList.open(list_path(area_of(settings)))
    return found is not None and bool(found.matching(content.digest))


class Condemned:
    """The list as one publisher and its workers know it. Copies of it work in other processes."""

    __slots__ = ("_area", "_list", "_spared", "name")

    def __init__(self, area: str, name: str) -> None:
        self._area = area
        self._list: CondemnedList | None = None
        self._spared: set[bytes] = set()
        self.name = name

    def __reduce__(self) -> tuple[Callable[[str, str], "Condemned"], tuple[str, str]]:
        return _opened, (self._area, self.name)

    def open(self) -> None:
        """Map the list. One that is finished, or was replaced, condemns nothing any more: its successor waits for us."""
        found = CondemnedList.open(list_path(self._area))
        self._list = found if found and found.name == self.name else None

    def spare(self, place: str) -> None:
        """Rescue what lies at a place of the storage, if it is condemned. Raises Locked, StoreFull."""
        digest = _digest(place)
        if self._list is None or digest is None or digest in self._spared:
            return
        if records := self._list.matching(digest):
            with sweep_lock(self._area, "rescue"):
                if present_name(self._area) == self.name:
                    _append(rescued_path(self._area), b"".join(records))
            self._spared.add(digest)


def condemned_now(area: str) -> Condemned | None:
    """What a publisher that begins now has to know; it holds the registry."""
    name = present_name(area)
    if not name:
        return None
    return _opened(area, name)


def _opened(area: str, name: str) -> Condemned:
    condemned = Condemned(area, name)
    condemned.open()
    return condemned


def _digest(place: str) -> bytes | None:
    """The digest in a place like `data/ff/049c…07c6P`, None for anything else."""
    if not place.startswith("data/") or place[7:8] != "/":
        return None
    with contextlib.suppress(ValueError):
        digest = bytes.fromhex(place[5:7] + place[8:46])
        return digest if len(digest) == DIGEST_SIZE else None
    return None


def _append(path: str, data: bytes) -> None:
    try:
        with open(path, "ab", buffering=0, opener=no_link) as file:
            # A list that root works on is there for the publishers of whoever owns the repository.
            give_to_directory_owner(file.fileno(), path)
            size = file.tell()
            # What a full disk cut off would shift everything behind it.
            file.truncate(size - size % RECORD_SIZE)
            if file.write(data) != len(data):
                file.truncate(size - size % RECORD_SIZE)
                raise StoreFull(f"cannot write {path}: no room")
    except OSError as error:
        raise StoreFull(f"cannot write {path}: {error.strerror}") from error
