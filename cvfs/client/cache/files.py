"""The files of a cache directory: contents by hash, written aside and renamed; it knows no quota and keeps no books.

    <directory>/<2 hex>/<38 hex><tag><letter>     the content, not compressed
    <directory>/txn/<token>.<pid>.<number>        a content on its way
    <directory>/quarantaine/<name>                a content that was found damaged

A crash leaves files in `txn/` only; the next user removes them (see `sessions`).
"""

import contextlib
import errno
import itertools
import os
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from cvfs.client.cache.proof import new_digest
from cvfs.client.cache.sessions import DeadSession, Session, bury_dead
from cvfs.errors import CorruptObject, FormatError, StoreFull
from cvfs.hashes import ContentHash, ObjectKind

# Whoever shares the directory may have put a pipe in the place of a file, which would wait for its writer for ever.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
# Room for larger files is claimed before the first byte is fetched, so that a full disk costs no download.
_CLAIMED = 2**20
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
# File systems need some room beside the bytes; and with so much of it a disk is not full any more.
_MARGIN = 16 * 1024
_AMPLE = 64 * 2**20
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})
# Where no locks tell who lives: nobody takes a week for one object, and clocks of hosts differ by less.
_ABANDONED_AFTER = 7 * 86400
_DIGEST_ATTRIBUTE = "user.cvfs.sha1"
_DIGEST_SIZE = 20
_LETTERS = {kind.value: kind for kind in ObjectKind}


class Written(NamedTuple):
    """A content that was put in its place: a descriptor for reading it, its length in bytes, its digest."""

    descriptor: int
    size: int
    digest: bytes


class CacheFiles:
    """The contents below one directory, shared by several processes. `limit` is the longest content it takes, in bytes.

    With `marked`, the digest of a content is an extended attribute of its file, where the file system can.
    """

    def __init__(self, directory: str, limit: int | None, *, marked: bool = False) -> None:
        self.directory = directory
        self.limit = limit
        self._marked = marked
        self._session: Session | None = None
        self._token = ""
        self._numbers = itertools.count()
        self._room = _Room(directory)
        self._renewing = threading.Lock()

    def begin(self) -> list[DeadSession]:
        """Make the directories, remove what dead sessions left, start a session. Raises OSError."""
        staging = os.path.join(self.directory, "txn")
        os.makedirs(self.directory, 0o700, exist_ok=True)
        os.makedirs(staging, 0o770, exist_ok=True)
        dead = bury_dead(staging)
        self._session = Session.start(staging)
        self._token = self._session.token
        return dead

    def begin_unlocked(self) -> None:
        """The same where locks tell nothing, since other machines use the directory. Raises OSError."""
        staging = os.path.join(self.directory, "txn")
        os.makedirs(staging, 0o770, exist_ok=True)
        _remove_abandoned(staging, time.time() - _ABANDONED_AFTER)
        if not os.access(staging, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), staging)
        self._token = os.urandom(8).hex()

    def end(self) -> None:
        """End the session; contents can still be opened."""
        session, self._session, self._token = self._session, None, ""
        if session is not None:
            session.end()

    def renew(self) -> bool:
        """Begin again where somebody removed the directory; whether that was needed. Raises OSError."""
        with self._renewing:
            if self._session is not None and self._session.is_known():
                return False
            self.end()
            self.begin()
            return True

    @property
    def session(self) -> str:
        """Name of the running session, or an empty text."""
        return self._token

    def open(self, name: str) -> int | None:
        """A descriptor for reading, or None: exactly one system call."""
        try:
            return os.open(self.path(name), _READ)
        except OSError as error:
            if error.errno in _NO_DESCRIPTOR:
                raise StoreFull(f"{name}: no file descriptor left, raise the limit on open files") from error
            return None

    def write(self, name: str, pieces: Iterator[bytes], size: int | None) -> Written:
        """Put a content in its place. Raises StoreFull, and whatever `pieces` raises: then nothing has changed."""
        self._check_limit(name, size or 0)
        self._room.check(name, size)
        storing = _Storing(self, name, size)
        with storing:
            temporary, target = self._start(name)
        try:
            try:
                with storing:
                    _claim(target, size or 0)
                total, digest = self._fill(storing, target, pieces)
                if self._marked:
                    _mark(target, digest)
            finally:
                # Over NFS a full disk may show only now.
                with storing:
                    os.close(target)
            with storing:
                return Written(self._commit(temporary, name), total, digest)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def remove(self, name: str) -> bool:
        """Whether there was something to remove. Open descriptors go on reading. Raises StoreFull if it stays."""
        try:
            os.unlink(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StoreFull(f"{self.path(name)}: cannot be removed: {error.strerror}") from error
        return True

    def quarantine(self, name: str) -> bool:
        """Put a content aside, for somebody who looks into it; whether it was there. Raises StoreFull if it stays."""
        aside = os.path.join(self.directory, "quarantaine")
        try:
            os.makedirs(aside, 0o770, exist_ok=True)
            os.rename(self.path(name), os.path.join(aside, name))
        except OSError:
            return self.remove(name)
        return True

    def present(self, name: str) -> bool:
        """Whether the content is in its place."""
        return os.path.exists(self.path(name))

    def walk(self) -> Iterator[tuple[str, os.stat_result]]:
        """Name and attributes of every content; foreign files are passed over. Raises OSError."""
        for first in range(256):
            absent = contextlib.suppress(FileNotFoundError, NotADirectoryError)
            with absent, os.scandir(f"{self.directory}/{first:02x}") as files:
                for file in files:
                    name = f"{first:02x}{file.name}"
                    with contextlib.suppress(FormatError, FileNotFoundError):
                        content_named(name)
                        yield name, file.stat(follow_symlinks=False)

    def path(self, name: str) -> str:
        """Where the content of that name lies."""
        return f"{self.directory}/{name[:2]}/{name[2:]}"

    def _check_limit(self, name: str, size: int) -> None:
        if self.limit is not None and size > self.limit:
            raise StoreFull(f"{name}: {size} bytes or more exceed the quota of {self.limit} bytes")

    def full(self, error: OSError, name: str, size: int | None) -> StoreFull:
        """What a content that cannot be written fails with; a full disk is remembered."""
        reason = error.strerror or type(error).__name__
        if error.errno in _NO_ROOM:
            self._room.note_full(reason, size or 0)
        return StoreFull(f"{name} cannot be kept in {self.directory}: {reason}")

    def _start(self, name: str) -> tuple[str, int]:
        if not self._token:
            raise StoreFull(f"{name} cannot be kept: {self.directory} is not writable or not in use")
        try:
            return self._create()
        except FileNotFoundError:
            # Somebody removed the directory while it is in use.
            if self._session is None:
                self.begin_unlocked()
            else:
                self.renew()
            return self._create()

    def _create(self) -> tuple[str, int]:
        temporary = f"{self.directory}/txn/{self._token}.{os.getpid()}.{next(self._numbers)}"
        return temporary, os.open(temporary, _CREATE, 0o660)

    def _fill(self, storing: "_Storing", target: int, pieces: Iterator[bytes]) -> tuple[int, bytes]:
        """Length and digest of what was written. Only errors of this file become StoreFull, not those of `pieces`."""
        name, size, total, hasher = storing.name, storing.size, 0, new_digest()
        for piece in pieces:
            total += len(piece)
            self._check_limit(name, total)
            hasher.update(piece)
            with storing:
                _write_all(target, piece)
        if size not in {None, total}:
            raise CorruptObject(f"{name}: has {total} bytes of content, {size} were announced")
        return total, hasher.digest()

    def _commit(self, temporary: str, name: str) -> int:
        # Opened before the rename: afterwards another process may already evict it.
        descriptor = os.open(temporary, _READ)
        try:
            self._rename(temporary, self.path(name))
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


class _Storing:
    """Makes every OSError that leaves it StoreFull. No generator, for it is entered several times for each content."""

    def __init__(self, files: CacheFiles, name: str, size: int | None) -> None:
        self._files = files
        self.name = name
        self.size = size

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise self._files.full(error, self.name, self.size) from error


class _Room:
    """Remembers that a disk was found full: as long as it is, nothing is tried that has no room.

    Otherwise every object would be fetched twice, once in vain.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._reason = ""
        self._wanted = 0

    def check(self, name: str, size: int | None) -> None:
        """Raises StoreFull where the disk was full and has still no room for `size` bytes."""
        if not self._reason:
            return
        free = self._free()
        if free < (self._wanted if size is None else size) + _MARGIN:
            raise StoreFull(f"{name} cannot be kept in {self._directory}: {self._reason}")
        if free > self._wanted + _AMPLE:
            self._reason = ""

    def note_full(self, reason: str, size: int) -> None:
        """There was no room for `size` bytes, or not for an unknown number (0)."""
        self._reason, self._wanted = reason, size or self._free()

    def _free(self) -> int:
        try:
            found = os.statvfs(self._directory)
        except OSError:
            return 2**63
        return found.f_bavail * found.f_frsize


def content_named(name: str) -> ContentHash:
    """The content hash of a file name without its slash. Raises FormatError for names of other files."""
    letter = name[-1:] if name[-1:] in _LETTERS else ""
    return ContentHash.parse(name.removesuffix(letter), _LETTERS[letter])


def marked_digest(descriptor: int) -> bytes:
    """The digest that is an extended attribute of an open content; empty if there is none."""
    try:
        found = os.getxattr(descriptor, _DIGEST_ATTRIBUTE)
    except OSError:
        return b""
    return found if len(found) == _DIGEST_SIZE else b""


def _mark(target: int, digest: bytes) -> None:
    # Not every file system can. Then a content is proven by compressing it again.
    with contextlib.suppress(OSError):
        os.setxattr(target, _DIGEST_ATTRIBUTE, digest)
    # Whatever the umask is: the group uses the cache together.
    with contextlib.suppress(OSError):
        os.fchmod(target, 0o660)


def _remove_abandoned(directory: str, before: float) -> None:
    for entry in os.scandir(directory):
        # Another machine may clean up at the same time, or the file be another user's.
        with contextlib.suppress(OSError):
            if entry.stat(follow_symlinks=False).st_mtime < before:
                os.unlink(entry.path)


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
