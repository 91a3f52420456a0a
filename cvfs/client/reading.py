"""Reading the bytes behind an inode: whole objects and chunks out of the store, through descriptors kept open."""

import os
import threading

from cvfs.client.content import Piece, pieces_between
from cvfs.client.inodes import Node, StaleNode
from cvfs.client.open_files import ObjectKey, OpenFile, OpenFiles
from cvfs.client.repository import Repository
from cvfs.errors import IsADirectory, StoreFull
from cvfs.hashes import ContentHash
from cvfs.store.base import Contents, Wanted

MAX_READ = 2**20
# What was read last stays in the cache although it is small: a running program must not lose its bytes.
_SPARED = 4096
_SPARE_EVERY = 64


class Reader:
    """Reads of nodes. What a node stands for does not change, so nothing here depends on the revision shown.

    `opens` counts the objects opened, `misses` those among them that were not at hand.
    """

    def __init__(self, files: OpenFiles | None = None) -> None:
        # Empty, it is false.
        self.files = OpenFiles() if files is None else files
        self.opens = 0
        self.misses = 0
        self._lock = threading.Lock()
        self._recent: dict[bytes, ContentHash] = {}
        self._buffers = threading.local()

    def read(self, repository: Repository, node: Node, offset: int, size: int, *, wait: bool) -> memoryview:
        """Up to `size` bytes from `offset` on; fewer only at the end. Valid until this thread reads again.

        Raises BlockingIOError if `wait` is false and an object is not at hand.
        """
        entry = node.entry
        if not entry.is_regular:
            raise IsADirectory(f"{node.path.decode(errors='replace')}: not a regular file")
        size = min(size, entry.size - offset, MAX_READ)
        if size <= 0:
            return memoryview(b"")
        # A worker reads what was just fetched, and rarely: dozens of them shall not each hold a megabyte for ever.
        buffer = memoryview(bytearray(size)) if wait else self._buffer()[:size]
        if not entry.is_chunked:
            # Held by a name: another thread may let the object fall out of `files`, and its last user closes it.
            file = self.whole(repository, node, wait=wait)
            return buffer[: _read_fully(file.fd, buffer, offset)]
        self._read_chunked(repository, node, buffer, offset, wait=wait)
        return buffer

    def whole(self, repository: Repository, node: Node, *, wait: bool) -> OpenFile:
        """The open object of a file that is one."""
        entry = node.entry
        file = self.files.get((entry.digest, entry.size)) if entry.digest is not None else None
        return file or self._open(repository, node, repository.pieces(node.path, entry)[0], wait=wait)

    def pieces(self, repository: Repository, node: Node, *, wait: bool) -> tuple[Piece, ...]:
        """The chunk list of a node, kept with it: after a new revision the catalog may show another one."""
        pieces = node.pieces
        if pieces is None:
            pieces = repository.pieces(node.path, node.entry, wait=wait)
            # Looked at afterwards: while a number is attached its path shows the same in the revision that was asked.
            if node.detached and node.pieces is None:
                raise StaleNode(f"{node.path.decode(errors='replace')}: replaced in the repository, open it again")
            pieces = node.pieces = node.pieces or pieces
        return pieces

    def _read_chunked(self, repository: Repository, node: Node, buffer: memoryview, offset: int, *, wait: bool) -> None:
        end = offset + len(buffer)
        for piece in pieces_between(self.pieces(repository, node, wait=wait), offset, end):
            start, stop = max(offset, piece.offset), min(end, piece.offset + piece.size)
            file = self.files.get(_key(piece)) or self._open(repository, node, piece, wait=wait)
            _read_fully(file.fd, buffer[start - offset : stop - offset], start - piece.offset)

    def _open(self, repository: Repository, node: Node, piece: Piece, *, wait: bool) -> OpenFile:
        contents = repository.contents_of(node.entry)
        present = _present(contents, piece.wanted) if wait else contents.open_present(piece.wanted)
        if present is None and not wait:
            raise BlockingIOError
        fd = contents.open(piece.wanted) if present is None else present
        self._note(repository, piece.wanted.content, missed=present is None)
        return self.files.keep(_key(piece), fd)

    def _note(self, repository: Repository, content: ContentHash, *, missed: bool) -> None:
        with self._lock:
            self.opens += 1
            self.misses += missed
            self._recent[content.digest] = content
            if len(self._recent) > _SPARED:
                del self._recent[next(iter(self._recent))]
            spared = list(self._recent.values()) if self.opens % _SPARE_EVERY == 0 else None
        if spared and repository.plane.cache:
            repository.plane.cache.spare(spared)

    def _buffer(self) -> memoryview:
        # One buffer a thread: the reply is written before the same thread reads again.
        buffer: memoryview | None = getattr(self._buffers, "buffer", None)
        if buffer is None:
            buffer = self._buffers.buffer = memoryview(bytearray(MAX_READ))
        return buffer


def _present(contents: Contents, wanted: Wanted) -> int | None:
    """What is at hand; whoever may wait is served without a cache that cannot be used."""
    try:
        return contents.open_present(wanted)
    except StoreFull:
        return None


def _key(piece: Piece) -> ObjectKey:
    return piece.wanted.content.digest, piece.size


def _read_fully(fd: int, buffer: memoryview, offset: int) -> int:
    done = 0
    while done < len(buffer):
        count = os.preadv(fd, [buffer[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done
