"""The portable binding: the same `Filesystem` through fusepy and libfuse 2; the only place that knows `fuse`.

It is for hosts without Linux's device. It cannot invalidate, so what the kernel may remember is limited to a minute;
it cannot answer out of order by itself, so every call may block one of libfuse's threads.
"""

import ctypes
import errno
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from cvfs.attributes import Attributes
from cvfs.errors import CvfsError, MountError
from cvfs.fuse import abi
from cvfs.fuse.filesystem import Filesystem
from cvfs.fuse.mount_points import SUBTYPE, MountOptions

log = logging.getLogger(__name__)

ENCODING = "latin-1"
"""fusepy decodes every name strictly; this codec maps each byte to one character and back, so no name is refused."""

LONGEST_TIMEOUT = 60.0
"""Seconds after which a changed entry is seen, for want of invalidation."""


def load_fusepy() -> ModuleType:
    """The module `fuse`; imported here only, so that the native binding needs nothing. Raises MountError."""
    try:
        return importlib.import_module("fuse")
    except ImportError as error:
        raise MountError("the fusepy binding is not installed: pip install 'cvfs[fusepy]'") from error
    except OSError as error:
        raise MountError(f"the fusepy binding: {error}: install libfuse 2, or use the native binding") from error


def serve(filesystem: Filesystem, mountpoint: str | bytes, options: MountOptions, timeout: float) -> None:
    """Mount and serve until unmounted. `timeout` in seconds, at most `LONGEST_TIMEOUT`. Raises MountError."""
    fuse = load_fusepy()
    flags = {name: True for name in options.flags() if "=" not in name}
    seconds = min(timeout, LONGEST_TIMEOUT)
    try:
        fuse.FUSE(
            Operations(filesystem, lambda: fuse.fuse_get_context()[1]),
            os.fsencode(os.path.abspath(mountpoint)).decode(ENCODING),
            raw_fi=True,
            encoding=ENCODING,
            foreground=True,
            ro=True,
            use_ino=True,
            fsname=options.source,
            subtype=SUBTYPE,
            attr_timeout=seconds,
            entry_timeout=seconds,
            negative_timeout=seconds,
            **flags,
        )
    except RuntimeError as error:
        raise MountError(f"mount {os.fsdecode(mountpoint)}: libfuse ended with status {error}") from error
    finally:
        _ignore_broken_pipes()


def _ignore_broken_pipes() -> None:
    """At its end libfuse lets SIGPIPE kill the process again, although Python had ignored it, not libfuse.

    By way of the C library: Python itself changes signals in its main thread only.
    """
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes, set_handler.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    set_handler(signal.SIGPIPE, int(signal.SIG_IGN))


class Operations:
    """Paths to nodes, failures to errno. What is missing here libfuse answers with ENOSYS; the mount is read-only."""

    use_ns = True

    def __init__(self, filesystem: Filesystem, group: Callable[[], int] = os.getgid) -> None:
        self._filesystem = filesystem
        self._group = group

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """fusepy calls everything through this; it understands OSError only and makes EINVAL of all else."""
        method: Callable[..., Any] = getattr(self, operation)
        try:
            return method(*arguments)
        except CvfsError as error:
            raise OSError(error.errno, str(error)) from error
        except Exception as error:
            log.exception("%s%r failed unexpectedly", operation, arguments[:1])
            raise OSError(errno.EIO, str(error)) from error

    @contextmanager
    def _walk(self, path: str) -> Iterator[list[Attributes]]:
        """The nodes from the root to the end of the path; the references of all but those taken out are given back."""
        nodes = [self._filesystem.getattr(abi.ROOT, wait=True)._replace(ino=abi.ROOT)]
        try:
            for name in path.encode(ENCODING).split(b"/"):
                if name:
                    nodes.append(self._filesystem.lookup(nodes[-1].ino, name, wait=True))
            yield nodes
        finally:
            for node in nodes[1:]:
                self._filesystem.forget(node.ino, 1)

    def getattr(self, path: str, _file: Any = None) -> dict[str, int]:
        with self._walk(path) as nodes:
            return _stat(nodes[-1])

    def readlink(self, path: str) -> str:
        with self._walk(path) as nodes:
            return self._filesystem.readlink(nodes[-1].ino).decode(ENCODING)

    def opendir(self, path: str) -> int:
        with self._walk(path):
            return 0

    def readdir(self, path: str, _file: Any) -> list[tuple[str, dict[str, int] | None, int]]:
        """Offset 0 throughout: libfuse takes the whole listing at once and keeps it for its reader."""
        with self._walk(path) as nodes:
            listing = self._filesystem.listing(nodes[-1].ino, wait=True)
            found = listing.part(0, sys.maxsize, wait=True, counted=False)
        entries = [(name.decode(ENCODING), _stat(attributes), 0) for name, attributes in found]
        return [(".", None, 0), ("..", None, 0), *entries]

    def open(self, path: str, file: Any) -> int:
        """An open file keeps its reference: libfuse may forget the path before it is closed."""
        with self._walk(path) as nodes:
            node = nodes[-1].ino
            self._filesystem.opened(node, wait=True)
            file.fh = node
            file.direct_io = self._filesystem.is_direct_io(node)
            file.keep_cache = not file.direct_io
            nodes.pop()
        return 0

    def read(self, _path: str, size: int, offset: int, file: Any) -> bytes:
        return bytes(self._filesystem.read(file.fh, offset, size, wait=True))

    def release(self, _path: str, file: Any) -> int:
        self._filesystem.released(file.fh)
        self._filesystem.forget(file.fh, 1)
        return 0

    def getxattr(self, path: str, name: str, _position: int = 0) -> bytes:
        with self._walk(path) as nodes:
            return self._filesystem.getxattr(nodes[-1].ino, name.encode(ENCODING), wait=True, group=self._group())

    def listxattr(self, path: str) -> list[str]:
        with self._walk(path) as nodes:
            return [name.decode(ENCODING) for name in self._filesystem.listxattr(nodes[-1].ino, wait=True)]

    def statfs(self, _path: str) -> dict[str, int]:
        size = self._filesystem.statfs()
        blocks = {"f_bsize": size.block_size, "f_frsize": size.block_size, "f_blocks": size.blocks}
        free = dict.fromkeys(("f_bfree", "f_bavail"), size.blocks_free)
        free_files = dict.fromkeys(("f_ffree", "f_favail"), size.files_free)
        return blocks | free | free_files | {"f_files": size.files, "f_namemax": size.name_max}


def _stat(attributes: Attributes) -> dict[str, int]:
    time = attributes.mtime * 1_000_000_000 + attributes.mtime_ns
    shown = ("ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blocks")
    times = {f"st_{kind}time": time for kind in "amc"}
    return {f"st_{name}": getattr(attributes, name) for name in shown} | times | {"st_blksize": abi.BLOCK_SIZE}
