"""A published sub-tree copied to another path: the same rows below other path hashes; reads no contents.

Markers are copied too, so nested catalogs begin at the same places of the copy. Source: FORMAT sections 5.3, 5.10.
"""

import contextlib
import re

from cvfs.catalog.tree import CatalogTree
from cvfs.errors import NotADirectory, NotFound, UsageError
from cvfs_server.sources.base import DirectoryEdit, ScannedEntry, as_published
from cvfs_server.sources.revision import KnownSource, known_entry, published_directory

_BELOW_ROOT = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))[^/\0]+)+")


class Template(KnownSource):
    """The directory `origin` of a revision, at `target` as well. A `Source`."""

    def __init__(self, published: CatalogTree, origin: bytes, target: bytes) -> None:
        self._published = published
        self._origin = origin
        self._target = target

    @classmethod
    def open(cls, published: CatalogTree, origin: bytes, target: bytes) -> "Template":
        """Both are absolute paths, slashes at the end do not count.

        Raises NotFound or NotADirectory if there is no directory `origin` or nothing to put `target` into, UsageError if
        `target` exists, or lies in `origin`.
        """
        origin, target = origin.rstrip(b"/"), target.rstrip(b"/")
        for path in (origin, target):
            if not _BELOW_ROOT.fullmatch(path):
                raise UsageError(f"{_shown(path) or '/'}: a template and its copy are absolute paths below the root")
        if (target + b"/").startswith(origin + b"/"):
            raise UsageError(f"{_shown(target)}: a directory cannot be copied into itself")
        if not published.find(origin).is_directory:
            raise NotADirectory(f"{_shown(origin)}: not a directory, only directories are templates")
        _check_target(published, target)
        return cls(published, origin, target)

    def root(self) -> None:
        """The repository's root stays."""
        return

    def edit(self, path: bytes) -> DirectoryEdit:
        """See `Source`."""
        if (path + b"/").startswith(self._target + b"/"):
            return published_directory(self._published, self._origin + path[len(self._target) :])
        name = self._target[len(path) + 1 :].partition(b"/")[0]
        return DirectoryEdit([self._way(path + b"/" + name, name)], complete=False)

    def _way(self, path: bytes, name: bytes) -> ScannedEntry:
        if path == self._target:
            return known_entry(self._published, self._origin, self._published.find(self._origin)._replace(name=name))
        return as_published(self._published.find(path))


def _check_target(published: CatalogTree, target: bytes) -> None:
    above = published.find(target.rpartition(b"/")[0])
    if not above.is_directory:
        raise NotADirectory(f"{_shown(target)}: what it would be in is no directory")
    with contextlib.suppress(NotFound):
        published.find(target)
        raise UsageError(f"{_shown(target)} exists already: a template is copied to a new path")


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
