"""Repositories as a file system of fsspec: `cvmfs://sw.example.org/path`. The only home of fsspec; it never writes.

pandas, dask, uproot and everything else that opens URLs through fsspec reads from a repository with this, and no mount.
"""

import asyncio
import datetime as dt
import hashlib
import logging
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ParamSpec, TypeVar

from fsspec.asyn import AsyncFileSystem, get_loop
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.utils import isfilelike

from cvfs.client.configuration_sources import Sources
from cvfs.client.library.files import RepositoryFile
from cvfs.client.library.opening import Place, request, written
from cvfs.client.library.reader import RepositoryReader
from cvfs.errors import IsADirectory, NotADirectory, NotFound, ReadOnly, TooManyLinks, UsageError
from cvfs.format.dirent import DirectoryEntry

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Given = ParamSpec("Given")
Info = dict[str, Any]

_NOWHERE = (NotFound, NotADirectory, TooManyLinks)


class CvmfsFileSystem(AsyncFileSystem):  # type: ignore[misc]
    """All repositories that this machine knows by name; a path begins with that of its repository.

    The options are those of `cvfs.open_repository`, but its `url` is called `server_url`, for fsspec itself uses the other
    word. It may contain `@fqrn@`. Revisions stay as they are at the first
    access until `invalidate_cache`. In another process, after a fork or out of a pickle, the same revisions are read:
    that is what `revisions`, root hashes by repository, are for.

    Many paths are read concurrently, through the cache that mounts and other processes use. Writing is refused with
    EROFS. Errors are those of `cvfs.errors`.
    """

    protocol = "cvmfs"
    root_marker = ""

    def __init__(
        self,
        *args: Any,
        public_key: Place | None = None,
        server_url: str | None = None,
        proxy: str | None = None,
        cache: Place | None = None,
        tag: str | None = None,
        root_hash: str | None = None,
        etc: Place | None = None,
        parameters: Mapping[str, str | float] | None = None,
        revisions: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._named: dict[str, Place | None] = {
            "CVMFS_PUBLIC_KEY": public_key,
            "CVMFS_SERVER_URL": server_url,
            "CVMFS_HTTP_PROXY": proxy,
            "CVMFS_CACHE_DIR": cache,
            "CVMFS_REPOSITORY_TAG": tag,
            "CVMFS_ROOT_HASH": root_hash,
        }
        self._etc = etc
        self._parameters = parameters
        self._revisions = dict(revisions or {})
        self._readers: dict[str, RepositoryReader] = {}

    def __reduce__(self) -> tuple[object, ...]:
        shown = {name: reader.pinned for name, reader in self._readers.items() if reader.pinned}
        return _unpickled, (type(self), self.storage_args, self.storage_options, shown)

    @property
    def fsid(self) -> str:
        """The same everywhere: names of repositories are."""
        return "cvmfs"

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop of this process: fsspec makes another one after a fork, and so does this for what it fetches with."""
        own: asyncio.AbstractEventLoop | None = self._loop
        return own if self._pid == os.getpid() or self.asynchronous else get_loop()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return super()._strip_protocol(path).strip("/")

    def repository(self, name: str) -> RepositoryReader:
        """The repository of that name, as it is read here."""
        return self._readers.get(name) or self._reader(name, self._revisions.get(name))

    def adopt(self, revisions: Mapping[str, str]) -> bool:
        """Read these revisions, given by their root hashes; whether that is possible: others may be in use already."""
        return all(self._reader(name, root_hash).pinned == root_hash for name, root_hash in revisions.items())

    def invalidate_cache(self, path: str | None = None) -> None:
        """Look for newer revisions, of the repository of `path` or of all that were used. Raises StoreError, TrustError."""
        chosen = self._strip_protocol(path).partition("/")[0] if path is not None else None
        for name, reader in list(self._readers.items()):
            if chosen in (None, "", name) and name not in self._revisions:
                reader.refresh()
        super().invalidate_cache(path)

    # --- what is there ------------------------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> Info:
        """What is at a path, links followed: name, type, size, and what stat(2) tells; `hash` is that of the content."""
        name, reader, inside = self._place(path)
        if reader is None:
            return {"name": "", "size": 0, "type": "directory"}
        plain = reader.find(inside, follow=False)[1]
        if not plain.is_link:
            return _info(name, reader, plain)
        return _link_info(name, reader, plain, reader.find(inside)[1])

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What is in a directory, or the file itself. Links to files are files; other links are neither, as in a walk."""
        name, reader, inside = self._place(path)
        if reader is None:
            found: list[Info] = [{"name": known, "size": 0, "type": "directory"} for known in self._known()]
        elif not reader.find(inside)[1].is_directory:
            found = [self.info(path)]
        else:
            where, entries = reader.listing(inside)
            found = [_listed(f"{name}/{_text(entry.name)}", reader, where, entry) for entry in entries]
        return found if detail else [info["name"] for info in found]

    def exists(self, path: str, **_: Any) -> bool:
        """Whether there is something, links followed. Raises StoreError where that is not known."""
        return self._type(path) is not None

    def isfile(self, path: str) -> bool:
        return self._type(path) == "file"

    def isdir(self, path: str) -> bool:
        return self._type(path) == "directory"

    async def _exists(self, path: str, **_: Any) -> bool:
        return await self._apart(self.exists, path)

    async def _isfile(self, path: str) -> bool:
        return await self._apart(self.isfile, path)

    async def _isdir(self, path: str) -> bool:
        return await self._apart(self.isdir, path)

    async def _info(self, path: str, **_: Any) -> Info:
        return await self._apart(self.info, path)

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        return await self._apart(self.ls, path, detail)

    async def _du(self, path: str, total: bool = True, maxdepth: int | None = None, **options: Any) -> Any:
        """Bytes below a path, together or by name. A link that leads nowhere has none."""
        found = await self._find(path, maxdepth=maxdepth, detail=True, **options)
        sizes = {name: (info or self.info(name))["size"] for name, info in found.items()}
        return sum(sizes.values()) if total else sizes

    def lexists(self, path: str, **_: Any) -> bool:
        """Whether there is something, be it a link that leads nowhere."""
        _name, reader, inside = self._place(path)
        try:
            return reader is None or bool(reader.find(inside, follow=False))
        except _NOWHERE:
            return False

    def created(self, path: str) -> dt.datetime:
        """The time of the last change: no other one is published."""
        return self.modified(path)

    def modified(self, path: str) -> dt.datetime:
        """The time of the last change."""
        return dt.datetime.fromtimestamp(self.info(path)["mtime"], tz=dt.UTC)

    def ukey(self, path: str) -> str:
        """The hash of the content of a file, the same wherever it is published; of anything else, one of its attributes."""
        name, reader, inside = self._place(path)
        if reader is None:
            return ""
        where, entry = reader.find(inside)
        if not entry.is_regular:
            return hashlib.sha256(repr((name, entry)).encode()).hexdigest()
        pieces = [str(piece.wanted.content) for piece in reader.repository.pieces(where, entry)]
        return pieces[0] if len(pieces) == 1 else hashlib.sha256(" ".join(pieces).encode()).hexdigest()

    def checksum(self, path: str) -> int:
        """`ukey` as a number."""
        return int.from_bytes(hashlib.sha256(self.ukey(path).encode()).digest())

    def sign(self, path: str, expiration: int = 100, **_: Any) -> str:
        """There is no such thing: whoever trusts the repository's key needs no other proof."""
        del expiration
        raise UsageError(f"{path}: no URL can be signed, contents are verified by whoever reads them")

    # --- contents -----------------------------------------------------------------------------------------------------

    def _open(self, path: str, mode: str = "rb", **_: Any) -> RepositoryFile:
        if mode != "rb":
            raise _refused(path)
        reader, inside = self._file(path)
        return reader.open_binary(inside)

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        return await self._apart(self._read, path, start, end)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """The bytes of a file, or of a part of it, as a slice would take it."""
        return self._read(path, start, end)

    async def _get(self, rpath: Any, lpath: Any, recursive: bool = False, **options: Any) -> Any:
        """Of a tree, links that are no files are left out, which is told in the log: a dangling one stops no copy."""
        return await super()._get(rpath, lpath, recursive=recursive, in_tree=recursive, **options)

    async def _get_file(
        self, rpath: str, lpath: Any, callback: Callback = DEFAULT_CALLBACK, in_tree: bool = False, **_: Any
    ) -> None:
        await self._apart(self._copy, rpath, lpath, callback, in_tree=in_tree)

    def _copy(self, rpath: str, lpath: Any, callback: Callback, *, in_tree: bool) -> None:
        reader, inside = self._file(rpath)
        if in_tree and reader.find(inside, follow=False)[1].is_link and not self.isfile(rpath):
            log.warning("%s: a symbolic link that leads to no file, not copied", rpath)
            return
        if isfilelike(lpath):
            with reader.open_binary(inside) as file:
                shutil.copyfileobj(file, lpath)
            return
        os.makedirs(os.path.dirname(os.path.abspath(lpath)), exist_ok=True)
        if self.isdir(rpath):
            os.makedirs(lpath, exist_ok=True)
            return
        callback.set_size(self.info(rpath)["size"])
        reader.copy(inside, lpath, callback.relative_update)

    def _read(self, path: str, start: int | None, end: int | None) -> bytes:
        reader, inside = self._file(path)
        return reader.read_bytes(inside, start, end)

    # --- refused ------------------------------------------------------------------------------------------------------

    async def _refuse(self, path: Any = "", *_: Any, **__: Any) -> None:
        raise _refused(path)

    def _refuse_now(self, path: Any = "", *_: Any, **__: Any) -> None:
        raise _refused(path)

    _rm = _rm_file = _pipe_file = _mkdir = _makedirs = _refuse
    touch = rmdir = rm_file = mkdir = makedirs = _refuse_now

    async def _put_file(self, lpath: Any, rpath: str, *_: Any, **__: Any) -> None:
        del lpath
        raise _refused(rpath)

    async def _cp_file(self, path1: str, path2: str, **_: Any) -> None:
        del path1
        raise _refused(path2)

    # --- its own ------------------------------------------------------------------------------------------------------

    def _reader(self, name: str, root_hash: str | None) -> RepositoryReader:
        asked = request(name, self._named, self._etc, self._parameters)
        return self._readers.setdefault(name, RepositoryReader(asked, root_hash))

    def _type(self, path: str) -> str | None:
        try:
            kind: str = self.info(path)["type"]
        except _NOWHERE:
            return None
        return kind

    def _place(self, path: str) -> tuple[str, RepositoryReader | None, str]:
        """The whole path, the repository (None: what all of them are in), and the path inside of it."""
        stripped = self._strip_protocol(path)
        name, _, inside = stripped.partition("/")
        return stripped, self.repository(name) if name else None, inside

    def _file(self, path: str) -> tuple[RepositoryReader, str]:
        _name, reader, inside = self._place(path)
        if reader is None:
            raise IsADirectory("cvmfs://: is a directory of repositories")
        return reader, inside

    def _known(self) -> list[str]:
        """The repositories that are configured by name, and those that were found: not every name that was tried."""
        etc = os.fspath(self._etc) if self._etc is not None else None
        configured = Sources(written(self._parameters), etc=etc).common().repositories()
        return sorted({*configured, *(name for name, reader in self._readers.items() if reader.pinned)})

    async def _apart(self, work: Callable[Given, Answer], *given: Given.args, **named: Given.kwargs) -> Answer:
        """In a thread of the repository: everything here may wait for the network, and the loop must not."""
        _name, reader, _ = self._place(str(given[0]))
        pool = reader.pool if reader else None
        return await asyncio.get_running_loop().run_in_executor(pool, partial(work, *given, **named))


def _unpickled(
    kind: type[CvmfsFileSystem], arguments: tuple[Any, ...], options: dict[str, Any], shown: dict[str, str]
) -> CvmfsFileSystem:
    """The instance of this process with these options, unless that one reads other revisions."""
    present = kind(*arguments, **options)
    if present.adopt(shown):
        return present
    return kind(*arguments, **{**options, "revisions": {**options.get("revisions", {}), **shown}})


def _listed(name: str, reader: RepositoryReader, where: bytes, entry: DirectoryEntry) -> Info:
    """An entry of a listing. What a walk would descend into is a directory by itself, so that it comes to an end."""
    if not entry.is_link:
        return _info(name, reader, entry)
    try:
        there = reader.find(where + b"/" + entry.name)[1]
    except _NOWHERE:
        return _link_info(name, reader, entry, None)
    info = _link_info(name, reader, entry, there)
    return info | {"type": "other"} if there.is_directory else info


def _info(name: str, reader: RepositoryReader, entry: DirectoryEntry) -> Info:
    status = reader.status(entry)
    kind = {stat.S_IFDIR: "directory", stat.S_IFREG: "file"}.get(stat.S_IFMT(status.st_mode), "other")
    content = entry.content if entry.is_regular else None
    return {
        "name": name,
        "size": status.st_size if kind == "file" else 0,
        "type": kind,
        "mode": status.st_mode,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "nlink": status.st_nlink,
        "mtime": status.st_mtime,
        "created": status.st_mtime,
        "islink": False,
        "hash": str(content) if content else None,
    }


def _link_info(name: str, reader: RepositoryReader, link: DirectoryEntry, there: DirectoryEntry | None) -> Info:
    """What a link leads to (None: nothing), and that it is one."""
    return _info(name, reader, there or link) | {"islink": True, "destination": _text(reader.target(link))}


def _refused(path: object) -> ReadOnly:
    return ReadOnly(f"{path}: a published tree cannot be changed by its readers: publish a new revision")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
