"""The last good copy of a configuration repository's files, kept beside the trust state; contacts nobody itself.

A copy is a directory that is never changed: a newer one is written aside and takes its place by one rename.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from cvfs.client.repository import Repository
from cvfs.client.settings import Settings
from cvfs.errors import FormatError
from cvfs.format.dirent import DirectoryEntry

# What configuration names lies below these directories.
_COPIED = (b"/etc/cvmfs", b"/libexec")
_MOST_FILES = 5000
_LARGEST_FILE = 256 * 1024
_LARGEST_COPY = 32 * 2**20
_RECORD = ".cvfs-copy"


class Kept(NamedTuple):
    """A whole copy: where it lies, of which revision it is, and the Unix time at which it was last known to be current."""

    directory: str
    revision: int
    root_hash: str
    checked: float


class ConfigCopy:
    """The copies of one configuration repository. Safe for several processes that write one after the other."""

    def __init__(self, directory: str, fqrn: str) -> None:
        self.directory = directory
        self.fqrn = fqrn
        self.place = os.path.join(directory, fqrn)

    @classmethod
    def of(cls, settings: Settings) -> "ConfigCopy | None":
        """Where the settings want it; None if nothing is to be remembered."""
        state = settings.trust.state
        return cls(os.path.join(os.path.dirname(state.rstrip("/")), "config"), settings.fqrn) if state else None

    def kept(self) -> Kept | None:
        """The present copy; None if there is none, or one that lost something."""
        record = os.path.join(self.place, _RECORD)
        try:
            with open(record, "rb") as file:
                written = json.loads(file.read(4096))
            if written["digest"] != _digest(self.place):
                return None
            return Kept(self.place, int(written["revision"]), str(written["root"]), os.stat(record).st_mtime)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def keep(self, repository: Repository) -> None:
        """Copy the repository's files, unless that is done already. Raises OSError, StoreError, FormatError."""
        root_hash = str(repository.revision.root_hash)
        present = self.kept()
        if present and present.root_hash == root_hash:
            os.utime(os.path.join(self.place, _RECORD))
            return
        os.makedirs(self.directory, exist_ok=True)
        aside = os.path.join(self.directory, f"{self.fqrn}@{time.time_ns():x}")
        try:
            _copy(repository, os.fsencode(aside))
            _record(aside, repository.number, root_hash)
            self._switch(aside)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise

    def _switch(self, aside: str) -> None:
        before = os.readlink(self.place) if os.path.islink(self.place) else ""
        os.symlink(os.path.basename(aside), f"{aside}.link")
        os.replace(f"{aside}.link", self.place)
        # Who reads the one before goes on; older ones are nobody's.
        for name in os.listdir(self.directory):
            if name.startswith(f"{self.fqrn}@") and name not in (os.path.basename(aside), before):
                shutil.rmtree(os.path.join(self.directory, name), ignore_errors=True)


def _copy(repository: Repository, target: bytes) -> None:
    files, total = 0, 0
    for top in _COPIED:
        for path, entry in repository.walk(top) if repository.exists(top) else ():
            files, total = files + 1, total + (entry.size if entry.is_regular else 0)
            if files > _MOST_FILES or total > _LARGEST_COPY:
                raise FormatError(
                    f"{repository.settings.fqrn}: too many or too large files for a configuration repository"
                )
            if b".." in path.split(b"/"):
                raise FormatError(f"{repository.settings.fqrn}: a name that leads outside")
            _copy_entry(repository, path, entry, target + path)


def _copy_entry(repository: Repository, path: bytes, entry: DirectoryEntry, place: bytes) -> None:
    if entry.is_directory:
        os.makedirs(place, 0o755, exist_ok=True)
    elif entry.is_link and _stays_inside(path, entry.symlink):
        os.symlink(entry.symlink, place)
    elif entry.is_regular and entry.size <= _LARGEST_FILE:
        with open(place, "xb") as file:
            file.write(repository.read(path))


def _stays_inside(path: bytes, target: bytes) -> bool:
    """Whether a link leads to something that is copied, too."""
    leads_to = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return not target.startswith(b"/") and leads_to.startswith(tuple(top + b"/" for top in _COPIED))


def _record(directory: str, revision: int, root_hash: str) -> None:
    text = json.dumps({"revision": revision, "root": root_hash, "digest": _digest(directory)})
    with open(os.path.join(directory, _RECORD), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _digest(directory: str) -> str:
    """Of all names and contents: a machine that went down may have lost some of what was written."""
    digest = hashlib.sha256()
    top = os.fsencode(os.path.realpath(directory))
    for name in _files_of(top):
        content = _content(os.path.join(top, name))
        digest.update(b"%d %s %d " % (len(name), name, len(content)) + content)
    return digest.hexdigest()


def _files_of(top: bytes) -> Iterator[bytes]:
    for where, directories, files in os.walk(top):
        directories.sort()
        links = [name for name in directories if os.path.islink(os.path.join(where, name))]
        names = (os.path.relpath(os.path.join(where, name), top) for name in sorted([*files, *links]))
        yield from (name for name in names if name != os.fsencode(_RECORD))


def _content(path: bytes) -> bytes:
    if os.path.islink(path):
        return os.readlink(path)
    with suppress(FileNotFoundError), open(path, "rb") as file:
        return file.read(_LARGEST_FILE + 1)
    return b""
