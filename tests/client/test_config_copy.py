"""Configuration repositories: what is copied, what serves while they cannot be reached, and that nobody waits for ever."""

import dataclasses
import os
import shutil
import socket
import sys
import time

import pytest

from cvfs.client.config_copy import ConfigCopy
from cvfs.client.config_fetch import FRESH, ask_process, fetch_copy, update_copy
from cvfs.client.settings import settings_from
from cvfs.client.settings.tree import Copy
from cvfs.errors import FormatError, Unreachable

FQRN = "own.example.org"


@pytest.fixture
def published(new_repository):
    """A configuration repository with a few files."""
    repository = new_repository()
    write(repository.tree, "etc/cvmfs/default.conf", "A=1\n")
    write(repository.tree, "etc/cvmfs/keys/example.org/a.pub", "key\n")
    write(repository.tree, "libexec/auth.conf", "B=1\n")
    write(repository.tree, "big/not-copied", "x")
    repository.publish()
    return repository


def write(top, name, text):
    (top / name).parent.mkdir(parents=True, exist_ok=True)
    (top / name).write_text(text)


def settings_for(repository, tmp_path, **parameters):
    given = {
        "CVMFS_SERVER_URL": repository.url,
        "CVMFS_PUBLIC_KEY": str(repository.public_key),
        "CVMFS_CACHE_BASE": str(tmp_path / "base"),
        "CVMFS_HTTP_PROXY": "DIRECT",
    }
    return settings_from(FQRN, {**given, **parameters})


def age(copies: ConfigCopy, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(f"{copies.place}/.cvfs-copy", (then, then))


def test_a_copy_holds_what_configuration_names(published, tmp_path):
    (published.tree / "etc/cvmfs/link.conf").symlink_to("default.conf")
    (published.tree / "etc/cvmfs/outside.conf").symlink_to("../../../secret")
    (published.tree / "etc/cvmfs/absolute.conf").symlink_to("/etc/passwd")
    published.publish()
    settings = settings_for(published, tmp_path)
    update_copy(settings)
    copies = ConfigCopy.of(settings)
    kept = copies.kept()
    top = tmp_path / "base/config" / FQRN
    assert kept.directory == str(top)
    assert (top / "etc/cvmfs/default.conf").read_text() == "A=1\n"
    assert (top / "etc/cvmfs/link.conf").read_text() == "A=1\n"
    assert (top / "libexec/auth.conf").read_text() == "B=1\n"
    assert sorted(path.name for path in (top / "etc/cvmfs").iterdir()) == ["default.conf", "keys", "link.conf"]
    assert not (top / "big").exists()


def test_a_newer_revision_replaces_the_copy_as_a_whole(published, tmp_path):
    settings = settings_for(published, tmp_path)
    update_copy(settings)
    copies = ConfigCopy.of(settings)
    first = copies.kept()
    for number in range(3):
        write(published.tree, "etc/cvmfs/default.conf", f"A={number}2\n")
        (published.tree / "libexec/auth.conf").unlink(missing_ok=True)
        published.publish()
        age(copies, FRESH + 1)
        update_copy(settings)
    second = copies.kept()
    assert second.revision == first.revision + 3
    assert (tmp_path / "base/config" / FQRN / "etc/cvmfs/default.conf").read_text() == "A=22\n"
    assert not (tmp_path / "base/config" / FQRN / "libexec/auth.conf").exists()
    assert len([name for name in os.listdir(copies.directory) if "@" in name]) == 2


def test_what_was_confirmed_a_moment_ago_is_not_asked_for(published, tmp_path):
    settings = settings_for(published, tmp_path)
    update_copy(settings)
    shutil.rmtree(published.storage)
    update_copy(settings)
    assert fetch_copy(settings, ask=None).warning == ""


@pytest.mark.parametrize("damage", ["changed", "missing", "empty record", "no record", "more"])
def test_a_copy_that_lost_something_is_none(damage, published, tmp_path):
    settings = settings_for(published, tmp_path)
    update_copy(settings)
    copies = ConfigCopy.of(settings)
    top = tmp_path / "base/config" / FQRN
    actions = {
        "changed": lambda: (top / "etc/cvmfs/default.conf").write_text("A=\0\n"),
        "missing": (top / "etc/cvmfs/default.conf").unlink,
        "empty record": lambda: (top / ".cvfs-copy").write_text(""),
        "no record": (top / ".cvfs-copy").unlink,
        "more": lambda: (top / "etc/cvmfs/local.conf").write_text(""),
    }
    actions[damage]()
    assert copies.kept() is None
    update_copy(settings)
    assert copies.kept().revision == 2


def test_the_server_gone_the_last_copy_serves_with_a_warning(published, tmp_path):
    settings = settings_for(published, tmp_path)
    update_copy(settings)
    copies = ConfigCopy.of(settings)
    age(copies, FRESH + 1)
    asked = []

    def unreachable(*arguments: object) -> str:
        asked.append(arguments)
        return "no server answers"

    got = fetch_copy(settings, 1.0, unreachable)
    assert got == Copy(
        copies.place,
        2,
        f"configuration repository {FQRN}: no server answers; its copy of revision 2 serves",
    )
    again = fetch_copy(settings, 1.0, unreachable)
    assert len(asked) == 1, "the next mount does not wait for what has just failed"
    assert again.directory == copies.place
    assert "could not be reached a moment ago" in again.warning


def test_without_a_copy_every_mount_tries(published, tmp_path):
    settings = settings_for(published, tmp_path)
    asked = []
    for _ in range(2):
        got = fetch_copy(settings, 1.0, lambda *_: asked.append(1) or "no server answers")
        assert got == Copy(None, None, f"configuration repository {FQRN}: no server answers; there is no copy of it")
    assert len(asked) == 2


def test_without_a_place_there_is_no_copy(published, tmp_path):
    settings = settings_for(published, tmp_path)
    nowhere = dataclasses.replace(settings, trust=dataclasses.replace(settings.trust, state=None))
    assert fetch_copy(nowhere).directory is None
    with pytest.raises(Unreachable, match="no directory"):
        update_copy(nowhere)


def test_the_process_fetches(published, tmp_path):
    settings = settings_for(published, tmp_path)
    assert fetch_copy(settings, 60.0) == Copy(str(tmp_path / "base/config" / FQRN), 2)


def test_the_process_says_what_is_wrong(published, tmp_path):
    wrong = tmp_path / "wrong.pub"
    wrong.write_text("no key\n")
    assert "wrong.pub" in ask_process(settings_for(published, tmp_path, CVMFS_PUBLIC_KEY=str(wrong)), 60.0)


def test_a_process_that_hangs_is_ended_at_the_deadline(published, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/{FQRN}"
        settings = settings_for(published, tmp_path, CVMFS_SERVER_URL=url, CVMFS_TIMEOUT_DIRECT="600")
        assert ask_process(settings, 1.0) == "no answer within 1 seconds"


def test_a_process_that_just_dies_is_no_success(published, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert ask_process(settings_for(published, tmp_path), 60.0) == "its process ended with status 1"


def test_too_much_is_refused_and_the_present_copy_stays(published, tmp_path, monkeypatch):
    settings = settings_for(published, tmp_path)
    update_copy(settings)
    write(published.tree, "etc/cvmfs/more.conf", "C=1\n")
    published.publish()
    copies = ConfigCopy.of(settings)
    age(copies, FRESH + 1)
    monkeypatch.setattr("cvfs.client.config_copy._MOST_FILES", 3)
    with pytest.raises(FormatError, match="too many or too large"):
        update_copy(settings)
    assert copies.kept().revision == 2
    assert len([name for name in os.listdir(copies.directory) if "@" in name]) == 1
