"""One source file into objects: read, cut, compressed, hashed, stored; knows no catalog and no other file.

A file that changes while it is read is read again; what is returned was stable. Source: FORMAT sections 4.2 to 4.5, 5.7.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cvfs.chunking import ChunkSizes, Cutter
from cvfs.compression import encoder_named
from cvfs.errors import FormatError, Unpublishable
from cvfs.format.dirent import Chunk
from cvfs.format.xattrs import pack
from cvfs.hashes import Algorithm, Bytes, ContentHash, ObjectKind, new_hasher
from cvfs_server.sources.base import Part, Place
from cvfs_server.storage.base import Storage

_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ATTEMPTS = 3
# Up to here a file is held in memory at once, plain and compressed.
_SMALL = 2**20
_STEP = 2**20
# Labels belong to the machine, not to the tree, and no client could honour them.
_MACHINE_ATTRIBUTES = frozenset({"security.selinux"})
_NO_ATTRIBUTES = frozenset({errno.ENOTSUP, errno.ENODATA})


@dataclass(frozen=True, slots=True)
class StorageForm:
    """How a repository stores contents. Works in other processes.

    `chunking` is None where files are never cut; `bulk` asks for a whole-file object beside the chunks.
    """

    algorithm: Algorithm = Algorithm.SHA1
    compression: str = "zlib"
    chunking: ChunkSizes | None = None
    bulk: bool = False
    xattrs: bool = True


class Content(NamedTuple):
    """What a file holds: its digest (None if there are only chunks), chunks, packed extended attributes, and the
    attributes it had while it was read. `objects` and `stored` count what was new in the store, in bytes."""

    digest: bytes | None
    chunks: tuple[Chunk, ...]
    xattr: bytes | None
    size: int
    mtime_ns: int
    objects: int
    stored: int


class _Unstable(Exception):
    """The file changed while it was read."""


class ContentReader:
    """Turns files into objects of one repository. Used by one thread."""

    def __init__(self, storage: Storage, form: StorageForm) -> None:
        self._storage = storage
        self._form = form
        self._encoder = encoder_named(form.compression)

    def take(self, place: Place | None) -> Content:
        """The content of a file, its objects being stored; None is an empty file that exists nowhere.

        Raises Unpublishable, naming the path, if it cannot be read, is no regular file or does not hold still.
        """
        if place is None:
            return self._take_small(b"", None, 0)
        path = place.path
        try:
            for _ in range(_ATTEMPTS):
                try:
                    return self._take_once(path, place.part)
                except _Unstable:
                    continue
        except OSError as error:
            raise _refused(path, str(error.strerror)) from error
        raise _refused(path, f"changed while it was read, {_ATTEMPTS} times")

    def _take_once(self, path: bytes, part: Part | None) -> Content:
        descriptor = os.open(path, _READING)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise _refused(path, "is no longer a regular file")
            if part:
                content = self._take_part(descriptor, part)
            else:
                packed = pack_attributes(descriptor, path) if self._form.xattrs else None
                content = self._take_open(descriptor, before.st_size, packed, before.st_mtime_ns)
            if _state(before) != _state(os.fstat(descriptor)):
                raise _Unstable
            return content
        finally:
            os.close(descriptor)

    def _take_part(self, descriptor: int, part: Part) -> Content:
        os.lseek(descriptor, part.offset, os.SEEK_SET)
        return self._take_open(descriptor, part.size, part.xattr, part.mtime_ns, is_part=True)

    def _take_open(
        self, descriptor: int, size: int, packed: bytes | None, mtime_ns: int, *, is_part: bool = False
    ) -> Content:
        chunking = self._form.chunking
        if size > _SMALL or (chunking and size > chunking.minimum):
            return self._take_large(descriptor, size, packed, mtime_ns, is_part=is_part)
        data = os.read(descriptor, size + (not is_part))
        if len(data) != size:
            raise _Unstable
        return self._take_small(data, packed, mtime_ns)

    def _take_small(self, data: bytes, packed: bytes | None, mtime_ns: int) -> Content:
        stored = self._encoder.encode(data)
        content = ContentHash.of(stored, self._form.algorithm)
        new = self._storage.put(content.path, stored)
        return Content(content.digest, (), packed, len(data), mtime_ns, int(new), len(stored) if new else 0)

    def _take_large(self, descriptor: int, size: int, packed: bytes | None, mtime_ns: int, *, is_part: bool) -> Content:
        chunking = self._form.chunking
        pieces = _Pieces(self._storage, self._form, chunking if chunking and size > chunking.minimum else None)
        try:
            # One byte more than there should be shows a file that grew; behind a part there is something else.
            while data := os.read(descriptor, min(_STEP, size + (not is_part) - pieces.length)):
                pieces.feed(data)
            if pieces.length != size:
                raise _Unstable
            digest, chunks = pieces.finish()
        finally:
            pieces.abort()
        return Content(digest, chunks, packed, size, mtime_ns, pieces.objects, pieces.stored)


class _Pieces:
    """A large file being cut into objects; becomes one whole object if there is no cut."""

    def __init__(self, storage: Storage, form: StorageForm, chunking: ChunkSizes | None) -> None:
        self._storage = storage
        self._form = form
        self._cutter = Cutter(chunking) if chunking else None
        self._bulk = _Object(storage, form) if chunking and form.bulk else None
        self._open = _Object(storage, form)
        self._chunks: list[Chunk] = []
        self._start = 0
        self.length = 0
        self.objects = 0
        self.stored = 0

    def feed(self, data: bytes) -> None:
        cuts = self._cutter.feed(data) if self._cutter else []
        if self._bulk:
            self._bulk.feed(data)
        view = memoryview(data)
        for cut in cuts:
            self._open.feed(view[: cut - self.length])
            view = view[cut - self.length :]
            self.length = cut
            self._end_chunk()
            self._open = _Object(self._storage, self._form)
        self._open.feed(view)
        self.length += len(view)

    def finish(self) -> tuple[bytes | None, tuple[Chunk, ...]]:
        """The whole-file digest, if there is one, and the chunks, if there are several."""
        if not self._chunks:
            return self._keep(self._open, ObjectKind.FILE), ()
        self._end_chunk()
        return self._keep(self._bulk, ObjectKind.FILE) if self._bulk else None, tuple(self._chunks)

    def abort(self) -> None:
        """Drop what was not kept."""
        for unfinished in (self._open, self._bulk):
            if unfinished:
                unfinished.abort()

    def _end_chunk(self) -> None:
        digest = self._keep(self._open, ObjectKind.CHUNK)
        self._chunks.append(Chunk(self._start, self.length - self._start, digest))
        self._start = self.length

    def _keep(self, finished: "_Object", kind: ObjectKind) -> bytes:
        content, new = finished.keep(kind)
        self.objects += new
        self.stored += finished.length if new else 0
        return content.digest


class _Object:
    """One object being compressed, hashed and uploaded in the same pass."""

    def __init__(self, storage: Storage, form: StorageForm) -> None:
        self._compressor = encoder_named(form.compression).start()
        self._algorithm = form.algorithm
        self._hasher = new_hasher(form.algorithm)
        self._upload = storage.start_upload()
        self.length = 0

    def feed(self, data: Bytes) -> None:
        self._write(self._compressor.compress(data))

    def keep(self, kind: ObjectKind) -> tuple[ContentHash, bool]:
        """Its hash, and whether it was new."""
        self._write(self._compressor.flush())
        content = ContentHash(self._algorithm, self._hasher.digest(), kind)
        return content, self._upload.commit(content.path)

    def abort(self) -> None:
        self._upload.abort()

    def _write(self, stored: bytes) -> None:
        self._hasher.update(stored)
        self._upload.write(stored)
        self.length += len(stored)


def pack_attributes(file: int | bytes, path: bytes, shown: Callable[[str], str | None] = str) -> bytes | None:
    """The packed extended attributes of an open file, or of a path whose last component is not followed.

    `shown` says by which name an attribute is published, None for one that is not. Raises Unpublishable if the format cannot
    hold them (FORMAT section 5.7).
    """
    follow = isinstance(file, int)
    try:
        names = os.listxattr(file, follow_symlinks=follow)
        if not names:
            return None
        found = {
            os.fsencode(name_shown): os.getxattr(file, name, follow_symlinks=follow)
            for name in names
            if name not in _MACHINE_ATTRIBUTES and (name_shown := shown(name))
        }
        return pack(found)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return None
        raise _refused(path, f"extended attributes: {error.strerror}") from error
    except FormatError as error:
        raise _refused(path, str(error)) from error


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _refused(path: bytes, reason: str) -> Unpublishable:
    return Unpublishable(f"{path.decode('utf-8', 'backslashreplace')}: {reason}; nothing was published")
