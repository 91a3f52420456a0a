"""The portable binding around its operations: what libfuse is told, what it does to the process, what it cannot do."""

import importlib
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from cvfs.client.settings.mount import FUSE_BINDINGS
from cvfs.errors import MountError, UsageError
from cvfs.fuse import binding, fusepy_adapter
from cvfs.fuse.libfuse_surroundings import complaints, take_back_signals
from cvfs.fuse.mount_points import MountOptions
from cvfs.fuse.server_settings import ServerSettings

OPTIONS = MountOptions("x.org", allow_other=True)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [(ImportError("No module named fuse"), "pip install"), (OSError("Unable to find libfuse"), "install libfuse 2")],
)
def test_a_missing_binding_names_the_remedy(monkeypatch, error, remedy):
    def missing(_name):
        raise error

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MountError, match=remedy):
        fusepy_adapter.load_fusepy()


def told_to_libfuse(monkeypatch, options: MountOptions, complaint: str = "", **settings) -> dict:
    """What it would have been called with; it complains and ends."""
    told = {}

    def refuse(_operations, mountpoint, **options):
        told.update(options, mountpoint=mountpoint)
        os.write(2, complaint.encode())
        raise RuntimeError(1)

    monkeypatch.setattr(fusepy_adapter, "load_fusepy", lambda: SimpleNamespace(FUSE=refuse))
    with pytest.raises(MountError) as caught:
        binding.mount("fusepy", object(), "/mnt/\udcff", options, ServerSettings(**settings))
    return told | {"error": str(caught.value)}


def test_what_libfuse_is_told(monkeypatch):
    """Timeouts are cut, since nothing can be invalidated; a status of libfuse is a mount error."""
    told = told_to_libfuse(monkeypatch, OPTIONS)
    assert told["mountpoint"] == "/mnt/\xff"
    assert (told["entry_timeout"], told["attr_timeout"], told["negative_timeout"]) == (60.0, 60.0, 60.0)
    assert told["ro"] is told["allow_other"] is told["default_permissions"] is told["use_ino"] is True
    assert (told["fsname"], told["subtype"]) == ("x.org", "cvfs")
    assert not {"rw", "suid", "dev"} & told.keys()
    assert told["error"] == "mount /mnt/\udcff: libfuse: libfuse ended with status 1"


def test_what_libfuse_is_told_of_other_mounts(monkeypatch):
    options = MountOptions("x.org", suid=True, read_write=True, default_permissions=False)
    told = told_to_libfuse(monkeypatch, options, entry_timeout=0.0, attribute_timeout=7.0)
    assert (told["entry_timeout"], told["attr_timeout"], told["negative_timeout"]) == (0.0, 7.0, 0.0)
    assert told["rw"] is told["suid"] is told["dev"] is True
    assert not {"ro", "allow_other", "default_permissions"} & told.keys()


def test_the_reason_that_libfuse_writes_is_the_message(monkeypatch):
    complaint = "fusermount: option allow_other only allowed if\n  'user_allow_other' is set\n"
    told = told_to_libfuse(monkeypatch, OPTIONS, complaint)
    expected = "libfuse: fusermount: option allow_other only allowed if; 'user_allow_other' is set"
    assert told["error"].endswith(expected)


def test_a_libfuse_that_never_mounts_is_given_up(monkeypatch, tmp_path):
    over = threading.Event()
    monkeypatch.setattr(fusepy_adapter, "load_fusepy", lambda: SimpleNamespace(FUSE=lambda *_, **__: over.wait(20)))
    monkeypatch.setattr(fusepy_adapter, "MOUNTED_WITHIN", 0.05)
    with pytest.raises(MountError, match="libfuse: no answer within 0 seconds"):
        binding.mount("fusepy", object(), str(tmp_path), OPTIONS, ServerSettings())
    over.set()


@pytest.mark.parametrize(
    ("settings", "parameter"), [({"posix_acl": True}, "CVMFS_ENFORCE_ACLS"), ({"exported": True}, "CVMFS_NFS_SOURCE")]
)
def test_what_libfuse_cannot_do_is_refused_by_the_name_of_the_parameter(settings, parameter):
    with pytest.raises(UsageError, match=f"^{parameter}: .* use the native binding"):
        binding.mount("fusepy", object(), "/mnt", OPTIONS, ServerSettings(**settings))


def test_a_broken_pipe_does_not_kill_the_process_afterwards(monkeypatch):
    """libfuse restores a handler that it never set: the next write to a closed socket would end the process."""
    script = (
        "import signal; from cvfs.fuse.libfuse_surroundings import take_back_broken_pipes\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL); take_back_broken_pipes()\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('SigIgn')).split()[1])"
    )
    ignored = int(_run(script), 16)
    assert ignored >> (signal.SIGPIPE - 1) & 1


def _run(script: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_signals_that_nobody_handles_are_taken_back_and_others_left(monkeypatch):
    taken = []
    monkeypatch.setattr("cvfs.fuse.libfuse_surroundings._set_handler", lambda number, how: taken.append((number, how)))
    monkeypatch.setattr(signal, "getsignal", lambda number: print if number == signal.SIGTERM else signal.SIG_DFL)
    take_back_signals()
    assert taken == [(signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.SIG_DFL)]


def test_complaints_are_one_line_and_standard_error_comes_back(capfd):
    with complaints() as complained:
        assert complained() == ""
        os.write(2, b"one\n\n two\xff \n")
        assert complained() == "one; two\ufffd"
    os.write(2, b"as before\n")
    assert capfd.readouterr().err == "as before\n"


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_settings_know_every_binding():
    assert tuple(binding.BINDINGS) == FUSE_BINDINGS


def test_one_binding_does_not_import_the_other():
    """On a host without Linux's device the server that speaks to it is never needed, and nobody else needs libfuse."""
    script = (
        "import sys, cvfs.client.mount, cvfs.client.process, cvfs.client.background\n"
        "print(sorted(name for name in sys.modules if name.startswith('cvfs.fuse.')), 'fuse' in sys.modules)\n"
        "import cvfs.fuse.fusepy_adapter\n"
        "print(sorted(name for name in sys.modules if name.startswith('cvfs.fuse.')), 'fuse' in sys.modules)"
    )
    common, portable = _run(script).splitlines()
    for module in ("native", "server", "device", "notifier", "fusepy_adapter"):
        assert f"'cvfs.fuse.{module}'" not in common
    for module in ("native", "server", "device", "notifier"):
        assert f"'cvfs.fuse.{module}'" not in portable
    assert common.endswith("False")
    assert portable.endswith("False")
