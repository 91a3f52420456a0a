"""probe, status, stat, talk, umount, killall, fuser, bugreport: words, columns, exit codes, without touching real mounts."""

import errno
import json
import os
import tarfile

import pytest
from click.testing import CliRunner

from cvfs.errors import MountError, Unreachable, UsageError
from cvfs.fuse import mount_points
from cvfs.kernel import mount_table
from cvfs_tools import administering, mounting, mounts, observing, reporting, talking
from cvfs_tools.cvfs_command import main
from cvfs_tools.mounts import Reply, Running

MOUNTS = [Running("a.example.org", "/cvmfs/a.example.org"), Running("b.example.org", "/mnt/b")]
STATE = {
    "fqrn": "a.example.org",
    "mountpoint": "/cvmfs/a.example.org",
    "version": "1.2.3",
    "pid": 4711,
    "uptime": 125,
    "memory": 40 * 2**20,
    "descriptors": 17,
    "descriptor_limit": 1024,
    "revision": 42,
    "root_hash": "ab" * 20,
    "expires": 185,
    "trouble": "",
    "whitelist_days": 21,
    "catalogs_open": 3,
    "cache_used": 2048,
    "cache_limit": 4096,
    "objects_opened": 200,
    "io_errors": 1,
    "objects_missed": 50,
    "fetched": 10**6,
    "received": 10240,
    "speed": 99,
    "server": "http://s/cvmfs/a",
    "proxy": "http://p:3128",
    "offline_since": None,
    "requests": {"LOOKUP": 5, "READ": 9},
}


def run(*words: str):
    return CliRunner().invoke(main, list(words), prog_name="cvfs")


@pytest.fixture
def two_mounts(monkeypatch):
    for module in (observing, mounting, administering, talking, reporting, mounts):
        monkeypatch.setattr(module, "running_mounts", lambda: MOUNTS, raising=False)


def test_the_columns_of_the_original():
    assert observing.COLUMNS.split()[13] == "HITRATE(%)"
    values = dict(zip(observing.COLUMNS.split(), observing.columns(STATE), strict=True))
    assert values == {
        "VERSION": "1.2.3",
        "PID": 4711,
        "UPTIME(M)": 2,
        "MEM(K)": 40960,
        "REVISION": 42,
        "EXPIRES(M)": 3,
        "NOCATALOGS": 3,
        "CACHEUSE(K)": 2,
        "CACHEMAX(K)": 4,
        "NOFDUSE": 17,
        "NOFDMAX": 1024,
        "NOIOERR": 1,
        "NOOPEN": 200,
        "HITRATE(%)": "75.000",
        "RX(K)": 10,
        "SPEED(K/S)": 99,
        "HOST": "http://s/cvmfs/a",
        "PROXY": "http://p:3128",
        "ONLINE": 1,
    }


@pytest.mark.parametrize(
    ("change", "column", "value"),
    [
        ({"expires": None}, 5, "never"),
        ({"objects_opened": 0}, 13, "n/a"),
        ({"objects_missed": 10**6}, 13, "0.000"),
        ({"speed": None}, 15, "n/a"),
        ({"offline_since": 1.0}, 18, 0),
    ],
)
def test_no_value_has_a_blank_in_it(change, column, value):
    values = observing.columns({**STATE, **change})
    assert values[column] == value
    assert not any(" " in str(value) for value in values)


def test_sentences():
    lines = observing.sentences(STATE)
    assert "File Catalog Revision: 42 (expires in 3 minutes)" in lines
    assert "Connection: http://s/cvmfs/a through proxy http://p:3128 (online)" in lines
    assert "Usage: 200 open() calls (hitrate 75.000%)" in lines
    assert "Transfer Statistics: 10k read, avg. speed: 99k/s" in lines
    assert lines[-1] == "Whitelist: expires in 21 days"
    bad = observing.sentences({**STATE, "offline_since": 1.0, "trouble": "no server answers", "whitelist_days": None})
    assert any("(offline since 1970-01-01 " in line or "(offline since 1969-12-31 " in line for line in bad)
    assert bad[-1] == "Trouble: no server answers"
    assert not any("Whitelist" in line for line in bad)


def test_stat_of_all(two_mounts, monkeypatch):
    def state_of(mountpoint):
        if mountpoint == "/mnt/b":
            raise MountError("/mnt/b: mounted, but its server does not answer")
        return STATE

    monkeypatch.setattr(observing, "state_of", state_of)
    result = run("stat")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "",
        "Running cvfs stat a.example.org:",
        observing.COLUMNS,
        " ".join(map(str, observing.columns(STATE))),
        "",
        "Running cvfs stat b.example.org:",
        "b.example.org: /mnt/b: mounted, but its server does not answer",
    ]
    first, second = map(json.loads, run("stat", "--json").stdout.splitlines())
    assert first["pid"] == 4711
    assert second["error"].startswith("/mnt/b: ")


def test_stat_of_what_another_user_hides(two_mounts, monkeypatch):
    def state_of(mountpoint):
        raise PermissionError(errno.EACCES, "Permission denied", mountpoint)

    monkeypatch.setattr(observing, "state_of", state_of)
    result = run("stat")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "b.example.org: /mnt/b: Permission denied")


@pytest.mark.parametrize("options", [(), ("-v",)])
def test_a_mount_of_another_version_is_told_and_the_others_are_shown(two_mounts, monkeypatch, options):
    """A mount goes on for months after the commands were replaced."""
    older = {name: value for name, value in STATE.items() if name != "memory"} | {"version": "0.9", "mountpoint": "/a"}
    monkeypatch.setattr(observing, "state_of", lambda place, *_: STATE if place == "/mnt/b" else older)
    told = "/a: mounted by another cvfs (version 0.9), which tells no 'memory': see cvfs stat --json, or mount it anew"
    result = run("stat", *options)
    assert result.stdout.splitlines()[2] == f"a.example.org: {told}"
    assert "1.2.3" in result.stdout.split("Running cvfs stat b.example.org:")[1]
    assert result.exit_code == 1
    alone = run("stat", "/a", *options)
    assert (alone.exit_code, alone.stderr) == (2, f"cvfs: {told}\n")
    assert json.loads(run("stat", "--json", "/a").stdout)["version"] == "0.9"


def test_status(two_mounts, monkeypatch):
    monkeypatch.setattr(observing, "pid_of", {"/cvmfs/a.example.org": 1, "/mnt/b": 2}.get)
    result = run("status")
    assert (result.exit_code, result.stdout) == (
        0,
        "a.example.org mounted on /cvmfs/a.example.org with pid 1\nb.example.org mounted on /mnt/b with pid 2\n",
    )
    monkeypatch.setattr(observing, "pid_of", {"/mnt/b": 2}.get)
    result = run("status")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (1, "mountpoint /cvmfs/a.example.org inaccessible")
    assert json.loads(run("status", "--json").stdout)[1] == {"fqrn": "b.example.org", "mountpoint": "/mnt/b", "pid": 2}


@pytest.mark.parametrize(("healthy", "word", "status"), [(True, "OK", 0), (False, "Failed!", 1)])
def test_probe(two_mounts, monkeypatch, healthy, word, status):
    monkeypatch.setattr(observing, "_answers", lambda place: healthy)
    monkeypatch.setattr(observing, "configured_repositories", lambda: ("a.example.org",))
    result = run("probe")
    assert (result.exit_code, result.stdout) == (status, f"Probing /cvmfs/a.example.org... {word}\n")
    assert run("probe", "b.example.org").stdout == f"Probing /mnt/b... {word}\n"


def test_a_probe_of_a_directory_that_is_no_mount(tmp_path):
    result = run("probe", str(tmp_path))
    assert (result.exit_code, result.stdout) == (1, f"Probing {tmp_path}... Failed!\n")


def test_a_look_has_a_deadline(monkeypatch):
    monkeypatch.setattr(mount_points, "PROBE_DEADLINE", 0.05)
    reader, writer = os.pipe()
    try:
        with pytest.raises(MountError, match="does not answer"):
            mounts.within_deadline("/place", lambda: os.read(reader, 1))
    finally:
        os.write(writer, b"x")
        os.close(writer)


def test_talk_to_all(two_mounts, monkeypatch):
    def converse(socket, line, form):
        if socket == "/mnt/b":
            raise Unreachable("nobody answers")
        return Reply(ok=True, answer=[line])

    monkeypatch.setattr(talking, "control_socket", lambda mountpoint: mountpoint)
    monkeypatch.setattr(talking, "converse", converse)
    result = run("talk", "remount", "sync")
    assert (result.exit_code, result.stdout) == (1, "a.example.org:\nremount sync\nb.example.org:\nnobody answers\n")
    answers = [json.loads(line) for line in run("talk", "--json", "pid").stdout.splitlines()]
    assert answers == [
        {"fqrn": "a.example.org", "ok": True, "answer": ["pid"]},
        {"fqrn": "b.example.org", "ok": False, "answer": ["nobody answers"]},
    ]


def test_talk_without_mounts(monkeypatch):
    monkeypatch.setattr(talking, "running_mounts", list)
    result = run("talk", "pid")
    assert result.exit_code == 2
    assert "no repository is mounted" in result.stderr


def test_umount_of_all(two_mounts, monkeypatch):
    def unmount(place, *, lazy):
        if place == "/mnt/b":
            raise MountError("/mnt/b: busy")

    monkeypatch.setattr(mounting, "unmount", unmount)
    result = run("umount")
    assert (result.exit_code, result.stdout) == (1, "Unmounting /cvmfs/a.example.org: OK\nUnmounting /mnt/b: Failed!\n")
    assert result.stderr == "/mnt/b: busy\n"


def test_reload_of_all(two_mounts, monkeypatch):
    def converse(socket, command):
        return Reply(command == "reload" and socket != "/mnt/b", [f"answer to {command}"])

    monkeypatch.setattr(administering, "control_socket", lambda mountpoint: mountpoint)
    monkeypatch.setattr(administering, "converse", converse)
    result = run("reload", "-c")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "a.example.org: answer to reload",
        "a.example.org: answer to cleanup 0",
        "b.example.org: answer to reload",
        "b.example.org: answer to cleanup 0",
    ]
    assert run("reload", "a.example.org").exit_code == 0


def test_killall(two_mounts, monkeypatch):
    done = []
    monkeypatch.setattr(administering, "pid_of", {"/cvmfs/a.example.org": 2**22 + 1}.get)
    monkeypatch.setattr(administering, "_may_serve", lambda pid, mount: True)
    monkeypatch.setattr(administering, "_abort", lambda mount: done.append(f"abort {mount.mountpoint}"))
    monkeypatch.setattr(administering, "unmount", lambda place, **_: done.append(f"unmount {place}"))
    monkeypatch.setattr(administering.os, "kill", lambda pid, number: done.append(f"kill {pid}"))
    result = run("killall")
    assert (result.exit_code, result.stdout) == (
        0,
        "Terminating cvmfs2 processes... OK\nUnmounting stale mount points... OK\n",
    )
    assert done == ["abort /mnt/b", f"kill {2**22 + 1}", "unmount /cvmfs/a.example.org", "unmount /mnt/b"]


@pytest.mark.parametrize(("others", "killed"), [(0, True), (1, False)])
def test_a_mount_cannot_name_the_process_of_somebody_else(monkeypatch, others, killed):
    """Whoever may mount can call the mount one of ours, and answer with any number."""
    user = os.geteuid() + others
    entry = mount_table.MountEntry("0:1", b"/mnt/b", "fuse.cvfs", "b.example.org", is_writable=False, user=user)
    monkeypatch.setattr(administering.mount_table, "find_mount", lambda place: entry)
    assert administering._may_serve(os.getpid(), MOUNTS[1]) is killed
    assert not administering._may_serve(2**22 + 1, MOUNTS[1])


def test_who_uses_a_place(tmp_path):
    here = Running("x", str(tmp_path))
    assert os.getpid() not in list(administering.users_of(here))
    (tmp_path / "file").write_text("x")
    with open(tmp_path / "file"):
        assert os.getpid() in list(administering.users_of(here))
        assert os.getpid() not in list(administering.users_of(Running("x", str(tmp_path)[:-1])))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("CVMFS_HTTP_PROXY=http://me:pass@p:1|http://q:2", "CVMFS_HTTP_PROXY=http://***@p:1|http://q:2"),
        ("http://only@p", "http://***@p"),
        ("http://p:3128;mail@example.org", "http://p:3128;mail@example.org"),
        ('CVMFS_HTTP_PROXY="me:pass@p:1|you:word@q:2;r:3"', 'CVMFS_HTTP_PROXY="***@p:1|***@q:2;r:3"'),
        ("export S3_SECRET_KEY=abc def\nA=b", "export S3_SECRET_KEY=***\nA=b"),
        ("X=1\nCVMFS_AUTHZ_PASSWORD='abc'\n", "X=1\nCVMFS_AUTHZ_PASSWORD=***\n"),
        ("token ring, passwords: none", "token ring, passwords: none"),
    ],
)
def test_secrets_are_left_out(text, shown):
    assert reporting.without_secrets(text) == shown


def test_a_report(two_mounts, monkeypatch, tmp_path):
    etc = tmp_path / "etc"
    (etc / "keys").mkdir(parents=True)
    (etc / "default.local").write_text("CVMFS_HTTP_PROXY=http://me:secret@p:1\n")
    (etc / "keys" / "a.pub").write_text("public\n")
    (etc / "keys" / "a.masterkey").write_text("private secret\n")
    (tmp_path / "stacktrace.a.example.org").write_text("trace\n" * 10)

    def control_socket(mountpoint):
        if mountpoint == "/mnt/b":
            raise MountError("/mnt/b: does not answer")
        return str(tmp_path / "socket")

    monkeypatch.setattr(reporting, "control_socket", control_socket)
    monkeypatch.setattr(reporting, "converse", lambda socket, command, form: Reply(ok=True, answer=[command]))
    archive = tmp_path / "report.tar.gz"
    result = run("--etc", str(etc), "bugreport", "-o", str(archive))
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"System information has been collected in {archive}\n")
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as report:
        texts = {name.partition("/")[2]: report.extractfile(name).read().decode() for name in report.getnames()}
    assert texts["etc/default.local"] == "CVMFS_HTTP_PROXY=http://***@p:1\n"
    assert texts["etc/keys/a.pub"] == "public\n"
    assert texts["mounts/cvmfs/a.example.org/internal_affairs"] == "internal affairs\n"
    assert texts["mounts/cvmfs/a.example.org/stacktrace.a.example.org"] == "trace\n" * 10
    assert texts["mounts/mnt/b/trouble"] == "/mnt/b: does not answer\n"
    assert not any("secret" in text for text in texts.values())


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_a_report_overwrites_nothing(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(reporting, "_collected", lambda: iter(()))
    other, place = tmp_path / "other", tmp_path / "report.tar.gz"
    if kind == "file":
        place.write_text("kept")
    else:
        place.symlink_to(other)
    if kind == "link":
        other.write_text("kept")
    result = run("bugreport", "-o", str(place))
    assert result.exit_code == UsageError.exit_status
    assert result.stderr.endswith(f"{place}: is there already, name another file with -o\n")
    if kind == "dangling link":
        assert not other.exists()
    else:
        assert place.read_text() == "kept"


def test_a_workspace_that_cannot_be_read_does_not_end_a_report(monkeypatch):
    monkeypatch.setattr(reporting, "control_socket", lambda _: "/none/socket")
    monkeypatch.setattr(reporting, "converse", lambda socket, command, form: Reply(ok=True, answer=[command]))
    texts = dict(reporting._of_mount(MOUNTS[0]))
    assert texts["mounts/cvmfs/a.example.org/stat"] == "stat\n"
    assert texts["mounts/cvmfs/a.example.org/stacktraces_trouble"] == "/none: No such file or directory\n"
