"""Entries as a mount shows them: owners, modes, sizes, links."""

import errno
import os
import stat

import pytest

from cvfs.client.magic.mounts import Observation
from cvfs.client.owners import OwnerMap
from cvfs.client.presentation import View, view_of
from cvfs.client.settings.view import OwnerSettings
from cvfs.errors import UsageError

OBSERVED = Observation(control=str, due=float, started=0.0)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (View(), (1, 10)),
        (View(owner=(7, 8)), (7, 8)),
        (View(owner=(0, 0)), (0, 0)),
        (View(uids=OwnerMap({1: 2})), (2, 10)),
        (View(gids=OwnerMap({}, 5)), (1, 5)),
        (View(uids=OwnerMap({1: 0}), gids=OwnerMap({10: 0})), (0, 0)),
        (View(owner=(7, 8), uids=OwnerMap({1: 2}), gids=OwnerMap({10: 2})), (7, 8)),
    ],
)
def test_owners(row, view, expected):
    shown = view.attributes(300, row(b"f", uid=1, gid=10))
    assert (shown.uid, shown.gid) == expected


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (0o100600, 0o100644),
        (0o104710, 0o104754),
        (0o040700, 0o040755),
        (0o041000, 0o041555),
        (0o010000, 0o010444),
        (0o120777, 0o120777),
    ],
)
def test_everybody_may_read(row, mode, expected):
    entry = row(b"x", mode, symlink=b"t" if stat.S_ISLNK(mode) else b"")
    assert View(world_readable=True).attributes(300, entry).mode == expected
    assert View().attributes(300, entry).mode == mode


def test_sizes_and_device_numbers(row):
    link = row(b"l", 0o120777, size=6, symlink=b"$(A)/x")
    assert View(variables={b"A": b"long"}).attributes(9, link).size == 6
    assert View(variables={b"A": b"longer"}).attributes(9, link).size == 8
    assert View(variables=None).attributes(9, link).size == 6
    device = View().attributes(9, row(b"d", 0o020600, size=0x105))
    assert (device.size, device.rdev) == (0, 0x105)


def test_links_are_shown_as_published_by_cache_servers(row):
    link = row(b"l", 0o120777, symlink=b"/$(A)/$(B:-c)")
    assert View(variables={b"A": b"a"}).target(link) == b"/a/c"
    assert View(variables=None).target(link) == b"/$(A)/$(B:-c)"


def test_a_view_is_made_of_settings(make_settings, tmp_path, row):
    (tmp_path / "u").write_text("* 77\n")
    owner = OwnerSettings(uid_map=str(tmp_path / "u"), world_readable=True)
    view = view_of(make_settings(owner=owner, variables={"X": "x"}), OBSERVED)
    shown = view.attributes(300, row(b"f", 0o100600, gid=5))
    assert (shown.uid, shown.gid, shown.mode) == (77, 5, 0o100644)
    assert view.variables[b"X"] == b"x"
    assert view.variables[b"CVMFS_FQRN"] == b"sw.example.org"
    assert view.variables[b"CVMFS_ARCH"]
    assert view_of(make_settings(raw_links=True), OBSERVED).variables is None


def test_who_claims_everything(make_settings):
    settings = make_settings(owner=OwnerSettings(claim_ownership=True))
    assert view_of(settings, OBSERVED).owner == (os.getuid(), os.getgid())
    assert view_of(settings, OBSERVED, (7, 8)).owner == (7, 8)
    assert view_of(make_settings(), OBSERVED, (7, 8)).owner is None


def test_access_lists_are_asked_for_again_where_they_are_obeyed(make_settings):
    """EOPNOTSUPP in answer to a kernel that obeys them would forbid every access."""
    for obeyed, expected in ((False, errno.EOPNOTSUPP), (True, errno.ENODATA)):
        shown = view_of(make_settings(posix_acl=obeyed), OBSERVED)
        codes = {shown.lacks(name).errno for name in (b"system.posix_acl_access", b"system.posix_acl_default")}
        assert codes == {expected}
        assert shown.lacks(b"security.selinux").errno == errno.EOPNOTSUPP
        assert shown.lacks(b"user.none").errno == errno.ENODATA


def test_a_map_that_cannot_be_read_fails_the_mount(make_settings, tmp_path):
    with pytest.raises(UsageError, match="none: No such file"):
        view_of(make_settings(owner=OwnerSettings(gid_map=str(tmp_path / "none"))), OBSERVED)


def test_what_nobody_may_read_is_not_listed():
    """In a user namespace the kernel keeps `trusted.*` from everybody."""
    published = {b"user.b": b"", b"trusted.a": b"", b"user.a": b""}
    assert View().names(published) == [b"trusted.a", b"user.a", b"user.b"]
    assert View(trusted=False).names(published) == [b"user.a", b"user.b"]
