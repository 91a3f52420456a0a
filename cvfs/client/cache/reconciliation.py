"""Makes the books of a cache say what its directory holds; what cannot be trusted any more is removed, nothing is read."""

from collections.abc import Iterator

from cvfs.client.cache.books import Books, Record
from cvfs.client.cache.files import CacheFiles
from cvfs.client.cache.sessions import DeadSession
from cvfs.errors import StoreFull

# By then the kernel has written to the disk what was written to a file: after 30 s at the latest, unless it was told otherwise.
_FLUSHED_AFTER = 120 * 10**9


def reconcile(files: CacheFiles, books: Books, dead: list[DeadSession]) -> None:
    """Record what is there, forget what is not, and the sessions that died.

    After a machine went down, contents that had not been recorded, have another length than recorded, or were written
    shortly before the end may never have reached the disk whole: they are dropped. Raises StoreFull.
    """
    sizes = {name: row.size for name, row in books.records()}
    if any(session.with_machine for session in dead):
        _drop_unwritten(files, sizes)
    books.record(dict(_unrecorded(files, sizes)), (), 0)
    books.forget(name for name in sizes if not files.present(name))
    books.forget_sessions([session.token for session in dead])


def listed(files: CacheFiles) -> Iterator[tuple[str, int, int]]:
    """Name, length in bytes and time of change in nanoseconds of every content. Raises StoreFull."""
    try:
        for name, status in files.walk():
            yield name, status.st_size, status.st_mtime_ns
    except OSError as error:
        raise StoreFull(f"cache {files.directory}: cannot be listed: {error.strerror}") from error


def _unrecorded(files: CacheFiles, sizes: dict[str, int]) -> Iterator[tuple[str, Record]]:
    for name, size, changed in listed(files):
        if sizes.get(name) != size:
            yield name, Record(size, changed)


def _drop_unwritten(files: CacheFiles, sizes: dict[str, int]) -> None:
    found = list(listed(files))
    # The end came after the newest was written; a length may be on the disk before the bytes are.
    flushed = max((changed for _, _, changed in found), default=0) - _FLUSHED_AFTER
    for name, size, changed in found:
        if sizes.get(name) != size or changed >= flushed:
            files.remove(name)
