"""Sets of objects that outgrow memory: records in files, parted by the first byte of the digest; knows no catalog.

Writers in several processes append whole records, so that nobody has to wait for anybody. A part is read as a set: memory
follows the largest part, not the repository. No file stays open: a few hundred of them for each set would be too many.
"""

import os
from collections.abc import Iterable, Iterator

from cvfs.errors import StoreFull
from cvfs_server.founding.ownership import give_new_directories, nearest_directory

PARTS = 256
_APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


class Inventory:
    """Records of one length, which begin with a digest, in files below `directory`. To be used after `start`.

    Copies in other processes append to the same files.
    """

    def __init__(self, directory: str, record_size: int) -> None:
        self._directory = directory
        self._record_size = record_size

    def start(self) -> None:
        """Make the directory, which is not there. Raises StoreFull."""
        try:
            above = nearest_directory(self._directory)
            os.makedirs(self._directory)
            give_new_directories(above, self._directory)
        except OSError as error:
            raise self._no_room(error) from error

    def add(self, records: Iterable[bytes]) -> None:
        """Write records down, again if they are there. Raises StoreFull."""
        parted: dict[int, set[bytes]] = {}
        for record in records:
            parted.setdefault(record[0], set()).add(record)
        try:
            for number, found in parted.items():
                self._append(self._path(number), b"".join(found))
        except OSError as error:
            raise self._no_room(error) from error

    def part(self, number: int) -> set[bytes]:
        """The records whose digest begins with this byte. Raises OSError."""
        try:
            with open(self._path(number), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return set()
        return {data[at : at + self._record_size] for at in range(0, len(data), self._record_size)}

    def records(self) -> Iterator[bytes]:
        """All records in order, each once."""
        for number in range(PARTS):
            yield from sorted(self.part(number))

    def _append(self, path: str, data: bytes) -> None:
        descriptor = os.open(path, _APPENDING, 0o600)
        try:
            # One call, so that records of several writers never mix.
            if os.write(descriptor, data) != len(data):
                raise StoreFull(f"cannot write the list of objects to {self._directory}: no room")
        finally:
            os.close(descriptor)

    def _path(self, number: int) -> str:
        return f"{self._directory}/{number:02x}"

    def _no_room(self, error: OSError) -> StoreFull:
        return StoreFull(f"cannot write the list of objects to {self._directory}: {error.strerror}")
