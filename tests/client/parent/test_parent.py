"""The parent mount before a real kernel: every way of coming first, who waits and who does not, deaths, idleness, the end."""

import errno
import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from processes import ENVIRONMENT, has_ended, wait_until

from cvfs.kernel.mount_table import find_mount, mount_table

pytestmark = pytest.mark.system

SCRIPT = Path(__file__).parents[2] / "support" / "parent_mount.py"
PATIENCE = 60.0
names = (f"r{number}.example.org" for number in itertools.count())


class Parent:
    """A parent mount as a process; what it says can be read line by line."""

    def __init__(self, directory, idle=0.0, within=30.0):
        self.directory = directory
        words = [sys.executable, SCRIPT, directory, str(idle), str(within)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)
        self.lines = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        with self.process.stderr as pipe:
            for line in pipe:
                self.lines.put(line)
        self.lines.put("")

    def wait_ready(self):
        assert self.process.stdout.readline() == "ready\n", self.lines.get(timeout=PATIENCE)
        return self

    def said(self, words):
        """The next line it says with these words."""
        while words not in (line := self.lines.get(timeout=PATIENCE)):
            assert line, f"it ended without a word of {words}"
        return line

    def said_of(self, name):
        """What it says because somebody asks for something that is not there."""
        with pytest.raises(FileNotFoundError):
            os.listdir(self.path(name))
        lines = []
        while not self.lines.empty():
            lines.append(self.lines.get())
        return "".join(line for line in lines if name in line)

    def path(self, name, inside=""):
        return f"{self.directory}/{name}/{inside}".rstrip("/")

    def is_mounted(self, name):
        return find_mount(self.path(name)) is not None

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.wait()

    def wait(self):
        self.process.stdout.close()
        return self.process.wait(PATIENCE)


def below(directory):
    return [entry.mountpoint for entry in mount_table() if entry.mountpoint.startswith(os.fsencode(directory))]


def clean(directory):
    for place in reversed(below(directory)):
        subprocess.run(["umount", "-l", place], capture_output=True)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    directory = tmp_path_factory.mktemp("parent") / "cvmfs"
    one = Parent(directory).wait_ready()
    yield one
    one.end()
    assert below(directory) == []


@pytest.fixture
def start(tmp_path):
    """Starts parents of the test's own, all at the same directory."""
    made = []

    def new(**options):
        made.append(Parent(tmp_path / "cvmfs", **options))
        return made[-1].wait_ready()

    yield new
    for one in made:
        one.end(signal.SIGKILL)
    clean(tmp_path)


def run(*words, **options):
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, **options)


@pytest.mark.parametrize(
    ("access", "inside"),
    [
        (lambda path: os.stat(path).st_size, ""),
        (lambda path: os.stat(path).st_size, "program"),
        (lambda path: os.lstat(path).st_size, "link"),
        (os.listdir, ""),
        (lambda path: next(iter(os.scandir(path))).name, ""),
        (lambda path: Path(path).read_bytes(), "program"),
        (lambda path: Path(path).read_bytes(), "link"),
        (os.readlink, "link"),
        (lambda path: os.access(path, os.X_OK), "program"),
        (lambda path: os.statvfs(path).f_blocks, ""),
        (lambda path: os.close(os.open(path, os.O_DIRECTORY)) is None, ""),
        (lambda path: os.listxattr(path) is not None, ""),
        (lambda path: run(path).stdout, "program"),
        (lambda path: run("sh", "-c", 'cd "$1" && ls', "-", path).stdout, ""),
        (lambda path: run("find", path).stdout, ""),
        (lambda path: run("df", path).stdout, ""),
    ],
)
def test_whoever_comes_first_gets_it(parent, access, inside):
    name = next(names)
    first = access(parent.path(name, inside))
    assert first
    assert parent.is_mounted(name)
    assert access(parent.path(name, inside)) == first


def test_what_is_not_in_it_is_not_there(parent):
    name = next(names)
    with pytest.raises(FileNotFoundError):
        os.stat(parent.path(name, "none"))
    assert parent.is_mounted(name)


def test_once_mounted_the_parent_is_not_asked(parent):
    name = next(names)
    os.stat(parent.path(name, "program"))
    parent.process.send_signal(signal.SIGSTOP)
    try:
        assert run("cat", parent.path(name, "program")).returncode == 0
    finally:
        parent.process.send_signal(signal.SIGCONT)


def test_all_who_come_together_wait_for_one_mount(start, tmp_path):
    parent = start()
    name, got = "slow.example.org", []
    askers = [
        threading.Thread(target=lambda: got.append(Path(parent.path(name, "program")).read_bytes())) for _ in range(40)
    ]
    for asker in askers:
        asker.start()
    # Others are served meanwhile.
    assert os.listdir(parent.path(next(names)))
    assert not parent.is_mounted(name)
    assert got == []
    (tmp_path / "cvmfs.go").touch()
    for asker in askers:
        asker.join(PATIENCE)
    assert len(got) == 40
    assert below(tmp_path).count(os.fsencode(parent.path(name))) == 1


@pytest.mark.skipif(not os.path.exists("/proc/self/stack"), reason="this kernel does not show what a process waits for")
def test_who_waits_can_be_killed(start):
    parent = start()
    waiting = subprocess.Popen(["cat", parent.path("slow.example.org", "program")])
    assert wait_until(lambda: "fuse" in Path(f"/proc/{waiting.pid}/stack").read_text())
    waiting.kill()
    assert waiting.wait(PATIENCE) == -signal.SIGKILL
    assert os.listdir(parent.path(next(names)))


@pytest.mark.parametrize("name", ["nodot", ".git", ".hidden.org", "x" * 61 + ".org", "\u00fc.org", "a b.org"])
def test_what_is_no_repository_is_not_there(parent, name):
    with pytest.raises(FileNotFoundError):
        os.stat(parent.path(name))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fails.example.org", "no server answers"),
        ("forbidden.example.org", "Not allowed to mount forbidden.example.org"),
    ],
)
def test_what_cannot_be_mounted_is_not_there_for_a_while_and_the_log_says_why(parent, name, reason):
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            os.listdir(parent.path(name))
    line = parent.said(f"{name} is not mounted")
    assert reason in line
    # It was tried once, and is tried again after a while.
    assert wait_until(lambda: reason in parent.said_of(name))


def test_a_client_that_is_never_ready_ends_in_time(start):
    parent = start(within=0.2)
    with pytest.raises(FileNotFoundError):
        os.listdir(parent.path("silent.example.org"))
    assert "was not mounted in time" in parent.said("silent.example.org is not mounted")


def test_nothing_can_be_written(parent):
    with pytest.raises(FileExistsError):
        os.mkdir(parent.path("new.example.org"))
    with pytest.raises(OSError) as refused:
        os.mkdir(parent.path("nodot"))
    assert refused.value.errno == errno.EROFS


def test_a_listing_shows_what_is_mounted(start):
    parent = start()
    assert os.listdir(parent.directory) == []
    mounted = sorted(next(names) for _ in range(3))
    for name in mounted:
        os.stat(parent.path(name))
    assert sorted(os.listdir(parent.directory)) == mounted
    assert os.statvfs(parent.directory).f_blocks == 0
    assert os.listxattr(parent.directory) == []


def test_a_client_that_died_is_replaced(parent):
    name = next(names)
    os.stat(parent.path(name, "program"))
    pid = int(parent.said(f"{name} mounted").split()[-1])
    os.kill(pid, signal.SIGKILL)
    assert "the next access mounts it again" in parent.said(f"{name}: process {pid} died")
    assert os.listdir(parent.path(name))
    assert int(parent.said(f"{name} mounted").split()[-1]) != pid


def test_what_an_administrator_unmounts_comes_back(parent):
    name = next(names)
    for _ in range(3):
        os.stat(parent.path(name, "program"))
        # Not waited for: the next access may come before the end of the client is known.
        assert run("umount", "-l", parent.path(name)).returncode == 0
    assert Path(parent.path(name, "program")).read_bytes()


def test_what_is_unmounted_before_it_is_used_is_mounted_again(parent):
    """Nobody hears of it; only when it does not end nothing is there."""
    assert sorted(os.listdir(parent.path("twice.example.org"))) == ["link", "program"]
    with pytest.raises(FileNotFoundError):
        os.listdir(parent.path("never.example.org"))
    assert "as soon as it is mounted" in parent.said("never.example.org is not mounted")


def test_what_lies_idle_goes_and_what_is_used_stays(start):
    parent = start(idle=0.2)
    idle, used = next(names), next(names)
    os.stat(parent.path(idle, "program"))
    with open(parent.path(used, "program"), "rb"):
        parent.said(f"{idle} was idle")
        assert wait_until(lambda: not parent.is_mounted(idle))
        assert parent.is_mounted(used)
        assert os.listdir(parent.path(idle))


def test_the_end_spares_who_uses_it(start):
    parent = start()
    used, idle = next(names), next(names)
    os.stat(parent.path(idle))
    with open(parent.path(used, "program"), "rb") as running:
        client = int(parent.said(f"{used} mounted").split()[-1])
        parent.end()
        assert below(parent.directory) == []
        assert os.listdir(parent.directory) == []
        assert running.read()
        # Its mount is out of sight, so this client thinks that it is over; a real one serves until its last user goes.
        assert has_ended(client)


def test_a_killed_one_is_replaced_and_what_was_mounted_goes_on_until_then(start):
    first, name = start(), next(names)
    os.stat(first.path(name, "program"))
    first.end(signal.SIGKILL)
    assert os.listdir(first.path(name))
    second = start()
    assert os.listdir(second.directory) == []
    assert os.listdir(second.path(name))


def test_a_living_one_is_not_replaced(start, tmp_path):
    start()
    other = Parent(tmp_path / "cvmfs")
    assert other.said("is mounted already")
    assert other.wait() != 0


def test_a_directory_with_mounts_in_it_is_not_covered(tmp_path):
    (tmp_path / "cvmfs/there").mkdir(parents=True)
    assert run("mount", "-t", "tmpfs", "tmpfs", tmp_path / "cvmfs/there").returncode == 0
    try:
        other = Parent(tmp_path / "cvmfs")
        assert other.said("there: is mounted already")
        assert other.wait() != 0
    finally:
        clean(tmp_path)


NAMESPACES = """
set -e
mount --make-rshared /
"$@" 2>"$DIRECTORY.log" & parent=$!
until findmnt "$DIRECTORY" >/dev/null; do sleep 0.01; done
unshare -m --propagation slave cat "$DIRECTORY/slave.example.org/program" | wc -l
unshare -m --propagation private cat "$DIRECTORY/private.example.org/program" 2>&1 | grep -c "Stale file handle"
wc -l < "$DIRECTORY/private.example.org/program"
grep -c "bind .* with rslave" "$DIRECTORY.log"
kill $parent
wait $parent
"""


def test_other_namespaces_see_it_if_mounts_come_to_them(tmp_path):
    """As containers do: a slave of our mounts gets what is mounted, a private one an error and no hanging process."""
    (tmp_path / "cvmfs").mkdir()
    words = [sys.executable, SCRIPT, tmp_path / "cvmfs", "0", "30"]
    environment = ENVIRONMENT | {"DIRECTORY": f"{tmp_path}/cvmfs"}
    done = run("unshare", "-m", "--propagation", "slave", "sh", "-c", NAMESPACES, "-", *words, env=environment)
    assert (done.returncode, done.stdout.split()) == (0, ["ready", "2", "1", "2", "1"]), done.stderr
