"""Sets of objects that outgrow memory: records in files, parted by the first byte of the digest; knows no catalog.

Writers in several processes append whole records, so that nobody has to wait for anybody. A part is read as a set: memory
follows the largest part, not the repository.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator

from cvfs.errors import StoreFull

PARTS = 256
_APPENDING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class Inventory:
    """Records of one length, which begin with a digest, in files below `directory`. Not open before `start`.

    A copy in a forked process appends to the same files.
    """

    def __init__(self, directory: str, record_size: int) -> None:
        self._directory = directory
        self._record_size = record_size
        self._files: list[int] = []

    def start(self) -> None:
        """Make the files. Raises StoreFull."""
        try:
            os.makedirs(self._directory)
            for number in range(PARTS):
                self._files.append(os.open(self._path(number), _APPENDING, 0o600))
        except OSError as error:
            raise self._no_room(error) from error

    def add(self, records: Iterable[bytes]) -> None:
        """Write records down, again if they are there. Raises StoreFull."""
        parted: dict[int, set[bytes]] = {}
        for record in records:
            parted.setdefault(record[0], set()).add(record)
        try:
            for number, found in parted.items():
                # One call, so that records of several writers never mix.
                data = b"".join(found)
                if os.write(self._files[number], data) != len(data):
                    raise StoreFull(f"cannot write the list of objects to {self._directory}: no room")
        except OSError as error:
            raise self._no_room(error) from error

    def part(self, number: int) -> set[bytes]:
        """The records whose digest begins with this byte. Raises OSError."""
        with open(self._path(number), "rb") as file:
            data = file.read()
        return {data[at : at + self._record_size] for at in range(0, len(data), self._record_size)}

    def records(self) -> Iterator[bytes]:
        """All records in order, each once."""
        for number in range(PARTS):
            yield from sorted(self.part(number))

    def close(self) -> None:
        """Give up the files."""
        files, self._files = self._files, []
        for descriptor in files:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _path(self, number: int) -> str:
        return f"{self._directory}/{number:02x}"

    def _no_room(self, error: OSError) -> StoreFull:
        return StoreFull(f"cannot write the list of objects to {self._directory}: {error.strerror}")
