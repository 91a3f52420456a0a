"""Descriptors of the objects that were read last: a running program keeps its bytes although the cache may evict them."""

import os
import threading
from collections import OrderedDict

DEFAULT_LIMIT = 512
DEFAULT_BYTES = 128 * 2**20

# Digest and length: the same stored bytes under two compressions are two contents.
ObjectKey = tuple[bytes, int]


class OpenFile:
    """An object's descriptor, closed when its last user lets go of it."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class OpenFiles:
    """The most recently read objects: `limit` of them, of `most_bytes` together, but always the newest.

    A file that falls out is closed by whoever still reads it. What the cache evicts occupies its room as long as it is
    open here, on the disk, or in memory where nothing is kept.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, most_bytes: int = DEFAULT_BYTES) -> None:
        self._limit = limit
        self._most_bytes = most_bytes
        self._bytes = 0
        self._files: OrderedDict[ObjectKey, OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._files)

    def get(self, key: ObjectKey) -> OpenFile | None:
        """The open file of an object, now the most recently used one."""
        with self._lock:
            file = self._files.get(key)
            if file is not None:
                self._files.move_to_end(key)
            return file

    def keep(self, key: ObjectKey, fd: int) -> OpenFile:
        """Take over a descriptor."""
        file, dropped = OpenFile(fd), []
        with self._lock:
            if key in self._files:
                dropped.append(self._files.pop(key))
                self._bytes -= key[1]
            self._files[key] = file
            self._bytes += key[1]
            while len(self._files) > 1 and (len(self._files) > self._limit or self._bytes > self._most_bytes):
                oldest, its_file = self._files.popitem(last=False)
                self._bytes -= oldest[1]
                dropped.append(its_file)
        del dropped  # closed here, outside of the lock
        return file

    def clear(self) -> None:
        with self._lock:
            files, self._files, self._bytes = self._files, OrderedDict(), 0
        files.clear()
