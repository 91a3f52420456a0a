"""Notifications to the kernel, written by a thread of their own; never by the thread that receives requests.

The kernel takes the lock of the directory that a notification names, and a request in flight may hold it: a receiving
thread that wrote notifications could wait for a request that only itself can answer.
"""

import logging
import queue
import threading
from collections.abc import Iterable

from cvfs.fuse import abi
from cvfs.fuse.device import Channel

log = logging.getLogger(__name__)


class Notifier:
    """A queue of notifications. The order is kept; a failure is logged and never stops the queue."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._queue: queue.SimpleQueue[bytes | threading.Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the writing thread (after the fork: threads do not survive it)."""
        self._thread = threading.Thread(target=self._run, name="fuse-notifier", daemon=True)
        self._thread.start()

    def put(self, messages: Iterable[bytes]) -> None:
        """Queue messages made by `cvfs.fuse.abi`; returns at once."""
        for message in messages:
            self._queue.put(message)

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until all that was queued before is written; False if it was not."""
        written = threading.Event()
        self._queue.put(written)
        return written.wait(timeout)

    def stop(self) -> None:
        """End after what is queued; does not wait."""
        self._queue.put(None)

    def drain(self, timeout: float) -> bool:
        """After `stop`: wait up to `timeout` seconds until the thread has ended; False if it has not."""
        if self._thread is None or not self._thread.is_alive():
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
            else:
                self._write(item)

    def _write(self, message: bytes) -> None:
        try:
            self._channel.notify(message)
        except OSError as error:
            # EBUSY, ENOTEMPTY: the entry is in use (a mount point, somebody's working directory) and stays cached
            # until its timeout; EINVAL: this kernel is older than the notification.
            _, code, _ = abi.OUT_HEADER.unpack_from(message)
            log.warning("the kernel refused the notification %s: %s", abi.Notify(code).name, error.strerror)
