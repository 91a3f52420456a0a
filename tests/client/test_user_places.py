"""Where things of an ordinary user lie, by what his environment says and what can be written."""

import os

import pytest

from cvfs.client import user_places
from cvfs.client.user_places import cache_directory, configuration_directory
from cvfs.errors import UsageError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home, and no temporary directories but those that a test names."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(user_places, "_SHARED_BY_ALL", ())
    monkeypatch.setattr(user_places, "_told", set())
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def locked(monkeypatch):
    """Directories that cannot be written: root's rights know no bounds."""
    names = set()
    able = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) not in names and able(path, mode))
    return names


def test_in_the_home(home):
    assert cache_directory({}) == f"{home}/.cache/cvfs"
    assert cache_directory({"XDG_CACHE_HOME": f"{home}/elsewhere"}) == f"{home}/elsewhere/cvfs"
    assert cache_directory({"XDG_CACHE_HOME": "relative"}) == f"{home}/.cache/cvfs"
    assert os.listdir(home) == []


def test_a_home_that_cannot_be_written(home, locked, tmp_path, caplog):
    locked.add(str(home))
    (tmp_path / "tmp").mkdir()
    used = f"{tmp_path}/tmp/cvfs-{os.geteuid()}"
    assert [cache_directory({"TMPDIR": f"{tmp_path}/tmp"}) for _ in range(2)] == [used, used]
    assert os.stat(used).st_mode & 0o777 == 0o700
    assert [record.getMessage() for record in caplog.records] == [
        f"{home}/.cache/cvfs cannot be written: the cache, and what was seen of repositories, are in {used}"
    ]


def test_no_home(home, tmp_path, monkeypatch, caplog):
    """A user whom the machine does not know."""
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert configuration_directory({}) is None
    assert cache_directory({"XDG_RUNTIME_DIR": str(tmp_path)}) == f"{tmp_path}/cvfs-{os.geteuid()}"
    assert "you have no home directory" in caplog.text


@pytest.mark.parametrize("trap", ["another's", "open", "a link", "a file"])
def test_somebody_was_there_first(home, locked, tmp_path, trap):
    """A directory that is not the user's alone is never used."""
    locked.add(str(home))
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
    name = f"cvfs-{os.geteuid()}"
    _lay(first / name, trap)
    assert cache_directory({"TMPDIR": str(first), "XDG_RUNTIME_DIR": str(second)}) == str(second / name)


def _lay(place, trap):
    if trap == "a link":
        (place.parent / "target").mkdir(mode=0o700)
        place.symlink_to("target")
    elif trap == "a file":
        place.touch(mode=0o700)
    else:
        place.mkdir(mode=0o700)
        place.chmod(0o777 if trap == "open" else 0o700)
        if trap == "another's":
            _give_away(place)


def _give_away(place):
    if os.geteuid() != 0:
        pytest.skip("only root gives a directory to somebody else")
    os.chown(place, 65534, -1)


def test_no_place_at_all(home, locked):
    locked.add(str(home))
    with pytest.raises(UsageError, match="name one with -c DIR"):
        cache_directory({})


def test_configuration(home):
    assert configuration_directory({}) is None
    (home / ".config/cvfs").mkdir(parents=True)
    assert configuration_directory({}) == f"{home}/.config/cvfs"
    (home / "own/cvfs").mkdir(parents=True)
    assert configuration_directory({"XDG_CONFIG_HOME": f"{home}/own"}) == f"{home}/own/cvfs"
