"""Requests that have to wait, interruptions, notifications and counters, over a socket pair instead of a kernel."""

import errno
import logging
import os
import struct
import threading

import pytest

from cvfs.fuse import abi
from cvfs.fuse.abi import Notify, Opcode
from cvfs.fuse.workers import Workers

ROOT = 1
DEADLINE = 20.0


def read_in(offset: int, size: int) -> bytes:
    return abi.READ_IN.pack(0, offset, size, 0, 0, 0, 0)


# --- waiting ----------------------------------------------------------------------------------------------------------


def arrived(tree) -> None:
    assert tree.arrived.acquire(timeout=DEADLINE)


def test_a_request_that_waits_delays_no_other(kernel, tree):
    ino = tree.add_file(b"a", b"slow")
    tree.stalled = {"read"}
    slow = kernel.send(Opcode.READ, ino, read_in(0, 10))
    arrived(tree)
    assert kernel.ask(Opcode.GETATTR, ino)[0] == 0
    assert kernel.server.in_flight() == 1
    tree.release.set()
    assert kernel.take() == (slow, 0, b"slow")
    assert kernel.server.in_flight() == 0


def test_waiting_requests_wait_side_by_side(kernels, tree):
    """Two of three run; the third gets its thread when one of them is done, and all are answered."""
    kernel = kernels(workers=2)
    ino = tree.add_file(b"a", b"slow")
    tree.stalled = {"read"}
    sent = {kernel.send(Opcode.READ, ino, read_in(0, 10)) for _ in range(3)}
    arrived(tree)
    arrived(tree)
    kernel.settle()
    assert kernel.server.in_flight() == 3
    assert not tree.arrived.acquire(blocking=False)
    tree.release.set()
    assert {kernel.take() for _ in range(3)} == {(unique, 0, b"slow") for unique in sent}


def test_a_failure_after_waiting_is_answered(kernel, tree):
    tree.stalled = {"lookup"}
    slow = kernel.send(Opcode.LOOKUP, ROOT, b"missing\0")
    arrived(tree)
    tree.release.set()
    unique, error, payload = kernel.take()
    assert (unique, error, abi.entry_node(payload)) == (slow, 0, 0)


def test_a_filesystem_that_would_still_block_gets_eio(kernel, tree, caplog):
    tree.broken = BlockingIOError()
    assert kernel.ask(Opcode.GETATTR) == (errno.EIO, b"")
    assert "failed unexpectedly" in caplog.text


def test_where_the_system_gives_no_thread_who_waits_is_refused(kernel, tree, monkeypatch):
    tree.add_file(b"a", b"")
    tree.stalled = {"lookup"}

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(Workers, "_start", refuse)
        assert kernel.lookup(b"a") == (errno.EIO, b"")
    assert kernel.server.in_flight() == 0
    tree.release.set()
    assert kernel.lookup(b"a")[0] == 0


def test_the_workers_that_there_are_do_what_no_new_one_can(monkeypatch, caplog):
    workers, busy, done = Workers(2), threading.Event(), threading.Event()
    workers.submit(lambda: busy.wait(DEADLINE))
    start = threading.Thread.start

    def refuse(thread):
        if thread.name.startswith("fuse-worker"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    workers.submit(done.set)
    busy.set()
    assert done.wait(DEADLINE)
    workers.stop()
    assert "the 1 that there are have to do" in caplog.text


def interrupt(kernel, unique: int) -> None:
    body = abi.INTERRUPT_IN.pack(unique)
    header = abi.IN_HEADER.pack(40 + len(body), Opcode.INTERRUPT, unique | 1, 0, 0, 0, 0, 0, 0)
    kernel.socket.send(header + body)


@pytest.fixture
def finished(monkeypatch):
    """Released whenever a worker has ended a job."""
    done = threading.Semaphore(0)
    submit = Workers.submit

    def counted(self, job):
        def run():
            job()
            done.release()

        submit(self, run)

    monkeypatch.setattr(Workers, "submit", counted)
    return done


def test_an_interrupted_request_is_answered_at_once(finished, kernel, tree):
    """Its result comes later: the reply is dropped, and the reference that it counted is given back."""
    ino = tree.add_file(b"a", b"")
    tree.stalled = {"lookup"}
    slow = kernel.send(Opcode.LOOKUP, ROOT, b"a\0")
    arrived(tree)
    interrupt(kernel, slow)
    assert kernel.take() == (slow, -errno.EINTR, b"")
    assert kernel.server.in_flight() == 0
    tree.release.set()
    assert finished.acquire(timeout=DEADLINE)
    assert tree.references == {ino: 0}
    kernel.settle()


def test_an_interrupted_listing_gives_its_references_back(finished, kernel, tree):
    inodes = [tree.add_file(b"%d" % n, b"") for n in range(5)]
    tree.stalled = {"listing"}
    slow = kernel.send(Opcode.READDIRPLUS, ROOT, read_in(0, 4096))
    arrived(tree)
    interrupt(kernel, slow)
    assert kernel.take() == (slow, -errno.EINTR, b"")
    tree.release.set()
    assert finished.acquire(timeout=DEADLINE)
    assert tree.references == dict.fromkeys(inodes, 0)


def test_an_interrupted_open_is_closed(finished, kernels, tree):
    kernel = kernels(zero_message_open=False)
    ino = tree.add_file(b"a", b"")
    tree.stalled = {"opened"}
    slow = kernel.send(Opcode.OPEN, ino, bytes(8))
    arrived(tree)
    interrupt(kernel, slow)
    assert kernel.take() == (slow, -errno.EINTR, b"")
    tree.release.set()
    assert finished.acquire(timeout=DEADLINE)
    assert tree.opens == {ino: 0}


def test_an_interrupted_request_that_has_no_thread_yet_is_never_started(finished, kernels, tree):
    kernel = kernels(workers=1)
    ino = tree.add_file(b"a", b"slow")
    tree.stalled = {"read"}
    first = kernel.send(Opcode.READ, ino, read_in(0, 10))
    arrived(tree)
    second = kernel.send(Opcode.READ, ino, read_in(0, 10))
    interrupt(kernel, second)
    assert kernel.take() == (second, -errno.EINTR, b"")
    tree.release.set()
    assert kernel.take() == (first, 0, b"slow")
    assert finished.acquire(timeout=DEADLINE)
    assert finished.acquire(timeout=DEADLINE)
    assert not tree.arrived.acquire(blocking=False)


def test_an_interrupt_that_comes_too_late_is_not_answered(kernel):
    answered = kernel.send(Opcode.GETATTR)
    assert kernel.take()[0] == answered
    interrupt(kernel, answered)
    kernel.settle()


def test_references_of_a_reply_that_nobody_takes_are_given_back(finished, kernel, tree):
    """The mount goes away while a look-up waits."""
    ino = tree.add_file(b"a", b"")
    tree.stalled = {"lookup"}
    kernel.send(Opcode.LOOKUP, ROOT, b"a\0")
    arrived(tree)
    kernel.socket.close()
    kernel.thread.join(DEADLINE)
    tree.release.set()
    assert finished.acquire(timeout=DEADLINE)
    assert tree.references == {ino: 0}


def test_a_server_drains_when_its_last_worker_is_done(kernel, tree):
    tree.add_file(b"a", b"")
    tree.stalled = {"lookup"}
    kernel.send(Opcode.LOOKUP, ROOT, b"a\0")
    arrived(tree)
    kernel.socket.close()
    kernel.thread.join(DEADLINE)
    assert not kernel.server.drain(0.01)
    tree.release.set()
    assert kernel.server.drain(DEADLINE)


# --- notifications and counters ---------------------------------------------------------------------------------------


def test_notifications_keep_their_order(kernel):
    kernel.init()
    kernel.server.invalidate_entry(5, b"name")
    kernel.server.invalidate_inode(5, data=True)
    kernel.server.prune(range(10, 12))
    assert kernel.server.flush_notifications(DEADLINE)
    messages = [kernel.socket.recv(4096) for _ in range(3)]
    assert messages == [abi.pack_inval_entry(5, b"name"), abi.pack_inval_inode(5, data=True), abi.pack_prune([10, 11])]


def test_many_nodes_are_pruned_in_parts(kernel):
    kernel.init()
    kernel.server.prune(range(1, 1201))
    counts = [struct.unpack_from("=I", kernel.socket.recv(1 << 16), 16)[0] for _ in range(3)]
    assert counts == [512, 512, 176]


def test_kernels_that_cannot_prune_are_not_asked(kernel):
    kernel.init(minor=44)
    kernel.server.prune([1, 2])
    kernel.server.invalidate_inode(5, data=False)
    assert abi.OUT_HEADER.unpack_from(kernel.socket.recv(4096))[1] == Notify.INVAL_INODE


@pytest.mark.parametrize(
    ("code", "logged"), [(errno.ENOENT, False), (errno.ENODEV, False), (errno.EBUSY, True), (errno.EINVAL, True)]
)
def test_a_refused_notification_holds_up_no_other(kernel, monkeypatch, caplog, code, logged):
    """ENOENT only means that the kernel has nothing of that name."""
    kernel.settle()
    write, refused = os.writev, []

    def writev(descriptor, parts):
        if not refused:
            refused.append(code)
            raise OSError(code, os.strerror(code))
        return write(descriptor, parts)

    monkeypatch.setattr(os, "writev", writev)
    with caplog.at_level(logging.WARNING):
        kernel.server.invalidate_entry(5, b"name")
        kernel.server.invalidate_inode(5, data=True)
        assert kernel.server.flush_notifications(DEADLINE)
    assert kernel.socket.recv(4096) == abi.pack_inval_inode(5, data=True)
    assert refused == [code]
    assert ("refused the notification INVAL_ENTRY" in caplog.text) is logged


def test_a_flush_is_bounded(kernel):
    """With the server gone nobody writes: the caller is told, not kept."""
    kernel.server.stop()
    kernel.thread.join(DEADLINE)
    kernel.server.invalidate_inode(5, data=True)
    assert kernel.server.flush_notifications(0.01) is False


def test_counters(kernel, tree):
    assert kernel.server.counters() == {}
    kernel.lookup(b"a")
    kernel.lookup(b"b")
    kernel.ask(999)
    kernel.ask(Opcode.GETATTR)
    assert kernel.server.counters() == {"LOOKUP": 2, "OPCODE_999": 1, "GETATTR": 1}


def test_a_worker_survives_its_job(caplog):
    workers, done = Workers(1), threading.Event()
    workers.submit(lambda: 1 // 0)
    workers.submit(done.set)
    assert done.wait(DEADLINE)
    workers.stop()
    assert "a FUSE worker's job failed" in caplog.text
