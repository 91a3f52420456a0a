"""The server without a kernel: requests as bytes into a socket pair, replies out of it."""

import errno
import os
import random
import stat
import struct
import time
from types import SimpleNamespace

import pytest

from cvfs.errors import CvfsError, StoreError, Unreachable
from cvfs.fuse import abi, server
from cvfs.fuse.abi import Init, Opcode
from cvfs.fuse.server import ServerSettings

ROOT = 1
DEADLINE = 20.0


# --- session ----------------------------------------------------------------------------------------------------------


def test_init_takes_what_is_offered_and_wanted(kernels):
    kernel = kernels(max_background=40, max_readahead=1 << 19)
    assert not kernel.server.wait_ready(0)
    error, reply = kernel.init()
    assert error == 0
    major, minor, readahead, flags, background, congestion, write, gran, pages = struct.unpack_from("=IIIIHHIIH", reply)
    assert (major, minor, readahead, background, congestion) == (7, 45, 1 << 19, 40, 30)
    assert (write, gran, pages) == (4096, 1, 256)
    assert Init(flags) == (
        Init.ASYNC_READ
        | Init.EXPORT_SUPPORT
        | Init.DO_READDIRPLUS
        | Init.NO_OPEN_SUPPORT
        | Init.PARALLEL_DIROPS
        | Init.MAX_PAGES
        | Init.CACHE_SYMLINKS
        | Init.NO_OPENDIR_SUPPORT
    )
    assert kernel.server.wait_ready(DEADLINE)


@pytest.mark.parametrize(
    ("settings", "flag", "present"),
    [
        ({}, Init.POSIX_ACL, False),
        ({"posix_acl": True}, Init.POSIX_ACL, True),
        ({"export_support": False}, Init.EXPORT_SUPPORT, False),
        ({"zero_message_open": False}, Init.NO_OPEN_SUPPORT, False),
        ({"zero_message_open": False}, Init.NO_OPENDIR_SUPPORT, False),
    ],
)
def test_settings_choose_abilities(kernels, settings, flag, present):
    _, reply = kernels(**settings).init()
    assert bool(struct.unpack_from("=IIII", reply)[3] & flag) is present


def test_an_old_kernel_gets_only_what_it_offers(kernel):
    """4.18 speaks 7.27: no zero-message opendir, no pages beyond 32, no cached links."""
    old = Init.ASYNC_READ | Init.DO_READDIRPLUS | Init.NO_OPEN_SUPPORT
    _, reply = kernel.init(minor=27, flags=old | 1 << 31)
    assert struct.unpack_from("=IIII", reply)[1::2] == (27, old)
    assert struct.unpack_from("=H", reply, 28) == (0,)
    assert kernel.ask(Opcode.OPENDIR)[0] == 0
    assert kernel.ask(Opcode.OPEN)[0] == errno.ENOSYS


def test_a_newer_major_version_is_answered_with_ours(kernel):
    error, reply = kernel.init(major=8)
    assert (error, reply[:4]) == (0, struct.pack("=I", 7))
    assert not kernel.server.wait_ready(0)
    assert kernel.init()[0] == 0
    assert kernel.server.wait_ready(DEADLINE)


@pytest.mark.parametrize("version", [(6, 99), (7, 25)])
def test_a_kernel_too_old_is_refused(kernel, version):
    assert kernel.init(*version)[0] == errno.EPROTO
    kernel.thread.join(DEADLINE)
    assert not kernel.thread.is_alive()


def test_destroy_ends(kernel):
    assert kernel.ask(Opcode.DESTROY) == (0, b"")
    kernel.thread.join(DEADLINE)
    assert not kernel.thread.is_alive()


def test_stop_wakes_an_idle_server(kernel):
    kernel.settle()
    kernel.server.stop()
    kernel.thread.join(DEADLINE)
    assert not kernel.thread.is_alive()


def test_the_end_of_the_mount_ends_the_server(kernel):
    kernel.settle()
    kernel.socket.close()
    kernel.thread.join(DEADLINE)
    assert not kernel.thread.is_alive()


def test_replies_after_close_are_dropped(kernel):
    kernel.server.stop()
    kernel.thread.join(DEADLINE)
    kernel.channel.close()
    kernel.channel.close()
    assert kernel.channel.reply(2, b"late") is False
    assert kernel.channel.receive() == 0
    kernel.server.stop()


# --- look-ups and references ------------------------------------------------------------------------------------------


def test_lookup_counts_a_reference_and_forget_gives_it_back(kernel, tree):
    ino = tree.add_file(b"a\xff", b"text")
    assert kernel.lookup(b"a\xff") == (0, abi.pack_entry(tree.nodes[ino], abi.Validity.of(86400, 86400)))
    kernel.lookup(b"a\xff")
    assert tree.referenced() == {ino: 2}
    kernel.send(Opcode.FORGET, ino, abi.FORGET_IN.pack(1))
    kernel.settle()
    assert tree.referenced() == {ino: 1}


def test_batch_forget(kernel, tree):
    inodes = [tree.add_file(b"%d" % n, b"") for n in range(3)]
    for n in range(3):
        kernel.lookup(b"%d" % n)
    body = abi.BATCH_FORGET_IN.pack(3, 0) + b"".join(abi.FORGET_ONE.pack(ino, 1) for ino in inodes)
    kernel.send(Opcode.BATCH_FORGET, 0, body)
    kernel.settle()
    assert tree.referenced() == {}


def test_a_forget_that_fails_is_logged_and_not_answered(kernel, tree, caplog):
    tree.forget = None
    kernel.send(Opcode.FORGET, 5, abi.FORGET_IN.pack(1))
    kernel.settle()
    assert "forgetting node 5 failed" in caplog.text


def test_a_missing_name_is_an_entry_that_the_kernel_keeps(kernels):
    kernel = kernels(entry_timeout=30.5)
    error, reply = kernel.lookup(b"missing")
    assert error == 0
    assert abi.ENTRY_OUT.unpack(reply)[:6] == (0, 0, 30, 86400, 500_000_000, 0)


def test_getattr(kernel, tree):
    ino = tree.add_file(b"a", b"text")
    assert kernel.ask(Opcode.GETATTR, ino) == (0, abi.pack_attributes(tree.nodes[ino], abi.Validity.of(86400, 86400)))
    assert kernel.ask(Opcode.GETATTR, 99)[0] == errno.ENOENT


# --- contents ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "size", "expected"), [(0, 100, b"0123456789"), (3, 4, b"3456"), (10, 5, b"")])
def test_read(kernel, tree, offset, size, expected):
    ino = tree.add_file(b"a", b"0123456789")
    assert kernel.read(ino, offset, size) == (0, expected)


def test_readlink(kernel, tree):
    link, file = tree.add_link(b"l", b"../target\xff"), tree.add_file(b"a", b"")
    assert kernel.ask(Opcode.READLINK, link) == (0, b"../target\xff")
    assert kernel.ask(Opcode.READLINK, file)[0] == errno.EINVAL


def test_xattrs(kernel, tree):
    ino = tree.add_file(b"a", b"")
    tree.xattrs[ino] = {b"user.hash": b"abcdef", b"user.\xff": b""}
    assert kernel.xattr(ino, b"user.hash", 0) == (0, abi.pack_xattr_size(6))
    assert kernel.xattr(ino, b"user.hash", 6) == (0, b"abcdef")
    assert kernel.xattr(ino, b"user.hash", 5) == (errno.ERANGE, b"")
    assert kernel.xattr(ino, b"user.\xff", 64) == (0, b"")
    assert kernel.xattr(ino, b"security.selinux", 64) == (errno.ENODATA, b"")
    names = b"user.hash\0user.\xff\0"
    assert kernel.ask(Opcode.LISTXATTR, ino, abi.GETXATTR_IN.pack(0, 0)) == (0, abi.pack_xattr_size(len(names)))
    assert kernel.ask(Opcode.LISTXATTR, ino, abi.GETXATTR_IN.pack(64, 0)) == (0, names)


def test_statfs_is_asked_again_when_its_time_is_over(kernels, tree, monkeypatch):
    kernel = kernels(statfs_timeout=10.0)
    now = [1000.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], time=time.time, sleep=time.sleep)
    monkeypatch.setattr(server, "time", clock)
    answers = []
    for later, files in ((0, 1), (9, 2), (1, 3), (0, 4), (10, 5)):
        now[0] += later
        tree.files = files
        answers.append(struct.unpack_from("=5Q", kernel.ask(Opcode.STATFS)[1])[3])
    assert answers == [1, 1, 3, 3, 5]


def test_who_opens_for_writing_hears_it_at_once(kernels, tree):
    kernel = kernels(zero_message_open=False)
    ino = tree.add_file(b"a", b"")
    for flags, code in ((os.O_RDONLY, 0), (os.O_WRONLY, errno.EROFS), (os.O_RDWR, errno.EROFS), (os.O_NONBLOCK, 0)):
        assert kernel.ask(Opcode.OPEN, ino, abi.OPEN_IN.pack(flags, 0))[0] == code
    assert tree.opens[ino] == 2


@pytest.mark.parametrize(
    ("settings", "ability", "wanted"),
    [
        ({}, Init.CACHE_SYMLINKS, True),
        ({"cache_symlinks": False}, Init.CACHE_SYMLINKS, False),
        ({}, Init.NO_OPEN_SUPPORT, True),
        ({"zero_message_open": False}, Init.NO_OPEN_SUPPORT, False),
        ({}, Init.POSIX_ACL, False),
        ({"posix_acl": True}, Init.POSIX_ACL, True),
        ({"export_support": False}, Init.EXPORT_SUPPORT, False),
    ],
)
def test_abilities_follow_the_settings(settings, ability, wanted):
    assert bool(ServerSettings(**settings).abilities & ability) is wanted


def test_statfs(kernel, tree):
    assert kernel.ask(Opcode.STATFS) == (0, abi.pack_statfs(tree.statfs()))


# --- listings ---------------------------------------------------------------------------------------------------------


def list_plain(kernel, node: int, size: int) -> list[bytes]:
    """Names by READDIR, as the kernel would go on from the last offset."""
    names, offset = [], 0
    while payload := kernel.read(node, offset, size, Opcode.READDIR)[1]:
        position = 0
        while position < len(payload):
            _, offset, length, _ = abi.DIRENT.unpack_from(payload, position)
            position += abi.DIRENT.size
            names.append(payload[position : position + length])
            position += -(-length // 8) * 8
    return names


def list_plus(kernel, node: int, size: int, offset: int = 0) -> list[abi.ListedEntry]:
    found = []
    while payload := kernel.read(node, offset, size, Opcode.READDIRPLUS)[1]:
        found += abi.iter_direntplus(payload)
        offset = found[-1].offset
    return found


@pytest.mark.parametrize("size", [408, 512, 4096, 1 << 16])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_listings_are_whole_whatever_the_room(kernel, tree, size, count):
    names = [b"%d-%s" % (n, b"x" * (n % 50)) for n in range(count)]
    inodes = [tree.add_file(name, b"") for name in names]
    assert list_plain(kernel, ROOT, size) == [b".", b"..", *names]
    assert tree.referenced() == {}
    listed = list_plus(kernel, ROOT, size)
    assert [entry.name for entry in listed] == [b".", b"..", *names]
    assert [entry.node for entry in listed] == [0, 0, *inodes]
    assert tree.referenced() == dict.fromkeys(inodes, 1)


def test_a_listing_that_cannot_be_packed_leaves_no_reference(kernel, tree, caplog):
    """A name that no record can hold, as a broken file system might give."""
    tree.add_file(b"a", b"")
    tree.add_file(b"x" * 300, b"")
    assert kernel.read(ROOT, 0, 4096, Opcode.READDIRPLUS) == (errno.EIO, b"")
    assert tree.referenced() == {}
    assert "failed unexpectedly" in caplog.text


def test_the_group_of_the_asking_process_is_known(kernel, tree):
    body = abi.GETXATTR_IN.pack(100, 0) + b"user.group\0"
    header = abi.IN_HEADER.pack(40 + len(body), Opcode.GETXATTR, 2, ROOT, 1001, 2002, 3003, 0, 0)
    kernel.socket.send(header + body)
    assert kernel.take() == (2, 0, b"2002")


def test_io_errors_are_counted(kernel, tree):
    assert kernel.server.io_errors() == (0, 0.0)
    before = time.time()
    assert kernel.ask(Opcode.GETATTR, 999)[0] == errno.ENOENT
    tree.broken = StoreError("no way")
    assert [kernel.ask(Opcode.GETATTR)[0] for _ in range(2)] == [errno.EIO, errno.EIO]
    count, last = kernel.server.io_errors()
    assert count == 2
    assert before <= last <= time.time()
    kernel.server.reset_io_errors()
    assert kernel.server.io_errors() == (0, 0.0)


def test_a_reader_may_go_back(kernel, tree):
    for n in range(10):
        tree.add_file(b"%d" % n, b"")
    assert [entry.name for entry in list_plus(kernel, ROOT, 4096, offset=7)] == [b"5", b"6", b"7", b"8", b"9"]
    assert [entry.name for entry in list_plus(kernel, ROOT, 4096, offset=1)][:2] == [b"..", b"0"]
    assert kernel.read(ROOT, 2**62, 4096, Opcode.READDIRPLUS) == (0, b"")


def test_a_listing_stays_as_it_was_when_its_reader_began(kernel, tree):
    for n in range(20):
        tree.add_file(b"old%d" % n, b"")
    first = list(abi.iter_direntplus(kernel.read(ROOT, 0, 1000, Opcode.READDIRPLUS)[1]))
    tree.children[ROOT].clear()
    tree.add_file(b"new", b"")
    rest = list_plus(kernel, ROOT, 1000, offset=first[-1].offset)
    assert [entry.name for entry in first + rest] == [b".", b"..", *(b"old%d" % n for n in range(20))]
    assert [entry.name for entry in list_plus(kernel, ROOT, 1000)] == [b".", b"..", b"new"]


def test_few_listings_are_kept(kernels, tree):
    """The oldest reader sees the present listing if too many began after it; nothing grows without bound."""
    kernel = kernels(snapshots=2)
    directories = [tree.add_directory(b"d%d" % n) for n in range(3)]
    for node in directories:
        tree.add_file(b"old", b"", node)
        kernel.read(node, 0, 408, Opcode.READDIR)
        tree.children[node].clear()
        tree.add_file(b"new", b"", node)
    listed = [kernel.read(node, 2, 408, Opcode.READDIR)[1][24:27] for node in directories[1:] + directories[:1]]
    assert listed == [b"old", b"old", b"new"]


def test_no_room_for_one_entry_is_not_the_end(kernel, tree):
    tree.add_file(b"a", b"")
    assert kernel.read(ROOT, 2, 407, Opcode.READDIRPLUS) == (errno.EINVAL, b"")
    assert kernel.read(ROOT, 0, 407, Opcode.READDIR) == (errno.EINVAL, b"")
    assert tree.referenced() == {}


def test_a_hostile_size_takes_no_memory(kernel, tree):
    tree.add_file(b"a", b"")
    error, payload = kernel.read(ROOT, 0, 0xFFFFFFFF, Opcode.READDIRPLUS)
    assert error == 0
    assert len(list(abi.iter_direntplus(payload))) == 3


# --- opening ----------------------------------------------------------------------------------------------------------


def test_zero_message_open(kernel, tree):
    kernel.init()
    ino = tree.add_file(b"a", b"")
    assert kernel.ask(Opcode.OPEN, ino, bytes(8)) == (errno.ENOSYS, b"")
    assert kernel.ask(Opcode.OPENDIR, ROOT, bytes(8)) == (errno.ENOSYS, b"")
    assert tree.calls["opened"] == 0


def test_open_with_messages_pins_the_file(kernels, tree):
    kernel = kernels(zero_message_open=False)
    kernel.init()
    ino, direct = tree.add_file(b"a", b""), tree.add_file(b"b", b"")
    tree.direct.add(direct)
    assert kernel.ask(Opcode.OPEN, ino, bytes(8)) == (0, abi.OPEN_OUT.pack(0, 2, 0))
    assert kernel.ask(Opcode.OPEN, direct, bytes(8)) == (0, abi.OPEN_OUT.pack(0, 1, 0))
    assert tree.opens == {ino: 1, direct: 1}
    assert kernel.ask(Opcode.RELEASE, ino, bytes(24)) == (0, b"")
    assert tree.opens == {ino: 0, direct: 1}
    assert kernel.ask(Opcode.OPENDIR, ROOT, bytes(8)) == (0, abi.OPEN_OUT.pack(0, 2 | 8, 0))
    assert kernel.ask(Opcode.RELEASEDIR, ROOT, bytes(24)) == (0, b"")


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "SETATTR",
        "SYMLINK",
        "MKNOD",
        "MKDIR",
        "UNLINK",
        "RMDIR",
        "RENAME",
        "LINK",
        "WRITE",
        "SETXATTR",
        "REMOVEXATTR",
        "CREATE",
        "FALLOCATE",
        "RENAME2",
        "COPY_FILE_RANGE",
        "TMPFILE",
        "COPY_FILE_RANGE_64",
    ],
)
def test_changes_are_refused(kernel, name):
    assert kernel.ask(Opcode[name], ROOT, bytes(64)) == (errno.EROFS, b"")


@pytest.mark.parametrize("opcode", [Opcode.ACCESS, Opcode.LSEEK, Opcode.IOCTL, Opcode.STATX, Opcode.FLUSH, 999, 4096])
def test_what_is_not_served_is_not_asked_again(kernel, opcode):
    assert kernel.ask(opcode, ROOT, bytes(64)) == (errno.ENOSYS, b"")


@pytest.mark.parametrize("error", [Unreachable("no proxy answers"), StoreError("x"), CvfsError("y")])
def test_failures_become_their_errno(kernel, tree, error):
    tree.broken = error
    assert kernel.ask(Opcode.GETATTR) == (error.errno, b"")


def test_what_nobody_foresaw_is_logged_and_ends_nothing(kernel, tree, caplog):
    tree.broken = ZeroDivisionError("surprise")
    assert kernel.ask(Opcode.GETATTR) == (errno.EIO, b"")
    tree.broken = None
    assert kernel.ask(Opcode.GETATTR)[0] == 0
    assert "GETATTR of node 1 failed unexpectedly" in caplog.text
    assert "surprise" in caplog.text


def test_a_payload_that_cannot_be_sent_is_an_error(kernel, tree, caplog):
    tree.readlink = lambda ino: ["not bytes"]
    assert kernel.ask(Opcode.READLINK) == (errno.EIO, b"")
    assert "the reply was refused" in caplog.text


def test_truncated_requests_are_answered(kernel):
    for opcode in (Opcode.READ, Opcode.READDIRPLUS, Opcode.GETXATTR, Opcode.LOOKUP):
        kernel.ask(opcode, 77)
    kernel.settle()


@pytest.mark.parametrize("seed", range(4))
def test_noise_never_ends_the_server(kernel, seed):
    noise = random.Random(seed)
    for _ in range(100):
        opcode = noise.choice([code for code in Opcode if code not in (Opcode.DESTROY, Opcode.INIT)])
        kernel.send(opcode, noise.randrange(4), noise.randbytes(noise.randrange(120)))
    wanted = kernel.send(Opcode.STATFS)
    while kernel.take()[0] != wanted:
        pass
    assert kernel.thread.is_alive()


def test_directories_are_directories(kernel, tree):
    ino = tree.add_directory(b"d")
    error, reply = kernel.lookup(b"d")
    assert error == 0
    assert stat.S_ISDIR(abi.ENTRY_OUT.unpack(reply)[15])
    assert kernel.lookup(b"x", ino)[0] == 0
    assert kernel.lookup(b"x", tree.add_file(b"f", b""))[0] == errno.ENOTDIR
