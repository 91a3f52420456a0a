"""Publishing where the machine is against it: no room, no right, no permission. Refused in one line, the old revision stays."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from rights import NOBODY, not_root

from cvfs.errors import StoreFull, Unpublishable

pytestmark = pytest.mark.system


@contextlib.contextmanager
def mounted(place, *options):
    subprocess.run(["mount", *options, str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def assert_shows(own, revision, name, content):
    with own.open() as repository:
        assert repository.number == revision
        assert repository.read(name) == content
    assert [finding for finding in own.check() if not finding.is_warning] == []


def refused(error, own):
    """One line that names a place."""
    with pytest.raises(error) as caught:
        own.publish(workers=2)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def own(new_repository):
    made = new_repository()
    (made.tree / "file").write_bytes(b"first")
    made.publish()
    return made


def _grow(tree, files):
    for number in range(files):
        (tree / f"more{number}").write_bytes(os.urandom(20_000))


@pytest.mark.parametrize("files", [3, 200], ids=["on the spot", "by workers"])
def test_a_full_storage(own, files):
    moved = own.storage.with_name("moved")
    own.storage.rename(moved)
    own.storage.mkdir()
    with mounted(own.storage, "-t", "tmpfs", "-o", "size=100k", "tmpfs"):
        shutil.copytree(moved, own.storage, dirs_exist_ok=True)
        _grow(own.tree, files)
        assert "No space left on device" in refused(StoreFull, own)
        assert os.listdir(own.storage / "data" / "txn") == []
        assert_shows(own, 2, "/file", b"first")
        subprocess.run(["mount", "-o", "remount,size=64m", str(own.storage)], check=True)
        own.publish()
        assert_shows(own, 3, "/more2", (own.tree / "more2").read_bytes())


def test_no_room_for_catalogs(own):
    spool = Path(own.settings.spool)
    with mounted(spool, "-t", "tmpfs", "-o", "size=40k", "tmpfs"):
        for number in range(2000):
            (own.tree / f"link{number}").symlink_to("x" * 100)
        assert "catalog" in refused(StoreFull, own)
        assert_shows(own, 2, "/file", b"first")
        subprocess.run(["mount", "-o", "remount,size=64m", str(spool)], check=True)
        own.publish()
        assert_shows(own, 3, "/file", b"first")


def test_a_read_only_storage(own):
    with mounted(own.storage, "--bind", str(own.storage)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(own.storage)], check=True)
        (own.tree / "file").write_bytes(b"second")
        assert "Read-only file system" in refused(StoreFull, own)
        assert_shows(own, 2, "/file", b"first")
    own.publish()
    assert_shows(own, 3, "/file", b"second")


@pytest.fixture
def own_of_nobody(new_repository):
    """All of it, and the way to it, belongs to a user without rights."""
    place = Path(tempfile.mkdtemp(prefix="cvfs-nobody-"))
    made = new_repository(place=place)
    (made.tree / "file").write_bytes(b"first")
    made.publish()
    for path in [place, *place.rglob("*")]:
        os.lchown(path, NOBODY, NOBODY)
    yield made
    shutil.rmtree(place)


@pytest.mark.parametrize("kind", ["file", "directory", "directory that may be listed only"])
def test_what_may_not_be_read(own_of_nobody, kind):
    secret = own_of_nobody.tree / "secret"
    if kind == "file":
        secret.write_bytes(b"secret")
        secret.chmod(0o600)
    else:
        secret.mkdir(mode=0o700 if kind == "directory" else 0o744)
        (secret / "inside").write_bytes(b"secret")
    (own_of_nobody.tree / "file").write_bytes(b"second")
    with not_root():
        message = refused(Unpublishable, own_of_nobody)
        assert "secret" in message
        assert "Permission denied" in message
        assert_shows(own_of_nobody, 2, "/file", b"first")
    secret.chmod(0o755)
    with not_root():
        own_of_nobody.publish()
        assert_shows(own_of_nobody, 3, "/file", b"second")


@pytest.mark.parametrize("place", ["storage", "spool"])
def test_a_repository_of_somebody_else(own_of_nobody, place):
    os.chown(own_of_nobody.storage / "data" / "txn", 0, 0)
    if place == "spool":
        for path in [own_of_nobody.settings.spool, *Path(own_of_nobody.settings.spool).iterdir()]:
            os.chown(path, 0, 0)
    (own_of_nobody.tree / "file").write_bytes(b"second")
    with not_root():
        assert "Permission denied" in refused(StoreFull, own_of_nobody)
        assert_shows(own_of_nobody, 2, "/file", b"first")
