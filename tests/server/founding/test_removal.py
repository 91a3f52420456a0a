"""A repository is removed as a whole, or its parts on this machine; what belongs to others stays."""

import errno
import os
from pathlib import Path

import pytest

from cvfs.errors import Locked, NotFound, StoreFull, UsageError
from cvfs_server.founding import removal
from cvfs_server.founding.adoption import Adoption, adopt
from cvfs_server.founding.mkfs import mkfs
from cvfs_server.founding.removal import remove_repository
from cvfs_server.publishers import registered
from cvfs_server.settings import configured_repositories


@pytest.fixture
def own(new_repository):
    made = new_repository()
    (made.tree / "file").write_text("content")
    made.publish()
    return made


def _files(own):
    root = Path(own.site.root)
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_nothing_is_left(own):
    assert remove_repository(own.site, own.fqrn) == []
    assert _files(own) == set()
    assert not own.storage.exists()
    assert configured_repositories(own.site) == []
    with pytest.raises(NotFound):
        remove_repository(own.site, own.fqrn)
    mkfs(own.site, own.settings)


def test_what_is_published_can_be_kept(own):
    before = _files(own)
    remove_repository(own.site, own.fqrn, preserve=True)
    gone = before - _files(own)
    assert gone
    assert all(name.startswith(("etc/cvmfs/repositories.d/", "var/spool/")) for name in gone)
    adopt(own.site, own.settings, Adoption())
    assert own.check() == []


def test_other_files_beside_the_published_ones_stay(own):
    (own.storage / "index.html").write_text("of somebody else")
    (own.storage / "more").mkdir()
    assert remove_repository(own.site, own.fqrn) == [str(own.storage)]
    assert sorted(os.listdir(own.storage)) == ["index.html", "more"]


def test_another_repository_beside_it_stays(own):
    other = own.settings.__class__(
        "other.example.org",
        own.settings.storage.replace(own.fqrn, "other.example.org"),
        own.settings.spool.replace(own.fqrn, "other.example.org"),
        own.settings.user,
    )
    mkfs(own.site, other)
    files = {name for name in _files(own) if "other.example.org" in name}
    remove_repository(own.site, own.fqrn)
    assert _files(own) == files


def test_not_while_somebody_publishes(own):
    before = _files(own)
    with registered(own.settings, "publish"), pytest.raises(Locked, match="1 publishers"):
        remove_repository(own.site, own.fqrn)
    assert before <= _files(own)


def test_a_spool_area_that_is_not_its_own(own, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "precious").touch()
    conf = Path(own.site.configuration(own.fqrn))
    conf.write_text(conf.read_text().replace(own.settings.spool, str(shared)))
    with pytest.raises(UsageError, match="remove it by hand"):
        remove_repository(own.site, own.fqrn)
    assert (shared / "precious").exists()
    assert (own.storage / ".cvmfspublished").exists()


def test_one_that_was_interrupted_is_finished(own, monkeypatch):
    def fail(_):
        raise StoreFull("no right")

    monkeypatch.setattr("cvfs_server.founding.removal._remove_empty", fail)
    with pytest.raises(StoreFull):
        remove_repository(own.site, own.fqrn)
    monkeypatch.undo()
    assert configured_repositories(own.site) == [own.fqrn]
    remove_repository(own.site, own.fqrn)
    assert _files(own) == set()


def test_a_client_that_still_writes_is_waited_for(own, monkeypatch):
    """It ends by itself, after its mount was taken away."""
    late, plain = [f"{own.settings.spool}/late"], removal.remove_tree

    def remove(place):
        if late and place == own.settings.spool:
            Path(late.pop()).touch()
            raise OSError(errno.ENOTEMPTY, "Directory not empty", place)
        plain(place)

    monkeypatch.setattr(removal, "remove_tree", remove)
    assert remove_repository(own.site, own.fqrn) == []
    assert _files(own) == set()
