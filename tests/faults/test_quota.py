"""A cache that is too small: a tenth of what is read, shared by two mounts, killed in the middle, on a disk without room."""

import hashlib
import os
import signal
import subprocess
import threading
from contextlib import contextmanager

import pytest

from cvfs.client.cache.object_cache import ObjectCache

pytestmark = pytest.mark.system

MB = 2**20
QUOTA = 4
FILES, SIZE = 80, MB // 2


@pytest.fixture
def bulk(published):
    """A repository ten times as large as the quota, and what it holds."""
    repository = published()
    return repository, repository.fill(FILES, SIZE)


@pytest.fixture
def served(bulk, peer):
    return peer(bulk[0].root)


class CacheSize:
    """The most bytes that the contents in a cache ever had together."""

    def __init__(self, directory) -> None:
        self._directory = directory
        self._stop = threading.Event()
        self.largest = 0

    @contextmanager
    def watched(self):
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self.largest = max(self.largest, kept(self._directory))


def kept(directory) -> int:
    """Bytes of the contents in a cache."""
    return sum(size_of(path) for path in directory.glob("[0-9a-f][0-9a-f]/*"))


def size_of(path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # evicted since it was listed


def digests(files) -> list[tuple[str, str]]:
    return [(path, hashlib.sha256(content).hexdigest()) for path, content in files.items()]


def checked(directory):
    """What a check of the cache finds: nothing may be wrong."""
    cache = ObjectCache(str(directory))
    cache.prepare()
    try:
        return cache.check()
    finally:
        cache.close()


def test_a_full_read(bulk, served, mounted, readers):
    repository, files = bulk
    client = mounted(repository)
    client.mount([served], CVMFS_QUOTA_LIMIT=QUOTA)
    with CacheSize(client.cache).watched() as size:
        for _ in range(2):
            assert readers(client.mountpoint, list(files)).digests() == digests(files)
    # What is on its way, and the catalogs that are open.
    assert 0 < size.largest <= QUOTA * MB + 2 * SIZE
    client.unmount()
    assert checked(client.cache).dropped == ()


def test_two_mounts_share_it(bulk, served, mounted, readers):
    repository, files = bulk
    clients = [mounted(repository, "one"), mounted(repository, "two")]
    clients[1].cache = clients[0].cache
    for client in clients:
        client.mount([served], CVMFS_QUOTA_LIMIT=QUOTA)
    forth, back = list(files), list(reversed(files))
    with CacheSize(clients[0].cache).watched() as size:
        started = [readers(client.mountpoint, paths, 2) for client, paths in zip(clients, (forth, back), strict=True)]
        assert [dict(one.digests()) for one in started] == [dict(digests(files))] * 2
    # Two processes, two readers each, and what the kernel reads ahead for them.
    assert 0 < size.largest <= QUOTA * MB + 8 * SIZE
    for client in clients:
        client.unmount()
    assert checked(clients[0].cache).dropped == ()


@pytest.mark.parametrize("quota", [QUOTA, 4000])
def test_killed_in_the_middle(bulk, served, mounted, readers, quota):
    repository, files = bulk
    client = mounted(repository)
    client.mount([served], CVMFS_QUOTA_LIMIT=quota)
    reading = readers(client.mountpoint, list(files), 8)
    seen = threading.Event()
    while sum(served.asked.values()) < FILES // 2:
        assert not seen.wait(0.002)
        assert reading.process.poll() is None
    os.kill(client.pid, signal.SIGKILL)
    reading.process.wait(30)
    subprocess.run(["umount", "-l", client.mountpoint], check=True)
    assert checked(client.cache).dropped == ()
    client.mount([served], CVMFS_QUOTA_LIMIT=quota)
    assert readers(client.mountpoint, list(files)).digests() == digests(files)
    client.unmount()
    after = checked(client.cache)
    assert after.dropped == ()
    assert after.size <= quota * MB + SIZE
    assert os.listdir(client.cache / "txn") == []


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={QUOTA}m", "cvfs-test", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk(bulk, served, mounted, readers, small_disk):
    """Everything is served without being kept; when there is room again, it is kept again."""
    repository, files = bulk
    client = mounted(repository)
    client.cache = small_disk / "cache"
    client.mount([served], CVMFS_QUOTA_LIMIT=4000)
    for _ in range(2):
        assert readers(client.mountpoint, list(files), 4).digests() == digests(files)
    assert client.talk("pid").strip() == str(client.pid)
    client.unmount()
    assert checked(client.cache).dropped == ()
