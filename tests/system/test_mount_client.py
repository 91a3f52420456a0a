"""The mounted client as users meet it: warm reads, new revisions, crashes, signals, slow servers."""

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from cvfs.client.cache.object_cache import ObjectCache
from cvfs.client.repository import Repository

pytestmark = pytest.mark.system

KILLS = int(os.environ.get("CVFS_KILLS", "8"))
HARMLESS = {"FORGET", "BATCH_FORGET", "STATFS", "IOCTL"}


@pytest.fixture
def tiny(fixture_repository):
    return fixture_repository("tiny.example.org")


@pytest.fixture
def mounted(client, tiny, web):
    """A mounted fixture behind a web server."""
    one = client(tiny, web(tiny.root).url)
    one.mount()
    return one


def entries(published, tag="s5") -> dict[str, dict]:
    return {entry["path"][1:]: entry for entry in published.manifests[tag]["entries"]}


def files(published, tag="s5") -> dict[str, str]:
    """Digests by path of the regular files with plain names."""
    return {path: entry["sha256"] for path, entry in entries(published, tag).items() if entry["type"] == "file"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def shell(command: str, client, **options) -> subprocess.CompletedProcess:
    return subprocess.run(["sh", "-c", command], cwd=client.mountpoint, capture_output=True, timeout=60, **options)


# --- warm -------------------------------------------------------------------------------------------------------------


@pytest.mark.native_only("libfuse 2 is asked at every open")
@pytest.mark.parametrize(
    "command",
    [
        "find . -size +0",
        "find . -type f -exec cat {} +",
        f"{sys.executable} -c 'import pathlib, sys; [p.read_bytes() for p in pathlib.Path(sys.argv[1]).iterdir()]' chunked",
        "test ! -e chunked/none -a ! -e none/none",
        "./modes/f00755 || true",
    ],
)
def test_a_second_pass_never_leaves_the_kernel(mounted, command):
    """Where memory is short the kernel may drop pages between two passes: one of a few must get along without asking."""
    first = shell(command, mounted)
    asked = {"not": "tried"}
    for _ in range(4):
        before, fetched = mounted.requests(), mounted.state()["fetched"]
        again = shell(command, mounted)
        after = mounted.requests()
        assert again.stdout == first.stdout
        assert mounted.state()["fetched"] == fetched
        asked = {name: count for name, count in after.items() if count != before.get(name, 0)}
        if asked.keys() <= HARMLESS:
            break
    assert asked.keys() <= HARMLESS


@pytest.mark.both_bindings
def test_the_state_of_a_mount(mounted):
    mounted.read("chunked/random_16383")
    state = mounted.state()
    assert (state["fqrn"], state["revision"], state["trouble"]) == (mounted.fqrn, 6, "")
    assert state["mountpoint"] == str(mounted.mountpoint)
    # The time to live, spread by a tenth.
    assert 150 < state["expires"] <= 264
    assert state["open_objects"] == 1
    assert state["in_flight"] == 0
    assert state["cache_used"] > 16383
    assert state["servers"] == [mounted.url]
    assert mounted.command("revision") == "6\n"
    assert mounted.command("remount") == "Catalog up to date\n"
    assert os.getxattr(mounted.mountpoint, "user.fqrn") == mounted.fqrn.encode()
    assert os.getxattr(mounted.mountpoint, "user.revision") == b"6"


def test_it_is_read_only(mounted):
    for attempt in (
        lambda: mounted.path("new").write_bytes(b""),
        lambda: mounted.path("chunked").rmdir(),
        lambda: mounted.path("chunked/random_16383").unlink(),
        lambda: mounted.path("chunked/random_16383").chmod(0o777),
    ):
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno == errno.EROFS


def test_places_may_be_relative(client, tiny, web):
    """The process of the mount works elsewhere."""
    one = client(tiny, web(tiny.root).url)
    (one.directory / "key.pub").write_bytes(tiny.public_key.read_bytes())
    one.mount(cache="cache", key="key.pub", mountpoint="mnt")
    assert sha256(one.read("chunked/random_1m")) == files(tiny)["chunked/random_1m"]
    assert one.command("remount") == "Catalog up to date\n"
    assert os.path.exists(one.cache / "books") or os.listdir(one.cache)


def test_two_mounts_of_one_repository(client, tiny, web):
    one = client(tiny, web(tiny.root).url)
    first = one.mount()
    second = one.directory / "second"
    second.mkdir()
    try:
        one.mount("-t", "s1", mountpoint=second)
        addresses = {os.getxattr(place, "user.cvfs.control") for place in (one.mountpoint, second)}
        assert len(addresses) == 2
        assert os.getxattr(second, "user.revision") == b"2"
        assert one.state()["pid"] == first["pid"]
    finally:
        subprocess.run(["umount", "-l", second], check=True)


# --- a new revision ---------------------------------------------------------------------------------------------------


@pytest.fixture
def following(publication, client, web):
    """A mount at the tree of s1, as revision 7; the publication whose next revision it will follow."""
    published = publication()
    published.publish("s1")
    one = client(published, web(published.root).url)
    assert one.mount(*one.at_once)["revision"] == 2
    return published, one


def changed(published, old="s1", new="s5") -> list[str]:
    before, after = files(published.repository, old), files(published.repository, new)
    return [path for path in before if path in after and before[path] != after[path]]


@pytest.mark.native_only("libfuse 2 cannot keep a replaced file apart from the one that is open: see test_fusepy_mount")
def test_a_new_revision_is_followed_at_once_and_open_files_keep_their_bytes(following):
    published, one = following
    before, after = entries(published.repository, "s1"), entries(published.repository, "s5")
    shell("find . -type f -exec cat {} + ; find . -ls", one)
    added = [path for path in after if path not in before]
    assert not any(os.path.lexists(one.path(path)) for path in added)
    several = changed(published)
    assert several
    held = {path: open(one.path(path), "rb") for path in several}  # noqa: SIM115
    published.publish("s5")
    assert one.command("remount") == "New revision applied\n"
    for path in several:
        assert sha256(one.read(path)) == after[path]["sha256"], path
        with held[path] as file:
            assert sha256(file.read()) == before[path]["sha256"], path
    assert all(os.path.lexists(one.path(path)) for path in added)
    assert not any(os.path.lexists(one.path(path)) for path in before if path not in after)
    for path, entry in after.items():
        if entry["type"] == "dir":
            names = {other.rpartition("/")[2] for other in after if other and other.rpartition("/")[0] == path}
            assert set(os.listdir(one.path(path))) == names, path
        status = os.lstat(one.path(path))
        assert (status.st_mtime_ns // 10**9, status.st_nlink) == (entry["mtime"], entry["nlink"]), path
    for path, digest in files(published.repository).items():
        assert sha256(one.read(path)) == digest, path
    assert one.command("remount") == "Catalog up to date\n"


def test_what_was_opened_but_never_read_keeps_its_bytes_too(following):
    """Nothing is in the page cache, and for chunked files no chunk has been asked for."""
    published, one = following
    before = files(published.repository, "s1")
    held = {path: open(one.path(path), "rb") for path in changed(published)}  # noqa: SIM115
    published.publish("s5")
    assert one.command("remount") == "New revision applied\n"
    for path, file in held.items():
        with file:
            assert sha256(file.read()) == before[path], path


@pytest.mark.both_bindings
def test_a_working_directory_stays_usable(following):
    published, one = following
    shell("ls -l . chunked", one)
    inside = subprocess.Popen(
        ["sh", "-c", "read line; ls -l; cat random_1m"],
        cwd=one.path("chunked"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    published.publish("s5")
    assert one.command("remount") == "New revision applied\n"
    out, _ = inside.communicate(b"\n", timeout=30)
    assert inside.returncode == 0
    assert sha256(out[-1048576:]) == files(published.repository)["chunked/random_1m"]


@pytest.mark.parametrize("place", [".cvmfspublished", ".cvmfswhitelist", "root catalog"])
def test_a_tampered_revision_is_refused_and_the_mount_lives_on(following, place):
    published, one = following
    shell("find . -ls", one)
    published.publish("s5")
    good = published.manifest.root_catalog.path
    published.flip(good if place == "root catalog" else place)
    assert one.command("remount").startswith("Failed (")
    assert one.state()["revision"] == 2
    for path, digest in files(published.repository, "s1").items():
        assert sha256(one.read(path)) == digest, path


def test_an_older_revision_is_refused(following):
    published, one = following
    published.publish("s5", revision=published.manifest.revision - 1, timestamp=published.manifest.timestamp)
    assert "revision rollback" in one.command("remount")
    assert one.state()["revision"] == 2


@pytest.mark.both_bindings
def test_a_server_that_goes_away(following):
    published, one = following
    one.read("chunked/random_16383")
    shell("ls -R .", one)
    published.storage.rename(published.storage.with_name("away"))
    assert "404, not there" in one.command("remount")
    assert sha256(one.read("chunked/random_16383")) == files(published.repository, "s1")["chunked/random_16383"]
    with pytest.raises(OSError) as caught:
        one.read("chunked/random_16384")
    assert caught.value.errno == errno.EIO
    published.storage.with_name("away").rename(published.storage)
    assert sha256(one.read("chunked/random_16384")) == files(published.repository, "s1")["chunked/random_16384"]


def test_offline_it_can_be_mounted_again(client, publication, web):
    published = publication()
    one = client(published, web(published.root).url)
    one.mount()
    shell("find . -type f -exec cat {} +", one)
    subprocess.run(["umount", one.mountpoint], check=True)
    published.storage.rename(published.storage.with_name("away"))
    done = one.try_mount()
    assert done.returncode == 0
    assert sha256(one.read("chunked/random_1m")) == files(published.repository)["chunked/random_1m"]


# --- crashes ----------------------------------------------------------------------------------------------------------


def is_mounted(client) -> bool:
    with open("/proc/self/mountinfo") as table:
        return any(f" {client.mountpoint} " in line for line in table)


def assert_cache_is_sound(client) -> None:
    cache = ObjectCache(str(client.cache))
    cache.prepare()
    try:
        checked = cache.check()
    finally:
        cache.close()
    assert checked.dropped == ()
    assert checked.objects > 0


@pytest.mark.both_bindings
def test_a_killed_client_is_replaced_by_the_same_command(client, tiny, web):
    """Without a watchdog, whose work this is otherwise."""
    mounted = client(tiny, web(tiny.root).url)
    pid = mounted.mount("-o", "CVFS_WATCHDOG=no")["pid"]
    mounted.read("chunked/random_1m")
    os.kill(pid, signal.SIGKILL)
    assert mounted.wait_gone(pid)
    with pytest.raises(OSError) as caught:
        os.statvfs(mounted.mountpoint)
    assert caught.value.errno == errno.ENOTCONN
    assert_cache_is_sound(mounted)
    assert mounted.mount()["pid"] != pid
    assert sha256(mounted.read("chunked/random_1m")) == files(tiny)["chunked/random_1m"]
    with open("/proc/self/mountinfo") as table:
        assert sum(f" {mounted.mountpoint} " in line for line in table) == 1


def test_a_client_killed_while_it_fills_its_cache_leaves_nothing_wrong(client, tiny, web):
    """`CVFS_KILLS=100` kills that often."""
    server = web(tiny.root)
    one = client(tiny, server.url)
    chance = random.Random(20)
    cached = []
    for attempt in range(KILLS):
        one.cache = one.directory / f"cache{attempt // 4}"
        pid = one.mount()["pid"]
        left = chance.randrange(1, 60)

        def kill(pid=pid) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(pid, signal.SIGKILL)

        server.on_request = kill
        shell("find . -type f -exec cat {} +", one)
        server.on_request = lambda: None
        if left > 0:
            os.kill(pid, signal.SIGKILL)
        assert one.wait_gone(pid)
        assert_cache_is_sound(one)
        cached.append(left <= 0)
    assert sum(cached) > KILLS // 2, "most were killed in the middle"
    one.mount()
    for path, digest in files(tiny).items():
        assert sha256(one.read(path)) == digest, path


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.both_bindings
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_unmount(mounted, number):
    pid = mounted.state()["pid"]
    os.kill(pid, number)
    assert mounted.wait_gone(pid)
    assert not is_mounted(mounted)
    assert not os.path.exists(mounted.cache / f"cvmfs_io.{mounted.fqrn}")
    assert [name for name in os.listdir(mounted.cache / "txn") if name.endswith(".lock")] == []


@pytest.mark.both_bindings
def test_an_unmount_ends_the_client(mounted):
    pid = mounted.state()["pid"]
    subprocess.run(["umount", mounted.mountpoint], check=True)
    assert mounted.wait_gone(pid)


@pytest.mark.both_bindings
def test_what_is_open_is_busy_and_survives_a_lazy_unmount(mounted, tiny):
    pid = mounted.state()["pid"]
    with open(mounted.path("chunked/random_1m"), "rb") as file:
        assert subprocess.run(["umount", mounted.mountpoint], capture_output=True).returncode != 0
        subprocess.run(["umount", "-l", mounted.mountpoint], check=True)
        assert not is_mounted(mounted)
        assert sha256(file.read()) == files(tiny)["chunked/random_1m"]
    assert mounted.wait_gone(pid)


@pytest.mark.both_bindings
def test_sigterm_while_files_are_open(mounted, tiny):
    pid = mounted.state()["pid"]
    with open(mounted.path("chunked/random_500k"), "rb") as file:
        os.kill(pid, signal.SIGTERM)
        assert sha256(file.read()) == files(tiny)["chunked/random_500k"]
    assert mounted.wait_gone(pid)
    assert not is_mounted(mounted)


@pytest.mark.both_bindings
def test_the_foreground_ends_with_an_unmount(client, tiny):
    one = client(tiny, f"file://{tiny.root}")
    command = [sys.executable, "-c", "from cvfs_tools.cvfs_command import main; main(prog_name='cvfs')", "mount", "-f"]
    arguments = [one.url, one.mountpoint, "-k", tiny.public_key, "-c", one.cache]
    process = subprocess.Popen([*command, *map(str, arguments)], stderr=subprocess.PIPE, env=one.environment)
    try:
        subprocess.run(
            ["timeout", "30", "sh", "-c", f"until mountpoint -q {one.mountpoint}; do sleep 0.05; done"], check=True
        )
        assert sha256(one.read("chunked/random_1m")) == files(tiny)["chunked/random_1m"]
        subprocess.run(["umount", one.mountpoint], check=True)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


# --- slow servers -----------------------------------------------------------------------------------------------------


def object_of(published, path: str) -> str:
    """Where the server is asked for a file of one object."""
    with Repository.open(f"file://{published.storage}", published.public_key) as repository:
        return f"/{published.fqrn}/{repository.lookup(path).content.path}"


@pytest.mark.both_bindings
def test_a_slow_download_delays_nobody_else(client, tiny, web):
    server = web(tiny.root)
    one = client(tiny, server.url)
    one.mount()
    one.read("chunked/random_1m")
    shell("ls -R .", one)
    server.held.add(object_of(tiny, "chunked/random_16383"))
    slow = []
    thread = threading.Thread(target=lambda: slow.append(one.read("chunked/random_16383")))
    thread.start()
    assert server.arrived.acquire(timeout=30)
    # Cached bytes, names, attributes, and another download: the slow one has not been answered yet.
    subprocess.run(
        ["dd", f"if={one.path('chunked/random_1m')}", "of=/dev/null", "iflag=nocache"], capture_output=True, check=True
    )
    assert sha256(one.read("chunked/random_1m")) == files(tiny)["chunked/random_1m"]
    assert sha256(one.read("chunked/random_16384")) == files(tiny)["chunked/random_16384"]
    assert len(os.listdir(one.path("names"))) > 10
    assert one.state()["in_flight"] == 1
    assert slow == []
    server.release.set()
    thread.join(30)
    assert [sha256(data) for data in slow] == [files(tiny)["chunked/random_16383"]]


@pytest.mark.both_bindings
def test_who_waits_for_a_slow_download_can_be_interrupted(client, tiny, web):
    server = web(tiny.root)
    one = client(tiny, server.url)
    one.mount()
    server.held.add(object_of(tiny, "chunked/random_16383"))
    with subprocess.Popen(["cat", one.path("chunked/random_16383")], stdout=subprocess.DEVNULL) as waiting:
        assert server.arrived.acquire(timeout=30)
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(30) == -signal.SIGINT
    server.release.set()
    assert sha256(one.read("chunked/random_16383")) == files(tiny)["chunked/random_16383"]
