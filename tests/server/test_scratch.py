"""Scratch directories vanish with their owner, or with the next one after he was killed; never while he works."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cvfs.errors import StoreFull
from cvfs_server.scratch import scratch_directory

OWNER = """
import sys, time
from cvfs_server.scratch import scratch_directory
with scratch_directory(sys.argv[1], "read.") as path:
    open(path + "/file", "wb").close()
    print(path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path):
    """Another process that has one; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.path = Path(process.stdout.readline().strip())
    yield process
    process.kill()
    process.communicate()


def test_it_vanishes_with_everything_in_it(tmp_path):
    with scratch_directory(str(tmp_path), "read.") as path:
        (Path(path) / "below").mkdir()
        assert os.listdir(tmp_path) == [os.path.basename(path)]
    assert os.listdir(tmp_path) == []


def test_that_of_somebody_at_work_stays_and_a_dead_ones_goes(tmp_path, owner):
    with scratch_directory(str(tmp_path), "read."):
        assert (owner.path / "file").exists()
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert owner.path.exists()
    with scratch_directory(str(tmp_path), "read."):
        assert not owner.path.exists()


def test_names_of_others_are_left_alone(tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "read.file").write_bytes(b"no directory")
    (tmp_path / "read.link").symlink_to(tmp_path / "tmp")
    with scratch_directory(str(tmp_path), "read."):
        pass
    assert sorted(os.listdir(tmp_path)) == ["read.file", "read.link", "tmp"]


def test_a_place_that_cannot_be_used(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(StoreFull, match="cannot use"), scratch_directory(str(tmp_path), "read."):
        pass
