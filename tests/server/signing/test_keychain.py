"""The keys of a repository as a set: complete, belonging together, never in the place of others."""

import os
import shutil
import stat

import pytest

from cvfs.errors import NotFound, UsageError
from cvfs_server.founding.ownership import current_owner
from cvfs_server.signing.keychain import (
    check_keychain,
    choose_keychain,
    new_keychain,
    read_keychain,
    with_new_signing_key,
    write_keychain,
)
from cvfs_server.site import Site

FQRN = "sw.example.org"


@pytest.fixture(scope="module")
def keychain():
    return new_keychain(FQRN)


@pytest.fixture(scope="module")
def others():
    return new_keychain("a-name-as-long-as-a-name-may-be-in-sixty-characters.example.org")


@pytest.fixture
def site(tmp_path):
    return Site(str(tmp_path))


def _write(directory, keychain):
    os.makedirs(directory, exist_ok=True)
    for kind, text in keychain.items():
        with open(f"{directory}/{FQRN}.{kind}", "wb") as file:
            file.write(text)


def test_new_ones(site, keychain, others):
    """A certificate has no room for the longest names."""
    for made in (keychain, others):
        assert sorted(made) == ["crt", "key", "masterkey", "pub"]
        check_keychain(made, "nowhere", FQRN)
    written = write_keychain(site, FQRN, keychain, current_owner())
    assert {os.path.basename(path) for path in written} == {f"{FQRN}.{kind}" for kind in keychain}
    modes = {kind: stat.S_IMODE(os.stat(site.key(FQRN, kind)).st_mode) for kind in keychain}
    assert modes == {"key": 0o600, "masterkey": 0o600, "pub": 0o644, "crt": 0o644}
    assert read_keychain(site.keys, FQRN) == keychain
    assert write_keychain(site, FQRN, keychain, current_owner()) == []


def test_other_keys_stay(site, keychain, others):
    write_keychain(site, FQRN, {"pub": others["pub"]}, current_owner())
    with pytest.raises(UsageError, match="exists already"):
        write_keychain(site, FQRN, keychain, current_owner())
    assert read_keychain(site.keys, FQRN) == {"pub": others["pub"]}


@pytest.mark.parametrize("missing", [(), ("masterkey",)])
def test_keys_that_lie_there_are_taken(site, keychain, missing):
    there = {kind: text for kind, text in keychain.items() if kind not in missing}
    _write(site.keys, there)
    assert choose_keychain(site, FQRN) == there
    assert choose_keychain(site, FQRN, site.keys) == there


@pytest.mark.parametrize("missing", ["pub", "key", "crt"])
def test_a_set_that_is_not_complete(site, keychain, missing):
    _write(site.keys, {kind: text for kind, text in keychain.items() if kind != missing})
    with pytest.raises(UsageError, match=rf"exists already, but {FQRN}\.{missing} is not beside it"):
        choose_keychain(site, FQRN)


def test_keys_from_elsewhere(site, keychain, tmp_path):
    elsewhere = str(tmp_path / "elsewhere")
    with pytest.raises(NotFound, match="holds no keys"):
        choose_keychain(site, FQRN, elsewhere)
    _write(elsewhere, keychain)
    assert choose_keychain(site, FQRN, elsewhere) == keychain
    _write(site.keys, {"pub": keychain["pub"]})
    with pytest.raises(UsageError, match="would take its place"):
        choose_keychain(site, FQRN, elsewhere)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("crt", "is not the key of"),
        ("key", "is not the key of"),
        ("pub", "is not the key of"),
        ("masterkey", "not the key"),
    ],
)
def test_keys_that_do_not_belong_together(keychain, others, kind, words):
    with pytest.raises(UsageError, match=words):
        check_keychain({**keychain, kind: others[kind]}, "/keys", FQRN)


@pytest.mark.parametrize("kind", ["crt", "key", "pub", "masterkey"])
def test_what_is_no_key_is_named(keychain, kind):
    with pytest.raises(UsageError, match=f"/keys/{FQRN}"):
        check_keychain({**keychain, kind: b"nonsense"}, "/keys", FQRN)


def test_a_new_signing_key_for_the_same_master_key(keychain):
    renewed = with_new_signing_key(keychain, FQRN)
    assert {kind for kind in keychain if renewed[kind] != keychain[kind]} == {"key", "crt"}
    check_keychain(renewed, "nowhere", FQRN)


def test_a_key_that_cannot_be_read(site, keychain):
    _write(site.keys, keychain)
    os.unlink(site.key(FQRN, "key"))
    os.symlink("nowhere", site.key(FQRN, "key"))
    with pytest.raises(NotFound, match=r"sw\.example\.org\.key"):
        choose_keychain(site, FQRN)
    shutil.rmtree(site.keys)
