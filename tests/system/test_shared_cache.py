"""One cache directory, many users at once: mounts, a preload, checks, a wipe, and a kill in the middle of all."""

import hashlib
import shutil
import signal
import subprocess
import threading
from random import Random

import pytest
from processes import CVFS, ENVIRONMENT

from cvfs.client.cache.object_cache import ObjectCache

pytestmark = pytest.mark.system


@pytest.fixture
def tiny(fixture_repository):
    return fixture_repository("tiny.example.org")


@pytest.fixture
def files(tiny):
    """Digests of all regular files of the newest revision, by path."""
    entries = tiny.manifests["s5"]["entries"]
    return {entry["path"]: entry["sha256"] for entry in entries if entry["type"] == "file" and entry.get("sha256")}


def _cvfs(*arguments):
    return subprocess.run([*CVFS, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=ENVIRONMENT)


def _mount(client):
    """Its socket lies elsewhere: what lies in the cache may be removed, and another mount may have one there."""
    done = client.try_mount("-o", f"CVMFS_WORKSPACE={client.directory}/run")
    assert (done.returncode, done.stderr) == (0, "")


def _wrong(client, files, chance, count):
    """Paths whose bytes are not the published ones."""
    paths = chance.sample(sorted(files), count)
    return [path for path in paths if hashlib.sha256(client.path(path[1:]).read_bytes()).hexdigest() != files[path]]


def test_two_mounts_a_preload_and_checks_at_once(tiny, web, client, files, tmp_path):
    server = web(tiny.root)
    clients = [client(tiny, server.url, name) for name in ("one", "two")]
    for one in clients:
        one.cache = tmp_path / "shared"
        _mount(one)
    preloading = ("preload", "-u", f"{server.url}/{tiny.fqrn}", "-k", tiny.public_key, "-n", 2)
    preloading = (*preloading, "-o", f"CVMFS_CACHE_DIR={tmp_path}/shared,CVFS_TRUST_STATE_DIR={tmp_path}/trust")
    wrong: list[list[str]] = []
    readers = [
        threading.Thread(target=lambda one=one, seed=seed: wrong.append(_wrong(one, files, Random(seed), 250)))
        for seed, one in enumerate(clients * 2)
    ]
    for reader in readers:
        reader.start()
    killed = subprocess.Popen([*CVFS, *map(str, preloading)], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    checks = [_cvfs("fsck", "-p", "-j", 2, tmp_path / "shared")]
    killed.send_signal(signal.SIGKILL)
    killed.wait(30)
    loaded = _cvfs(*preloading)
    checks.append(_cvfs("fsck", "-p", tmp_path / "shared"))
    for reader in readers:
        reader.join(120)
    assert wrong == [[]] * 4
    assert loaded.returncode == 0, loaded.stderr
    assert [(check.returncode, check.stderr) for check in checks] == [(0, "")] * 2
    cache = ObjectCache(str(tmp_path / "shared"))
    cache.prepare()
    try:
        checked = cache.check()
        assert checked.dropped == ()
        # What the mounts have not written into the books yet is found in the directory.
        cache.rebuild()
        assert len(cache.entries()) == checked.objects > 200
        assert cache.usage()[0] == checked.size
    finally:
        cache.close()


def test_a_cache_that_is_wiped_or_removed_below_a_mount(tiny, web, client, files, tmp_path):
    server = web(tiny.root)
    one = client(tiny, server.url)
    _mount(one)
    path = "chunked/random_500k"
    expected = one.read(path)
    done = _cvfs("wipecache", "-c", one.cache)
    assert (done.returncode, done.stdout) == (0, f"Wiping out {one.cache} ... OK\n")
    assert one.read(path) == expected
    assert _wrong(one, files, Random(1), 50) == []
    shutil.rmtree(one.cache)
    assert _wrong(one, files, Random(2), 50) == []
    # Kept again, in a directory that was made again.
    assert list(one.cache.glob("??/*"))
    assert _cvfs("fsck", one.cache).returncode == 0
