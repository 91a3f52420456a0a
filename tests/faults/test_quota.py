"""A cache that is too small: a tenth of what is read, shared by two mounts, killed in the middle, on a disk without room."""

import hashlib
import os
import signal
import subprocess
import threading

import pytest
from sampling import Peak

from cvfs.client.cache.object_cache import ObjectCache

pytestmark = pytest.mark.system

MB = 2**20
QUOTA = 4
FILES, SIZE = 80, MB // 2
# What the books may occupy beside the contents.
BOOKS = MB // 2


@pytest.fixture
def bulk(published):
    """A repository ten times as large as the quota, and what it holds."""
    repository = published()
    return repository, repository.fill(FILES, SIZE)


@pytest.fixture
def served(bulk, peer):
    return peer(bulk[0].root)


@pytest.fixture
def disk(tmp_path):
    """Mounts a file system of so many megabytes, with nothing on it."""
    places = []

    def make(size: int):
        place = tmp_path / "disk"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "cvfs-test", place], check=True)
        places.append(place)
        return place

    yield make
    for place in places:
        subprocess.run(["umount", "-l", place], check=True)


def used(place) -> Peak:
    """Bytes in use on a file system."""

    def measure() -> tuple[int]:
        now = os.statvfs(place)
        return ((now.f_blocks - now.f_bfree) * now.f_frsize,)

    return Peak(measure, 0.005)


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


def test_a_full_read(bulk, served, mounted, readers, disk):
    repository, files = bulk
    client, place = mounted(repository), disk(100)
    client.cache = place / "cache"
    client.mount([served], CVMFS_QUOTA_LIMIT=QUOTA)
    with used(place).running() as peak:
        for _ in range(2):
            assert readers(client.mountpoint, list(files)).digests() == digests(files)
    # One object on its way, and what the kernel reads ahead; the books.
    assert 0 < peak.largest[0] <= QUOTA * MB + 2 * SIZE + BOOKS
    client.unmount()
    assert checked(client.cache).dropped == ()


def test_two_mounts_share_it(bulk, served, mounted, readers, disk):
    repository, files = bulk
    clients, place = [mounted(repository, "one"), mounted(repository, "two")], disk(100)
    for client in clients:
        client.cache = place / "cache"
        client.mount([served], CVMFS_QUOTA_LIMIT=QUOTA)
    forth, back = list(files), list(reversed(files))
    with used(place).running() as peak:
        started = [readers(client.mountpoint, paths, 2) for client, paths in zip(clients, (forth, back), strict=True)]
        assert [dict(one.digests()) for one in started] == [dict(digests(files))] * 2
    # Two processes, two readers each, and what the kernel reads ahead for them.
    assert 0 < peak.largest[0] <= QUOTA * MB + 8 * SIZE + BOOKS
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
    # The watchdog may have been quicker.
    subprocess.run(["umount", "-l", client.mountpoint], check=False, capture_output=True)
    assert checked(client.cache).dropped == ()
    client.mount([served], CVMFS_QUOTA_LIMIT=quota)
    assert readers(client.mountpoint, list(files)).digests() == digests(files)
    client.unmount()
    after = checked(client.cache)
    assert after.dropped == ()
    assert after.size <= quota * MB + SIZE
    assert os.listdir(client.cache / "txn") == []


def test_a_full_disk(bulk, served, mounted, readers, disk):
    """Everything is served without being kept; when there is room again, it is kept again."""
    repository, files = bulk
    client = mounted(repository)
    client.cache = disk(QUOTA) / "cache"
    client.mount([served], CVMFS_QUOTA_LIMIT=4000)
    for _ in range(2):
        assert readers(client.mountpoint, list(files), 4).digests() == digests(files)
    assert client.talk("pid").strip() == str(client.pid)
    client.unmount()
    assert checked(client.cache).dropped == ()
