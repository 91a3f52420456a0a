"""A repository in a directory of this machine; never opens anything outside of it.

Bytes go to `data/txn/` first and become visible by a rename. Single objects are not flushed to the disk: `sync` does it
once for all of them, before the manifest names them. Source: FORMAT section 4.7.
"""

import contextlib
import ctypes
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cvfs.durable import sync_directory
from cvfs.errors import StoreFull, UsageError
from cvfs.hashes import Bytes
from cvfs.store.local import LocalStore
from cvfs_server.state import make_directory

TRANSACTION_AREA = "data/txn"
_WRITING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class LocalStorage:
    """The repository below the directory `base`. Copies of it work in other processes."""

    base: str
    publisher: str = ""

    @property
    def place(self) -> str:
        """The directory."""
        return self.base

    @property
    def parallel(self) -> int:
        """One after the other: a directory of this machine does not make anybody wait."""
        return 1

    def staged_by(self, publisher: str) -> "LocalStorage":
        """The same repository, unfinished objects being in a staging directory of that publisher's own."""
        return LocalStorage(self.base, publisher)

    def create(self) -> None:
        """Make the directories of an empty repository (FORMAT section 1.2)."""
        with _converted(self.base):
            os.makedirs(f"{self.base}/{TRANSACTION_AREA}", exist_ok=True)
            for number in range(256):
                os.makedirs(f"{self.base}/data/{number:02x}", exist_ok=True)

    def has(self, path: str) -> bool:
        """Whether the file is there now. Raises Unreachable."""
        return LocalStore(self.base).has(path)

    def fetch(self, path: str, *, fresh: int = 0, span: tuple[int, int] | None = None) -> Iterator[bytes]:
        """The bytes at `path`, piece by piece. Raises MissingObject or Unreachable."""
        return LocalStore(self.base).fetch(path, fresh=fresh, span=span)

    def put(self, path: str, data: Bytes) -> bool:
        """Keep one object; False if it was there before. Raises StoreFull."""
        target = f"{self.base}/{path}"
        if os.path.exists(target):
            return False
        # A hundred thousand times in a publish: nothing here but what has to be.
        temporary, descriptor = self._new_file()
        try:
            try:
                _write(descriptor, data)
            finally:
                # Before the rename: some file systems say only now that there was no room.
                os.close(descriptor)
            os.rename(temporary, target)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            if isinstance(error, OSError):
                raise StoreFull(f"cannot write {target}: {error.strerror}") from error
            raise
        return True

    def start_upload(self) -> "LocalUpload":
        """An object too large for memory. Raises StoreFull."""
        return LocalUpload(self, *self._new_file())

    def _new_file(self) -> tuple[str, int]:
        """A file in the staging area, and its descriptor. Raises StoreFull."""
        staging = self._staging(self.publisher)
        if self.publisher:
            # A directory for each process: in a common one they would wait for each other.
            staging = f"{staging}/{os.getpid()}"
        temporary = f"{staging}/{os.getpid()}.{next(_numbers)}"
        try:
            return temporary, os.open(temporary, _WRITING, 0o666)
        except FileNotFoundError:
            make_directory(staging)
            with _converted(temporary):
                return temporary, os.open(temporary, _WRITING, 0o666)
        except OSError as error:
            raise StoreFull(f"cannot write {temporary}: {error.strerror}") from error

    def replace(self, path: str, data: Bytes) -> None:
        """Switch a mutable file to new bytes, atomically and durably. Raises StoreFull."""
        target = self._place(path)
        upload = self.start_upload()
        try:
            upload.write(data)
            upload.publish(target)
        finally:
            upload.abort()

    def objects(self, since: float = 0) -> Iterator[tuple[str, int]]:
        """Path and stored size of everything below `data/`, the staging area left out, in no order.

        With `since`, a Unix time, only what was written then or later.
        """
        for number in range(256):
            directory = f"data/{number:02x}"
            with os.scandir(f"{self.base}/{directory}") as files:
                for file in files:
                    try:
                        status = file.stat()
                    except FileNotFoundError:
                        # Collected meanwhile.
                        continue
                    if status.st_mtime >= since:
                        yield f"{directory}/{file.name}", status.st_size

    def discard(self, path: str) -> None:
        """Remove a file, if it is there. Raises StoreFull where that is not allowed."""
        with _converted(path):
            try:
                os.unlink(self._place(path))
            except FileNotFoundError:
                return

    def discard_many(self, paths: Iterable[str]) -> None:
        """Remove files, those that are there. Raises StoreFull where that is not allowed."""
        for path in paths:
            self.discard(path)

    def clear_staging(self, publisher: str) -> None:
        """Remove what a publisher that is dead, or done, left unfinished."""
        staging = self._staging(publisher)
        with _converted(staging), contextlib.suppress(FileNotFoundError):
            if publisher:
                shutil.rmtree(staging)
                return
            for name in os.listdir(staging):
                if not os.path.isdir(f"{staging}/{name}"):
                    os.unlink(f"{staging}/{name}")

    def sync(self) -> None:
        """Return when everything written before will survive a power failure. Raises StoreFull."""
        with _converted(self.base):
            descriptor = os.open(self.base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _sync_filesystem(descriptor)
            finally:
                os.close(descriptor)

    def _staging(self, publisher: str) -> str:
        return f"{self.base}/{TRANSACTION_AREA}/{publisher}" if publisher else f"{self.base}/{TRANSACTION_AREA}"

    def _place(self, path: str) -> str:
        if path.startswith("/") or ".." in path.split("/"):
            raise UsageError(f"{path!r} is no place inside of a repository")
        return f"{self.base}/{path}"


class LocalUpload:
    """One file of the staging area."""

    __slots__ = ("_descriptor", "_storage", "_temporary")

    def __init__(self, storage: LocalStorage, temporary: str, descriptor: int) -> None:
        self._storage = storage
        self._temporary = temporary
        self._descriptor = descriptor

    def write(self, data: Bytes) -> None:
        """The next stored bytes. Raises StoreFull."""
        with _converted(self._temporary):
            _write(self._descriptor, data)

    def commit(self, path: str) -> bool:
        """Make it visible at `path`; False if it was there before. Ends the upload. Raises StoreFull."""
        target = f"{self._storage.base}/{path}"
        if os.path.exists(target):
            self.abort()
            return False
        self.move_to(target)
        return True

    def publish(self, target: str) -> None:
        """Make it visible in place of whatever is there, and durable. Raises StoreFull."""
        with _converted(target):
            os.fsync(self._descriptor)
        self.move_to(target)
        with _converted(target):
            sync_directory(os.path.dirname(target))

    def move_to(self, target: str) -> None:
        """Make it visible in place of whatever is there. Raises StoreFull."""
        with _converted(target):
            # First: some file systems say only now that there was no room.
            self._close()
            os.rename(self._temporary, target)
        self._temporary = ""

    def abort(self) -> None:
        """Forget it; of no effect after a commit. Raises StoreFull if it cannot be removed."""
        temporary, self._temporary = self._temporary, ""
        if self._descriptor >= 0:
            # What is lost here was to be thrown away.
            with contextlib.suppress(OSError):
                self._close()
        if temporary:
            with _converted(temporary):
                os.unlink(temporary)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


def _write(descriptor: int, data: Bytes) -> None:
    written = os.write(descriptor, data)
    if written < len(data):
        view = memoryview(data)[written:]
        while view:
            view = view[os.write(descriptor, view) :]


class _converted:  # noqa: N801  # reads as a verb at the with statement, and a generator-based one costs three times more
    """Turns the machine's errors into the one that means: cannot be kept."""

    __slots__ = ("_place",)

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise StoreFull(f"cannot write {self._place}: {error.strerror}") from error


def _sync_filesystem(descriptor: int) -> None:
    """syncfs(2), which the standard library lacks; without it everything on the machine is flushed."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
    elif syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
