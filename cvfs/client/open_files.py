"""Descriptors of the objects that were read last: a running program keeps its bytes although the cache may evict them."""

import os
import threading
from collections import OrderedDict

DEFAULT_LIMIT = 512

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
    """The most recently read objects, bounded. A file that falls out is closed by whoever still reads it."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
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
        file = OpenFile(fd)
        with self._lock:
            dropped = [self._files.pop(key, None)]
            self._files[key] = file
            dropped += [self._files.popitem(last=False)[1] for _ in range(len(self._files) - self._limit)]
        del dropped  # closed here, outside of the lock
        return file

    def clear(self) -> None:
        with self._lock:
            files, self._files = self._files, OrderedDict()
        files.clear()
