"""Whether a cached content is still what was kept: by its digest, or by its content hash; it changes nothing.

A content hash is that of the stored, compressed bytes, and a cache holds them inflated: so a digest of the content is kept
as well. Where that was lost, the content is compressed again in every way this installation knows.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator

from cvfs.compression import ENCODERS, Encoder
from cvfs.errors import FormatError
from cvfs.hashes import Algorithm, ContentHash, new_hasher

_STEP = 256 * 1024
# Up to here publishers hold a file in memory, and may compress it at once.
_AT_ONCE = 2**20


def new_digest() -> "hashlib._Hash":
    """A running digest over a content."""
    return hashlib.sha1(usedforsecurity=False)


def is_proven(descriptor: int, content: ContentHash, digest: bytes) -> bool:
    """Whether an open content is the one that was kept; `digest` is empty where it is not known. Closes nothing."""
    try:
        if digest:
            return digest_of(descriptor) == digest
        return _has_content_hash(descriptor, content)
    except OSError:
        return False  # the disk cannot read it back: as bad as flipped


def digest_of(descriptor: int) -> bytes:
    """The digest of an open content. Raises OSError."""
    hasher = new_digest()
    for piece in read_all(descriptor):
        hasher.update(piece)
    return hasher.digest()


def read_all(descriptor: int) -> Iterator[bytes]:
    """An open content from its start. Raises OSError."""
    offset = 0
    while piece := os.pread(descriptor, _STEP, offset):
        yield piece
        offset += len(piece)


def _has_content_hash(descriptor: int, content: ContentHash) -> bool:
    """Whether the content, stored in one of the known ways, has this hash (FORMAT section 4.2)."""
    for encoder in dict.fromkeys(ENCODERS.values()):
        # An encoder this installation lacks proves nothing.
        with contextlib.suppress(FormatError):
            if content.digest in _digests(descriptor, encoder, content.algorithm):
                return True
    return False


def _digests(descriptor: int, encoder: Encoder, algorithm: Algorithm) -> Iterator[bytes]:
    """Those of the content as this encoder stores it: piece by piece, and all at once where it does that in another way."""
    compressor, hasher = encoder.start(), new_hasher(algorithm)
    for piece in read_all(descriptor):
        hasher.update(compressor.compress(piece))
    hasher.update(compressor.flush())
    yield hasher.digest()
    if encoder.at_once and os.fstat(descriptor).st_size <= _AT_ONCE:
        hasher = new_hasher(algorithm)
        hasher.update(encoder.at_once(b"".join(read_all(descriptor))))
        yield hasher.digest()
