"""Limits of what a repository should hold: sizes of files, entries of catalogs. Warns or refuses, changes nothing.

Source: FORMAT section 5.13.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from cvfs.errors import Unpublishable
from cvfs_server.changes import DirectoryChanges

_MEGABYTE = 2**20
_THOUSAND = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """`CVMFS_FILE_MBYTE_LIMIT` in megabytes of 2^20 bytes, `CVMFS_ROOT_KCATALOG_LIMIT` and `CVMFS_NESTED_KCATALOG_LIMIT` in
    thousands of entries, 0 for none; with `enforce` (`CVMFS_ENFORCE_LIMITS`) what exceeds them is refused."""

    file_mbytes: int = 1024
    root_kentries: int = 200
    nested_kentries: int = 500
    enforce: bool = False

    def check_file(self, path: bytes, size: int) -> str | None:
        """What is wrong with a file of `size` bytes, if anything is. Raises Unpublishable if that is refused."""
        megabytes = size // _MEGABYTE
        if not self.file_mbytes or megabytes <= self.file_mbytes:
            return None
        return self._exceeded(
            f"file at {_shown(path)} is larger than {self.file_mbytes} megabytes ({megabytes}). "
            "CernVM-FS works best with small files. Please remove the file or increase the limit "
            "CVMFS_FILE_MBYTE_LIMIT."
        )

    def check_catalog(self, mountpoint: bytes, entries: int) -> str | None:
        """What is wrong with a catalog of so many entries, if anything is. Raises Unpublishable if that is refused."""
        limit = _THOUSAND * (self.nested_kentries if mountpoint else self.root_kentries)
        if not limit or entries <= limit:
            return None
        parameter = f"CVMFS_{'NESTED' if mountpoint else 'ROOT'}_KCATALOG_LIMIT"
        return self._exceeded(
            f"catalog at {_shown(mountpoint)} has more than {limit} entries ({entries}). "
            "Large catalogs stress the CernVM-FS transport infrastructure. "
            f"Please split it into nested catalogs or increase the limit {parameter}."
        )

    def _exceeded(self, text: str) -> str:
        if self.enforce:
            raise Unpublishable(f"{text} Nothing was published")
        return text


def watch_files(
    changes: Iterable[DirectoryChanges], limits: Limits, warn: Callable[[str], None]
) -> Iterator[DirectoryChanges]:
    """The changes as they come; `warn` is told of a file that is too large before it is read. Raises Unpublishable."""
    for directory in changes:
        for change in directory.changes:
            entry, published = change.entry, change.published
            # What is published already was said when it was.
            if entry.is_regular and not (published and published.size == entry.size):
                _say(limits.check_file(change.path, entry.size), warn)
        yield directory


def check_catalogs(entries: Mapping[bytes, int], limits: Limits, warn: Callable[[str], None]) -> None:
    """Look at the catalogs of a draft, which have so many entries by mountpoint. Raises Unpublishable."""
    for mountpoint in sorted(entries):
        _say(limits.check_catalog(mountpoint, entries[mountpoint]), warn)


def _say(text: str | None, warn: Callable[[str], None]) -> None:
    if text:
        warn(text)


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace") or "/"
