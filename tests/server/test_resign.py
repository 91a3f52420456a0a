"""New signatures: for how long a whitelist vouches, and that nothing else changes. Replaced keys are tried elsewhere."""

import calendar
import os
import time

import pytest

from cvfs.errors import Locked, NotFound, TrustError, UsageError
from cvfs.format.signature import split_signed
from cvfs.format.whitelist import parse
from cvfs_server.lock import publisher_lock
from cvfs_server.resign import resign_manifest, resign_whitelist


@pytest.fixture
def own(new_repository):
    made = new_repository()
    (made.tree / "file").write_text("content")
    made.publish()
    return made


def _whitelist(own):
    return parse(split_signed((own.storage / ".cvmfswhitelist").read_bytes()).payload)


def _seconds(stamp):
    return calendar.timegm(time.strptime(stamp, "%Y%m%d%H%M%S"))


@pytest.mark.parametrize("days", [10, 30, 10_000])
def test_a_whitelist_lasts_as_long_as_asked(own, days):
    before = int(time.time())
    whitelist = resign_whitelist(own.site, own.fqrn, days)
    assert _whitelist(own) == whitelist
    assert before <= _seconds(whitelist.issued) <= time.time()
    assert _seconds(whitelist.expires) - _seconds(whitelist.issued) == days * 86400
    assert own.check() == []
    with own.open() as repository:
        assert repository.read("/file") == b"content"


def test_an_expired_one_is_replaced(own, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_500_000_000.0)
    resign_whitelist(own.site, own.fqrn, 1)
    monkeypatch.undo()
    with pytest.raises(TrustError, match="expir"):
        own.open()
    resign_whitelist(own.site, own.fqrn)
    own.open().close()


@pytest.mark.parametrize("days", [0, -3, 365_001])
def test_a_senseless_time_changes_nothing(own, days):
    before = (own.storage / ".cvmfswhitelist").read_bytes()
    with pytest.raises(UsageError, match="days"):
        resign_whitelist(own.site, own.fqrn, days)
    assert (own.storage / ".cvmfswhitelist").read_bytes() == before


def test_the_manifest_signed_again_says_the_same(own):
    before = own.manifest()
    manifest = resign_manifest(own.site, own.fqrn)
    assert own.manifest() == manifest
    for field in ("root_catalog", "revision", "certificate", "history", "metainfo", "fqrn", "ttl"):
        assert getattr(manifest, field) == getattr(before, field)
    assert own.check() == []


@pytest.mark.parametrize(
    ("sign", "kind"), [(resign_whitelist, "masterkey"), (resign_whitelist, "crt"), (resign_manifest, "key")]
)
def test_a_missing_key_is_named(own, sign, kind):
    os.unlink(own.site.key(own.fqrn, kind))
    with pytest.raises(NotFound, match=kind):
        sign(own.site, own.fqrn)
    with own.open() as repository:
        assert repository.number == 2


@pytest.mark.parametrize("sign", [resign_whitelist, resign_manifest])
def test_not_beside_another_publisher(new_repository, sign):
    own = new_repository(lock_timeout=0)
    with publisher_lock(f"{own.settings.spool}/publish.lock", "publish"), pytest.raises(Locked):
        sign(own.site, own.fqrn)
