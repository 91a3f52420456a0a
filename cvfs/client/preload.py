"""Fills a cache with a repository, or a part of it, before anybody asks; what is there already is not fetched again.

with Repository.open_settings(settings) as repository:
    report = preload(repository, PathSpecification.parse(b"/bin\\n", "dirtab"), workers=8)
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from cvfs.client.content import Piece
from cvfs.client.path_specification import PathSpecification
from cvfs.client.repository import Repository
from cvfs.durable import replace_file
from cvfs.errors import CvfsError, StoreFull
from cvfs.format.dirent import DirectoryEntry
from cvfs.store.base import Contents

DEFAULT_WORKERS = 4
# Objects asked for ahead of the one that is waited for, for each worker.
_AHEAD = 16
# Failures that are told one by one.
_TOLD = 100


@dataclass(slots=True)
class Preloaded:
    """What was looked at so far. Counts of objects; `size` in bytes of content fetched; the first failures in words."""

    files: int = 0
    present: int = 0
    fetched: int = 0
    size: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)

    def note_failure(self, path: bytes, error: CvfsError) -> None:
        """An object could not be had or kept."""
        self.failed += 1
        if len(self.failures) < _TOLD:
            self.failures.append(f"{path.decode(errors='replace') or '/'}: {error}")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A piece of the file at `path`, on its way. The answer: whether it had to be fetched."""

    path: bytes
    size: int
    answer: "Future[bool]"


def preload(
    repository: Repository,
    chosen: PathSpecification | None = None,
    *,
    workers: int = DEFAULT_WORKERS,
    progress: Callable[[Preloaded], None] = lambda _: None,
) -> Preloaded:
    """Fetch, verify and keep every catalog and object that is `chosen` (None: all) and not in the repository's cache.

    A failure does not stop the others: it is counted, and asking again begins where this ended. Raises CvfsError if the
    root catalog cannot be had, StoreFull if the repository has no cache. `progress` is told often, in this thread.
    """
    if repository.plane.cache is None:
        raise StoreFull("nothing to preload: the repository is read without a cache")
    repository.tree.root()
    report = Preloaded()
    with ThreadPoolExecutor(workers, thread_name_prefix="preload") as pool:
        asked: deque[_Asked] = deque()
        for path, contents, piece in _pieces(repository, chosen or PathSpecification(), report):
            asked.append(_Asked(path, piece.size, pool.submit(_keep, contents, piece)))
            if len(asked) > workers * _AHEAD:
                _settle(asked.popleft(), report)
                progress(report)
        while asked:
            _settle(asked.popleft(), report)
            progress(report)
    return report


def leave_breadcrumb(repository: Repository, directory: str) -> None:
    """Write down which revision a cache holds, for clients of the original without a network (FORMAT section 2.4).

    Raises OSError.
    """
    root = repository.tree.root()
    path = os.path.join(directory, f"cvmfschecksum.{repository.settings.fqrn}")
    replace_file(path, f"{repository.revision.root_hash}T{root.last_modified}R{root.revision}".encode("ascii"))


def _pieces(
    repository: Repository, chosen: PathSpecification, report: Preloaded
) -> Iterator[tuple[bytes, Contents, Piece]]:
    for path, entry in _files(repository, chosen, report):
        report.files += 1
        try:
            pieces = repository.pieces(path, entry)
        except CvfsError as error:
            report.note_failure(path, error)
            continue
        for piece in pieces:
            yield path, repository.contents_of(entry), piece


def _files(
    repository: Repository, chosen: PathSpecification, report: Preloaded
) -> Iterator[tuple[bytes, DirectoryEntry]]:
    """Every regular file that is chosen, hidden ones too. Opening a directory fetches its catalog."""
    waiting = [b""]
    while waiting:
        directory = waiting.pop()
        try:
            entries = repository.tree.listing(directory)
        except CvfsError as error:
            report.note_failure(directory, error)
            continue
        for entry in entries:
            path = directory + b"/" + entry.name
            if entry.is_directory and chosen.enters(path):
                waiting.append(path)
            elif entry.is_regular and chosen.takes(path):
                yield path, entry


def _keep(contents: Contents, piece: Piece) -> bool:
    """Whether the object had to be fetched. Raises CvfsError, StoreFull if it could not be kept."""
    if _is_present(contents, piece):
        return False
    os.close(contents.open(piece.wanted))
    if not _is_present(contents, piece):
        raise StoreFull(f"{piece.wanted.path}: fetched, but not kept: the cache is full or not writable")
    return True


def _is_present(contents: Contents, piece: Piece) -> bool:
    descriptor = contents.open_present(piece.wanted)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def _settle(asked: _Asked, report: Preloaded) -> None:
    try:
        if asked.answer.result():
            report.fetched += 1
            report.size += asked.size
        else:
            report.present += 1
    except CvfsError as error:
        report.note_failure(asked.path, error)
