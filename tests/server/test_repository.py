"""What a publisher finds of its predecessors: hollow objects after the machine went down, keys that were replaced."""

import datetime as dt
import glob
import os

import pytest

from cvfs.client.repository import Repository
from cvfs.errors import FormatError, TrustError
from cvfs.reflog import digest as reflog_digest
from cvfs_server.check.check import CheckOptions, check
from cvfs_server.founding.mkfs import mkfs
from cvfs_server.repository import PublishedRepository, reading, recorded_reflog_digest
from cvfs_server.settings import default_settings
from cvfs_server.signing.keys import generate_keys
from cvfs_server.signing.resign import resign_manifest, resign_whitelist
from cvfs_server.site import Site
from cvfs_server.ways.tree import publish_tree as publish

FQRN = "again.example.org"


@pytest.fixture
def site(tmp_path):
    site = Site(str(tmp_path / "site"))
    mkfs(site, default_settings(site, FQRN))
    return site


@pytest.fixture
def source(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "kept").write_bytes(b"always there")
    return source


def objects(site):
    return {path for path in glob.glob(f"{site.storage(FQRN)}/data/[0-9a-f]*/*") if os.path.isfile(path)}


def assert_sound(site):
    repository = PublishedRepository.open(site, FQRN)
    with reading(repository.settings) as scratch:
        options = CheckOptions(integrity=True, workers=1)
        assert list(check(repository.storage, repository.manifest, options, scratch)) == []


def test_hollow_objects_of_a_machine_that_went_down_are_discarded(site, source, monkeypatch):
    before = objects(site)
    (source / "lost").write_bytes(b"these bytes never reached the disk")

    def goes_down(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("cvfs_server.publish.release", goes_down)
        with pytest.raises(KeyboardInterrupt):
            publish(site, FQRN, str(source))
    hollow = [path for path in objects(site) - before if not path.endswith("C")]
    assert len(hollow) == 2
    for path in hollow:
        os.truncate(path, 0)
    marks = f"{site.spool(FQRN)}/publishers"
    (mark,) = [name for name in os.listdir(marks) if not name.endswith(".lock")]
    with open(f"{marks}/{mark}", "w", encoding="ascii") as file:
        file.write("another start of the machine")
    (source / "lost").rename(source.parent / "lost")
    publish(site, FQRN, str(source))
    assert os.listdir(marks) == []
    (source.parent / "lost").rename(source / "lost")
    publish(site, FQRN, str(source))
    assert_sound(site)


def test_new_keys_sign_the_manifest_and_then_the_whitelist(site, source):
    publish(site, FQRN, str(source))
    replace_keys(site)
    with pytest.raises(TrustError, match="manifest signature"):
        publish(site, FQRN, str(source))
    resign_manifest(site, FQRN)
    resign_whitelist(site, FQRN)
    assert publish(site, FQRN, str(source)).revision == 3
    with Repository.open(f"file://{site.storage(FQRN)}", site.key(FQRN, "pub")) as repository:
        assert repository.read("/kept") == b"always there"
    assert_sound(site)


@pytest.mark.parametrize("damage", [b"", b"no frame", b"Cff\n--\n0\n", b"C" * 100])
def test_a_manifest_that_cannot_be_read_is_named_with_what_to_do(site, damage):
    with open(f"{site.storage(FQRN)}/.cvmfspublished", "wb") as file:
        file.write(damage)
    with pytest.raises(FormatError, match=rf"^\.cvmfspublished in {site.storage(FQRN)}.*put back a copy"):
        PublishedRepository.open(site, FQRN)


@pytest.mark.parametrize("recorded", [b"", b"no hash", b"\xff" * 40, None])
def test_a_record_of_the_reflog_that_cannot_be_read_is_none(site, recorded):
    settings = PublishedRepository.open(site, FQRN).settings
    place = f"{settings.spool}/reflog.chksum"
    assert recorded_reflog_digest(settings) == reflog_digest(f"{site.storage(FQRN)}/.cvmfsreflog", settings.algorithm)
    if recorded is None:
        os.unlink(place)
    else:
        with open(place, "wb") as file:
            file.write(recorded)
    assert recorded_reflog_digest(settings) is None


def test_a_manifest_that_nobody_vouches_for_is_not_signed(site, source):
    publish(site, FQRN, str(source))
    replace_keys(site)
    resign_whitelist(site, FQRN)
    with pytest.raises(TrustError, match="certificate fingerprint"):
        resign_manifest(site, FQRN)


def replace_keys(site):
    """A new signing key and certificate under the same master key."""
    new = generate_keys(FQRN, dt.datetime.now(dt.UTC))
    for kind, text in (("key", new.key), ("crt", new.certificate)):
        with open(site.key(FQRN, kind), "wb") as file:
            file.write(text)
