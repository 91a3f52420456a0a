"""Machine and versions, as they stand in every result."""

import os
import platform

import cvfs
from benchmarks.measuring import setting as settings
from benchmarks.measuring.setting import setting


def test_says_machine_and_versions(tmp_path):
    found = setting(tmp_path)
    assert found["python"].endswith(platform.python_version())
    assert found["kernel"].endswith(platform.release())
    assert f"{os.cpu_count()} cores" in found["machine"]
    assert found["cvfs"] == cvfs.__version__
    assert found["filesystem"]


def test_what_is_not_installed_has_no_line(tmp_path, monkeypatch):
    monkeypatch.setattr(settings.shutil, "which", lambda _name: None)
    found = setting(tmp_path)
    assert not {"cvmfs2", "libfuse", "commit"} & found.keys()
    assert all(found.values())


def test_a_program_that_fails_has_no_line(tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    failing = programs / "cvmfs2"
    failing.write_text("#!/bin/sh\necho 'cannot run here'\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    assert "cvmfs2" not in setting(tmp_path)


def test_says_which_server_was_asked(tmp_path, monkeypatch):
    for found, said in ((None, "cvfs-server serve"), ("/usr/sbin/nginx", "nginx")):
        monkeypatch.setattr(settings, "nginx", lambda found=found: found)
        assert setting(tmp_path)["web server"] == said
