"""What fusepy calls: text and libfuse's structures to bytes and values, failures to errno; it mounts nothing."""

import errno
import logging
import os
import time
from collections.abc import Callable
from typing import Any

from cvfs.attributes import Attributes, FilesystemSize
from cvfs.errors import CvfsError
from cvfs.fuse import abi
from cvfs.fuse.calls import Calls
from cvfs.fuse.path_operations import Opened, PathOperations

log = logging.getLogger(__name__)

ENCODING = "latin-1"
"""fusepy decodes every name strictly; this codec maps each byte to one character and back, so no name is refused."""


class Operations:
    """The operations by their names in fusepy. What is missing here libfuse answers with ENOSYS.

    libfuse's structures are touched in its own threads only: one that was interrupted takes them with it.
    """

    use_ns = True

    def __init__(
        self,
        paths: PathOperations,
        calls: Calls,
        agree: Callable[[], None],
        group: Callable[[], int],
        statfs_timeout: float,
    ) -> None:
        self._paths = paths
        self._calls = calls
        self._agree = agree
        self._group = group
        self._statfs_timeout = statfs_timeout
        self._statfs = FilesystemSize(0, 0, 0, 0, 0)
        self._statfs_until = 0.0

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """fusepy calls everything through this; it understands OSError only and makes EINVAL of all else."""
        if operation == "init":
            return self.init()
        try:
            with self._calls.counted(operation.upper()):
                return getattr(self, operation)(*arguments)
        except Exception as error:
            code = _code(error, operation, arguments)
            if code == errno.EIO:
                self._calls.note_io_error()
            raise OSError(code, str(error)) from error

    def init(self) -> None:
        """libfuse's first call, from its loop."""
        self._agree()

    def getattr(self, path: str, file: Any = None) -> dict[str, int]:
        """By the handle where the kernel names one: the path may mean another file by now."""
        if file is not None:
            handle = file.fh
            return _stat(self._calls.answer(lambda wait: self._paths.attributes_of(handle, wait)))
        return _stat(self._calls.answer(lambda wait: self._paths.attributes(_bytes(path), wait)))

    def readlink(self, path: str) -> str:
        return self._calls.answer(lambda wait: self._paths.readlink(_bytes(path), wait)).decode(ENCODING)

    def opendir(self, path: str) -> int:
        self._calls.answer(lambda wait: self._paths.exists(_bytes(path), wait))
        return 0

    def readdir(self, path: str, _file: Any) -> list[tuple[str, dict[str, int] | None, int]]:
        """Offset 0 throughout: libfuse takes the whole listing at once and keeps it for its reader."""
        found = self._calls.answer(lambda wait: self._paths.listing(_bytes(path), wait))
        entries = [(name.decode(ENCODING), _kind(attributes), 0) for name, attributes in found]
        return [(".", None, 0), ("..", None, 0), *entries]

    def open(self, path: str, file: Any) -> int:
        # O_CREAT and O_EXCL the kernel keeps to itself.
        if file.flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        opened = self._calls.answer(lambda wait: self._paths.open(_bytes(path), wait), self._close)
        file.fh, file.direct_io, file.keep_cache = opened
        return 0

    def _close(self, opened: Opened) -> None:
        self._paths.close(opened.handle)

    def read(self, _path: str, size: int, offset: int, file: Any) -> bytes:
        handle = file.fh
        return self._calls.answer(lambda wait: self._paths.read(handle, offset, size, wait))

    def release(self, _path: str, file: Any) -> int:
        self._paths.close(file.fh)
        return 0

    def getxattr(self, path: str, name: str, _position: int = 0) -> bytes:
        wanted, group = name.encode(ENCODING), self._group()
        return self._calls.answer(lambda wait: self._paths.getxattr(_bytes(path), wanted, group, wait))

    def listxattr(self, path: str) -> list[str]:
        found = self._calls.answer(lambda wait: self._paths.listxattr(_bytes(path), wait))
        return [name.decode(ENCODING) for name in found]

    def statfs(self, _path: str) -> dict[str, int]:
        now = time.monotonic()
        if now >= self._statfs_until:
            self._statfs = self._paths.statfs()
            self._statfs_until = now + self._statfs_timeout
        return _sizes(self._statfs)

    def _refuse(self, *_: Any) -> int:
        """Asked only of a mount that claims to be writable; of others the kernel itself refuses it."""
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    create = mknod = mkdir = symlink = link = rename = unlink = rmdir = _refuse
    write = truncate = chmod = chown = utimens = setxattr = removexattr = _refuse


def _bytes(path: str) -> bytes:
    return path.encode(ENCODING)


def _code(error: Exception, operation: str, arguments: tuple[Any, ...]) -> int:
    """The errno of a failure; what nobody foresaw is EIO, and logged."""
    if isinstance(error, CvfsError):
        return error.errno
    if isinstance(error, OSError) and error.errno:
        return error.errno
    log.error("%s%r failed unexpectedly", operation, arguments[:1], exc_info=error)
    return errno.EIO


def _stat(attributes: Attributes) -> dict[str, int]:
    time_ns = attributes.mtime * 1_000_000_000 + attributes.mtime_ns
    shown = ("ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blocks")
    times = {f"st_{kind}time": time_ns for kind in "amc"}
    return {f"st_{name}": getattr(attributes, name) for name in shown} | times | {"st_blksize": abi.BLOCK_SIZE}


def _kind(attributes: Attributes) -> dict[str, int]:
    """What a listing tells of an entry: libfuse passes on no more."""
    return {"st_ino": attributes.ino, "st_mode": attributes.mode}


def _sizes(size: FilesystemSize) -> dict[str, int]:
    blocks = {"f_bsize": size.block_size, "f_frsize": size.block_size, "f_blocks": size.blocks}
    free = dict.fromkeys(("f_bfree", "f_bavail"), size.blocks_free)
    free_files = dict.fromkeys(("f_ffree", "f_favail"), size.files_free)
    return blocks | free | free_files | {"f_files": size.files, "f_namemax": size.name_max}
