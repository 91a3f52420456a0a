"""The FUSE server: one loop that receives and answers, workers for what has to wait; it never decides what a file is.

The loop answers on the spot whatever the file system has at hand. A method that would have to wait raises
`BlockingIOError`; then a worker calls it again and replies by itself, so that one slow download delays nobody else.
The server never touches its own mount.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from errno import EINTR, EINVAL, EIO, ENOSYS, EPROTO, ERANGE, EROFS

from cvfs.errors import CvfsError, NotFound
from cvfs.fuse import abi
from cvfs.fuse.abi import Init, Message, Opcode, Open
from cvfs.fuse.device import Channel
from cvfs.fuse.filesystem import Filesystem, Listing
from cvfs.fuse.io_errors import IOErrors
from cvfs.fuse.notifier import Notifier
from cvfs.fuse.server_settings import ServerSettings
from cvfs.fuse.snapshots import Snapshots
from cvfs.fuse.workers import Workers

__all__ = ["Filesystem", "Listing", "Server", "ServerSettings"]

log = logging.getLogger(__name__)

Reply = Message | int | None
"""What a handler returns: the payload, a positive errno, or None where the protocol wants no reply."""

Handler = Callable[[int, Message, int, bool], Reply]
"""Called with the node, the message, its length and `wait`."""

MAX_WRITE = 4096
"""Bytes of a write request. None is ever taken, and the kernel sizes the receive buffer by it."""

PRUNED_AT_ONCE = 512
_SETTLING_STEP = 0.002


class Server:
    """Serves one `Filesystem` over one `Channel`. `serve` is the loop; everything else may be called by any thread."""

    def __init__(self, filesystem: Filesystem, channel: Channel, settings: ServerSettings) -> None:
        self._filesystem = filesystem
        self._channel = channel
        self._settings = settings
        self._validity = abi.Validity.of(settings.entry_timeout, settings.attribute_timeout)
        self._negative = abi.pack_negative_entry(self._validity)
        self._zero_opendir = settings.zero_message_open
        self._workers = Workers(settings.workers)
        self._notifier = Notifier(channel)
        self._snapshots = Snapshots(settings.snapshots)
        self._waiting: dict[int, Opcode] = {}
        self._deferred: set[int] = set()
        # Odd while the loop answers a request.
        self._turn = 0
        self._counts: dict[int, int] = {}
        self._handlers = self._table()
        self._io_errors = IOErrors()
        self._statfs_reply = b""
        self._statfs_until = 0.0
        self._minor = 0
        self._ready = threading.Event()
        self._stopping = False

    def _table(self) -> dict[int, Handler]:
        """What is not here is answered with ENOSYS, after which the kernel does not ask again.

        Except for IOCTL, which it hands on every time: before 3.14 each open() of Python asks for a terminal.
        """
        zero_open = self._settings.zero_message_open
        return {
            **dict.fromkeys(abi.WRITE_OPCODES, _refuse_write),
            Opcode.LOOKUP: self._lookup,
            Opcode.FORGET: self._forget,
            Opcode.BATCH_FORGET: self._batch_forget,
            Opcode.GETATTR: self._getattr,
            Opcode.READLINK: self._readlink,
            Opcode.READ: self._read,
            Opcode.READDIR: self._readdir,
            Opcode.READDIRPLUS: self._readdirplus,
            Opcode.GETXATTR: self._getxattr,
            Opcode.LISTXATTR: self._listxattr,
            Opcode.STATFS: self._statfs,
            Opcode.OPEN: _unsupported if zero_open else self._open,
            Opcode.RELEASE: _accept if zero_open else self._release,
            Opcode.OPENDIR: self._opendir,
            Opcode.RELEASEDIR: _accept,
            Opcode.INTERRUPT: self._interrupt,
            Opcode.INIT: self._init,
            Opcode.DESTROY: self._destroy,
        }

    # --- running ------------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Answer requests until the mount is gone or `stop` is called. Raises OSError if the device fails."""
        self._notifier.start()
        receive, answer, waiting = self._channel.receive, self._answer, self._waiting
        try:
            while not self._stopping and (length := receive(alert=not waiting)):
                self._turn += 1
                answer(length)
                self._turn += 1
        finally:
            self._ready.clear()
            self._notifier.stop()
            self._workers.stop()

    def stop(self) -> None:
        """Make `serve` return soon. Requests that wait in workers get no answer: unmount first where possible."""
        self._stopping = True
        self._channel.wake()

    def drain(self, timeout: float) -> bool:
        """After `serve`: wait up to `timeout` seconds until nothing writes to the channel any more; False if it may."""
        deadline = time.monotonic() + timeout
        workers = self._workers.drain(timeout)
        return self._notifier.drain(max(0.0, deadline - time.monotonic())) and workers

    def close(self, timeout: float) -> None:
        """Let go of the device, which ends the mount, after `serve` or instead of it.

        Whoever waits for a download that does not end within `timeout` seconds is released then.
        """
        if self.drain(timeout):
            self._channel.close()
        else:
            self._channel.abandon()

    def wait_ready(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until the kernel and the server have agreed; False if they have not."""
        return self._ready.wait(timeout)

    def counters(self) -> dict[str, int]:
        """Requests so far, by name of the operation."""
        return {_name(opcode): count for opcode, count in self._counts.copy().items()}

    def io_errors(self) -> tuple[int, float]:
        """How often EIO was the answer, and the Unix time of the last one (0: never)."""
        return self._io_errors.count, self._io_errors.last

    def reset_io_errors(self) -> None:
        """Count anew."""
        self._io_errors = IOErrors()

    def in_flight(self) -> int:
        """Requests that wait in workers or for one."""
        return len(self._waiting)

    def settle(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until every request that is being answered now has been; False if not all were.

        Whoever changed what the file system shows calls this before invalidating: no older answer comes in after it.
        """
        deadline = time.monotonic() + timeout
        turn, deferred = self._turn, set(self._deferred)
        while (self._turn == turn and turn % 2) or deferred & self._deferred:
            if time.monotonic() > deadline:
                return False
            time.sleep(_SETTLING_STEP)
        return True

    # --- one request --------------------------------------------------------------------------------------------------

    def _answer(self, length: int) -> None:
        message = self._channel.buffer
        _, opcode, unique, node = abi.REQUEST.unpack_from(message)
        self._counts[opcode] = self._counts.get(opcode, 0) + 1
        handler = self._handlers.get(opcode, _unsupported)
        try:
            reply = handler(node, message, length, False)
        except BlockingIOError:
            self._defer(handler, Opcode(opcode), unique, node, bytes(message[:length]))
            return
        except Exception as error:
            reply = _code(error, opcode, node)
        if reply is not None:
            self._reply(opcode, unique, node, reply)

    def _defer(self, handler: Handler, opcode: Opcode, unique: int, node: int, message: bytes) -> None:
        self._waiting[unique] = opcode
        self._deferred.add(unique)
        try:
            self._workers.submit(lambda: self._answer_waiting(handler, opcode, unique, node, message))
        except RuntimeError as error:
            log.warning("%s of node %d: nobody to wait for it: %s", opcode.name, node, error)
            del self._waiting[unique]
            self._deferred.discard(unique)
            self._reply(opcode, unique, node, EIO)

    def _answer_waiting(self, handler: Handler, opcode: Opcode, unique: int, node: int, message: bytes) -> None:
        """In a worker. Whoever takes `unique` out of `_waiting`, this or `_interrupt`, answers; the other is silent."""
        try:
            if unique not in self._waiting:
                return
            reply = _outcome(handler, opcode, node, message)
            if self._waiting.pop(unique, None) is None:
                self._undo(opcode, node, reply)
            elif reply is not None:
                self._reply(opcode, unique, node, reply)
        finally:
            self._deferred.discard(unique)

    def _reply(self, opcode: int, unique: int, node: int, reply: Message | int) -> None:
        try:
            if isinstance(reply, int):
                if reply == EIO:
                    self._io_errors.note()
                self._channel.reply_error(unique, reply)
            elif not self._channel.reply(unique, reply):
                self._undo(opcode, node, reply)
        except Exception:
            log.exception("%s of node %d: the reply was refused", _name(opcode), node)
            self._undo(opcode, node, reply)
            self._refuse(unique)

    def _refuse(self, unique: int) -> None:
        """A request without any answer would leave its process waiting for ever."""
        try:
            self._channel.reply_error(unique, EIO)
        except OSError as error:
            log.warning("request %d stays without an answer: %s", unique, error)

    def _undo(self, opcode: int, node: int, reply: Reply) -> None:
        """The kernel never saw this reply: take back what it would have been given."""
        if reply is None or isinstance(reply, int):
            return
        if opcode == Opcode.LOOKUP:
            self._give_back([(abi.entry_node(reply), 1)])
        elif opcode == Opcode.READDIRPLUS:
            self._give_back((entry.node, 1) for entry in abi.iter_direntplus(reply))
        elif opcode == Opcode.OPEN:
            self._close(node)

    def _give_back(self, references: Iterable[tuple[int, int]]) -> None:
        """Nobody waits for the outcome, so a failure can only be logged."""
        for node, count in references:
            try:
                if node:
                    self._filesystem.forget(node, count)
            except Exception:
                log.exception("forgetting node %d failed", node)

    def _close(self, node: int) -> None:
        try:
            self._filesystem.released(node)
        except Exception:
            log.exception("closing node %d failed", node)

    def _interrupt(self, _node: int, message: Message, _length: int, _wait: bool) -> Reply:
        """One thread receives, in order: a request that does not wait has been answered, and nothing is to be said."""
        unique = abi.parse_interrupt(message)
        if self._waiting.pop(unique, None) is not None:
            self._channel.reply_error(unique, EINTR)
        return None

    # --- session ------------------------------------------------------------------------------------------------------

    def _init(self, _node: int, message: Message, _length: int, _wait: bool) -> Reply:
        offer = abi.parse_init(message)
        if offer.major < abi.VERSION or (offer.major == abi.VERSION and offer.minor < abi.OLDEST_MINOR):
            log.error("the kernel speaks FUSE %d.%d, 7.%d is needed", offer.major, offer.minor, abi.OLDEST_MINOR)
            self._stopping = True
            return EPROTO
        flags = self._settings.abilities & Init(offer.flags)
        if offer.major == abi.VERSION:
            self._agree(offer.minor, flags)
        # For a newer major version this reply names ours, and the kernel sends another INIT.
        return abi.pack_init(
            min(offer.minor, abi.NEWEST_MINOR),
            flags,
            max_readahead=self._settings.max_readahead,
            max_background=self._settings.max_background,
            congestion_threshold=self._settings.max_background * 3 // 4,
            max_write=MAX_WRITE,
            max_pages=self._settings.max_read >> 12 if flags & Init.MAX_PAGES else 0,
        )

    def _agree(self, minor: int, flags: Init) -> None:
        """Kernels before 5.1 know zero-message open for files but not for directories."""
        self._minor = minor
        self._zero_opendir = bool(flags & Init.NO_OPENDIR_SUPPORT)
        self._ready.set()

    def _destroy(self, _node: int, _message: Message, _length: int, _wait: bool) -> Reply:
        self._stopping = True
        return b""

    def _statfs(self, _node: int, _message: Message, _length: int, _wait: bool) -> Reply:
        now = time.monotonic()
        if not self._statfs_reply or now >= self._statfs_until:
            self._statfs_reply = abi.pack_statfs(self._filesystem.statfs())
            self._statfs_until = now + self._settings.statfs_timeout
        return self._statfs_reply

    # --- nodes --------------------------------------------------------------------------------------------------------

    def _lookup(self, node: int, message: Message, length: int, wait: bool) -> Reply:
        try:
            attributes = self._filesystem.lookup(node, bytes(message[abi.BODY : length - 1]), wait)
        except NotFound:
            return self._negative
        return abi.pack_entry(attributes, self._validity)

    def _forget(self, node: int, message: Message, _length: int, _wait: bool) -> Reply:
        self._give_back([(node, abi.parse_forget(message))])
        return None

    def _batch_forget(self, _node: int, message: Message, _length: int, _wait: bool) -> Reply:
        self._give_back(abi.parse_batch_forget(message))
        return None

    def _getattr(self, node: int, _message: Message, _length: int, wait: bool) -> Reply:
        return abi.pack_attributes(self._filesystem.getattr(node, wait), self._validity)

    def _getxattr(self, node: int, message: Message, length: int, wait: bool) -> Reply:
        room, name = abi.parse_getxattr(message, length)
        return _xattr_reply(self._filesystem.getxattr(node, name, wait, abi.parse_group(message)), room)

    def _listxattr(self, node: int, message: Message, length: int, wait: bool) -> Reply:
        room, _ = abi.parse_getxattr(message, length)
        return _xattr_reply(b"".join(name + b"\0" for name in self._filesystem.listxattr(node, wait)), room)

    # --- files --------------------------------------------------------------------------------------------------------

    def _readlink(self, node: int, _message: Message, _length: int, _wait: bool) -> Reply:
        return self._filesystem.readlink(node)

    def _read(self, node: int, message: Message, _length: int, wait: bool) -> Reply:
        offset, size = abi.parse_read(message)
        return self._filesystem.read(node, offset, size, wait)

    def _open(self, node: int, message: Message, _length: int, wait: bool) -> Reply:
        # O_CREAT and O_EXCL the kernel keeps to itself.
        if abi.parse_open(message) & os.O_ACCMODE != os.O_RDONLY:
            return EROFS
        flags = Open.DIRECT_IO if self._filesystem.is_direct_io(node) else Open.KEEP_CACHE
        self._filesystem.opened(node, wait)
        return abi.pack_open(flags)

    def _release(self, node: int, _message: Message, _length: int, _wait: bool) -> Reply:
        self._close(node)
        return b""

    # --- directories --------------------------------------------------------------------------------------------------

    def _opendir(self, _node: int, _message: Message, _length: int, _wait: bool) -> Reply:
        return ENOSYS if self._zero_opendir else abi.pack_open(Open.KEEP_CACHE | Open.CACHE_DIR)

    def _listing(self, node: int, offset: int, wait: bool) -> Listing:
        """A reader that goes on sees the listing it began with, whatever revision is current by now."""
        if offset and (listing := self._snapshots.get(node)) is not None:
            return listing
        listing = self._filesystem.listing(node, wait)
        self._snapshots.put(node, listing)
        return listing

    def _readdir(self, node: int, message: Message, _length: int, wait: bool) -> Reply:
        offset, size = abi.parse_read(message)
        if size < abi.LARGEST_RECORD:
            return EINVAL
        listing, buffer = self._listing(node, offset, wait), bytearray(min(size, self._settings.max_read))
        used = abi.pack_dots(buffer, node, offset, plus=False)
        offset = max(offset, 2)
        batch = listing.part(offset - 2, offset + len(buffer) // abi.DIRENT.size, wait, False)
        used, _ = abi.pack_dirents(buffer, used, batch, offset)
        return memoryview(buffer)[:used]

    def _readdirplus(self, node: int, message: Message, _length: int, wait: bool) -> Reply:
        offset, size = abi.parse_read(message)
        if size < abi.LARGEST_RECORD:
            return EINVAL
        listing, buffer = self._listing(node, offset, wait), bytearray(min(size, self._settings.max_read))
        used = abi.pack_dots(buffer, node, offset, plus=True)
        offset = max(offset, 2)
        # Counted before it is packed: a number that was only looked at may be forgotten at any time.
        batch, taken = listing.part(offset - 2, offset + len(buffer) // abi.DIRENTPLUS_SIZE, wait, True), 0
        try:
            used, taken = abi.pack_direntplus(buffer, used, batch, offset, self._validity)
        finally:
            if taken < len(batch):
                self._filesystem.withhold(batch[taken:])
        return memoryview(buffer)[:used]

    # --- notifications ------------------------------------------------------------------------------------------------

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """The name stands for something else, or for something at last. Switch the file system first, then call this.

        The parent's cached listing goes with it only if the name was cached: `invalidate_inode(parent, data=True)`
        is needed for a directory whose listing changed.
        """
        self._notifier.put([abi.pack_inval_entry(parent, name)])

    def invalidate_inode(self, ino: int, *, data: bool) -> None:
        """The attributes changed; with `data` the content too: bytes, target of a link or listing of a directory."""
        self._notifier.put([abi.pack_inval_inode(ino, data=data)])

    def prune(self, nodes: Iterable[int]) -> None:
        """Ask the kernel to drop unused nodes. Does nothing on kernels that cannot (before FUSE 7.45)."""
        if self._minor < abi.PRUNE_MINOR:
            return
        numbers = list(nodes)
        starts = range(0, len(numbers), PRUNED_AT_ONCE)
        self._notifier.put(abi.pack_prune(numbers[start : start + PRUNED_AT_ONCE]) for start in starts)

    def flush_notifications(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until the kernel has all notifications so far; False if it has not."""
        return self._notifier.flush(timeout)


def _outcome(handler: Handler, opcode: Opcode, node: int, message: bytes) -> Reply:
    """What a request that may wait comes to: a reply or an errno."""
    try:
        return handler(node, message, len(message), True)
    except Exception as error:
        return _code(error, opcode, node)


def _name(opcode: int) -> str:
    try:
        return Opcode(opcode).name
    except ValueError:
        return f"OPCODE_{opcode}"


def _code(error: Exception, opcode: int, node: int) -> int:
    """The errno of a failure; what nobody foresaw is EIO, and logged."""
    if isinstance(error, CvfsError):
        return error.errno
    log.error("%s of node %d failed unexpectedly", _name(opcode), node, exc_info=error)
    return EIO


def _xattr_reply(value: bytes, room: int) -> Reply:
    if room == 0:
        return abi.pack_xattr_size(len(value))
    return value if len(value) <= room else ERANGE


def _unsupported(_node: int, _message: Message, _length: int, _wait: bool) -> Reply:
    return ENOSYS


def _refuse_write(_node: int, _message: Message, _length: int, _wait: bool) -> Reply:
    return EROFS


def _accept(_node: int, _message: Message, _length: int, _wait: bool) -> Reply:
    return b""
