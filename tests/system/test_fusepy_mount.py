"""What is different with fusepy and libfuse 2, whose kernel side knows files by their names and cannot be told of changes."""

import errno
import hashlib
import os
import re
import signal
import subprocess

import pytest
from bindings import require_fusepy

pytestmark = pytest.mark.system

CHANGED = "chunked/random_500k"


@pytest.fixture
def fuse_binding() -> str:
    require_fusepy()
    return "fusepy"


@pytest.fixture
def following(publication, client, web):
    """A publication at the tree of s1, and a client that is not mounted yet."""
    published = publication()
    published.publish("s1")
    return published, client(published, web(published.root).url)


def digest(published, tag: str, path: str = CHANGED) -> str:
    entries = published.repository.manifests[tag]["entries"]
    return next(entry["sha256"] for entry in entries if entry["path"] == f"/{path}")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_that_is_open_stays_as_it_is_for_everybody(following):
    """The kernel has one size and one set of pages for a name: bytes of two contents would mix."""
    published, one = following
    one.mount(*one.at_once)
    with open(one.path(CHANGED), "rb", buffering=0) as held:
        begun = held.read(4096)
        published.publish("s5")
        assert one.command("remount") == "New revision applied\n"
        assert sha256(one.read(CHANGED)) == digest(published, "s1")
        assert sha256(begun + held.read()) == digest(published, "s1")
    assert sha256(one.read(CHANGED)) == digest(published, "s5")


def test_what_the_kernel_believes_is_what_it_reads(following):
    """Within the time-out of the attributes a name goes on meaning what it meant when they were told."""
    published, one = following
    one.mount("-o", "CVMFS_KCACHE_TIMEOUT=60")
    before = os.stat(one.path(CHANGED))
    published.publish("s5")
    assert one.command("remount") == "New revision applied\n"
    assert sha256(one.read(CHANGED)) == digest(published, "s1")
    assert os.stat(one.path(CHANGED)) == before
    # What nobody has asked for before is of the new revision.
    assert sha256(one.read("chunked/random_1m")) == digest(published, "s5", "chunked/random_1m")


def test_numbers_last_as_long_as_a_file_is_known(following):
    _, one = following
    one.mount(*one.at_once)
    assert len({os.stat(one.path(CHANGED)).st_ino for _ in range(3)}) == 1
    listed = {entry.name: entry.inode() for entry in os.scandir(one.path("chunked"))}
    assert listed == {name: os.stat(one.path(f"chunked/{name}")).st_ino for name in listed}


def test_how_it_is_chosen(following):
    _, one = following
    del one.environment["CVFS_FUSE_BINDING"]
    one.mount("--fuse-binding", "fusepy")
    with open(f"/proc/{one.state()['pid']}/maps") as maps:
        assert "libfuse.so.2" in maps.read()
    assert subprocess.run(["umount", one.mountpoint]).returncode == 0
    one.mount("-o", "fuse_binding=native")
    with open(f"/proc/{one.state()['pid']}/maps") as maps:
        assert "libfuse.so.2" not in maps.read()


def test_what_it_cannot_do_is_refused(following):
    _, one = following
    for parameter in ("CVMFS_NFS_SOURCE", "CVMFS_ENFORCE_ACLS"):
        done = one.try_mount("-o", f"{parameter}=yes")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith(f"cvfs: {parameter}: ")
    done = one.try_mount("-o", "fuse_binding=fuse3")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "CVFS_FUSE_BINDING=fuse3: one of native, fusepy is needed" in done.stderr


def test_signals_that_libfuse_would_have_taken(following):
    """It ends a mount at SIGHUP where nobody handles that: our processes die of it, and the watchdog cleans up."""
    _, one = following
    pid = one.mount()["pid"]
    with open(f"/proc/{pid}/status") as status:
        masks = {name: int(mask, 16) for name, mask in re.findall(r"^(Sig\w+):\s+(\w+)$", status.read(), re.MULTILINE)}
    assert masks["SigCgt"] >> (signal.SIGTERM - 1) & 1
    assert not masks["SigCgt"] >> (signal.SIGHUP - 1) & 1
    assert masks["SigIgn"] >> (signal.SIGPIPE - 1) & 1
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        os.open(one.path("new"), os.O_CREAT | os.O_WRONLY)
