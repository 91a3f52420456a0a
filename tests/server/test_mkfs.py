"""A new repository: complete, signed, empty, mountable; refused where one is, and nothing of a failed one in the way."""

import dataclasses
import os
import sqlite3
import stat
import zlib

import pytest

from cvfs.client.repository import Repository
from cvfs.errors import StoreFull, UsageError
from cvfs.format import metainfo
from cvfs.format.signature import split_signed
from cvfs.format.whitelist import parse as parse_whitelist
from cvfs.hashes import Algorithm, ObjectKind
from cvfs.reflog import Reflog, digest
from cvfs_server.mkfs import NewRepository, mkfs
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import default_settings, load_settings
from cvfs_server.site import Site

FQRN = "new.example.org"


@pytest.fixture
def site(tmp_path):
    return Site(str(tmp_path))


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_it_is_complete(new_repository, algorithm):
    own = new_repository(algorithm=algorithm, ttl=77, garbage_collection=False)
    manifest = own.manifest()
    assert (manifest.revision, manifest.ttl, manifest.fqrn) == (1, 77, own.fqrn)
    assert manifest.garbage_collectable is False
    assert own.check() == []
    with own.open() as repository:
        assert repository.listing("/") == []
        root = repository.lookup("/")
        assert (root.mode, root.hardlinks, root.size) == (stat.S_IFDIR | 0o755, 2, 4096)
        assert repository.tree.root().ttl == 77
    assert load_settings(own.site, own.fqrn) == own.settings


def test_its_catalog_to_the_row(new_repository):
    own = new_repository()
    database = sqlite3.connect(":memory:")
    database.deserialize(zlib.decompress((own.storage / own.manifest().root_catalog.path).read_bytes()))
    properties = dict(database.execute("SELECT key, value FROM properties"))
    assert properties.keys() == {"schema", "schema_revision", "revision", "last_modified", "TTL", "previous_revision"}
    assert (properties["revision"], properties["TTL"]) == ("1", "240")
    assert database.execute("SELECT rowid, name, parent_1, parent_2, flags FROM catalog").fetchall() == [
        (1, "", 0, 0, 1)
    ]
    counters = dict(database.execute("SELECT counter, value FROM statistics"))
    database.close()
    assert len(counters) == 24
    assert {name for name, value in counters.items() if value} == {"self_dir"}


def test_its_documents(new_repository):
    own = new_repository()
    manifest = own.manifest()
    with Reflog.open(str(own.storage / ".cvmfsreflog")) as log:
        logged = {reference.content for reference in log.references()}
    named = {manifest.root_catalog, manifest.certificate, manifest.history, manifest.metainfo}
    assert logged > named
    # The unpublished predecessor of the first root.
    assert len(logged) == 5
    found = digest(str(own.storage / ".cvmfsreflog"), Algorithm.SHA1)
    assert found == manifest.reflog
    assert (own.storage.parents[2] / f"var/spool/cvmfs/{own.fqrn}/reflog.chksum").read_text() == str(found)
    assert metainfo.parse(zlib.decompress((own.storage / manifest.metainfo.path).read_bytes())) is not None
    assert manifest.metainfo.kind is ObjectKind.METAINFO
    tags = PublishedRepository.open(own.site, own.fqrn).history().tags
    assert sorted(tag.name.split("-")[0] for tag in tags) == ["generic", "trunk"]
    assert {(tag.revision, tag.root_catalog, tag.size) for tag in tags} == {
        (1, manifest.root_catalog, manifest.root_size)
    }
    whitelist = parse_whitelist(split_signed((own.storage / ".cvmfswhitelist").read_bytes()).payload)
    assert (whitelist.fqrn, len(whitelist.fingerprints)) == (own.fqrn, 1)
    assert (own.storage / ".cvmfs_master_replica").read_bytes() == b""


def test_without_automatic_tags_and_replicas(site):
    settings = dataclasses.replace(default_settings(site, FQRN), auto_tag=False)
    mkfs(site, settings, NewRepository(replicable=False))
    assert [tag.name for tag in PublishedRepository.open(site, FQRN).history().tags] == ["trunk"]
    assert not os.path.exists(f"{settings.storage}/.cvmfs_master_replica")


def test_private_keys_are_private(new_repository):
    own = new_repository()
    modes = {
        kind: stat.S_IMODE(os.stat(own.site.key(own.fqrn, kind)).st_mode) for kind in ("key", "masterkey", "pub", "crt")
    }
    assert modes == {"key": 0o600, "masterkey": 0o600, "pub": 0o644, "crt": 0o644}


def _everything(site):
    return {os.path.join(where, name) for where, _, files in os.walk(site.root) for name in files}


def test_an_existing_one_stays(new_repository):
    own = new_repository()
    before = {path: os.stat(path).st_mtime_ns for path in _everything(own.site)}
    with pytest.raises(UsageError, match="exists already"):
        mkfs(own.site, own.settings)
    assert {path: os.stat(path).st_mtime_ns for path in _everything(own.site)} == before


@pytest.mark.parametrize("kind", ["key", "masterkey", "pub", "crt"])
def test_existing_keys_stay(site, kind):
    os.makedirs(site.keys)
    with open(site.key(FQRN, kind), "wb") as file:
        file.write(b"precious")
    with pytest.raises(UsageError, match="exists already"):
        mkfs(site, default_settings(site, FQRN))
    assert _everything(site) == {site.key(FQRN, kind)}
    os.unlink(site.key(FQRN, kind))
    mkfs(site, default_settings(site, FQRN))


@pytest.mark.parametrize(
    "broken",
    ["cvfs_server.storage.local.LocalStorage.create", "cvfs_server.mkfs._first_revision", "cvfs_server.release.switch"],
)
def test_a_failed_one_is_not_in_the_way(site, monkeypatch, broken):
    settings = default_settings(site, FQRN)

    def fail(*_, **__):
        raise StoreFull("no room")

    monkeypatch.setattr(broken, fail)
    with pytest.raises(StoreFull):
        mkfs(site, settings)
    monkeypatch.undo()
    assert not os.path.exists(site.configuration(FQRN))
    assert os.listdir(site.keys) == []
    mkfs(site, settings)
    with Repository.open(f"file://{settings.storage}", site.key(FQRN, "pub")) as repository:
        assert repository.number == 1


@pytest.mark.parametrize("days", [0, -1, 365 * 1000 + 1])
def test_a_whitelist_for_a_senseless_time(site, days):
    with pytest.raises(UsageError, match="days"):
        mkfs(site, default_settings(site, FQRN), NewRepository(days=days))
    assert os.listdir(site.keys) == []


def test_a_place_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    site = Site(f"{tmp_path}/file")
    with pytest.raises(StoreFull, match="Not a directory"):
        mkfs(site, default_settings(site, FQRN))
