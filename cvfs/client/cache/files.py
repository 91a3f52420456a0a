"""The files of a cache directory: contents by hash, written aside and renamed; it knows no quota and keeps no books.

    <directory>/<2 hex>/<38 hex><tag><letter>     the content, not compressed
    <directory>/txn/<session>.lock                held by flock(2) as long as a process of that session lives
    <directory>/txn/<session>.<pid>.<number>      a content on its way

A crash leaves files in `txn/` only. The next session removes those whose lock nobody holds any more: unlike process
numbers, locks tell the truth across containers that share the directory, and they pass to a daemon over its fork.
"""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
from collections.abc import Iterator
from typing import NamedTuple

from cvfs.errors import CorruptObject, FormatError, StoreFull
from cvfs.hashes import ContentHash, ObjectKind

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_STEP = 256 * 1024
# Room for larger files is claimed before the first byte is fetched, so that a full disk costs no download.
_CLAIMED = 2**20
_LETTERS = {kind.value: kind for kind in ObjectKind}


class Written(NamedTuple):
    """A content that was put in its place: a descriptor for reading it, its length in bytes, its digest."""

    descriptor: int
    size: int
    digest: bytes


class CacheFiles:
    """The contents below one directory, shared by several processes. `limit` is the longest content it takes."""

    def __init__(self, directory: str, limit: int | None) -> None:
        self._directory = directory
        self._limit = limit
        self._session: Session | None = None
        self._numbers = itertools.count()

    def begin(self) -> "list[DeadSession]":
        """Make the directories, remove what dead sessions left, start a session. Raises OSError."""
        staging = os.path.join(self._directory, "txn")
        os.makedirs(self._directory, 0o700, exist_ok=True)
        os.makedirs(staging, 0o770, exist_ok=True)
        dead = _bury_dead(staging)
        self._session = Session.start(staging)
        return dead

    def end(self) -> None:
        """End the session; contents can still be opened."""
        if self._session is not None:
            self._session.end()
            self._session = None

    @property
    def session(self) -> str:
        """Name of the running session, or an empty text."""
        return "" if self._session is None else self._session.token

    def open(self, name: str) -> int | None:
        """A descriptor for reading, or None: exactly one system call."""
        try:
            return os.open(self._path(name), _READ)
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                raise StoreFull(f"{name}: no file descriptor left, raise the limit on open files") from error
            return None

    def write(self, name: str, pieces: Iterator[bytes], size: int | None) -> Written:
        """Put a content in its place. Raises StoreFull, and whatever `pieces` raises: then nothing has changed."""
        self._check_limit(name, size or 0)
        with self._storing(name):
            temporary, target = self._start(name)
        try:
            with os.fdopen(target, "wb", buffering=0) as file:
                with self._storing(name):
                    _claim(target, size or 0)
                total, digest = self._fill(name, file.fileno(), pieces, size)
            with self._storing(name):
                return Written(self._commit(temporary, name), total, digest)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def remove(self, name: str) -> bool:
        """Whether there was something to remove. Open descriptors go on reading. Raises StoreFull if it stays."""
        try:
            os.unlink(self._path(name))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StoreFull(f"{self._path(name)}: cannot be removed: {error.strerror}") from error
        return True

    def present(self, name: str) -> bool:
        """Whether the content is in its place."""
        return os.path.exists(self._path(name))

    def walk(self) -> Iterator[tuple[str, os.stat_result]]:
        """Name and attributes of every content; foreign files are passed over. Raises OSError."""
        for first in range(256):
            absent = contextlib.suppress(FileNotFoundError, NotADirectoryError)
            with absent, os.scandir(f"{self._directory}/{first:02x}") as files:
                for file in files:
                    name = f"{first:02x}{file.name}"
                    with contextlib.suppress(FormatError, FileNotFoundError):
                        content_named(name)
                        yield name, file.stat(follow_symlinks=False)

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name[:2]}/{name[2:]}"

    def _check_limit(self, name: str, size: int) -> None:
        if self._limit is not None and size > self._limit:
            raise StoreFull(f"{name}: {size} bytes or more exceed the quota of {self._limit} bytes")

    @contextlib.contextmanager
    def _storing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreFull(f"{name} cannot be kept in {self._directory}: {error.strerror}") from error

    def _start(self, name: str) -> tuple[str, int]:
        if self._session is None:
            raise StoreFull(f"{name} cannot be kept: {self._directory} is not writable or not in use")
        temporary = f"{self._directory}/txn/{self._session.token}.{os.getpid()}.{next(self._numbers)}"
        return temporary, os.open(temporary, _CREATE, 0o660)

    def _fill(self, name: str, target: int, pieces: Iterator[bytes], size: int | None) -> tuple[int, bytes]:
        """Length and digest of what was written. Only errors of this file become StoreFull, not those of `pieces`."""
        total, hasher = 0, hashlib.sha1(usedforsecurity=False)
        for piece in pieces:
            total += len(piece)
            self._check_limit(name, total)
            hasher.update(piece)
            with self._storing(name):
                _write_all(target, piece)
        if size not in {None, total}:
            raise CorruptObject(f"{name}: has {total} bytes of content, {size} were announced")
        return total, hasher.digest()

    def _commit(self, temporary: str, name: str) -> int:
        # Opened before the rename: afterwards another process may already evict it.
        descriptor = os.open(temporary, _READ)
        try:
            self._rename(temporary, self._path(name))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _rename(self, temporary: str, path: str) -> None:
        try:
            os.rename(temporary, path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), 0o770, exist_ok=True)
            os.rename(temporary, path)


class DeadSession(NamedTuple):
    """A session whose processes ended without ending it, and whether the machine went down with them."""

    token: str
    with_machine: bool


class Session:
    """The life of a process, and of those forked from it, as seen by other users of the directory."""

    def __init__(self, token: str, lock: int, path: str) -> None:
        self.token = token
        self._lock = lock
        self._path = path

    @classmethod
    def start(cls, directory: str) -> "Session":
        """A new session with its lock held. Raises OSError."""
        token = os.urandom(8).hex()
        path = os.path.join(directory, token)
        lock = os.open(f"{path}.new", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(lock, _boot())
            # Under its name only now: a lock file that others see is locked, or its session is dead.
            os.rename(f"{path}.new", f"{path}.lock")
        except OSError:
            os.close(lock)
            raise
        return cls(token, lock, f"{path}.lock")

    def end(self) -> None:
        """Release the lock; the last process of the session does so by ending, too."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        os.close(self._lock)


def content_named(name: str) -> ContentHash:
    """The content hash of a file name without its slash. Raises FormatError for names of other files."""
    letter = name[-1:] if name[-1:] in _LETTERS else ""
    return ContentHash.parse(name.removesuffix(letter), _LETTERS[letter])


def digest_of(descriptor: int) -> bytes:
    """The digest of an open content, as the books keep it."""
    hasher = hashlib.sha1(usedforsecurity=False)
    for piece in read_all(descriptor):
        hasher.update(piece)
    return hasher.digest()


def read_all(descriptor: int) -> Iterator[bytes]:
    """An open content from its start."""
    offset = 0
    while piece := os.pread(descriptor, _STEP, offset):
        yield piece
        offset += len(piece)


def _bury_dead(directory: str) -> list[DeadSession]:
    """Remove what sessions left whose lock is free; the rest, and the unexplained, stay."""
    names = os.listdir(directory)
    dead = [
        DeadSession(name.removesuffix(".lock"), boot != _boot())
        for name in names
        if name.endswith(".lock") and (boot := _boot_of_dead(os.path.join(directory, name))) is not None
    ]
    tokens = {session.token for session in dead}
    for name in names:
        if name.split(".", 1)[0] in tokens:
            # Another process may clean up at the same time, or be another user's.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                os.unlink(os.path.join(directory, name))
    return dead


def _boot_of_dead(path: str) -> bytes | None:
    """What the session noted at its start if nobody holds its lock any more, else None."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.read(lock, 64)
    except OSError:
        # Held, or a file system that cannot tell: alive as far as anybody knows.
        return None
    finally:
        os.close(lock)


def _boot() -> bytes:
    """Names this start of the machine, where Linux tells."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(64).strip()
    except OSError:
        return b"unknown"


def _claim(target: int, size: int) -> None:
    if size < _CLAIMED:
        return
    try:
        os.posix_fallocate(target, 0, size)
    except OSError as error:
        # Not every file system can; then the disk is found full while it is written.
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
            raise


def _write_all(target: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(target, rest) :]
