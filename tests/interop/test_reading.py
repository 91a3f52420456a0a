"""Repositories of the original tools, entry by entry against what the original client showed of them."""

import base64
import hashlib
import os
import stat
import subprocess
import sys

import pytest

from cvfs.client.repository import Repository
from cvfs.client.variant_symlinks import expand

FIXTURES = ("tiny.example.org", "tiny-shake128.example.org")
TAGS = ("s1", "s2", "s3", "s4", "s5", None)
VARIABLES = {"LAB_TESTVAR": "labvalue", "CVMFS_ARCH": "x86_64"}
TYPES = {
    "file": stat.S_IFREG,
    "dir": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "chr": stat.S_IFCHR,
    "blk": stat.S_IFBLK,
}


@pytest.fixture(params=FIXTURES)
def published(request, fixture_repository):
    return fixture_repository(request.param)


def expected_tree(published, tag) -> dict[bytes, dict]:
    """By path; without a tag it is the newest revision."""
    entries = published.manifests[tag or "s5"]["entries"]
    return {entry["path"].encode("utf-8", "surrogateescape"): entry for entry in entries}


def without_groups(entry: dict) -> dict:
    return {key: value for key, value in entry.items() if key not in ("path", "hardlink_group")}


def named(xattrs: dict[bytes, bytes]) -> dict[str, str]:
    return {os.fsdecode(name): base64.b64encode(value).decode() for name, value in xattrs.items()}


def described(mode: int, links: int, owner: tuple[int, int], size: int, mtime: tuple[int, int]) -> dict:
    kind = next(name for name, bits in TYPES.items() if stat.S_IFMT(mode) == bits)
    return {
        "type": kind,
        "mode": f"{stat.S_IMODE(mode):04o}",
        "uid": owner[0],
        "gid": owner[1],
        "size": size,
        "mtime": mtime[0],
        "mtime_ns": mtime[1],
        "nlink": links,
    }


# --- without a mount --------------------------------------------------------------------------------------------------


def in_repository(repository: Repository, path: bytes, entry) -> dict:
    found = described(
        entry.mode, entry.linkcount, (entry.uid, entry.gid), entry.size, (entry.mtime, entry.mtime_ns or 0)
    )
    if entry.is_regular:
        found["sha256"] = hashlib.sha256(repository.read(path)).hexdigest()
    if entry.is_link:
        target = expand(entry.symlink, {name.encode(): value.encode() for name, value in VARIABLES.items()})
        found |= {"target": os.fsdecode(target), "size": len(target)}
    if entry.is_device:
        found |= {"size": 0, "rdev": [os.major(entry.size), os.minor(entry.size)]}
    if xattrs := named(repository.xattrs(path)):
        found["xattrs"] = xattrs
    return found


@pytest.mark.parametrize("tag", TAGS)
def test_the_tree_as_an_object(published, tag, tmp_path):
    url = f"file://{published.storage}"
    with Repository.open(url, published.public_key, tag=tag, cache_dir=tmp_path / "cache") as repository:
        got = {path: (entry, in_repository(repository, path, entry)) for path, entry in repository.walk()}
        groups = {
            path: (repository.tree.governing(path.rpartition(b"/")[0]).path, entry.hardlink_group)
            for path, (entry, _) in got.items()
            if entry.hardlink_group and entry.is_regular
        }
    expected = expected_tree(published, tag)
    assert got.keys() == expected.keys()
    for path, (_, found) in got.items():
        assert found == without_groups(expected[path]), path
    assert partition(groups) == partition(expected_groups(expected))


def expected_groups(expected: dict[bytes, dict]) -> dict[bytes, int]:
    return {path: entry["hardlink_group"] for path, entry in expected.items() if "hardlink_group" in entry}


def partition(group_of: dict) -> set[frozenset]:
    """Which paths belong together, whatever their group is called; without those that are alone."""
    members: dict[object, set] = {}
    for path, group in group_of.items():
        members.setdefault(group, set()).add(path)
    return {frozenset(paths) for paths in members.values() if len(paths) > 1}


# --- mounted ----------------------------------------------------------------------------------------------------------

MOUNT = """
import sys
from cvfs.client.background import mount_in_background
from cvfs.client.settings import settings_from
parameters = dict(word.split("=", 1) for word in sys.argv[3:])
mount_in_background(settings_from(sys.argv[1], parameters), sys.argv[2])
"""


@pytest.fixture
def mountpoint(tmp_path):
    place = tmp_path / "mnt"
    place.mkdir()
    yield os.fsencode(place)
    subprocess.run(["umount", "-l", place], capture_output=True)


def mount(published, mountpoint: bytes, tag, cache) -> None:
    parameters = {
        **VARIABLES,
        "CVMFS_SERVER_URL": f"file://{published.storage}",
        "CVMFS_PUBLIC_KEY": str(published.public_key),
        "CVMFS_CACHE_BASE": str(cache),
        "CVMFS_REPOSITORY_TAG": tag or "",
        # The tables have no magic attributes: they tell of the client, not of the tree.
        "CVMFS_MAGIC_XATTRS_VISIBILITY": "never",
    }
    words = [f"{name}={value}" for name, value in parameters.items()]
    # In a process of its own: a fork of this one would take along its threads' locks.
    subprocess.run([sys.executable, "-c", MOUNT, published.fqrn, mountpoint, *words], check=True, timeout=60)


def on_disk(path: bytes) -> dict:
    status = os.lstat(path)
    mtime = divmod(status.st_mtime_ns, 10**9)
    found = described(status.st_mode, status.st_nlink, (status.st_uid, status.st_gid), status.st_size, mtime)
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            found["sha256"] = hashlib.sha256(file.read()).hexdigest()
    if stat.S_ISLNK(status.st_mode):
        found["target"] = os.fsdecode(os.readlink(path))
    if stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        found["rdev"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    names = os.listxattr(path, follow_symlinks=False)
    if names:
        found["xattrs"] = named({os.fsencode(n): os.getxattr(path, n, follow_symlinks=False) for n in names})
    return found


def walked(top: bytes) -> list[bytes]:
    """Every path below a mount point, as find(1) would list them; the top itself is empty."""
    paths = [b""]
    for where, directories, files in os.walk(top):
        paths += [where[len(top) :] + b"/" + name for name in directories + files]
    return paths


@pytest.mark.system
@pytest.mark.parametrize("tag", TAGS)
def test_the_tree_through_the_kernel(published, tag, mountpoint, tmp_path):
    mount(published, mountpoint, tag, tmp_path / "base")
    expected = expected_tree(published, tag)
    paths = walked(mountpoint)
    assert len(paths) == len(set(paths))
    assert set(paths) == expected.keys()
    for path in paths:
        assert on_disk(mountpoint + path) == without_groups(expected[path]), path
    groups = expected_groups(expected)
    numbers = {path: os.lstat(mountpoint + path).st_ino for path in paths}
    # The original's tool looked for groups among files only; links may have several names as well.
    files = {path: number for path, number in numbers.items() if expected[path]["type"] == "file"}
    assert partition(files) == partition(groups)
    assert max(numbers.values()) < 2**32
