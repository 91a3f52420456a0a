"""The portable binding: the same `Filesystem` through fusepy and libfuse 2; the only place that knows `fuse`.

It is for hosts without Linux's device. It cannot invalidate, so what the kernel may remember is limited to a minute. libfuse
calls from threads of its own and mounts by itself; the thread that serves only waits, so that signals reach it.
"""

import contextlib
import importlib
import logging
import os
import threading
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from cvfs.errors import MountError, UsageError
from cvfs.fuse import mount_points
from cvfs.fuse.calls import Calls
from cvfs.fuse.filesystem import Filesystem
from cvfs.fuse.fusepy_operations import ENCODING, Operations
from cvfs.fuse.libfuse_surroundings import complaints, real_user, take_back_broken_pipes, take_back_signals
from cvfs.fuse.mount_points import SUBTYPE, MountOptions
from cvfs.fuse.path_operations import PathOperations
from cvfs.fuse.server_settings import ServerSettings

log = logging.getLogger(__name__)

LONGEST_TIMEOUT = 60.0
"""Seconds after which a changed entry is seen, for want of invalidation."""

MOUNTED_WITHIN = 30.0
"""Seconds that libfuse has for mounting."""

_SIGNALS_HEARD_WITHIN = 1.0


def load_fusepy() -> ModuleType:
    """The module `fuse`; imported here only, so that the native binding needs nothing. Raises MountError."""
    try:
        return importlib.import_module("fuse")
    except ImportError as error:
        raise MountError("the fusepy binding is not installed: pip install 'cvfs[fusepy]'") from error
    except OSError as error:
        raise MountError(f"the fusepy binding: {error}: install libfuse 2, or use the native binding") from error


def mount(filesystem: Filesystem, mountpoint: str, options: MountOptions, settings: ServerSettings) -> "FusepySession":
    """Mount; nothing is answered before `serve`. Raises MountError, UsageError; then nothing is mounted."""
    if settings.posix_acl:
        raise UsageError("CVMFS_ENFORCE_ACLS: libfuse 2 cannot have the kernel enforce them, use the native binding")
    if settings.exported:
        raise UsageError("CVMFS_NFS_SOURCE: file handles of libfuse 2 do not last, use the native binding")
    session = FusepySession(filesystem, mountpoint, options, settings)
    session.mount()
    return session


class FusepySession:
    """A mount of libfuse. `mount` it, then `serve`."""

    def __init__(
        self, filesystem: Filesystem, mountpoint: str, options: MountOptions, settings: ServerSettings
    ) -> None:
        self._mountpoint = mountpoint
        self._options = options
        self._settings = settings
        self._timeouts = [
            min(seconds, LONGEST_TIMEOUT) for seconds in (settings.entry_timeout, settings.attribute_timeout)
        ]
        self._paths = PathOperations(filesystem, self._timeouts[1])
        self._agreed = threading.Event()
        self._ended = threading.Event()
        self._failure: Exception | None = None

    def mount(self) -> None:
        """Have libfuse mount. Raises MountError."""
        self._fuse = load_fusepy()
        self._calls = Calls(self._settings.workers, self._is_interrupted)
        self._thread = threading.Thread(target=self._run, name="libfuse", daemon=True)
        with real_user(self._options.owner), complaints() as complained:
            self._thread.start()
            in_time = self._agreed.wait(MOUNTED_WITHIN)
            text = complained()
        if not in_time:
            self._give_up()
        if self._ended.is_set() or not in_time:
            reason = text or str(self._failure or f"no answer within {MOUNTED_WITHIN:.0f} seconds")
            raise MountError(f"mount {self._mountpoint}: libfuse: {reason}")
        if text:
            log.warning("mount %s: libfuse: %s", self._mountpoint, text)

    def _give_up(self) -> None:
        self._calls.stop()
        with contextlib.suppress(MountError):
            mount_points.unmount(self._mountpoint, lazy=True)

    def _run(self) -> None:
        """In a thread of its own, from mounting to the end of the mount."""
        try:
            self._fuse.FUSE(
                Operations(self._paths, self._calls, self._agree, self._group, self._settings.statfs_timeout),
                os.fsencode(self._mountpoint).decode(ENCODING),
                raw_fi=True,
                encoding=ENCODING,
                **self._arguments(),
            )
        except RuntimeError as error:
            self._failure = MountError(f"libfuse ended with status {error}")
        except Exception as error:
            log.exception("libfuse ended")
            self._failure = error
        finally:
            take_back_broken_pipes()
            self._ended.set()
            self._agreed.set()

    def _arguments(self) -> dict[str, Any]:
        """libfuse's options, in fusepy's words."""
        entry, attribute = self._timeouts
        flags = {name: True for name in self._options.flags() if "=" not in name}
        return {
            "foreground": True,
            "rw" if self._options.read_write else "ro": True,
            "use_ino": True,
            "fsname": self._options.source,
            "subtype": SUBTYPE,
            "entry_timeout": entry,
            "negative_timeout": entry,
            "attr_timeout": attribute,
            "max_background": self._settings.max_background,
            **({"suid": True, "dev": True} if self._options.suid else {}),
            **({} if self._options.executable else {"noexec": True}),
            **flags,
        }

    def _agree(self) -> None:
        """libfuse's first call, from its loop: the mount is there."""
        take_back_signals()
        self._agreed.set()

    def _is_interrupted(self) -> bool:
        return bool(self._fuse._libfuse.fuse_interrupted())  # noqa: SLF001  # fusepy has no name for it

    def _group(self) -> int:
        group: int = self._fuse.fuse_get_context()[1]
        return group

    # --- as every binding ---------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Answer requests until the mount is gone or `stop` is called. Raises MountError if libfuse fails."""
        self._calls.begin()
        # Where signals may reach any thread, Python looks after them when this one wakes.
        while not self._ended.wait(_SIGNALS_HEARD_WITHIN):
            pass
        self._calls.stop()
        if self._failure:
            raise MountError(f"{self._mountpoint}: {self._failure}")

    def stop(self) -> None:
        """Make `serve` return soon. libfuse itself ends with the mount, or with the process."""
        self._calls.stop()
        self._ended.set()

    def close(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for the end of libfuse, which lets go of the device; else the process's end does."""
        self._calls.stop()
        self._thread.join(timeout)
        if self._thread.is_alive():
            log.debug("%s: libfuse goes on until this process ends", self._mountpoint)

    def wait_ready(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until the kernel and the server have agreed; False if they have not."""
        return self._calls.wait_begun(timeout) and not self._ended.is_set()

    def counters(self) -> dict[str, int]:
        """Requests so far, by name of the operation."""
        return self._calls.counters()

    def in_flight(self) -> int:
        """Requests that wait for a worker."""
        return self._calls.in_flight()

    def io_errors(self) -> tuple[int, float]:
        """How often EIO was the answer, and the Unix time of the last one (0: never)."""
        return self._calls.io_errors()

    def reset_io_errors(self) -> None:
        """Count anew."""
        self._calls.reset_io_errors()

    def settle(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until every request that is being answered now has been; False if not all were."""
        return self._calls.settle(timeout)

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """The kernel cannot be told: what it believes ends with the time-outs."""

    def invalidate_inode(self, ino: int, *, data: bool) -> None:
        """The kernel cannot be told: what it believes ends with the time-outs."""

    def prune(self, nodes: Iterable[int]) -> None:
        """Give back unused nodes."""
        self._paths.drop(list(nodes))

    def flush_notifications(self, timeout: float) -> bool:  # noqa: ARG002
        """There are none."""
        return True
