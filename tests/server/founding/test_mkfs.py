"""A new repository: complete, signed, empty, mountable; refused where one is, and nothing of a failed one in the way."""

import dataclasses
import os
import pwd
import sqlite3
import stat
import traceback
import zlib

import pytest

from cvfs.client.repository import Repository
from cvfs.errors import StoreFull, UsageError
from cvfs.format import metainfo
from cvfs.format.signature import split_signed
from cvfs.format.whitelist import parse as parse_whitelist
from cvfs.hashes import Algorithm, ObjectKind
from cvfs.reflog import Reflog, digest
from cvfs_server.founding.mkfs import NewRepository, mkfs
from cvfs_server.founding.ownership import current_owner
from cvfs_server.publish import PublishOptions
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import default_settings, load_settings
from cvfs_server.signing.keychain import new_keychain, read_keychain, write_keychain
from cvfs_server.signing.masterkey import export_request, install_whitelist, read_request, sign_request
from cvfs_server.site import Site
from cvfs_server.tags.tags import add_tag
from cvfs_server.ways.tree import publish_tree

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
    [
        "cvfs_server.storage.local.LocalStorage.create",
        "cvfs_server.founding.mkfs._first_revision",
        "cvfs_server.release.switch",
    ],
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


def test_keys_that_exist_are_taken(site, tmp_path):
    keychain = new_keychain(FQRN)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for kind, text in keychain.items():
        (elsewhere / f"{FQRN}.{kind}").write_bytes(text)
    mkfs(site, default_settings(site, FQRN), NewRepository(keys=str(elsewhere)))
    assert read_keychain(site.keys, FQRN) == keychain
    Repository.open(f"file://{site.storage(FQRN)}", str(elsewhere / f"{FQRN}.pub"), fqrn=FQRN).close()


def test_keys_that_were_there_survive_a_failure(site, monkeypatch):
    write_keychain(site, FQRN, new_keychain(FQRN), current_owner())
    before = read_keychain(site.keys, FQRN)

    def fail(*_, **__):
        raise StoreFull("no room")

    monkeypatch.setattr("cvfs_server.founding.mkfs._first_revision", fail)
    with pytest.raises(StoreFull):
        mkfs(site, default_settings(site, FQRN))
    assert read_keychain(site.keys, FQRN) == before


def test_without_a_master_key_the_whitelist_is_signed_elsewhere(site, tmp_path):
    keychain = new_keychain(FQRN)
    away = tmp_path / "away"
    away.write_bytes(keychain.pop("masterkey"))
    write_keychain(site, FQRN, keychain, current_owner())
    mkfs(site, default_settings(site, FQRN))
    assert not os.path.exists(f"{site.storage(FQRN)}/.cvmfswhitelist")
    carried = str(tmp_path / "request")
    export_request(site, FQRN, carried)
    sign_request(read_request(carried), str(away), carried)
    install_whitelist(site, FQRN, carried)
    Repository.open(f"file://{site.storage(FQRN)}", site.key(FQRN, "pub"), fqrn=FQRN).close()


def test_a_volatile_one_stays_volatile(site, tmp_path):
    mkfs(site, default_settings(site, FQRN), NewRepository(volatile=True))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("content")
    publish_tree(site, FQRN, str(tmp_path / "tree"), PublishOptions())
    with Repository.open(f"file://{site.storage(FQRN)}", site.key(FQRN, "pub"), fqrn=FQRN) as repository:
        assert repository.tree.root().properties["volatile"] == "1"


@pytest.mark.parametrize(
    "changes",
    [{"user": "no such user"}, {"user": ""}, {"auto_tag_timespan": "4 weeks"}, {"auto_tag_timespan": "often"}],
)
def test_nonsense_is_refused_before_anything_is_made(site, changes):
    with pytest.raises(UsageError):
        mkfs(site, dataclasses.replace(default_settings(site, FQRN), **changes))
    assert _everything(site) == set()


def _as_user(user, act):
    """In a process of the user's own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes repositories for others")
def test_the_owner_can_publish(site, tmp_path):
    """And root may have published in between."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_mode & 0o011 != 0o011:
            directory.chmod(directory.stat().st_mode | 0o011)
    mkfs(site, dataclasses.replace(default_settings(site, FQRN), user="nobody"))
    tree = tmp_path / "tree"
    tree.mkdir()
    publish_tree(site, FQRN, str(tree), PublishOptions())
    nobody = pwd.getpwnam("nobody")
    _as_user(nobody, lambda: publish_tree(site, FQRN, str(tree), PublishOptions(tag="by-nobody")))
    _as_user(nobody, lambda: add_tag(site, FQRN, "too"))
    with Repository.open(f"file://{site.storage(FQRN)}", site.key(FQRN, "pub"), fqrn=FQRN, tag="too") as repository:
        assert (repository.number, repository.lookup("/").uid) == (3, tree.stat().st_uid)
    for place in (site.key(FQRN, "key"), site.key(FQRN, "masterkey"), site.spool(FQRN), site.storage(FQRN)):
        assert os.stat(place).st_uid == nobody.pw_uid
