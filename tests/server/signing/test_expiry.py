"""How much of a whitelist's time is left, why clients refuse it, and what the publisher is told."""

import os

import pytest

from cvfs.trust import expiry
from cvfs_server.signing.expiry import EXPIRED, WhitelistState, expiry_warning, whitelist_state
from cvfs_server.signing.resign import resign_whitelist, sign_new_whitelist

_DAY = 86400
NOW = 1_700_000_000


@pytest.fixture
def own(new_repository):
    """Its whitelist was signed at NOW for ten days."""
    made = new_repository()
    sign_new_whitelist(made.site, made.settings, 10, NOW)
    return made


def _state(own, now=NOW) -> WhitelistState:
    return whitelist_state(own.site, own.settings, now)


def test_there_is_time(own):
    state = _state(own)
    assert (state.problem, state.warning, state.days_left) == ("", "", 9)
    # The hour of the expiry does not count.
    assert 10 * _DAY - 3600 < state.seconds_left <= 10 * _DAY
    assert expiry_warning(own.site, own.settings, NOW) == ""


@pytest.mark.parametrize(
    ("left", "words"),
    [(7 * _DAY, None), (7 * _DAY - 1, "in 6 days"), (49 * 3600, "in 2 days"), (5 * 3600, "in 5 hours"), (0, EXPIRED)],
)
def test_when_it_is_said(own, left, words):
    ends = expiry(_state(own).whitelist)
    warning = expiry_warning(own.site, own.settings, ends - left)
    if words is None:
        assert warning == ""
    else:
        assert words in warning
        assert warning.startswith(f"{own.fqrn}: ")
        assert "cvfs-server resign" in warning


def test_it_has_expired(own):
    state = _state(own, NOW + 11 * _DAY)
    assert (state.problem, state.days_left) == (EXPIRED, -2)


def test_there_is_none(own):
    os.unlink(own.storage / ".cvmfswhitelist")
    state = _state(own)
    assert state.whitelist is None
    assert "whitelist unreachable" in state.problem
    assert "whitelist unreachable" in state.warning


@pytest.mark.parametrize("damage", [b"", b"\n--\n", b"garbage" * 100])
def test_it_is_no_whitelist(own, damage):
    (own.storage / ".cvmfswhitelist").write_bytes(damage)
    assert _state(own).problem.startswith("whitelist invalid")


def test_somebody_elses(own, new_repository):
    other = new_repository("other.example.org", "other")
    document = (other.storage / ".cvmfswhitelist").read_bytes()
    (own.storage / ".cvmfswhitelist").write_bytes(document)
    assert "not signed with the master key" in _state(own).problem


def test_another_certificate(own, new_repository):
    other = new_repository("other.example.org", "other")
    os.replace(other.site.key(other.fqrn, "crt"), own.site.key(own.fqrn, "crt"))
    assert _state(own).problem == "whitelist does not list the certificate"
    resign_whitelist(own.site, own.fqrn)
    assert _state(own).problem == ""


@pytest.mark.parametrize("kind", ["pub", "crt"])
def test_without_the_key_it_cannot_be_told(own, kind):
    os.unlink(own.site.key(own.fqrn, kind))
    assert f"{own.fqrn}.{kind}" in expiry_warning(own.site, own.settings, NOW)


def test_whoever_publishes_is_told(own):
    said = []
    own.publish(warn=said.append)
    assert len(said) == 1
    assert EXPIRED in said[0]
    assert own.manifest().revision == 2
    resign_whitelist(own.site, own.fqrn)
    own.publish(warn=said.append)
    assert len(said) == 1
