"""Graft files made from files whose content is, or will be, somewhere else; stores no object, publishes nothing.

Source: FORMAT section 9.8.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cvfs.compression import encoder_named
from cvfs.errors import StoreFull, Unpublishable, UsageError
from cvfs.format.dirent import Chunk
from cvfs.hashes import Algorithm, new_hasher
from cvfs_server.sources.grafts import GRAFT_PREFIX, Graft

_STEP = 2**20
_READING = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_WRITING = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC

Read = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class GraftForm:
    """How the content is stored where it is: compressed or not, whole or in chunks of so many bytes (0: whole). With `bulk`
    there is an object of the whole file beside the chunks."""

    algorithm: Algorithm = Algorithm.SHA1
    compression: str = "none"
    chunk_size: int = 0
    bulk: bool = False


class _Digest:
    """The hash of an object that nobody stores."""

    def __init__(self, form: GraftForm) -> None:
        self._compressor = encoder_named(form.compression).start()
        self._hasher = new_hasher(form.algorithm)

    def feed(self, data: bytes) -> None:
        self._hasher.update(self._compressor.compress(data))

    def finish(self) -> bytes:
        self._hasher.update(self._compressor.flush())
        return self._hasher.digest()


def graft_of(read: Read, form: GraftForm) -> Graft:
    """The graft file for what `read` gives, which takes a number of bytes and gives at most so many, nothing at the end."""
    bulk = _Digest(form) if form.bulk or not form.chunk_size else None
    chunks: list[Chunk] = []
    size = 0
    while True:
        part, length = _Digest(form), 0
        while data := read(min(_STEP, form.chunk_size - length) if form.chunk_size else _STEP):
            part.feed(data)
            if bulk:
                bulk.feed(data)
            length += len(data)
            if length == form.chunk_size:
                break
        if length or not chunks:
            chunks.append(Chunk(size, length, part.finish()))
        size += length
        if not data:
            return _graft(size, chunks, bulk, form)


def _graft(size: int, chunks: list[Chunk], bulk: _Digest | None, form: GraftForm) -> Graft:
    code = encoder_named(form.compression).code
    if len(chunks) == 1:
        return Graft(size, chunks[0].digest, (), form.algorithm, code)
    return Graft(size, bulk.finish() if bulk else None, tuple(chunks), form.algorithm, code)


def write_graft(source: bytes, target: bytes, form: GraftForm) -> None:
    """The graft file for the file `source`, beside an empty file `target` with its mode. Raises Unpublishable, StoreFull."""
    with _opened(source) as descriptor:
        graft = graft_of(lambda count: os.read(descriptor, count), form)
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    directory, name = os.path.split(target)
    _write(os.path.join(directory, GRAFT_PREFIX + name), graft.serialise(), 0o644)
    _write(target, b"", mode)


def read_graft(source: bytes, form: GraftForm) -> Graft:
    """The graft file for a file. Raises Unpublishable."""
    with _opened(source) as descriptor:
        return graft_of(lambda count: os.read(descriptor, count), form)


def regular_files(top: bytes) -> Iterator[bytes]:
    """The paths of all regular files below a directory, each with a slash in front. Raises Unpublishable."""

    def refuse(error: OSError) -> None:
        raise Unpublishable(f"{os.fsdecode(error.filename or top)}: {error.strerror}") from error

    for directory, names, files in os.walk(top, onerror=refuse):
        names.sort()
        for name in sorted(files):
            path = os.path.join(directory, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                yield path[len(top) :]


class _opened:  # noqa: N801  # reads as a verb at the with statement
    """A file's descriptor for the time of a with statement."""

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> int:
        try:
            self._descriptor = os.open(self._path, _READING)
        except OSError as error:
            raise Unpublishable(f"cannot open {os.fsdecode(self._path)}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            os.close(self._descriptor)
            raise UsageError(f"{os.fsdecode(self._path)} is not a regular file")
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _write(path: bytes, data: bytes, mode: int) -> None:
    try:
        os.makedirs(os.path.dirname(path) or b".", exist_ok=True)
        with open(os.open(path, _WRITING, mode), "wb") as file:
            file.write(data)
    except OSError as error:
        raise StoreFull(f"cannot write {os.fsdecode(path)}: {error.strerror}") from error
