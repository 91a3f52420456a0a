"""What surrounds a mount: where its configuration is read again, and what its process is spared."""

import gc
import os

import pytest

from cvfs.client import process
from cvfs.client.settings import settings_from
from cvfs.errors import Locked, UsageError


@pytest.fixture
def started_in(tmp_path, monkeypatch):
    """The directory in which a mount was started, which its process has left."""
    started = tmp_path / "started"
    started.mkdir()
    (tmp_path / "left-for").mkdir()
    monkeypatch.chdir(tmp_path / "left-for")
    return started


def settings():
    return settings_from("sw.example.org", {"CVMFS_SERVER_URL": "http://s", "CVMFS_KEYS_DIR": "keys"})


def test_relative_names_count_from_where_the_mount_was_started(started_in):
    before = os.getcwd()
    assert process._from(str(started_in), settings)().trust.keys_dir == f"{started_in}/keys"
    assert os.getcwd() == before


def test_one_reads_at_a_time(started_in, monkeypatch):
    monkeypatch.setattr(process, "_READ_WITHIN", 0)
    refused = []

    def reread():
        with pytest.raises(Locked) as second:
            read()
        refused.append(str(second.value))
        return settings()

    read = process._from(str(started_in), reread)
    read()
    assert "being read already" in refused[0]
    assert read().fqrn == "sw.example.org", "free again"


def test_a_directory_that_is_gone(started_in):
    before = os.getcwd()
    started_in.rmdir()
    with pytest.raises(UsageError, match="mount it again"):
        process._from(str(started_in), settings)()
    assert os.getcwd() == before


def test_the_collector_leaves_alone_what_stays(request):
    before = gc.get_threshold()
    request.addfinalizer(lambda: (gc.unfreeze(), gc.set_threshold(*before)))
    process.relieve_collector()
    assert gc.get_freeze_count() > 0
    assert gc.isenabled()
    assert gc.get_threshold()[0] > before[0]
