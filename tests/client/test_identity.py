"""Whom a mount acts for."""

import os
import tempfile
from pathlib import Path

import pytest

from cvfs.client.identity import acting_for, identity, user_number
from cvfs.client.settings.mount import ProcessSettings
from cvfs.errors import UsageError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


def test_nobody_in_particular():
    assert identity(ProcessSettings()) is None
    assert identity(ProcessSettings(user=os.getuid(), group=os.getgid())) is None


@as_root
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (ProcessSettings(user=12, group=34), (12, 34)),
        (ProcessSettings(user=12), (12, os.getgid())),
        (ProcessSettings(group=34), (os.getuid(), 34)),
    ],
)
def test_root_may_be_anybody(settings, expected):
    assert identity(settings) == expected


def test_others_may_not(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="uid=12, gid=34: only root can mount for somebody else"):
        identity(ProcessSettings(user=12, group=34))


@as_root
def test_what_is_made_meanwhile_is_theirs():
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        place = Path(directory) / "made"
        with acting_for((12, 34)):
            place.touch()
        assert (place.stat().st_uid, place.stat().st_gid) == (12, 34)
    assert (os.geteuid(), os.getegid()) == (0, os.getgid())
    with acting_for(None):
        assert os.geteuid() == 0


@pytest.mark.parametrize(("name", "number"), [("0", 0), ("root", 0), ("4711", 4711)])
def test_users_by_name_or_number(name, number):
    assert user_number(name) == number


def test_a_user_who_is_not_there():
    with pytest.raises(UsageError, match="CVMFS_TALK_OWNER=no-such-user: no such user"):
        user_number("no-such-user")
