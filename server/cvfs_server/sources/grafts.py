"""Graft files: `.cvmfsgraft-NAME` says what a file NAME holds whose content is not here; writes nothing.

Source: FORMAT section 9.8.
"""

import os
import re
from dataclasses import dataclass

from cvfs.compression import Compression
from cvfs.errors import FormatError, Unpublishable
from cvfs.format.dirent import Chunk, Flag, content_flags
from cvfs.hashes import DIGEST_SIZE, Algorithm, ContentHash
from cvfs_server.sources.base import DirectoryEdit, Known, Place, ScannedEntry, Source

GRAFT_PREFIX = b".cvmfsgraft-"
_MAX_GRAFT = 16 * 2**20
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# What it says may have changed although the file that it describes has not.
_ALWAYS_NEW = 2**63 - 1
_KEYS = frozenset({"size", "checksum", "compression", "chunk_offsets", "chunk_checksums"})
_COMPRESSIONS = {
    "zlib": Compression.ZLIB,
    "default": Compression.ZLIB,
    "none": Compression.NONE,
    "zstd": Compression.ZSTD,
}
_MAX_SIZE = 2**62
_NUMBER = re.compile(r"[0-9]{1,19}")
_NO_DIGEST = bytes(DIGEST_SIZE)


@dataclass(frozen=True, slots=True)
class Graft:
    """What a graft file says: the content's length, its digest (None if there are only chunks), chunks, stored form."""

    size: int
    digest: bytes | None
    chunks: tuple[Chunk, ...] = ()
    algorithm: Algorithm = Algorithm.SHA1
    compression: Compression = Compression.ZLIB

    @classmethod
    def parse(cls, text: bytes) -> "Graft":
        """From the bytes of a graft file. Raises FormatError."""
        values = _values(text)
        for wanted in ("size", "checksum"):
            if wanted not in values:
                raise FormatError(f"{wanted}= is missing")
        size, content = _size(values["size"]), ContentHash.parse(values["checksum"])
        name = values.get("compression", "zlib")
        if name not in _COMPRESSIONS:
            raise FormatError(f"compression={name[:40]}: use zlib or none")
        chunks = _chunks(values, size, content.algorithm)
        # The original writes zeros where there is no object of the whole file.
        digest = None if chunks and content.digest == _NO_DIGEST else content.digest
        if not chunks and content.digest == _NO_DIGEST:
            raise FormatError("checksum= is empty and there are no chunks")
        return cls(size, digest, chunks, content.algorithm, _COMPRESSIONS[name])

    def serialise(self) -> bytes:
        """The bytes of a graft file."""
        content = ContentHash(self.algorithm, self.digest or _NO_DIGEST)
        lines = [f"size={self.size}", f"checksum={content}", f"compression={self.compression.name.lower()}"]
        if self.chunks:
            names = (f"{ContentHash(self.algorithm, chunk.digest)}P" for chunk in self.chunks)
            lines.append("chunk_offsets=" + ",".join(str(chunk.offset) for chunk in self.chunks))
            lines.append("chunk_checksums=" + ",".join(names))
        return "".join(line + "\n" for line in lines).encode()

    def known(self, xattr: bytes | None, *, external: bool) -> Known:
        """What a catalog row says of the content."""
        flags = int(Flag.FILE) | content_flags(self.algorithm, self.compression)
        flags |= (int(Flag.CHUNKED) if self.chunks else 0) | (int(Flag.EXTERNAL) if external else 0)
        return Known(self.digest, flags, self.chunks, xattr)


class GraftedSource:
    """Another source, without its graft files; what these describe is known and not read. A `Source`."""

    def __init__(self, source: Source, *, external: bool) -> None:
        self._source = source
        self._external = external

    def root(self) -> ScannedEntry | None:
        """See `Source`."""
        return self._source.root()

    def edit(self, path: bytes) -> DirectoryEdit:
        """See `Source`. Raises Unpublishable, naming a graft file that is none, or that describes nothing."""
        edit = self._source.edit(path)
        # Nearly every directory has none, and its names are told apart by nothing but their beginnings.
        named = [entry for entry in edit.entries if entry.name.startswith(GRAFT_PREFIX)]
        grafts = {entry.name.removeprefix(GRAFT_PREFIX): entry for entry in named if is_graft(entry)}
        if not grafts:
            return edit
        entries = []
        for entry in edit.entries:
            if entry.name in grafts:
                del grafts[entry.name]
                entries.append(self._grafted(path, entry))
            elif not is_graft(entry):
                entries.append(entry)
        for entry in grafts.values():
            raise _refused(path + b"/" + entry.name, "there is no file of that name beside it")
        return edit._replace(entries=entries)

    def place(self, path: bytes) -> Place:
        """See `Source`."""
        return self._source.place(path)

    def attributes(self, path: bytes) -> bytes | None:
        """See `Source`."""
        return self._source.attributes(path)

    def _grafted(self, directory: bytes, entry: ScannedEntry) -> ScannedEntry:
        path = directory + b"/" + GRAFT_PREFIX + entry.name
        if not entry.is_regular or entry.group:
            raise _refused(path, "what it describes is not a regular file with one name")
        try:
            graft = Graft.parse(_read(self._source.place(path)))
        except FormatError as error:
            raise _refused(path, str(error)) from error
        except OSError as error:
            raise _refused(path, str(error.strerror)) from error
        known = graft.known(self._source.attributes(directory + b"/" + entry.name), external=self._external)
        return entry._replace(size=graft.size, known=known, ctime_ns=_ALWAYS_NEW)


def _read(place: Place) -> bytes:
    descriptor = os.open(place.path, _READING)
    try:
        offset = place.part.offset if place.part else 0
        size = place.part.size if place.part else os.fstat(descriptor).st_size
        if size > _MAX_GRAFT:
            raise FormatError(f"longer than {_MAX_GRAFT} bytes")
        return os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)


def is_graft(entry: ScannedEntry) -> bool:
    """Whether this is a graft file, which is not published; one that is published already, by others, is a file like any."""
    return (
        entry.is_regular and entry.known is None and entry.name.startswith(GRAFT_PREFIX) and entry.name != GRAFT_PREFIX
    )


def _values(text: bytes) -> dict[str, str]:
    values: dict[str, str] = {}
    for line in map(str.strip, text.decode("ascii", "replace").splitlines()):
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        key = key.strip().lower()
        if not equals or key not in _KEYS:
            raise FormatError(f"{line[:80]!r} is no line of a graft file")
        values[key] = value.strip()
    return values


def _chunks(values: dict[str, str], size: int, algorithm: Algorithm) -> tuple[Chunk, ...]:
    offsets = [_size(number.strip()) for number in values.get("chunk_offsets", "").split(",") if number]
    names = [name.strip() for name in values.get("chunk_checksums", "").split(",") if name]
    if len(offsets) != len(names):
        raise FormatError(f"{len(offsets)} chunk_offsets= but {len(names)} chunk_checksums=")
    ends = [*offsets[1:], size] if offsets else []
    if offsets and (offsets[0] != 0 or any(end <= start for start, end in zip(offsets, ends, strict=True))):
        raise FormatError("chunk_offsets= must begin with 0, ascend, and end before the size")
    hashes = [ContentHash.parse(name.removesuffix("P")) for name in names]
    if any(content.algorithm is not algorithm for content in hashes):
        raise FormatError("checksum= and chunk_checksums= are of different hash algorithms")
    parts = zip(offsets, ends, hashes, strict=True)
    return tuple(Chunk(start, end - start, content.digest) for start, end, content in parts)


def _size(text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > _MAX_SIZE:
        raise FormatError(f"{text[:40]!r} is not a number of bytes")
    return int(text)


def _refused(path: bytes, reason: str) -> Unpublishable:
    return Unpublishable(f"{path.decode('utf-8', 'backslashreplace')}: {reason}; nothing was published")
