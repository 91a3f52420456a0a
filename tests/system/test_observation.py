"""What a running mount tells and obeys: the commands of cvmfs_talk, traces, metrics, logs, new settings."""

import csv
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from processes import ENVIRONMENT, wait_until

pytestmark = pytest.mark.system


@pytest.fixture
def tiny(fixture_repository):
    return fixture_repository("tiny.example.org")


@pytest.fixture
def mounted(client, tiny):
    one = client(tiny, f"file://{tiny.root}")
    one.mount()
    return one


def talk(one, line: str) -> dict:
    return json.loads(one.command(f"--json {line}"))


def cvfs(*arguments: object) -> subprocess.CompletedProcess:
    start = "from cvfs_tools.cvfs_command import main; main(prog_name='cvfs')"
    words = [sys.executable, "-c", start, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=90, env=ENVIRONMENT)


def test_every_command_without_arguments_answers(mounted):
    for words in talk(mounted, "help")["answer"]:
        if words in ("reload", "host switch", "proxy switch", "proxy group switch"):
            continue
        answer = mounted.command(words)
        assert answer.endswith("\n"), words
        assert "unknown command" not in answer, words
    assert mounted.read("files/hello.txt")


def test_words_of_the_original(mounted, tiny):
    pid = mounted.state()["pid"]
    mounted.read("files/hello.txt")
    for line, pattern in {
        "pid": f"{pid}\n",
        "pid cachemgr": f"{pid}\n",
        "mountpoint": f"{mounted.mountpoint}\n",
        "device id": r"\d+:\d+\n",
        "revision": "6\n",
        "remount sync": "Catalog up to date\n",
        "max ttl info": "unset\n",
        "max ttl set 5": "OK\n",
        "version": r"[\d.]+ \(CernVM-FS Fuse Module\)\n[\d.]+ \(Loader\)\n",
        "version patchlevel": r"\d+\n",
        "open catalogs": r"-> \n(    -> /\S+\n)*",
        "detach nested catalogs": "OK\n",
        "hotpatch history": r"\d{4}-\d\d-\d\d .*\n",
        "reset error counters": "OK\n",
        "tracebuffer flush": "OK\n",
        "cache size": r"Current cache size is \d+MB \(\d+ Bytes\), pinned: \d+MB \(\d+ Bytes\)\n",
        "cache limit get": "4000\n",
        "cache limit set 1000": "OK\n",
        "cleanup rate 60": r"\d+\n",
        "cache list": r"([0-9a-f]{40}[A-Z]?\n)+",
        "cache list catalogs": r"([0-9a-f]{40}C\n)+",
        "cache list nonsense": "unknown command\n",
        "pin /files/hello.txt": "OK\n",
        "pin /files": r"No such regular file or pinning failed .*\n",
        "evict files/hello.txt": "OK\n",
        "evict /none": "No such regular file\n",
        "cleanup 4000": "OK\n",
        "chroot nonsense": r"Failed \(.*\)\n",
        "timeout info": "Timeout with proxy: 5s\nTimeout without proxy: 10s\n",
        "latency": r"Failed \(.*CVMFS_INSTRUMENT_FUSE.*\)\n",
        "nonsense": "unknown command\n",
    }.items():
        assert re.fullmatch(pattern, mounted.command(line)), (line, mounted.command(line))
    assert mounted.command("max ttl info") == "5 minutes\n"
    assert mounted.command("cache limit get") == "1000\n"


def test_what_is_pinned_stays(mounted):
    before = set(talk(mounted, "cache list pinned")["answer"])
    assert mounted.command("pin /chunked/random_1m") == "OK\n"
    pinned = set(talk(mounted, "cache list pinned")["answer"]) - before
    assert len(pinned) > 1
    mounted.command("cleanup 0")
    assert pinned <= set(talk(mounted, "cache list")["answer"])


def test_another_root(mounted, publication):
    root, _ = publication().tag("s1")
    assert mounted.command(f"chroot {root.digest.hex()}") == "OK\n"
    assert mounted.state()["revision"] == 2
    assert mounted.command("remount") == "New revision applied\n"
    assert mounted.state()["revision"] == 6


def test_internal_affairs(mounted):
    os.listdir(mounted.mountpoint)
    text = mounted.command("internal affairs")
    assert "Name|Value|Description\n" in text
    table = dict(re.findall(r"^(\w+\.\w+)\|(\d+)\|.+$", text, re.MULTILINE))
    assert int(table["cvmfs.n_fs_readdirplus"]) + int(table["cvmfs.n_fs_readdir"]) > 0
    assert table["cvmfs.n_io_error"] == "0"
    assert talk(mounted, "internal affairs")["answer"]["download.n_requests"] > 0


def test_metrics(mounted):
    lines = mounted.command("metrics prometheus").splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    kinds = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    assert len(kinds) == len([line for line in lines if line.startswith("# TYPE ")]), "one head for each name"
    for line in samples:
        match = re.fullmatch(r'(cvmfs_[a-z0-9_]+)\{repo="tiny\.example\.org"(,\w+="[^"]*")*\} -?\d+(\.\d+)?', line)
        assert match, line
        assert match[1] in kinds
    for name in ("cvmfs_cache_cached_bytes", "cvmfs_net_rx_total", "cvmfs_repo_revision", "cvmfs_sys_pid"):
        assert name in kinds
    assert f'cvmfs_sys_pid{{repo="tiny.example.org"}} {mounted.state()["pid"]}' in samples


@pytest.mark.both_bindings
def test_trace_latencies_metrics_and_logs(client, tiny, tmp_path):
    one = client(tiny, f"file://{tiny.root}")
    places = {name: tmp_path / name for name in ("trace", "metrics", "micro", "debug", "log")}
    options = (
        f"CVMFS_TRACEFILE={places['trace']},CVFS_METRICS_FILE={places['metrics']},CVMFS_USYSLOG={places['micro']},"
        f"CVMFS_DEBUGLOG={places['debug']},log={places['log']},CVMFS_INSTRUMENT_FUSE=yes"
    )
    pid = one.mount("-o", options)["pid"]
    assert one.read("files/hello.txt")
    assert not os.path.exists(one.path("none"))
    assert one.command("tracebuffer flush") == "OK\n"
    with open(places["trace"], newline="") as file:
        traced = {tuple(row[1:]) for row in csv.reader(file)}
    assert {("1", "/files/hello.txt", "open()"), ("4", "/none", "lookup()")} <= traced
    latencies = dict(re.findall(r'^"tiny\.example\.org","(\w+)",(\d+),', one.command("latency"), re.MULTILINE))
    assert int(latencies["lookup"]) > 0
    assert int(latencies["open"]) > 0
    assert wait_until(places["metrics"].exists)
    assert "cvmfs_repo_revision" in places["metrics"].read_text()
    one.command("chroot nonsense")
    one.command("reload")
    subprocess.run(["umount", one.mountpoint], check=True)
    assert one.wait_gone(pid)
    assert not places["metrics"].exists()
    with open(places["trace"], newline="") as file:
        assert list(csv.reader(file))[-1][1:] == ["-2", "Tracer", "Destroying trace buffer..."]
    assert "is over" in places["micro"].read_text()
    assert "is over" in places["log"].read_text()
    assert "is over" in places["debug"].read_text()


def test_new_settings_without_unmounting(client, tiny, tmp_path):
    one = client(tiny, f"file://{tiny.root}")
    configuration = tmp_path / "conf"
    configuration.write_text("CVMFS_TIMEOUT=5\n")
    one.mount("-o", f"config={configuration}")
    with open(one.path("chunked/random_1m"), "rb") as reader:
        assert one.command("reload") == "nothing has changed\n"
        configuration.write_text(
            "CVMFS_TIMEOUT=7\nCVMFS_QUOTA_LIMIT=2000\nCVMFS_HTTP_PROXY='http://127.0.0.1:9;DIRECT'\nCVMFS_MAX_TTL=3\n"
            f"CVMFS_USYSLOG={tmp_path}/micro\nCVMFS_FUSE3_MAX_THREADS=3\n"
        )
        assert one.command("reload").splitlines() == [
            "CVMFS_FUSE3_MAX_THREADS: needs a new mount",
            "CVMFS_HTTP_PROXY: applied",
            "CVMFS_MAX_TTL: applied",
            "CVMFS_QUOTA_LIMIT: applied",
            "CVMFS_TIMEOUT: applied",
            "CVMFS_USYSLOG: applied",
        ]
        assert "with proxy: 7s" in one.command("timeout info")
        assert one.command("cache limit get") == "2000\n"
        assert "[0] http://127.0.0.1:9" in one.command("proxy info")
        assert one.command("max ttl info") == "3 minutes\n"
        assert "configuration read again" in (tmp_path / "micro").read_text()
        assert reader.read()
    assert one.command("reload") == "CVMFS_FUSE3_MAX_THREADS: needs a new mount\n"
    configuration.write_text("CVMFS_TIMEOUT=often\n")
    assert one.command("reload").startswith("Failed (CVMFS_TIMEOUT=often: ")
    assert "with proxy: 7s" in one.command("timeout info")


def test_a_socket_of_its_own_for_somebody(client, tiny, tmp_path):
    one = client(tiny, f"file://{tiny.root}")
    place = tmp_path / "talk.socket"
    done = one.try_mount("-o", f"CVMFS_TALK_SOCKET={place},CVMFS_TALK_OWNER=12345")
    assert done.returncode == 0, done.stderr
    status = place.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (12345, 0o600)
    assert cvfs("talk", "-p", place, "revision").stdout == "6\n"


@pytest.fixture
def open_place():
    """A directory that every user can get to."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.mark.both_bindings
def test_the_process_becomes_somebody_else(client, tiny, web, open_place):
    one = client(tiny, web(tiny.root).url)
    one.cache = open_place / "cache"
    key = open_place / "key.pub"
    shutil.copy(tiny.public_key, key)
    options = f"uid=12345,gid=54321,CVFS_TRUST_STATE_DIR={open_place}/trust"
    state = one.mount("-o", options, key=key)
    with open(f"/proc/{state['pid']}/status") as file:
        identity = dict(re.findall(r"^(Uid|Gid|Groups):[ \t]*(.*?)[ \t]*$", file.read(), re.MULTILINE))
    assert identity["Uid"].split() == ["12345"] * 4
    assert identity["Gid"].split() == ["54321"] * 4
    assert identity["Groups"] == ""
    assert one.read("files/hello.txt")
    owners = {entry.name: entry.stat(follow_symlinks=False).st_uid for entry in os.scandir(one.cache)}
    assert set(owners.values()) == {12345}, owners
    with open("/proc/mounts") as table:
        assert any(f" {one.mountpoint} " in line and "user_id=12345" in line for line in table)
    watchdog = int(one.command("pid watchdog"))
    os.kill(state["pid"], signal.SIGTERM)
    assert one.wait_gone(state["pid"])
    assert one.wait_gone(watchdog)
    assert not os.path.ismount(one.mountpoint)


def test_limits_of_the_process(client, tiny):
    one = client(tiny, f"file://{tiny.root}")
    options = "CVMFS_NFILES=1500,CVMFS_OOM_SCORE_ADJ=100,CVMFS_CPU_AFFINITY=0,CVMFS_SYSTEMD_NOKILL=yes"
    pid = one.mount("-o", options)["pid"]
    with open(f"/proc/{pid}/oom_score_adj") as file:
        assert file.read() == "100\n"
    assert os.sched_getaffinity(pid) == {0}
    with open(f"/proc/{pid}/cmdline", "rb") as line:
        assert line.read(1) == b"@"
    assert one.state()["descriptor_limit"] >= 1500


# --- commands ---------------------------------------------------------------------------------------------------------


def test_talk(mounted):
    done = cvfs("talk", "-i", mounted.mountpoint, "revision")
    assert (done.returncode, done.stdout, done.stderr) == (0, "6\n", "")
    done = cvfs("talk", "-i", mounted.mountpoint, "--json", "timeout", "info")
    assert json.loads(done.stdout) == {"ok": True, "answer": {"proxy": 5, "direct": 10}}
    done = cvfs("talk", "-i", mounted.mountpoint, "frobnicate", "-x")
    assert (done.returncode, done.stdout) == (1, "unknown command\n")
    done = cvfs("talk", "-p", mounted.cache / "none", "revision")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (34, "", 1)


def test_probe_and_status(mounted):
    done = cvfs("probe", mounted.mountpoint, mounted.directory)
    assert done.returncode == 1
    assert done.stdout == f"Probing {mounted.mountpoint}... OK\nProbing {mounted.directory}... Failed!\n"
    pid = mounted.state()["pid"]
    assert f"{mounted.fqrn} mounted on {mounted.mountpoint} with pid {pid}\n" in cvfs("status").stdout


def test_stat_in_sentences(mounted):
    text = cvfs("stat", "-v", mounted.mountpoint).stdout
    for pattern in (
        r"^Version: ",
        r"^PID: \d+$",
        r"^Uptime: \d+ minutes$",
        r"^Memory Usage: \d+k$",
        r"^File Catalog Revision: 6 \(expires in \d+ minutes\)$",
        r"^File Catalog ID: [0-9a-f]{40}C?$",
        r"^Cache Usage: \d+k / \d+k$",
        r"^Connection: file://\S+ through proxy DIRECT \(online\)$",
        r"^Whitelist: expires in \d+ days$",
    ):
        assert re.search(pattern, text, re.MULTILINE), pattern


def test_who_uses_a_mount(mounted):
    inside = subprocess.Popen(["sleep", "60"], cwd=mounted.path("files"))
    try:
        with open(mounted.path("files/hello.txt"), "rb"):
            done = cvfs("fuser", mounted.mountpoint)
        assert {str(inside.pid), str(os.getpid())} <= set(done.stdout.split())
    finally:
        inside.kill()
        inside.wait()
    assert cvfs("fuser", mounted.mountpoint).stdout.split() == []


def test_reload_of_one(mounted):
    done = cvfs("reload", "-c", mounted.mountpoint)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{mounted.fqrn}: ")
    assert cvfs("reload", mounted.directory).returncode == 2
