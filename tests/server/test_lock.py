"""The publisher's lock: one at a time, the second is told who holds it, a killed holder leaves nothing."""

import os
import select
import signal
from pathlib import Path

import pytest

from cvfs.errors import Locked, StoreFull
from cvfs_server.lock import is_free, publisher_lock


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "lock")


def _holder(path, *, child_too=False):
    """A process that holds the lock until it is killed; with `child_too` it has a child, as a publisher has workers."""
    held, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        with publisher_lock(path, "publish"):
            child = os.fork() if child_too else -1
            if child:
                os.write(tell, b"%d\n" % child)
            signal.pause()
    os.close(tell)
    assert select.select([held], [], [], 20)[0]
    child = int(os.read(held, 20))
    os.close(held)
    return pid, child


def _kill(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_the_second_is_refused_at_once_and_told_who_holds_it(path):
    with publisher_lock(path, "publish"), pytest.raises(Locked) as caught:
        publisher_lock(path, "tag").__enter__()
    assert str(caught.value).startswith(f"locked by process {os.getpid()}, publish ({path}); wait")
    with publisher_lock(path, "tag"):
        assert "tag" in Path(path).read_text()


def test_another_process_holds_it(path):
    pid, _ = _holder(path)
    with pytest.raises(Locked, match=f"locked by process {pid}, publish"):
        publisher_lock(path, "publish").__enter__()
    _kill(pid)
    with publisher_lock(path, "publish"):
        pass


def test_a_worker_that_outlives_its_publisher_holds_nothing(path):
    pid, child = _holder(path, child_too=True)
    with pytest.raises(Locked):
        publisher_lock(path, "publish").__enter__()
    _kill(pid)
    try:
        with publisher_lock(path, "publish", 20):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_released_after_an_error(path):
    with pytest.raises(KeyError), publisher_lock(path, "publish"):
        raise KeyError
    with publisher_lock(path, "publish"):
        pass


def test_a_holder_that_wrote_nothing_is_unknown(path):
    with publisher_lock(path, "publish"):
        os.truncate(path, 0)
        with pytest.raises(Locked, match="locked by an unknown process"):
            publisher_lock(path, "publish").__enter__()


@pytest.mark.parametrize("place", ["missing/lock", "."])
def test_a_place_for_no_lock(tmp_path, place):
    with pytest.raises(StoreFull, match="lock file"):
        publisher_lock(str(tmp_path / place), "publish").__enter__()


def test_a_link_is_no_lock(path, tmp_path):
    """Somebody else who owns the directory could have made it, for root to empty what it leads to."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    os.symlink(precious, path)
    with pytest.raises(StoreFull, match="lock file"), publisher_lock(path, "publish"):
        pass
    assert precious.read_bytes() == b"precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_locks_is_the_directory_owners(tmp_path):
    os.chown(tmp_path, 12345, 12346)
    path = str(tmp_path / "lock")
    with publisher_lock(path, "publish"):
        assert not is_free(path)
    status = os.stat(path)
    assert (status.st_uid, status.st_gid) == (12345, 12346)
    assert is_free(path)


def test_a_lock_that_nobody_can_open_is_not_free(path):
    assert is_free(path)
    os.symlink(path, path)
    assert not is_free(path)
