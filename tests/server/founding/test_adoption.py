"""A repository that was published elsewhere is taken over as it is, believed as clients believe it, or refused whole."""

import os
import shutil
import time
from pathlib import Path

import pytest

from cvfs.client.repository import Repository
from cvfs.errors import FormatError, NotFound, StoreError, TrustError, UsageError
from cvfs.hashes import Algorithm
from cvfs.reflog import digest
from cvfs_server.founding.adoption import Adoption, adopt
from cvfs_server.publish import PublishOptions
from cvfs_server.settings import default_settings, load_settings
from cvfs_server.signing.resign import sign_new_whitelist
from cvfs_server.site import Site
from cvfs_server.tags.rollback import rollback
from cvfs_server.ways.tree import publish_tree


class Elsewhere:
    """The files and keys of a fixture of the original, and a site that has neither."""

    def __init__(self, repository, root: Path) -> None:
        self.fqrn = repository.fqrn
        self.keys = root / "keys"
        self.keys.mkdir()
        for place in (repository.public_key, repository.public_key.with_suffix(".crt"), *repository.private.iterdir()):
            shutil.copy(place, self.keys)
        self.site = Site(str(root / "site"))
        self.settings = default_settings(self.site, self.fqrn)
        self.storage = Path(self.settings.storage)
        self.storage.parent.mkdir(parents=True)
        shutil.copytree(repository.storage, self.storage)

    def adopt(self, **how):
        return adopt(self.site, self.settings, Adoption(**{"keys": str(self.keys), **how}))

    def open(self, tag=None):
        return Repository.open(f"file://{self.storage}", str(self.keys / f"{self.fqrn}.pub"), fqrn=self.fqrn, tag=tag)

    def everything(self):
        return {str(path) for path in Path(self.site.root).rglob("*") if "/data/" not in str(path)}


@pytest.fixture
def elsewhere(fixture_repository, tmp_path):
    return Elsewhere(fixture_repository("tiny.example.org"), tmp_path)


def test_the_originals_repository_goes_on(elsewhere, tmp_path):
    manifest = elsewhere.adopt()
    settings = load_settings(elsewhere.site, elsewhere.fqrn)
    assert (manifest.revision, settings.algorithm, settings.ttl) == (6, Algorithm.SHA1, 240)
    assert settings.garbage_collection is True
    recorded = (Path(settings.spool) / "reflog.chksum").read_text()
    assert recorded == str(digest(str(elsewhere.storage / ".cvmfsreflog"), Algorithm.SHA1))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("of cvfs")
    publish_tree(elsewhere.site, elsewhere.fqrn, str(tmp_path / "tree"), PublishOptions(tag="ours"))
    with elsewhere.open("ours") as repository:
        assert (repository.number, repository.read("/file")) == (7, b"of cvfs")
    rollback(elsewhere.site, elsewhere.fqrn, "s4")
    with elsewhere.open() as repository:
        assert repository.number == 8


def test_another_hash_algorithm_is_the_manifests(fixture_repository, tmp_path):
    elsewhere = Elsewhere(fixture_repository("tiny-shake128.example.org"), tmp_path)
    elsewhere.adopt()
    assert load_settings(elsewhere.site, elsewhere.fqrn).algorithm is Algorithm.SHAKE128


def test_what_is_published_stays_as_it_is(elsewhere):
    before = {path.name: path.read_bytes() for path in elsewhere.storage.glob(".cvmfs*")}
    elsewhere.adopt()
    assert {path.name: path.read_bytes() for path in elsewhere.storage.glob(".cvmfs*")} == before


def test_keys_that_lie_in_their_place(elsewhere):
    shutil.copytree(elsewhere.keys, elsewhere.site.keys)
    elsewhere.adopt(keys="")
    with pytest.raises(UsageError, match="exists already"):
        elsewhere.adopt()


def test_empty_directories_that_a_backup_left_out(elsewhere):
    removed = [path for path in (elsewhere.storage / "data").iterdir() if not any(path.iterdir())]
    assert len(removed) > 1
    for path in removed:
        path.rmdir()
    elsewhere.adopt()
    assert all(path.is_dir() for path in removed)


def test_a_new_key(elsewhere):
    for kind in ("key", "crt"):
        (elsewhere.keys / f"{elsewhere.fqrn}.{kind}").unlink()
    with pytest.raises(NotFound, match="with -t and -r"):
        elsewhere.adopt()
    with pytest.raises(UsageError, match="add -r"):
        elsewhere.adopt(new_key=True)
    manifest = elsewhere.adopt(new_key=True, new_whitelist=True)
    assert manifest.revision == 6
    with elsewhere.open() as repository:
        assert repository.number == 6
    rollback(elsewhere.site, elsewhere.fqrn, "s1")


def _expire(elsewhere):
    shutil.copytree(elsewhere.keys, elsewhere.site.keys)
    sign_new_whitelist(elsewhere.site, elsewhere.settings, 10, int(time.time()) - 20 * 86400)
    shutil.rmtree(elsewhere.site.keys)


def test_a_whitelist_that_has_expired(elsewhere):
    _expire(elsewhere)
    with pytest.raises(TrustError, match="expiry"):
        elsewhere.adopt()
    elsewhere.adopt(new_whitelist=True, days=9)
    elsewhere.open().close()


def test_without_a_master_key_no_new_whitelist(elsewhere):
    (elsewhere.keys / f"{elsewhere.fqrn}.masterkey").unlink()
    with pytest.raises(NotFound, match="masterkey"):
        elsewhere.adopt(new_whitelist=True)
    elsewhere.adopt()
    assert not os.path.exists(elsewhere.site.key(elsewhere.fqrn, "masterkey"))


@pytest.mark.parametrize("name", [".cvmfspublished", ".cvmfswhitelist", "data"])
def test_what_is_missing_is_named(elsewhere, name):
    place = elsewhere.storage / name
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    before = elsewhere.everything()
    with pytest.raises((NotFound, StoreError), match=name):
        elsewhere.adopt()
    assert elsewhere.everything() - before <= {str(elsewhere.site.keys)}
    assert not os.path.exists(elsewhere.site.configuration(elsewhere.fqrn))


def test_a_manifest_that_is_empty(elsewhere):
    (elsewhere.storage / ".cvmfspublished").write_bytes(b"")
    with pytest.raises(FormatError, match=r"\.cvmfspublished .* is empty: put back a copy"):
        elsewhere.adopt()


@pytest.mark.parametrize("new_whitelist", [False, True])
@pytest.mark.parametrize("name", [".cvmfspublished", ".cvmfswhitelist"])
def test_what_was_tampered_with_is_not_believed(elsewhere, name, new_whitelist):
    """Not even if it would be signed anew."""
    place = elsewhere.storage / name
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)
    with pytest.raises(TrustError, match="signature"):
        elsewhere.adopt(new_whitelist=new_whitelist)
    assert not os.path.exists(elsewhere.site.configuration(elsewhere.fqrn))
    assert not os.path.exists(elsewhere.site.key(elsewhere.fqrn, "key"))


def test_a_reflog_that_is_none_leaves_nothing_behind(elsewhere):
    (elsewhere.storage / ".cvmfsreflog").write_bytes(b"garbage" * 100)
    with pytest.raises(FormatError):
        elsewhere.adopt()
    assert os.listdir(elsewhere.site.keys) == []
    assert not os.path.exists(elsewhere.site.configuration(elsewhere.fqrn))


def test_keys_of_another_repository(elsewhere, tmp_path, fixture_repository):
    (tmp_path / "other").mkdir()
    other = Elsewhere(fixture_repository("tiny-shake128.example.org"), tmp_path / "other")
    shutil.copy(other.keys / f"{other.fqrn}.crt", elsewhere.keys / f"{elsewhere.fqrn}.crt")
    with pytest.raises(UsageError, match="is not the key of"):
        elsewhere.adopt()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of others")
def test_files_of_somebody_else(elsewhere):
    os.chown(elsewhere.storage / ".cvmfspublished", 12345, 12345)
    with pytest.raises(UsageError, match="with -g"):
        elsewhere.adopt()
    elsewhere.adopt(chown=True, replicable=True)
    assert (elsewhere.storage / ".cvmfs_master_replica").exists()
