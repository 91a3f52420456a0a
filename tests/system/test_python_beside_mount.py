"""Programs that read a repository by themselves beside a mount of it: one cache, the same tree."""

import os
from pathlib import PurePosixPath

import pytest

import cvfs

pytestmark = pytest.mark.system

FQRN = "tiny.example.org"
READ = ("chunked/random_1m", "files/hello.txt")


@pytest.fixture
def mounted(client, fixture_repository, web):
    """A mount, what it is read from over HTTP, and what a program is told to read the same."""
    tiny = fixture_repository(FQRN)
    server = web(tiny.root)
    one = client(tiny, server.url)
    one.mount()
    return one, server, {"public_key": tiny.public_key, "cache": one.cache}


def test_one_cache_and_one_tree(mounted):
    mount, server, options = mounted
    check_cache(mount, server, options)
    check_tree(mount, options)


def check_cache(mount, server, options) -> None:
    """What the mount has fetched is there for programs, and the other way round."""
    data = mount.read(READ[0])
    with cvfs.open_repository(mount.url, **options) as repository:
        server.requests.clear()
        assert repository.read_bytes(f"/{READ[0]}") == data
        assert [path for path in server.requests if "/data/" in path] == []
        text = repository.read_bytes(f"/{READ[1]}")
    server.requests.clear()
    assert mount.read(READ[1]) == text
    assert server.requests == []


def check_tree(mount, options) -> None:
    """What is in directories, where links lead, what stat tells."""
    top = str(mount.mountpoint)
    with cvfs.open_repository(mount.url, **options) as repository:
        for where, inside, files in os.walk(top):
            path = repository.path(os.path.relpath(where, top))
            assert sorted(child.name for child in path.iterdir()) == sorted([*inside, *files])
        for name in sorted(os.listdir(f"{top}/symlinks")):
            ours, link = repository.path("symlinks", name), f"{top}/symlinks/{name}"
            assert ours.is_symlink() == os.path.islink(link)
            if ours.is_symlink():
                assert ours.readlink() == PurePosixPath(os.readlink(link))
            if os.path.realpath(link).startswith(f"{top}/"):
                assert ours.exists() == os.path.exists(link), name
        mine, real = repository.path("files/hello.txt").stat(), os.stat(f"{top}/files/hello.txt")
        assert (mine.st_mode, mine.st_size, mine.st_mtime_ns, mine.st_nlink) == (
            real.st_mode,
            real.st_size,
            real.st_mtime_ns,
            real.st_nlink,
        )
