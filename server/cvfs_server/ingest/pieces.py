"""A large file being cut into objects: compressed, hashed and stored in the same pass; reads no file, knows no catalog.

Source: FORMAT sections 4.2 to 4.5.
"""

from collections.abc import Callable
from typing import Protocol

from cvfs.chunking import ChunkSizes, Cutter
from cvfs.compression import Encoder
from cvfs.format.dirent import Chunk
from cvfs.hashes import Algorithm, Bytes, ContentHash, ObjectKind, new_hasher
from cvfs_server.storage.base import Upload

_ZEROS = bytes(2**20)


class Uploads(Protocol):
    """Where new objects go."""

    def start_upload(self) -> Upload:
        """An object too large for memory."""


class NewObject:
    """One object being compressed, hashed and uploaded in the same pass."""

    def __init__(self, storage: Uploads, encoder: Encoder, algorithm: Algorithm) -> None:
        self._compressor = encoder.start()
        self._algorithm = algorithm
        self._hasher = new_hasher(algorithm)
        self._upload = storage.start_upload()
        self.length = 0

    def feed(self, data: Bytes) -> None:
        """The next bytes of the content. Raises StoreFull."""
        self._write(self._compressor.compress(data))

    def keep(self, kind: ObjectKind) -> tuple[ContentHash, bool]:
        """Its hash, and whether it was new. Raises StoreFull."""
        self._write(self._compressor.flush())
        content = ContentHash(self._algorithm, self._hasher.digest(), kind)
        return content, self._upload.commit(content.path)

    def abort(self) -> None:
        """Forget it; of no effect once it is kept."""
        self._upload.abort()

    def _write(self, stored: bytes) -> None:
        self._hasher.update(stored)
        self._upload.write(stored)
        self.length += len(stored)


class Pieces:
    """A file that comes in pieces of any size, in order; it becomes one whole object if there is no cut.

    `start` begins an object; with `bulk` there is one of the whole file beside the chunks.
    """

    def __init__(self, start: Callable[[], NewObject], chunking: ChunkSizes | None, *, bulk: bool) -> None:
        self._begin = start
        self._chunking = chunking
        self._cutter = Cutter(chunking) if chunking else None
        # Where the cutter began.
        self._base = 0
        self._bulk = start() if chunking and bulk else None
        self._open = start()
        self._chunks: list[Chunk] = []
        self._start = 0
        self._zeros: bytes | None = None
        self.length = 0
        self.objects = 0
        self.stored = 0

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        cuts = self._cutter.feed(data) if self._cutter else []
        if self._bulk:
            self._bulk.feed(data)
        view = memoryview(data)
        for cut in (self._base + offset for offset in cuts):
            self._open.feed(view[: cut - self.length])
            view = view[cut - self.length :]
            self.length = cut
            self._end_chunk()
            self._open = self._begin()
        self._open.feed(view)
        self.length += len(view)

    def feed_zeros(self, count: int) -> None:
        """So many zeros; long runs of them cost next to nothing where files are cut."""
        while count:
            if self._chunking is None or self._bulk:
                step = min(count, len(_ZEROS))
            elif self.length == self._start and count > self._chunking.maximum:
                # Nothing in a chunk of zeros asks for a cut before it is full.
                self._skip_chunk(self._chunking)
                count -= self._chunking.maximum
                continue
            else:
                step = min(count, len(_ZEROS), self._start + self._chunking.maximum - self.length)
            if step:
                self.feed(_ZEROS[:step])
            else:
                self._cut_here(self._chunking)
            count -= step

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

    def _cut_here(self, chunking: ChunkSizes | None) -> None:
        """The chunk is as long as it may be, and the file goes on."""
        self._end_chunk()
        self._open = self._begin()
        self._restart(chunking)

    def _skip_chunk(self, chunking: ChunkSizes) -> None:
        """A whole chunk of zeros, which is hashed and stored the first time only."""
        size = chunking.maximum
        if self._zeros is None:
            self._zeros = self._keep(self._of_zeros(size), ObjectKind.CHUNK)
        self._chunks.append(Chunk(self._start, size, self._zeros))
        self.length += size
        self._start = self.length
        self._restart(chunking)

    def _of_zeros(self, size: int) -> NewObject:
        found = self._begin()
        for start in range(0, size, len(_ZEROS)):
            found.feed(_ZEROS[: size - start])
        return found

    def _restart(self, chunking: ChunkSizes | None) -> None:
        # The rule looks at nothing before a cut.
        self._cutter = Cutter(chunking) if chunking else None
        self._base = self.length

    def _end_chunk(self) -> None:
        digest = self._keep(self._open, ObjectKind.CHUNK)
        self._chunks.append(Chunk(self._start, self.length - self._start, digest))
        self._start = self.length

    def _keep(self, finished: NewObject, kind: ObjectKind) -> bytes:
        content, new = finished.keep(kind)
        self.objects += new
        self.stored += finished.length if new else 0
        return content.digest
