"""Who uses a place, asked of /proc."""

import os
import subprocess
import sys

import pytest

from cvfs_server.transaction.users import User, named, users_of, works_in

HOLD = "import os, sys; exec(sys.argv[1]); print(flush=True); sys.stdin.read()"


@pytest.fixture
def place(tmp_path):
    (tmp_path / "place").mkdir()
    (tmp_path / "place/file").write_bytes(b"x" * 5000)
    return tmp_path / "place"


@pytest.mark.parametrize(
    ("action", "writes"),
    [
        ("os.chdir('.')", False),
        ("file = open('file')", False),
        ("file = open('file', 'a')", True),
        ("file = open('file', 'r+')", True),
        ("import mmap; file = open('file', 'rb'); m = mmap.mmap(file.fileno(), 0, access=1); file.close()", False),
    ],
)
def test_a_user(place, tmp_path, action, writes):
    somewhere = place if "chdir" in action else tmp_path
    script = f"os.chdir({str(place)!r}); {action}; os.chdir({str(somewhere)!r})"
    with subprocess.Popen([sys.executable, "-c", HOLD, script], stdin=-1, stdout=-1) as process:
        assert process.stdout.readline() == b"\n"
        (user,) = users_of(str(place))
        assert (user.pid, user.writes) == (process.pid, writes)
        assert users_of(str(place)[:-1]) == []
        process.stdin.close()
    assert users_of(str(place)) == []


def test_names():
    users = [User(number, "sh", number == 1) for number in range(1, 8)]
    assert named(users[:2]) == "sh (1, writes), sh (2)"
    assert named(users).endswith("sh (5) and 2 more")


def test_works_in(place, monkeypatch):
    assert not works_in(str(place))
    monkeypatch.chdir(place)
    assert works_in(str(place))
    assert works_in(os.path.dirname(place))
