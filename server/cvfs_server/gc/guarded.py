"""A storage whose writer knows the list of condemned objects: what it finds there already it rescues; deletes nothing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cvfs.hashes import Bytes
from cvfs_server.gc.condemned import Condemned
from cvfs_server.storage.base import Storage, Upload


class GuardedUpload:
    """An upload that rescues the object which it turns out to be. Used by one thread."""

    __slots__ = ("_condemned", "_upload")

    def __init__(self, upload: Upload, condemned: Condemned) -> None:
        self._upload = upload
        self._condemned = condemned

    def write(self, data: Bytes) -> None:
        """The next stored bytes. Raises StoreFull."""
        self._upload.write(data)

    def commit(self, path: str) -> bool:
        """Make it visible at `path`; False if it was there before, and stays. Raises StoreFull, Locked."""
        self._condemned.spare(path)
        return self._upload.commit(path)

    def abort(self) -> None:
        """Forget it; of no effect after a commit."""
        self._upload.abort()


@dataclass(frozen=True, slots=True)
class Guarded:
    """A storage as a publisher sees it that began while objects are condemned. See `Storage` for what each call does."""

    inner: Storage
    condemned: Condemned

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return self.inner.place

    @property
    def parallel(self) -> int:
        """How many objects one process should have on their way at a time."""
        return self.inner.parallel

    def create(self) -> None:
        """Make what an empty repository needs."""
        self.inner.create()

    def has(self, path: str) -> bool:
        """Whether the file is there; an object that is there stays."""
        self.condemned.spare(path)
        return self.inner.has(path)

    def fetch(self, path: str, *, fresh: int = 0, span: tuple[int, int] | None = None) -> Iterator[bytes]:
        """The bytes at `path`; reading rescues nothing."""
        return self.inner.fetch(path, fresh=fresh, span=span)

    def put(self, path: str, data: Bytes) -> bool:
        """Keep one object; False if it was there before, and stays. Raises StoreFull, Locked."""
        self.condemned.spare(path)
        return self.inner.put(path, data)

    def start_upload(self) -> Upload:
        """An object too large for memory."""
        return GuardedUpload(self.inner.start_upload(), self.condemned)

    def replace(self, path: str, data: Bytes) -> None:
        """Switch a mutable file to new bytes."""
        self.inner.replace(path, data)

    def objects(self, since: float = 0) -> Iterator[tuple[str, int]]:
        """Path and stored size of everything below `data/`."""
        return self.inner.objects(since)

    def discard(self, path: str) -> None:
        """Remove a file, if it is there."""
        self.inner.discard(path)

    def discard_many(self, paths: Iterable[str]) -> None:
        """Remove files, those that are there."""
        self.inner.discard_many(paths)

    def staged_by(self, publisher: str) -> "Guarded":
        """The same storage for one publisher."""
        return Guarded(self.inner.staged_by(publisher), self.condemned)

    def clear_staging(self, publisher: str) -> None:
        """Remove what a publisher left unfinished."""
        self.inner.clear_staging(publisher)

    def sync(self) -> None:
        """Return when everything written before will survive a power failure."""
        self.inner.sync()
