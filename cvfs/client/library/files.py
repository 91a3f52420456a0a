"""A file of an opened repository as programs hold it: a buffered reader that knows where it came from; it never writes."""

import io
import os
from typing import TYPE_CHECKING

from cvfs.client.published_file import PublishedFile

if TYPE_CHECKING:
    from cvfs.client.library.reader import RepositoryReader

_BUFFER = 2**17


class RepositoryFile(io.BufferedReader):
    """The file `path` of `size` bytes. It may be pickled: another process opens it again at the same position."""

    def __init__(self, reader: "RepositoryReader", path: str, raw: PublishedFile, size: int) -> None:
        super().__init__(raw, _BUFFER)
        # Held as long as the file is open, so that the repository is.
        self.reader = reader
        self.path = path
        self.size = size

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened, (self.reader, self.path, self.tell())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    def fileno(self) -> int:
        """See `PublishedFile.fileno`; the descriptor's position is where the next `read` begins."""
        descriptor = super().fileno()
        os.lseek(descriptor, self.tell(), os.SEEK_SET)
        return descriptor


def _reopened(reader: "RepositoryReader", path: str, position: int) -> RepositoryFile:
    file = reader.open_binary(path)
    file.seek(position)
    return file
