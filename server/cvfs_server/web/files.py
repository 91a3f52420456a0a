"""What a web server shows below /cvmfs: published files and the two documents about the server; it never writes.

A repository's directory may be a link to where the administrator keeps it; nothing inside of it leads out again. The
staging area and whatever is no regular file are not there. Source: FORMAT sections 1.1, 1.4, 1.5, 8.2, 8.3.
"""

import errno
import json
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass

from cvfs.format.fqrn import is_fqrn

OBJECT_TYPE = "application/x-cvmfs"
JSON_TYPE = "application/json"
# Seconds that proxies keep what may change, and what has its hash for a name.
MUTABLE_AGE = 61
DATA_AGE = 3 * 24 * 3600

_STAGING = b"data/txn/"
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO}


@dataclass(frozen=True, slots=True)
class WebFile:
    """An open file to be sent; `max_age` in seconds. Whoever gets it closes `fd`."""

    fd: int
    size: int
    content_type: str
    max_age: int


class WebFiles:
    """The files below `web_root`, a directory of repositories; of these only `repositories`, if any are given."""

    def __init__(self, web_root: str, repositories: Collection[str] | None = None) -> None:
        self._root = web_root
        self._repositories = None if repositories is None else frozenset(repositories)

    def open(self, segments: tuple[bytes, ...]) -> WebFile | None:
        """The file at a path of the web server, `(b"cvmfs", b"sw.example.org", b".cvmfspublished")`; None without it.

        Raises OSError for trouble that is not the path's.
        """
        if len(segments) < 3 or segments[0] != b"cvmfs":
            return None
        if segments[1] == b"info":
            return self._document(segments[2:])
        name = segments[1].decode(errors="replace")
        return self._published(name, segments[2:]) if self._is_shown(name) else None

    def names(self) -> list[str]:
        """The repositories that are shown, sorted: those with a manifest."""
        try:
            found = os.listdir(self._root)
        except FileNotFoundError:
            return []
        return sorted(name for name in found if self._is_shown(name) and self._has(name, ".cvmfspublished"))

    def _is_shown(self, name: str) -> bool:
        return is_fqrn(name) and (self._repositories is None or name in self._repositories)

    def _has(self, name: str, file: str) -> bool:
        return os.path.isfile(f"{self._root}/{name}/{file}")

    def _published(self, name: str, rest: tuple[bytes, ...]) -> WebFile | None:
        fd = _open_inside(os.fsencode(f"{self._root}/{name}"), b"/".join(rest))
        age = DATA_AGE if rest[0] == b"data" else MUTABLE_AGE
        content_type = JSON_TYPE if rest[-1].endswith(b".json") else OBJECT_TYPE
        return None if fd is None else WebFile(fd, os.fstat(fd).st_size, content_type, age)

    def _document(self, place: tuple[bytes, ...]) -> WebFile | None:
        """A document about the server: the administrator's file, or else one made on the spot."""
        made = {(b"v1", b"repositories.json"): self._list_of_repositories, (b"v1", b"meta.json"): _contact}
        if place not in made:
            return None
        fd = _open_inside(os.fsencode(f"{self._root}/info"), b"/".join(place))
        fd = _in_memory(made[place]()) if fd is None else fd
        return WebFile(fd, os.fstat(fd).st_size, JSON_TYPE, MUTABLE_AGE)

    def _list_of_repositories(self) -> dict[str, object]:
        """What section 8.3 asks for; a repository that came here by replication is a replica."""
        lists: dict[bool, list[dict[str, str]]] = {False: [], True: []}
        for name in self.names():
            lists[self._has(name, ".cvmfs_last_snapshot")].append({"name": name, "url": f"/cvmfs/{name}"})
        return {"schema": 1, "repositories": lists[False], "replicas": lists[True]}


def _contact() -> dict[str, object]:
    return {"administrator": "", "email": "", "organisation": "", "custom": {}}


def _in_memory(document: dict[str, object]) -> int:
    fd = os.memfd_create("cvfs document")
    os.write(fd, json.dumps(document, indent=2).encode() + b"\n")
    return fd


def _open_inside(directory: bytes, path: bytes) -> int | None:
    """A descriptor of a regular file that really lies in the directory, not in its staging area; None otherwise."""
    try:
        # Never wait for the writer of a named pipe.
        fd = os.open(directory + b"/" + path, _READ | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    try:
        inside = stat.S_ISREG(os.fstat(fd).st_mode) and _lies_inside(fd, directory)
    except BaseException:
        os.close(fd)
        raise
    if inside:
        return fd
    os.close(fd)
    return None


def _lies_inside(fd: int, directory: bytes) -> bool:
    """Judged by what was opened, after all links: nobody can change them between look and leap."""
    base = os.path.realpath(directory) + b"/"
    real = os.readlink(b"/proc/self/fd/%d" % fd)
    return real.startswith(base) and not real.startswith(base + _STAGING)
