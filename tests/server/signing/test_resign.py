"""New signatures: for how long a whitelist vouches, and that nothing else changes. Replaced keys are tried elsewhere."""

import calendar
import os
import time

import pytest

from cvfs.errors import Locked, NotFound, TrustError, UsageError
from cvfs.format.signature import split_signed
from cvfs.format.whitelist import parse
from cvfs_server.lock import publisher_lock
from cvfs_server.signing.resign import resign_if_due, resign_manifest, resign_whitelist, sign_new_whitelist


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


def _sign_as_of(own, age, days):
    """A whitelist that was signed `age` days ago for `days` days."""
    sign_new_whitelist(own.site, own.settings, days, int(time.time() - age * 86400))


@pytest.mark.parametrize(("age", "days"), [(0, 30), (19, 30), (0, 1), (3, 9)])
def test_it_is_not_signed_before_it_is_due(own, age, days):
    _sign_as_of(own, age, days)
    before = _whitelist(own)
    assert resign_if_due(own.site, own.fqrn) is None
    assert _whitelist(own) == before


@pytest.mark.parametrize(("age", "days"), [(21, 30), (29, 30), (31, 30), (7, 9)])
def test_it_is_signed_when_two_thirds_are_over(own, age, days):
    _sign_as_of(own, age, days)
    signed = resign_if_due(own.site, own.fqrn)
    assert _whitelist(own) == signed
    span = _seconds(signed.expires) - _seconds(signed.issued)
    assert abs(span - days * 86400) <= 3600
    assert resign_if_due(own.site, own.fqrn) is None


def test_it_is_signed_for_as_long_as_asked(own):
    _sign_as_of(own, 29, 30)
    signed = resign_if_due(own.site, own.fqrn, 5)
    assert _seconds(signed.expires) - _seconds(signed.issued) == 5 * 86400


@pytest.mark.parametrize("damage", [None, b"", b"\n--\n"])
def test_one_that_clients_refuse_is_due(own, damage):
    if damage is None:
        os.unlink(own.storage / ".cvmfswhitelist")
    else:
        (own.storage / ".cvmfswhitelist").write_bytes(damage)
    assert resign_if_due(own.site, own.fqrn) == _whitelist(own)
    own.open().close()


def test_without_the_master_key_it_says_how_much_time_is_left(own):
    os.unlink(own.site.key(own.fqrn, "masterkey"))
    assert resign_if_due(own.site, own.fqrn) is None
    with pytest.raises(NotFound, match="masterkey"):
        resign_whitelist(own.site, own.fqrn)
    (own.storage / ".cvmfswhitelist").unlink()
    with pytest.raises(NotFound, match=r"unreachable.*cannot be signed here.*masterkey"):
        resign_if_due(own.site, own.fqrn)


def test_an_hour_is_the_least(own):
    signed = resign_whitelist(own.site, own.fqrn, 1 / 24)
    assert _seconds(signed.expires) - _seconds(signed.issued) == 3600
    with pytest.raises(UsageError, match="hour"):
        resign_whitelist(own.site, own.fqrn, 1 / 25)
