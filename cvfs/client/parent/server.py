"""The protocol of the parent mount: a root whose directories are there when somebody asks for them; it mounts nothing.

One thread receives and never waits: whoever has to wait is answered later, by whoever knows that he may go on.
"""

import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable

from cvfs.attributes import Attributes, FilesystemSize
from cvfs.client.parent.kin import Kin
from cvfs.client.parent.names import Answer, Names, Reply
from cvfs.format.fqrn import is_fqrn
from cvfs.fuse import abi
from cvfs.fuse.abi import Init, Opcode
from cvfs.fuse.device import Channel

log = logging.getLogger(__name__)

_NOT_YET = abi.Validity.of(0, 0)
_FOR_EVER = abi.Validity.of(86400, 86400)
# What covers a directory answers for it: its own attributes are nobody's matter, and asking for them must reach us.
_WHILE_MOUNTED = abi.Validity.of(86400, 0)
_MAX_WRITE = 4096
_LONGEST_LISTING = 1 << 16

Payload = bytes | int | None
"""An answer, a positive errno, or None for what is answered later or not at all."""


class ParentServer:
    """Serves the parent mount over a channel. `want` is called with a name that is to be mounted; it must not wait."""

    def __init__(self, channel: Channel, names: Names, kin: Kin, want: Callable[[bytes], None]) -> None:
        self._channel = channel
        self._names = names
        self._kin = kin
        self._want = want
        self._ready = threading.Event()
        self._ending = False
        self._handlers: dict[int, Callable[[int, int, memoryview], Payload]] = {
            Opcode.INIT: self._init,
            Opcode.DESTROY: self._destroy,
            Opcode.LOOKUP: self._lookup,
            Opcode.GETATTR: self._getattr,
            Opcode.OPENDIR: self._opendir,
            Opcode.READDIR: self._readdir,
            Opcode.RELEASEDIR: lambda _unique, _node, _message: b"",
            Opcode.STATFS: self._statfs,
            Opcode.GETXATTR: self._no_xattr,
            Opcode.LISTXATTR: self._no_xattrs,
            Opcode.FORGET: self._forget,
            Opcode.BATCH_FORGET: self._batch_forget,
            Opcode.INTERRUPT: self._interrupt,
            **dict.fromkeys(abi.WRITE_OPCODES, _refuse_write),
        }

    def serve(self) -> None:
        """Answer requests until the mount is gone or `stop` is called. Raises OSError if the device fails."""
        while not self._ending and (length := self._channel.receive()):
            self._answer(memoryview(self._channel.buffer)[:length])

    def stop(self) -> None:
        """Make `serve` return soon."""
        self._ending = True
        self._channel.wake()

    def wait_ready(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until the kernel and the server have agreed; False if they have not."""
        return self._ready.wait(timeout)

    def send(self, replies: Iterable[Reply]) -> None:
        """Answer requests that waited; for any thread."""
        for reply in replies:
            self._send(reply.unique, self._payload(reply), reply)

    def _answer(self, message: memoryview) -> None:
        _, opcode, unique, node = abi.REQUEST.unpack_from(message)
        payload: Payload = errno.ENOSYS
        handler = self._handlers.get(opcode)
        if node > abi.ROOT and opcode not in _UNASKED and not self._kin.includes(_thread(message)):
            payload = self._inside(unique, node)
        elif handler is not None:
            payload = handler(unique, node, message)
        if payload is not None:
            self._send(unique, payload)

    def _send(self, unique: int, payload: bytes | int, reply: Reply | None = None) -> None:
        try:
            if isinstance(payload, int):
                self._channel.reply_error(unique, payload)
            elif not self._channel.reply(unique, payload) and reply is not None:
                self._names.forget(reply.node, 1)
        except OSError as error:
            log.warning("request %d stays without an answer: %s", unique, error)

    def _payload(self, reply: Reply) -> bytes | int:
        if reply.answer is Answer.STALE:
            return errno.ESTALE
        if reply.answer is Answer.ABSENT:
            return abi.pack_negative_entry(_NOT_YET)
        validity = _WHILE_MOUNTED if reply.answer is Answer.LASTING else _NOT_YET
        return abi.pack_entry(_directory(reply.node), validity)

    def _inside(self, unique: int, node: int) -> Payload:
        """Something is asked of a directory that nothing covers, where the asker is."""
        if node not in self._names:
            return errno.ESTALE
        reply, wanted = self._names.ask_inside(node, unique, time.monotonic())
        if wanted:
            self._want(wanted)
        return self._payload(reply) if reply else None

    def _lookup(self, unique: int, node: int, message: memoryview) -> Payload:
        text = abi.parse_name(message, len(message))
        if node != abi.ROOT:
            return errno.ENOENT
        if not is_fqrn(os.fsdecode(text)):
            return abi.pack_negative_entry(_FOR_EVER)
        reply = self._names.lookup(text, unique, time.monotonic(), _thread(message))
        if reply is not None:
            self._send(unique, self._payload(reply), reply if reply.answer is not Answer.ABSENT else None)
        return None

    def _init(self, _unique: int, _node: int, message: memoryview) -> Payload:
        offer = abi.parse_init(message)
        if offer.major < abi.VERSION or (offer.major == abi.VERSION and offer.minor < abi.OLDEST_MINOR):
            log.error("the kernel speaks FUSE %d.%d, 7.%d is needed", offer.major, offer.minor, abi.OLDEST_MINOR)
            self._ending = True
            return errno.EPROTO
        self._ready.set()
        return abi.pack_init(
            min(offer.minor, abi.NEWEST_MINOR),
            Init.PARALLEL_DIROPS & Init(offer.flags),
            max_readahead=0,
            max_background=16,
            congestion_threshold=12,
            max_write=_MAX_WRITE,
            max_pages=0,
        )

    def _destroy(self, _unique: int, _node: int, _message: memoryview) -> Payload:
        self._ending = True
        return b""

    def _getattr(self, _unique: int, node: int, _message: memoryview) -> Payload:
        return abi.pack_attributes(_directory(node), _FOR_EVER if node == abi.ROOT else _NOT_YET)

    def _opendir(self, _unique: int, _node: int, _message: memoryview) -> Payload:
        return abi.pack_open(0)

    def _readdir(self, _unique: int, node: int, message: memoryview) -> Payload:
        offset, size = abi.parse_read(message)
        buffer = bytearray(min(size, _LONGEST_LISTING))
        used = abi.pack_dots(buffer, node, offset, plus=False)
        if node == abi.ROOT:
            offset = max(offset, 2)
            entries = [(text, _directory(number)) for text, number in self._names.all_mounted()]
            used, _ = abi.pack_dirents(buffer, used, entries[offset - 2 :], offset)
        return bytes(memoryview(buffer)[:used])

    def _statfs(self, _unique: int, _node: int, _message: memoryview) -> Payload:
        return abi.pack_statfs(FilesystemSize(abi.BLOCK_SIZE, 0, 0, 0, 0))

    def _no_xattr(self, _unique: int, _node: int, _message: memoryview) -> Payload:
        return errno.ENODATA

    def _no_xattrs(self, _unique: int, _node: int, message: memoryview) -> Payload:
        room, _ = abi.parse_getxattr(message, len(message))
        return b"" if room else abi.pack_xattr_size(0)

    def _forget(self, _unique: int, node: int, message: memoryview) -> Payload:
        self._names.forget(node, abi.parse_forget(message))
        return None

    def _batch_forget(self, _unique: int, _node: int, message: memoryview) -> Payload:
        for node, count in abi.parse_batch_forget(message):
            self._names.forget(node, count)
        return None

    def _interrupt(self, _unique: int, _node: int, message: memoryview) -> Payload:
        unique = abi.parse_interrupt(message)
        if self._names.take_back(unique):
            self._send(unique, errno.EINTR)
        return None


# What the kernel says or asks of a node without a process that could walk a path again.
_UNASKED = frozenset((Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.RELEASEDIR, Opcode.RELEASE))


def _directory(node: int) -> Attributes:
    return Attributes(node, stat.S_IFDIR | 0o755, 2, os.getuid(), os.getgid(), 0, 0, 0, 0, 0)


def _thread(message: memoryview) -> int:
    """The thread that asks, by its number."""
    number: int = abi.IN_HEADER.unpack_from(message)[6]
    return number


def _refuse_write(_unique: int, _node: int, _message: memoryview) -> Payload:
    return errno.EROFS
