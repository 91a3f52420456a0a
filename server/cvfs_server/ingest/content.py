"""One source file into objects: read, cut, compressed, hashed, stored; knows no catalog and no other file.

A file that changes while it is read is read again; what is returned was stable. Source: FORMAT sections 4.2 to 4.5, 5.7.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from cvfs.chunking import ChunkSizes
from cvfs.compression import encoder_named
from cvfs.errors import FormatError, Unpublishable
from cvfs.format.dirent import Chunk
from cvfs.format.xattrs import pack
from cvfs.hashes import Algorithm, Bytes, ContentHash
from cvfs_server.ingest.pieces import NewObject, Pieces
from cvfs_server.sources.base import Part, Place
from cvfs_server.storage.base import Storage, Upload

_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ATTEMPTS = 3
# Up to here a file is held in memory at once, plain and compressed.
_SMALL = 2**20
_STEP = 2**20
_STAT_BLOCK = 512
# Labels belong to the machine, not to the tree, and no client could honour them.
_MACHINE_ATTRIBUTES = frozenset({b"security.selinux"})
_NO_ATTRIBUTES = frozenset({errno.ENOTSUP, errno.ENODATA})


@dataclass(frozen=True, slots=True)
class StorageForm:
    """How a repository stores contents. Works in other processes.

    `chunking` is None where files are never cut; `bulk` asks for a whole-file object beside the chunks. With `external` the
    contents are on other servers: they are only cut and hashed (FORMAT section 4.6).
    `direct_io` marks them for clients that shall not keep them in memory.
    """

    algorithm: Algorithm = Algorithm.SHA1
    compression: str = "zlib"
    chunking: ChunkSizes | None = None
    bulk: bool = False
    xattrs: bool = True
    external: bool = False
    direct_io: bool = False

    def as_external(self, compression: str = "") -> "StorageForm":
        """The same for external contents: as they are, or in the compressed form that the other servers deliver."""
        # Clients ask for parts of a file: that is of no use within a compressed one.
        chunking = None if compression not in {"", "none"} else self.chunking
        return replace(self, compression=compression or "none", chunking=chunking, bulk=False, external=True)


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


class Objects(Protocol):
    """Where new objects go."""

    def put(self, path: str, data: Bytes) -> bool:
        """Keep one object; False if it was there before. Raises StoreFull."""

    def start_upload(self) -> Upload:
        """An object too large for memory."""


class _Unstable(Exception):
    """The file changed while it was read."""


class ContentReader:
    """Turns files into objects of one repository. Used by one thread."""

    def __init__(self, storage: Storage, form: StorageForm) -> None:
        self._native = ContentReader(storage, replace(form, external=False)) if form.external else self
        self._storage: Objects = _Nowhere() if form.external else storage
        self._form = form
        self._encoder = encoder_named(form.compression)

    def take(self, place: Place | None) -> Content:
        """The content of a file, its objects being stored; None is an empty file that exists nowhere.

        Raises Unpublishable, naming the path, if it cannot be read, is no regular file or does not hold still.
        """
        if self._form.external and (place is None or place.native):
            return self._native.take(place)
        if place is None:
            return self._take_small(b"", Part(0, 0, 0))
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
            if part and part.archive_mtime_ns not in {None, before.st_mtime_ns}:
                raise _refused(path, "changed since it was opened")
            content = self._take_open(descriptor, before, part or self._whole(descriptor, before, path))
            if _state(before) != _state(os.fstat(descriptor)):
                raise _Unstable
            return content
        finally:
            os.close(descriptor)

    def _whole(self, descriptor: int, status: os.stat_result, path: bytes) -> Part:
        packed = pack_attributes(descriptor, path) if self._form.xattrs else None
        return Part(0, status.st_size, status.st_mtime_ns, packed)

    def _take_open(self, descriptor: int, status: os.stat_result, part: Part) -> Content:
        chunking, size = self._form.chunking, part.size
        if size > _SMALL or (chunking and size > chunking.minimum):
            return self._take_large(descriptor, status, part)
        data = os.pread(descriptor, size, part.offset)
        if len(data) != size:
            raise _Unstable
        return self._take_small(data, part)

    def _take_small(self, data: bytes, part: Part) -> Content:
        stored = self._encoder.encode(data)
        content = ContentHash.of(stored, self._form.algorithm)
        new = self._storage.put(content.path, stored)
        return Content(content.digest, (), part.xattr, part.size, part.mtime_ns, int(new), len(stored) if new else 0)

    def _take_large(self, descriptor: int, status: os.stat_result, part: Part) -> Content:
        chunking = self._form.chunking
        cut = chunking if chunking and part.size > chunking.minimum else None
        pieces = Pieces(self._start_object, cut, bulk=self._form.bulk)
        try:
            for extent in _extents(descriptor, status, part):
                _feed(pieces, descriptor, extent)
            digest, chunks = pieces.finish()
        finally:
            pieces.abort()
        return Content(digest, chunks, part.xattr, part.size, part.mtime_ns, pieces.objects, pieces.stored)

    def _start_object(self) -> NewObject:
        return NewObject(self._storage, self._encoder, self._form.algorithm)


class _Nowhere:
    """Where the objects of external files are kept."""

    def put(self, path: str, data: Bytes) -> bool:
        del path, data
        return False

    def start_upload(self) -> "_Nowhere":
        return self

    def write(self, data: Bytes) -> None:
        del data

    def commit(self, path: str) -> bool:
        del path
        return False

    def abort(self) -> None:
        return


class _Extent(NamedTuple):
    offset: int
    size: int
    is_hole: bool = False


def _extents(descriptor: int, status: os.stat_result, part: Part) -> Iterator[_Extent]:
    """What there is to read, in order: bytes, and holes, which are zeros that take no room."""
    position, end = part.offset, part.offset + part.size
    if status.st_blocks * _STAT_BLOCK >= status.st_size:
        yield _Extent(position, part.size)
        return
    while position < end:
        data = _seek(descriptor, position, os.SEEK_DATA, end)
        if data > position:
            yield _Extent(position, data - position, is_hole=True)
        position = _seek(descriptor, data, os.SEEK_HOLE, end)
        if position > data:
            yield _Extent(data, position - data)


def _seek(descriptor: int, position: int, what: int, end: int) -> int:
    if position >= end:
        return end
    try:
        return min(os.lseek(descriptor, position, what), end)
    except OSError as error:
        # There is no data behind this place.
        if error.errno == errno.ENXIO:
            return end
        raise


def _feed(pieces: Pieces, descriptor: int, extent: _Extent) -> None:
    if extent.is_hole:
        pieces.feed_zeros(extent.size)
        return
    position, end = extent.offset, extent.offset + extent.size
    while position < end:
        data = os.pread(descriptor, min(_STEP, end - position), position)
        if not data:
            raise _Unstable
        pieces.feed(data)
        position += len(data)


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
            if (name_shown := shown(name))
        }
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return None
        raise _refused(path, f"extended attributes: {error.strerror}") from error
    return packed_attributes(found, path)


def packed_attributes(attributes: Mapping[bytes, bytes], path: bytes) -> bytes | None:
    """What is published of extended attributes, packed, None for nothing. Raises Unpublishable, naming the path."""
    try:
        return pack({name: value for name, value in attributes.items() if name not in _MACHINE_ATTRIBUTES})
    except FormatError as error:
        raise _refused(path, str(error)) from error


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _refused(path: bytes, reason: str) -> Unpublishable:
    return Unpublishable(f"{path.decode('utf-8', 'backslashreplace')}: {reason}; nothing was published")
