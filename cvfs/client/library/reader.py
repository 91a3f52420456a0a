"""An opened repository as programs use it: paths, files, bytes; one revision until `refresh`, and never written to.

    with cvfs.open_repository("sw.example.org") as repository:
        print((repository.root / "README").read_text())

Threads may share one. It may be pickled, and used after a fork: the other process connects by itself, when it first asks,
with the configuration that it finds, and shows the same revision.
"""

import contextlib
import io
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Literal, Self, overload

from cvfs.client.content import pieces_between
from cvfs.client.data_plane import connect
from cvfs.client.library.ahead import copy_to, read_range
from cvfs.client.library.connection import Connection
from cvfs.client.library.files import RepositoryFile
from cvfs.client.library.links import Paths
from cvfs.client.library.paths import RepositoryPath
from cvfs.client.library.request import Request
from cvfs.client.manifest_fetch import Revision, newest_revision
from cvfs.client.presentation import View
from cvfs.client.published_file import PublishedFile
from cvfs.client.repository import Repository
from cvfs.client.settings.parameters import parse_root_hash
from cvfs.errors import IsADirectory, NotADirectory, NotFound, ReadOnly, UsageError
from cvfs.format.dirent import DirectoryEntry
from cvfs.hashes import as_path


class RepositoryReader:
    """One repository. Nothing is asked of the network before it is needed, or before `connect`.

    Paths are absolute, `str` or `bytes`; links in them are followed as the kernel would. Errors are those of `cvfs.errors`:
    what a path is at fault for is an OSError, FileNotFoundError above all; what the network or a server is at fault for is
    a StoreError or TrustError. Reads may wait for the network, within the time-outs that are configured.
    """

    def __init__(self, request: Request, root_hash: str | None = None) -> None:
        self.request = request
        self._revision = Revision(parse_root_hash("root_hash", root_hash)) if root_hash else None
        self._connections: dict[int, Connection] = {}
        self._closed = False

    def connect(self) -> Self:
        """Fetch and verify the revision now. Raises TrustError, StoreError, NotFound for an unknown tag, UsageError."""
        _ = self.repository
        return self

    def close(self) -> None:
        """Close connections and cache; what was opened stays usable, paths do not."""
        self._closed = True
        self._here().close()

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.request.repository}>"

    def __reduce__(self) -> tuple[object, ...]:
        return shared_reader, (self.request, self.pinned)

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, here or before the fork."""
        return self._closed

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def fqrn(self) -> str:
        """The whole name of the repository."""
        return self.repository.settings.fqrn

    @property
    def revision(self) -> int:
        """The number of the revision."""
        return self.repository.number

    @property
    def pinned(self) -> str | None:
        """The root hash that is shown, None as long as nothing was asked for. Asks nobody."""
        return str(self._revision.root_hash) if self._revision else None

    @property
    def root_hash(self) -> str:
        """The hash that pins this revision, for `open_repository(…, root_hash=…)`."""
        return str(self.repository.revision.root_hash)

    @property
    def repository(self) -> Repository:
        """The revision as the rest of cvfs knows it, opened in this process if need be."""
        return self._here().repository(self, self._open)

    def refresh(self) -> bool:
        """Look for a newer revision now; whether there is one, which everything shows from here on.

        Raises Unreachable if no server answers, TrustError. One that is pinned stays as it is, and a server that lags is no
        news.
        """
        repository = self.repository
        if repository.settings.pinned:
            return False
        revision = newest_revision(repository.settings, repository.plane)
        if revision.root_hash == repository.revision.root_hash:
            return False
        newer = repository.at(revision)
        if newer.number <= repository.number:
            return False
        self._revision = revision
        self._here().replace(newer)
        repository.retire()
        return True

    # --- paths --------------------------------------------------------------------------------------------------------

    @property
    def root(self) -> RepositoryPath:
        """The root directory."""
        return RepositoryPath(self, "/")

    def path(self, *parts: str | bytes) -> RepositoryPath:
        """A path from the root, whether there is something or not."""
        return RepositoryPath(self, "/").joinpath(*(_text(part) for part in parts))

    def find(self, path: str | bytes, *, follow: bool = True) -> tuple[bytes, DirectoryEntry]:
        """The path without links, and its entry. Raises NotFound, NotADirectory, TooManyLinks."""
        return self._paths().find(as_path(path), follow=follow)

    def resolve(self, path: str | bytes) -> bytes:
        """The path without links, as far as there is something. Raises NotFound if it leads out of the repository."""
        return self._paths().resolve(as_path(path))

    def listing(self, path: str | bytes) -> tuple[bytes, list[DirectoryEntry]]:
        """A directory's path without links, and its entries, sorted by name. Raises NotFound, NotADirectory."""
        where, entry = self.find(path)
        if not entry.is_directory:
            raise NotADirectory(f"{_shown(where)}: not a directory")
        return where, sorted(self.repository.listing(where))

    def target(self, entry: DirectoryEntry) -> bytes:
        """The target of a symbolic link as a mount shows it, variables filled in."""
        return self._view().target(entry)

    def stat(self, path: str | bytes, *, follow: bool = True) -> os.stat_result:
        """What stat(2) tells on a mount, but without device and inode numbers, which are 0."""
        return self.status(self.find(path, follow=follow)[1])

    def status(self, entry: DirectoryEntry) -> os.stat_result:
        """The same of an entry that was found."""
        shown = self._view().attributes(0, entry)
        when = shown.mtime * 10**9 + shown.mtime_ns
        seconds = [shown.mtime] * 3
        numbers = [shown.mode, 0, 0, shown.nlink, shown.uid, shown.gid, shown.size, *seconds]
        exact = dict.fromkeys(("st_atime_ns", "st_mtime_ns", "st_ctime_ns"), when)
        floats = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), when / 10**9)
        return os.stat_result(numbers, exact | floats | {"st_blocks": shown.blocks, "st_rdev": shown.rdev})

    # --- contents -----------------------------------------------------------------------------------------------------

    @overload
    def open(self, path: str | bytes, mode: Literal["rb", "br"] = "rb") -> RepositoryFile: ...

    @overload
    def open(
        self,
        path: str | bytes,
        mode: Literal["r", "rt", "tr"],
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> io.TextIOWrapper: ...

    @overload
    def open(
        self,
        path: str | bytes,
        mode: str,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> RepositoryFile | io.TextIOWrapper: ...

    def open(
        self,
        path: str | bytes,
        mode: str = "rb",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> RepositoryFile | io.TextIOWrapper:
        """A file to read from: seekable, buffered; objects are fetched as they are touched, so only the chunks that are read.

        `fileno()` gives a descriptor where the file is one object. Raises NotFound, IsADirectory, ReadOnly for a mode that
        writes.
        """
        if set(mode) - set("rbt") or "r" not in mode or {"b", "t"} <= set(mode):
            raise ReadOnly(f"{_text(path)}: mode {mode!r}: published files are read, with 'r' or 'rb'")
        binary = self.open_binary(path)
        if "b" in mode:
            return binary
        return io.TextIOWrapper(binary, encoding=encoding or "utf-8", errors=errors, newline=newline)

    def open_binary(self, path: str | bytes) -> RepositoryFile:
        """`open` with mode "rb"."""
        where, entry = self._regular(path)
        repository = self.repository
        raw = PublishedFile(repository.contents_of(entry), repository.pieces(where, entry), entry.size)
        return RepositoryFile(self, _text(path), raw, entry.size)

    def read_bytes(self, path: str | bytes, start: int | None = None, end: int | None = None) -> bytes:
        """A file, or a part of it as a slice would take it. Of a large file several chunks are fetched at a time."""
        where, entry = self._regular(path)
        first, last, _ = slice(start, end).indices(entry.size)
        if last <= first:
            return b""
        repository = self.repository
        pieces = pieces_between(repository.pieces(where, entry), first, last)
        return read_range(repository.contents_of(entry), pieces, first, last, self.pool)

    def copy(
        self, path: str | bytes, target: str | os.PathLike[str], progress: Callable[[int], None] | None = None
    ) -> int:
        """Copy a file to a local path; how many bytes it has. `progress` gets the number of bytes of each step.

        Memory does not grow with the file.
        """
        where, entry = self._regular(path)
        repository = self.repository
        with open(target, "wb") as file:
            pieces = repository.pieces(where, entry) if entry.size else ()
            for count in copy_to(file.fileno(), repository.contents_of(entry), pieces, self.pool):
                if progress is not None:
                    progress(count)
        return entry.size

    @contextlib.contextmanager
    def local_path(self, path: str | bytes) -> Iterator[str]:
        """A path of this machine where the file can be opened by name, by this process and those that it starts.

        A file that is one object is not copied; one in several chunks is, into a temporary directory.
        """
        where, entry = self._regular(path)
        with tempfile.TemporaryDirectory(prefix="cvfs-") as directory, self.open_binary(where) as file:
            place = os.path.join(directory, os.fsdecode(where.rpartition(b"/")[2]))
            if len(self.repository.pieces(where, entry)) == 1:
                os.symlink(f"/proc/{os.getpid()}/fd/{file.fileno()}", place)
            else:
                self.copy(where, place)
            yield place

    @property
    def pool(self) -> Executor:
        """The threads of this process that fetch for this repository."""
        return self._here().pool()

    def _regular(self, path: str | bytes) -> tuple[bytes, DirectoryEntry]:
        where, entry = self.find(path)
        if entry.is_directory:
            raise IsADirectory(f"{_shown(where)}: is a directory")
        if not entry.is_regular:
            raise NotFound(f"{_shown(where)}: not a regular file")
        return where, entry

    def _view(self) -> View:
        return self._here().view(self.repository)

    def _paths(self) -> Paths:
        return self._here().paths(self.repository)

    def _here(self) -> Connection:
        """What belongs to this process: after a fork another one, for locks, threads and connections are the parent's."""
        process = os.getpid()
        return self._connections.get(process) or self._connections.setdefault(process, Connection())

    def _open(self) -> Repository:
        if self._closed:
            raise UsageError(f"{self.request.repository}: closed, open it again")
        settings = self.request.settings()
        if self._revision is None:
            repository = Repository.open_settings(settings)
            self._revision = repository.revision
            return repository
        return Repository(settings, self._revision, connect(settings))


def shared_reader(request: Request, root_hash: str | None) -> RepositoryReader:
    """The reader of this process for what was pickled in another one: all paths and files that come along share it."""
    key = request, root_hash
    found = _shared.get(key)
    if found is None or found.is_closed:
        # Two threads that come at the same time may get one each: that costs a connection and nothing else.
        found = _shared[key] = RepositoryReader(request, root_hash)
        _recent.append(found)
    return found


_shared: "weakref.WeakValueDictionary[tuple[Request, str | None], RepositoryReader]" = weakref.WeakValueDictionary()
# A worker gets one path after another: it connects once, not for each.
_recent: deque[RepositoryReader] = deque(maxlen=4)


def _text(path: str | bytes) -> str:
    return path if isinstance(path, str) else path.decode("utf-8", "surrogateescape")


def _shown(path: bytes) -> str:
    return path.decode(errors="replace") or "/"
