"""One revision of a repository as a Python object: look up, list, read; usable without a mount.

    with Repository.open("http://server/cvfs/sw.example.org", "sw.example.org.pub") as repository:
        for entry in repository.listing("/"):
            print(entry.name)
        data = repository.read("/README")

Paths are absolute, `str` or `bytes`; names inside are bytes. Reads may wait for the network, bounded by the time-outs.
"""

import contextlib
import io
import logging
import os
import threading
from collections.abc import Iterator
from typing import Self

from cvfs.catalog.reader import Catalog, NestedCatalog
from cvfs.catalog.tree import CatalogTree
from cvfs.client.cache.base import Cache
from cvfs.client.content import Piece, chunked, whole
from cvfs.client.data_plane import DataPlane, connect
from cvfs.client.manifest_fetch import Revision, fetch_revision
from cvfs.client.published_file import PublishedFile
from cvfs.client.settings import Settings, settings_for_url
from cvfs.client.snapshot_tree import SnapshotTree
from cvfs.errors import FormatError, IsADirectory, NotADirectory, NotALink, NotFound, StoreFull
from cvfs.format.dirent import DirectoryEntry
from cvfs.format.xattrs import stored_attributes
from cvfs.hashes import ContentHash, as_path
from cvfs.store.base import Contents, Wanted

log = logging.getLogger(__name__)

Path = str | bytes


class Catalogs:
    """Catalog files out of a store of contents."""

    def __init__(self, contents: Contents, cache: Cache | None = None) -> None:
        self._contents = contents
        self._cache = cache
        self._pinned: set[ContentHash] = set()
        self._renewed: set[ContentHash] = set()
        self._released = False
        self._lock = threading.Lock()

    def open_catalog(self, nested: NestedCatalog, *, wait: bool) -> Catalog:
        """The catalog, or BlockingIOError if it is not at hand and `wait` is false.

        One that cannot be read is fetched again, once: the copy in the cache may be damaged.
        """
        try:
            catalog = self._open(nested, wait=wait)
        except FormatError as error:
            if not wait:
                raise BlockingIOError from error
            self.renew(nested)
            catalog = self._open(nested, wait=True)
        if self._cache and not nested.path:
            # The root catalog says it for the whole repository (FORMAT section 5.8).
            self._cache.volatile = catalog.properties.get("volatile") == "1"
        self._pin(nested.content)
        return catalog

    def renew(self, nested: NestedCatalog) -> None:
        """Drop the copy in the cache, unless that was done before."""
        if self._cache is None or nested.content in self._renewed:
            return
        log.warning("catalog %s in the cache is damaged, dropped and fetched again", nested.content)
        # A cache that cannot be written may be mended by somebody else.
        with contextlib.suppress(StoreFull):
            self._cache.evict(nested.content)
        self._renewed.add(nested.content)

    def _open(self, nested: NestedCatalog, *, wait: bool) -> Catalog:
        wanted = Wanted(nested.content, size=nested.size or None)
        fd = self._contents.open(wanted) if wait else self._contents.open_present(wanted)
        if fd is None:
            raise BlockingIOError
        try:
            # Through the descriptor: the file may be evicted at any time, an open catalog stays whole.
            return Catalog.open(f"/proc/self/fd/{fd}", nested.path, nested.root_prefix)
        finally:
            os.close(fd)

    def release(self) -> None:
        """The revision is not used any more: its catalogs may be evicted."""
        with self._lock:
            self._released = True
            while self._cache and self._pinned:
                self._cache.unpin(self._pinned.pop())

    def _pin(self, content: ContentHash) -> None:
        with self._lock:
            # A reader who is late may still open a catalog of a revision that was retired: that one may be evicted.
            if self._cache and not self._released and content not in self._pinned:
                self._pinned.add(content)
                self._cache.pin(content)


class Repository:
    """A revision that was verified, or pinned by its root hash. Safe to use from several threads."""

    def __init__(self, settings: Settings, revision: Revision, plane: DataPlane) -> None:
        self.settings = settings
        self.revision = revision
        self.plane = plane
        self._catalogs = Catalogs(plane.contents, plane.cache)
        self.tree = self._tree()

    @classmethod
    def open(
        cls,
        url: str,
        public_key: str | os.PathLike[str] | None = None,
        *,
        fqrn: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        tag: str | None = None,
        root_hash: str | None = None,
        proxy: str | None = None,
    ) -> "Repository":
        """The newest revision, or that of a tag or root hash, of the repository at `url` (`;` separates servers).

        `public_key` is the file of the master public key; it is not needed with `root_hash`, which is the trust anchor
        itself. `fqrn` is by default the last component of the URL. Without `cache_dir` nothing is kept on disk; with it
        the newest revision seen is remembered beside it, in `<cache_dir>.trust`: nothing older is accepted from then on,
        and while no server answers that one is opened.

        Raises TrustError if anything on the way does not verify, StoreError if no server answers, UsageError.
        """
        settings = settings_for_url(
            url,
            os.fspath(public_key) if public_key else None,
            fqrn=fqrn,
            cache_dir=os.fspath(cache_dir) if cache_dir else None,
            tag=tag,
            root_hash=root_hash,
            proxy=proxy,
        )
        return cls.open_settings(settings)

    @classmethod
    def open_settings(cls, settings: Settings, plane: DataPlane | None = None) -> "Repository":
        """The revision that the settings ask for. A plane that is given stays open if that fails."""
        if plane is not None:
            return cls(settings, fetch_revision(settings, plane), plane)
        with contextlib.ExitStack() as on_failure:
            plane = connect(settings)
            on_failure.callback(plane.close)
            repository = cls(settings, fetch_revision(settings, plane), plane)
            on_failure.pop_all()
            return repository

    def _tree(self) -> CatalogTree:
        root, limit = (self.revision.root_hash, self.revision.root_size), self.settings.view.open_catalogs
        history = self.revision.verified.manifest.history if self.revision.verified else None
        if history is None or not self.settings.view.snapshots:
            return CatalogTree(*root, self._catalogs, limit)
        return SnapshotTree(*root, self._catalogs, limit, history=history, contents=self.plane.contents)

    def at(self, revision: Revision) -> "Repository":
        """Another revision of the same repository through the same store and cache."""
        return Repository(self.settings, revision, self.plane)

    @property
    def number(self) -> int:
        """The revision's number, as its root catalog says."""
        return self.tree.root().revision

    def retire(self) -> None:
        """Another revision took over: stop holding this one's catalogs in the cache."""
        self._catalogs.release()

    def close(self) -> None:
        """Close connections and cache; open files stay usable."""
        self.plane.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lookup(self, path: Path) -> DirectoryEntry:
        """The entry of a path, hidden ones too. Raises NotFound."""
        return self.tree.find(as_path(path))

    def exists(self, path: Path) -> bool:
        """Whether there is such an entry."""
        try:
            self.lookup(path)
        except NotFound:
            return False
        return True

    def listing(self, path: Path) -> list[DirectoryEntry]:
        """The entries of a directory, without hidden ones, in no particular order. Raises NotADirectory."""
        where = as_path(path)
        if not self.lookup(where).is_directory:
            raise NotADirectory(f"{_shown(where)}: not a directory")
        return [entry for entry in self.tree.listing(where) if not entry.is_hidden]

    def walk(self, path: Path = b"") -> Iterator[tuple[bytes, DirectoryEntry]]:
        """Every path and entry below a directory, the directory itself first."""
        top = as_path(path)
        # A stack of our own: a tree may be deeper than Python's.
        waiting = [(top, self.lookup(top))]
        while waiting:
            where, entry = waiting.pop()
            yield where, entry
            if entry.is_directory:
                waiting += [(where + b"/" + child.name, child) for child in sorted(self.listing(where), reverse=True)]

    def readlink(self, path: Path) -> bytes:
        """Target of a symbolic link as it is published, variables not filled in."""
        entry = self.lookup(path)
        if not entry.is_link:
            raise NotALink(f"{_shown(as_path(path))}: not a symbolic link")
        return entry.symlink

    def xattrs(self, path: Path) -> dict[bytes, bytes]:
        """The published extended attributes."""
        return stored_attributes(self.lookup(path).xattr)

    def pieces(self, path: Path, entry: DirectoryEntry, *, wait: bool = True) -> tuple[Piece, ...]:
        """Which objects hold a regular file. Raises FormatError if they do not make up the whole file."""
        where = as_path(path)
        published = self.tree.published(where) if isinstance(self.tree, SnapshotTree) else where
        if entry.is_chunked:
            return chunked(published, entry, self.tree.chunks(where, wait=wait))
        return (whole(published, entry),)

    def contents_of(self, entry: DirectoryEntry) -> Contents:
        """Where the objects of a file are: the repository's own servers, or those of external data."""
        return self.plane.external if entry.is_external else self.plane.contents

    def read(self, path: Path, offset: int = 0, size: int | None = None) -> bytes:
        """`size` bytes of a file from `offset` on, or all the rest; fewer only at its end."""
        with self.open_file(path) as file:
            file.seek(offset)
            return file.read(-1 if size is None else size)

    def open_file(self, path: Path) -> io.BufferedReader:
        """A file to read from, seekable; objects are fetched as they are touched. Raises IsADirectory, NotFound."""
        where = as_path(path)
        entry = self.lookup(where)
        if entry.is_directory:
            raise IsADirectory(f"{_shown(where)}: is a directory")
        if not entry.is_regular:
            raise NotFound(f"{_shown(where)}: not a regular file")
        return io.BufferedReader(PublishedFile(self.contents_of(entry), self.pieces(where, entry), entry.size), 2**17)


def _shown(path: bytes) -> str:
    return path.decode(errors="replace") or "/"
