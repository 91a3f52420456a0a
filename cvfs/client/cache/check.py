"""Reads every content of a cache directory and proves it, in several threads; it knows no books and no quota."""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from cvfs.client.cache.base import Checked
from cvfs.client.cache.files import CacheFiles, content_named, marked_digest
from cvfs.client.cache.proof import is_proven
from cvfs.client.cache.reconciliation import listed
from cvfs.errors import StoreFull
from cvfs.hashes import ContentHash

# Contents handed to the threads at once: a cache may hold a million.
_AHEAD = 64


class Inspection:
    """One check of all contents of `files`.

    `digests` by name, where they are known. `forget` is told each name that was put aside; None means that nothing is
    to be changed. `progress` gets each name that is looked at, in the thread that looks.
    """

    def __init__(
        self,
        files: CacheFiles,
        digests: Mapping[str, bytes],
        forget: Callable[[str], None] | None,
        progress: Callable[[str], None],
    ) -> None:
        self._files = files
        self._digests = digests
        self._forget = forget
        self._progress = progress

    def run(self, workers: int) -> Checked:
        """The verdict. Raises StoreFull if the directory cannot be listed."""
        objects, size, damaged, unfixed = 0, 0, list[ContentHash](), list[ContentHash]()
        with ThreadPoolExecutor(workers, thread_name_prefix="check") as pool:
            for name, length, proven in self._verdicts(pool):
                objects, size = objects + 1, size + length
                if not proven:
                    (damaged if self._put_aside(name) else unfixed).append(content_named(name))
        return Checked(objects, size, tuple(damaged), tuple(unfixed))

    def _verdicts(self, pool: ThreadPoolExecutor) -> Iterator[tuple[str, int, bool]]:
        waiting = []
        for name, length, _ in listed(self._files):
            waiting.append((name, length, pool.submit(self._is_proven, name)))
            if len(waiting) >= _AHEAD:
                first, size, verdict = waiting.pop(0)
                yield first, size, verdict.result()
        for name, size, verdict in waiting:
            yield name, size, verdict.result()

    def _is_proven(self, name: str) -> bool:
        self._progress(name)
        descriptor = self._files.open(name)
        if descriptor is None:
            return not self._files.present(name)  # evicted since it was listed
        try:
            return is_proven(descriptor, content_named(name), self._digests.get(name) or marked_digest(descriptor))
        finally:
            os.close(descriptor)

    def _put_aside(self, name: str) -> bool:
        if self._forget is None:
            return False
        try:
            self._files.quarantine(name)
        except StoreFull:
            return False
        self._forget(name)
        return True
