"""The verbs mount, umount and stat, and `mount.cvfs`: on real mounts, on dead ones, on none."""

import json
import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner
from processes import ENVIRONMENT

from cvfs.fuse import mount_points
from cvfs.kernel import mount_table
from cvfs_tools import mounting, mounts
from cvfs_tools.cvfs_command import main

FQRN = "tiny.example.org"


def assert_refused(result, status: int, *words: str) -> None:
    assert result.exit_code == status, (result.output, result.exception)
    assert result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in words), result.stderr


def command(program: str, *arguments: object) -> subprocess.CompletedProcess:
    module = {"cvfs": "cvfs_command", "mount.cvfs": "mount_helper"}[program]
    start = f"from cvfs_tools.{module} import main; main(prog_name={program!r})"
    words = [sys.executable, "-c", start, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=90, env=ENVIRONMENT)


@pytest.fixture
def mountpoint(tmp_path):
    place = tmp_path / "mnt"
    place.mkdir()
    yield place
    subprocess.run(["umount", "-l", place], capture_output=True)


@pytest.mark.system
def test_mount_stat_umount(configuration, mountpoint, tmp_path):
    done = command("cvfs", "mount", FQRN, mountpoint, "-o", f"config={configuration}", "-t", "s5")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (mountpoint / "files" / "hello.txt").read_bytes()
    state = json.loads(command("cvfs", "stat", mountpoint, "--json").stdout)
    assert (state["fqrn"], state["revision"], state["expires"]) == (FQRN, 6, None)
    head, values = command("cvfs", "stat", mountpoint).stdout.splitlines()
    shown = dict(zip(head.split(), values.split(), strict=True))
    assert (shown["REVISION"], shown["PID"], shown["ONLINE"]) == ("6", str(state["pid"]), "1")
    assert head.split()[13] == "HITRATE(%)"
    text = command("cvfs", "stat", "-v", mountpoint).stdout
    assert f"PID: {state['pid']}\n" in text
    assert "revision         6\n" in text
    assert "expires          never\n" in text
    assert "  LOOKUP" in text
    by_cache = command("cvfs", "stat", FQRN, "-c", tmp_path / "base" / "shared", "--json")
    assert json.loads(by_cache.stdout)["pid"] == state["pid"]
    done = command("cvfs", "umount", mountpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not os.path.ismount(mountpoint)
    done = command("cvfs", "umount", mountpoint)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (35, "", 1)


@pytest.mark.system
def test_umount_of_what_is_in_use(configuration, mountpoint):
    assert command("cvfs", "mount", FQRN, mountpoint, "-o", f"config={configuration}").returncode == 0
    with open(mountpoint / "files" / "hello.txt", "rb") as file:
        done = command("cvfs", "umount", mountpoint)
        assert (done.returncode, done.stderr.count("\n")) == (35, 1)
        assert "busy" in done.stderr
        assert command("cvfs", "umount", "-l", mountpoint).returncode == 0
        assert file.read()


@pytest.mark.system
def test_umount_cleans_up_after_a_killed_client(configuration, mountpoint):
    without = ("-o", f"config={configuration},CVFS_WATCHDOG=no")
    assert command("cvfs", "mount", FQRN, mountpoint, *without).returncode == 0
    os.kill(json.loads(command("cvfs", "stat", mountpoint, "--json").stdout)["pid"], 9)
    assert command("cvfs", "umount", mountpoint).returncode == 0
    assert os.listdir(mountpoint) == []


@pytest.mark.system
def test_a_server_that_hangs_is_detached_without_asking_it(configuration, mountpoint):
    assert command("cvfs", "mount", FQRN, mountpoint, "-o", f"config={configuration}").returncode == 0
    pid = json.loads(command("cvfs", "stat", mountpoint, "--json").stdout)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        done = command("cvfs", "umount", "-l", mountpoint)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert mount_table.find_mount(mountpoint) is None
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.system
def test_the_default_place_is_mounted_again_after_a_kill(configuration, mountpoint, monkeypatch):
    """Nobody had looked at the mount, so the kernel itself cannot tell what is there."""
    started = []
    monkeypatch.setenv("CVMFS_MOUNT_DIR", str(mountpoint.parent))
    monkeypatch.setattr(mounting, "mount_in_background", lambda chosen, place, **_: started.append(place))
    monkeypatch.setattr(mounting, "start_logging", lambda **_: None)
    place = mountpoint.parent / FQRN
    place.mkdir()
    os.close(mount_points.mount(str(place), mount_points.MountOptions("dead")))
    try:
        result = CliRunner().invoke(main, ["mount", FQRN, "-o", f"config={configuration}"], prog_name="cvfs")
    finally:
        subprocess.run(["umount", "-l", place], check=True)
    assert (result.exit_code, result.output) == (0, "")
    assert started == [str(place)]


@pytest.mark.system
def test_a_mount_is_named_by_a_relative_path(configuration, mountpoint, monkeypatch):
    monkeypatch.chdir(mountpoint.parent)
    assert command("cvfs", "mount", FQRN, "mnt", "-o", f"config={configuration}").returncode == 0
    assert json.loads(command("cvfs", "stat", "mnt", "--json").stdout)["mountpoint"] == str(mountpoint)
    done = command("cvfs", "umount", "mnt")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = command("cvfs", "umount", "mnt")
    assert (done.returncode, done.stderr) == (35, f"cvfs: {mountpoint}: nothing is mounted there\n")


def test_umount_leaves_other_file_systems_alone(monkeypatch):
    unmounted = []
    monkeypatch.setattr(mount_points, "unmount", lambda place, **_: unmounted.append(place))
    result = CliRunner().invoke(main, ["umount", "-l", "/proc"], prog_name="cvfs")
    assert_refused(result, 35, "/proc: a mount of type proc, not of cvfs: use umount")
    assert unmounted == []


@pytest.mark.parametrize(
    ("name", "place"),
    [("sw.example.org", "/cvmfs/sw.example.org"), ("/a/b", "/a/b"), ("./x.y", "/here/x.y"), ("mnt", "/here/mnt")],
)
def test_where_a_name_is_mounted(monkeypatch, name, place):
    monkeypatch.setattr(os, "getcwd", lambda: "/here")
    monkeypatch.setattr(mounts, "running_mounts", list)
    assert mounts.place_of(name) == place


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("sw", "/cvmfs/sw.example.org"),
        ("sw.other.org", "/cvmfs/sw.other.org"),
        ("./sw", "/here/sw"),
        ("s w", "/here/s w"),
    ],
)
def test_a_short_name_is_in_the_default_domain(tmp_path, monkeypatch, name, place):
    (tmp_path / "default.local").write_text("CVMFS_DEFAULT_DOMAIN=example.org\n")
    monkeypatch.setenv("CVFS_ETC", str(tmp_path))
    monkeypatch.setattr(os, "getcwd", lambda: "/here")
    monkeypatch.setattr(mounts, "running_mounts", list)
    assert mounts.place_of(name) == place


@pytest.mark.system
def test_stat_says_that_the_process_of_a_mount_died(mountpoint):
    os.close(mount_points.mount(str(mountpoint), mount_points.MountOptions("dead")))
    result = CliRunner().invoke(main, ["stat", str(mountpoint)], prog_name="cvfs")
    assert_refused(result, 2, f"{mountpoint}: the process of this mount died, mount it again")


@pytest.mark.system
def test_stat_does_not_wait_for_a_server_that_hangs(mountpoint, monkeypatch):
    monkeypatch.setattr(mount_points, "PROBE_DEADLINE", 0.1)
    server = mount_points.mount(str(mountpoint), mount_points.MountOptions("silent"))
    try:
        result = CliRunner().invoke(main, ["stat", str(mountpoint)], prog_name="cvfs")
    finally:
        os.close(server)
    assert_refused(result, 35, f"{mountpoint}: mounted, but its server does not answer")


@pytest.mark.system
def test_a_mount_started_with_closed_standard_descriptors(configuration, mountpoint):
    start = "from cvfs_tools.cvfs_command import main; main(prog_name='cvfs')"
    words = [sys.executable, "-c", start, "mount", FQRN, mountpoint, "-o", f"config={configuration}"]
    closing = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *map(str, words)]
    assert subprocess.run(closing, env=ENVIRONMENT, timeout=90).returncode == 0
    assert (mountpoint / "files" / "hello.txt").read_bytes()
    assert command("cvfs", "umount", mountpoint).returncode == 0


def test_the_default_place_that_cannot_be_made(configuration, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("CVMFS_MOUNT_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(mounting, "start_logging", lambda **_: None)
    result = CliRunner().invoke(main, ["mount", FQRN, "-o", f"config={configuration}"], prog_name="cvfs")
    assert_refused(result, 35, f"file/{FQRN}: Not a directory: name another directory to mount at")


@pytest.mark.parametrize("place", ["/none", "/tmp", "no.such.repository"])
def test_stat_of_what_is_not_mounted(place):
    result = CliRunner().invoke(main, ["stat", place], prog_name="cvfs")
    assert_refused(result, 2, "no cvfs repository is mounted here")


def test_stat_of_a_cache_without_a_mount(tmp_path):
    result = CliRunner().invoke(main, ["stat", FQRN, "-c", str(tmp_path)], prog_name="cvfs")
    assert_refused(result, 34, "no mount answers here")


@pytest.mark.system
def test_mount_cvfs(configuration, mountpoint):
    options = f"ro,_netdev,config={configuration},CVMFS_REPOSITORY_TAG=s2"
    done = command("mount.cvfs", FQRN, mountpoint, "-o", options, "-v")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"mount.cvfs: {FQRN} mounted on {mountpoint}\n"
    assert os.getxattr(mountpoint, "user.revision") == b"3"
    again = command("mount.cvfs", f"cvfs#{FQRN}", mountpoint, "-s", "-n", "-o", options)
    assert (again.returncode, again.stdout) == (32, "")
    assert again.stderr == f"mount.cvfs: {mountpoint}: is mounted already, unmount it first\n"
    # What mount(8) hands on at a remount: the options of the mount table. A mount is read-only anyway.
    remounted = command("mount.cvfs", FQRN, mountpoint, "-t", "fuse.cvfs", "-o", "remount,ro,user_id=0,allow_other")
    assert (remounted.returncode, remounted.stderr) == (0, "")
    wrong = command("mount.cvfs", "other.example.org", mountpoint, "-o", "remount,ro")
    assert (wrong.returncode, wrong.stdout) == (32, "")
    assert "other.example.org is not mounted there" in wrong.stderr


def test_mount_cvfs_checks_options_without_mounting(configuration, tmp_path):
    place = tmp_path / "none"
    fine = command("mount.cvfs", FQRN, place, "-f", "-o", f"config={configuration}")
    assert (fine.returncode, fine.stdout, fine.stderr) == (0, "", "")
    wrong = command("mount.cvfs", FQRN, place, "-f", "-o", "frobnicate")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == "mount.cvfs: -o frobnicate: unknown option, give CVMFS_* parameters or config=FILE\n"
    sloppy = command("mount.cvfs", FQRN, place, "-f", "-s", "-o", f"frobnicate,comment=x,config={configuration}")
    assert (sloppy.returncode, sloppy.stderr) == (0, "")


@pytest.mark.parametrize(
    ("change", "status"),
    [("CVMFS_SERVER_URL=http://127.0.0.1:9/none", 32), ("CVMFS_PUBLIC_KEY=/none.pub", 1), ("CVMFS_TIMEOUT=x", 1)],
)
def test_mount_cvfs_fails_with_the_statuses_of_mount(configuration, mountpoint, change, status):
    done = command("mount.cvfs", FQRN, mountpoint, "-o", f"config={configuration},{change}")
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert done.stderr.startswith("mount.cvfs: ")


@pytest.mark.system
def test_variables_of_links_come_from_the_configuration(configuration, mountpoint):
    with configuration.open("a") as file:
        file.write("LAB_TESTVAR=elsewhere\nCVMFS_ARCH=vax\n")
    assert command("cvfs", "mount", FQRN, mountpoint, "-o", f"config={configuration}", "-t", "s5").returncode == 0
    assert os.readlink(mountpoint / "symlinks" / "variable_testvar") == "/a/elsewhere/b"
    assert os.readlink(mountpoint / "symlinks" / "variable") == "vax/lib"
