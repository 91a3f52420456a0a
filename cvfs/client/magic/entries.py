"""Magic attributes of an entry, out of its catalog row, its chunks and its cached object; it changes nothing.

Source: FORMAT section 9.7.
"""

import os
from collections.abc import Callable
from dataclasses import asdict

from cvfs.catalog.schema import Counters
from cvfs.client.content import Piece, whole
from cvfs.client.magic.attributes import Magic, Subject, anything, in_pages
from cvfs.compression import Compression
from cvfs.errors import NoSuchAttribute
from cvfs.format.dirent import DirectoryEntry
from cvfs.hashes import new_hasher

_BLOCK = 2**20
_COMPRESSIONS = {Compression.ZLIB: b"zlib", Compression.NONE: b"none"}


def _regular(entry: DirectoryEntry) -> bool:
    return entry.is_regular


def _link(entry: DirectoryEntry) -> bool:
    return entry.is_link


def _hashed(entry: DirectoryEntry) -> bool:
    return bool(entry.digest) and not entry.is_directory


def _only_if(applies: Callable[[DirectoryEntry], bool], value: Callable[[Subject], list[bytes]]) -> Magic:
    """An attribute that entries of one kind have."""

    def checked(subject: Subject) -> list[bytes]:
        if not applies(subject.entry):
            raise NoSuchAttribute("not for entries of this kind")
        return value(subject)

    return Magic(checked, applies)


def _pieces(subject: Subject) -> tuple[Piece, ...]:
    """Of a file that is one object, too; kept with the node, so that an older file shows its own."""
    if subject.entry.is_chunked:
        return subject.reader.pieces(subject.repository, subject.node, wait=subject.wait)
    return subject.repository.pieces(subject.node.path, subject.entry, wait=subject.wait)


def _chunk_list(subject: Subject) -> list[bytes]:
    lines = [b"%s,%d,%d\n" % (str(p.wanted.content).encode(), p.offset, p.size) for p in _pieces(subject)]
    return in_pages(lines, b"hash,offset,size\n")


def _compression(subject: Subject) -> list[bytes]:
    compression = subject.entry.compression
    return [_COMPRESSIONS.get(compression, compression.name.lower().encode())]


def _local_hash(subject: Subject) -> list[bytes]:
    """Hash of the uncompressed copy in the cache, computed now: never in the thread that answers everybody."""
    if not subject.wait:
        raise BlockingIOError
    wanted = whole(subject.node.path, subject.entry).wanted
    descriptor = subject.repository.contents_of(subject.entry).open_present(wanted)
    if descriptor is None:
        return [b"Not in cache"]
    hasher = new_hasher(subject.entry.algorithm)
    try:
        with open(descriptor, "rb", buffering=0) as file:
            file.seek(0)
            while data := file.read(_BLOCK):
                hasher.update(data)
    except OSError as error:
        return [b"I/O error (%d)" % (error.errno or 0)]
    return [hasher.digest().hex().encode() + subject.entry.algorithm.tag.encode()]


def _catalog_counters(subject: Subject) -> list[bytes]:
    path = subject.node.path if subject.entry.is_directory else os.path.dirname(subject.node.path).rstrip(b"/")
    tree = subject.repository.tree
    nested = tree.governing(path, wait=subject.wait)
    own, below = tree.catalog_at(path, wait=subject.wait).counters()
    heading = b"catalog_hash: %s\ncatalog_mountpoint: %s\n" % (str(nested.content).encode(), nested.path)
    return [heading + csv(own + below)]


def _repository_counters(subject: Subject) -> list[bytes]:
    own, below = subject.repository.tree.root(wait=subject.wait).counters()
    return [csv(own + below)]


def csv(counters: Counters) -> bytes:
    """Twelve lines, by name."""
    return b"".join(b"%s,%d\n" % (name.encode(), value) for name, value in sorted(asdict(counters).items()))


def _raw_link(subject: Subject) -> list[bytes]:
    return [subject.entry.symlink]


ENTRY_ATTRIBUTES = {
    b"user.catalog_counters": Magic(_catalog_counters, anything),
    b"user.repo_counters": Magic(_repository_counters, anything),
    b"user.chunk_list": _only_if(_regular, _chunk_list),
    b"user.chunks": _only_if(_regular, lambda s: [b"%d" % len(_pieces(s))]),
    b"user.compression": _only_if(_regular, _compression),
    b"user.direct_io": _only_if(_regular, lambda s: [b"%d" % s.entry.is_direct_io]),
    b"user.external_file": _only_if(_regular, lambda s: [b"%d" % s.entry.is_external]),
    b"user.hash": _only_if(_hashed, lambda s: [str(s.entry.content).encode()]),
    b"user.lhash": _only_if(_hashed, _local_hash),
    b"user.rawlink": _only_if(_link, _raw_link),
    b"xfsroot.rawlink": _only_if(_link, _raw_link),
}
