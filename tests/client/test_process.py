"""What surrounds a mount: where its configuration is read again, and what its process is spared."""

import gc
import os
import platform
import subprocess
import sys

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


# Objects of more than 512 bytes are malloc's own matter.
_ARENAS = """
import ctypes, sys, threading
if sys.argv[1] == "shared":
    from cvfs.client.process import share_arena
    share_arena()
before = threading.Barrier(4)
def allocate():
    before.wait(10)
    kept.append([bytes(600) for _ in range(1000)])
kept, threads = [], [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
file = libc.fdopen(1, b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fflush(ctypes.c_void_p(file))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
@pytest.mark.parametrize(("how", "several"), [("shared", False), ("apart", True)])
def test_threads_share_their_memory(how, several):
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", _ARENAS, how], check=True, capture_output=True, text=True, timeout=60, env=ours
    )
    assert (done.stdout.count("<heap nr=") > 1) is several
