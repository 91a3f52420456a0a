"""Many threads reading many cold files at once: each object is fetched once, the client stays small, readers can be killed."""

import hashlib
import os
import signal
import subprocess
import time

import pytest
from processes import wait_until
from sampling import Peak

pytestmark = pytest.mark.system

FILES = int(os.environ.get("CVFS_STORM_FILES", "2000"))
THREADS = 64
# Far more than the client may have open, far less than one for each file.
MOST_DESCRIPTORS = 900
MOST_THREADS = 80
MOST_MEMORY = 150 * 10**6
# Of a reader that is told to end while its download is stalled for a minute.
AT_ONCE = 10.0


def test_each_object_is_fetched_once(published, peer, mounted, readers, fuse_binding):
    repository = published()
    files = repository.fill(FILES, 2000)
    server, client = peer(repository.root), mounted(repository)
    client.mount([server], CVMFS_TIMEOUT_DIRECT=30)
    # Everything is asked for twice, by two threads, soon after one another or together.
    paths = [path for path in files for _ in range(2)]
    peak = Peak(lambda: (client.descriptors(), client.threads(), client.resident()), 0.02)
    with peak.running():
        found = readers(client.mountpoint, paths, THREADS).digests()
    assert [(path, hashlib.sha256(files[path]).hexdigest()) for path in paths] == found
    objects = {path: count for path, count in server.asked.items() if "/data/" in path and path[-1] not in "CX"}
    assert len(objects) == len(files)
    assert set(objects.values()) == {1}
    descriptors, threads, resident = peak.largest
    print(f"descriptors {descriptors}, threads {threads}, MB {resident // 10**6}")
    assert descriptors < MOST_DESCRIPTORS
    # libfuse keeps a thread for each that waits, besides the worker.
    assert threads < MOST_THREADS + (THREADS if fuse_binding == "fusepy" else 0)
    assert resident < MOST_MEMORY


@pytest.fixture
def stalled(published, peer, mounted):
    """A mount whose downloads take a minute, and its server."""
    repository = published()
    repository.fill(40, 2000)
    (repository.source / "nested").mkdir()
    (repository.source / "nested/.cvmfscatalog").touch()
    repository.publish()
    server, client = peer(repository.root), mounted(repository)
    client.mount([server], CVMFS_TIMEOUT_DIRECT=60)
    os.listdir(client.path("d0"))
    client.path("d0/f0").read_bytes()
    server.misbehave("silent", "object", "catalog")
    return client, server


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", [("cat", "d0/f20"), ("ls", "nested")])
def test_whoever_waits_can_be_ended(stalled, command, number):
    """A program that catches the signal would be woken by the time-out only: the kernel waits so for pages."""
    client, server = stalled
    # Whoever started the tests may have told its children to ignore the signal.
    words = ["env", "--default-signal=INT", *command]
    process = subprocess.Popen(words, cwd=client.mountpoint, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert wait_until(lambda: server.spoiled)
    started = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=30)
    assert time.monotonic() - started < AT_ONCE
    assert client.path("d0/f0").read_bytes()
    server.behave()
    assert client.path("d0/f20").read_bytes()
    assert os.listdir(client.path("nested")) == [".cvmfscatalog"]


def test_many_readers_are_killed_at_once(stalled):
    """Their downloads occupy every worker; who reads what is cached notices nothing."""
    client, server = stalled
    names = [f"d{n % 20}/f{n}" for n in range(1, 40)]
    processes = [subprocess.Popen(["cat", client.path(name)], stdout=subprocess.DEVNULL) for name in names]
    assert wait_until(lambda: server.spoiled >= 30)
    started = time.monotonic()
    assert client.path("d0/f0").read_bytes()
    for process in processes:
        process.kill()
    for process in processes:
        process.wait(30)
    assert time.monotonic() - started < AT_ONCE
    server.behave()
    for name in names:
        assert len(client.path(name).read_bytes()) == 2000


def test_cached_directories_are_listed_while_every_worker_waits(stalled):
    """Their catalogs lie in the cache, but nobody has looked into them since the mount came up."""
    client, server = stalled
    server.behave()
    assert os.listdir(client.path("nested")) == [".cvmfscatalog"]
    client.unmount()
    client.mount([server], CVMFS_TIMEOUT_DIRECT=60)
    server.misbehave("silent")
    processes = [
        subprocess.Popen(["cat", client.path(f"d{n % 20}/f{n}")], stdout=subprocess.DEVNULL) for n in range(1, 40)
    ]
    assert wait_until(lambda: server.spoiled >= 30)
    started = time.monotonic()
    assert os.listdir(client.path("nested")) == [".cvmfscatalog"]
    assert os.stat(client.path("d0/f0")).st_size == 2000
    assert os.path.exists(client.path("none")) is False
    assert time.monotonic() - started < AT_ONCE
    for process in processes:
        process.kill()
    for process in processes:
        process.wait(30)
