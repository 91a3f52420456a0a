"""Machine and versions, as they stand in every result."""

import os
import platform

import pytest

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


@pytest.mark.parametrize(
    ("kind", "journal", "said"),
    [
        ("ext4", "fs/jbd2/sda1-8", "ext4"),
        ("ext4", "fs/jbd2/sda2-8", "ext4 without a journal: creating files is slow after many were deleted"),
        ("xfs", "fs/jbd2/sda2-8", "xfs"),
    ],
)
def test_says_where_new_files_are_slow(tmp_path, kind, journal, said):
    """Measured: 10 µs for a file with a journal, 450 to 900 without one after 4,000 were deleted."""
    for place in ("self", "fs/ext4/sda1", journal):
        (tmp_path / place).mkdir(parents=True)
    device = tmp_path.stat().st_dev
    line = f"40 1 {os.major(device)}:{os.minor(device)} / /home rw,relatime shared:1 - {kind} /dev/sda1 rw"
    (tmp_path / "self" / "mountinfo").write_text(f"39 1 0:1 / / rw - rootfs none rw\n{line}\n")
    assert settings._filesystem(tmp_path, tmp_path) == said


def test_says_which_server_was_asked(tmp_path, monkeypatch):
    for found, said in ((None, "cvfs-server serve"), ("/usr/sbin/nginx", "nginx")):
        monkeypatch.setattr(settings, "nginx", lambda found=found: found)
        assert setting(tmp_path)["web server"] == said
