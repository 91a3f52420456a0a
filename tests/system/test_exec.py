"""`cvfs exec` as users type it: by an ordinary user without any capability, and by root. `cvfs mount` by such a user."""

import contextlib
import os
import pty
import shlex
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace

import pytest
from ordinary import USER, ordinary
from processes import CVFS, ENVIRONMENT, has_ended

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

FQRN, OTHER = "demo.example.org", "other.example.org"
HELLO = "#!/bin/sh\necho hello from $0\n"
WAITING = """
import os, signal, sys
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
    signal.signal(number, lambda number, _: os.write(1, b"got %d\\n" % number) and sys.exit(number))
print("ready", os.getpid(), sep="\\n", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that everybody can read, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="exec-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def published(make_repository, place):
    """Two repositories, and what names them on a command line."""
    for fqrn in (FQRN, OTHER):
        own = make_repository(place, fqrn, fqrn)
        (own.tree / "hello").write_text(HELLO)
        (own.tree / "hello").chmod(0o755)
        (own.tree / "name").write_text(fqrn)
        own.publish()
    keys = ":".join(str(place / fqrn / f"site/etc/cvmfs/keys/{fqrn}.pub") for fqrn in (FQRN, OTHER))
    server = f"file://{place}/@fqrn@/site/srv/cvmfs/@fqrn@"
    return SimpleNamespace(options=["-w", server, "-k", keys], server=server, keys=keys)


@pytest.fixture
def user(published, place):
    """An ordinary user, and his home."""
    return User(published, Path(tempfile.mkdtemp(dir=place)))


class User:
    """Somebody at a shell: the user of this number."""

    def __init__(self, published, home: Path, number: int = USER) -> None:
        self.published, self.home, self.is_root = published, home, number == 0
        os.chown(home, number, number)
        self.environment = {
            name: text for name, text in ENVIRONMENT.items() if not name.startswith(("CVMFS_", "CVFS_"))
        }
        self.environment |= {"HOME": str(home), "TMPDIR": str(home)}

    def words(self, *words: object, bare: Path | None = None) -> list[str]:
        return list(map(str, words)) if self.is_root else ordinary(*words, bare=bare)

    def exec(self, *words: object, repositories=(FQRN,)) -> list[str]:
        """The words of `cvfs exec`."""
        chosen = [word for fqrn in repositories for word in ("-r", fqrn)]
        return [*CVFS, "exec", *chosen, *self.published.options, "-c", f"{self.home}/cache", *map(str, words)]

    def run(self, *words: object, bare: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Until it ends."""
        return subprocess.run(
            self.words(*words, bare=bare),
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def start(self, *words: object) -> "subprocess.Popen[str]":
        """And go on; what it prints and reads are pipes."""
        return subprocess.Popen(
            self.words(*words), env=self.environment, cwd=self.home, stdin=PIPE, stdout=PIPE, text=True
        )

    def processes(self) -> list[str]:
        """Command lines of commands and clients that are running: all of them name his home."""
        found = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                found.append(Path(f"/proc/{pid}/cmdline").read_text(errors="replace"))
        return [line for line in found if str(self.home) in line]


def nothing_is_left(user: User) -> bool:
    mounts = Path("/proc/self/mountinfo").read_text()
    return user.processes() == [] and FQRN not in mounts and not os.path.lexists(f"/cvmfs/{FQRN}")


@pytest.mark.parametrize("number", [USER, 0], ids=["ordinary", "root"])
def test_the_same_as_without_it(number, published, place):
    """Bytes, identity, capabilities, working directory, exit status; then nothing is left."""
    user = User(published, Path(tempfile.mkdtemp(dir=place)), number)
    look = "id; pwd; echo $HOME; grep -E 'Cap(Prm|Eff)' /proc/self/status"
    script = f"{look}; cat /cvmfs/{FQRN}/hello /cvmfs/{OTHER}/name; /cvmfs/{FQRN}/hello; exit 7"
    done = user.run(*user.exec("--", "sh", "-c", script, repositories=(FQRN, OTHER)))
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == user.run("sh", "-c", look).stdout + HELLO + OTHER + f"hello from /cvmfs/{FQRN}/hello\n"
    assert nothing_is_left(user)


def test_nothing_there(user, place):
    """Neither /cvmfs nor /etc/cvmfs, and a home that cannot be written: it works, and one line tells where the cache is."""
    bare, temporary = (Path(tempfile.mkdtemp(dir=place)) for _ in range(2))
    for directory in (bare, temporary):
        os.chown(directory, USER, USER)
    user.environment |= {"HOME": str(bare), "TMPDIR": str(temporary)}
    look = f"ls -d /cvmfs /etc/cvmfs; touch $HOME/new; ls /; cat /cvmfs/{FQRN}/name"
    before = user.run("sh", "-c", look, bare=bare)
    assert before.stderr.count("No such file") == 3
    assert "Read-only file system" in before.stderr
    done = user.run(*CVFS, "exec", "-r", FQRN, *user.published.options, "--", "sh", "-c", look, bare=bare)
    assert sorted(done.stdout.split()) == sorted(["/cvmfs", *before.stdout.split(), "cvmfs", FQRN])
    told = f"{bare}/.cache/cvfs cannot be written: the cache, and what was seen of repositories, are in {temporary}/cvfs-{USER}"
    assert done.stderr.splitlines()[0].endswith(told)
    assert stat.S_IMODE(os.stat(temporary / f"cvfs-{USER}").st_mode) == 0o700


def test_nothing_said(user):
    user.environment["CVFS_ETC"] = str(user.home)
    done = user.run(*CVFS, "exec", "-r", FQRN, "true")
    assert done.returncode == 2
    assert done.stderr.startswith(f"cvfs: {FQRN}: no server known, set CVMFS_SERVER_URL (-w URL) and CVMFS_PUBLIC_KEY")
    done = user.run(*CVFS, "exec", "true")
    assert (done.returncode, done.stderr.count("\n"), "-r REPOSITORY" in done.stderr) == (2, 1, True)
    assert nothing_is_left(user)


def test_within_each_other(user):
    inner = user.exec("cat", f"/cvmfs/{FQRN}/name", f"/cvmfs/{OTHER}/name", repositories=(OTHER,))
    done = user.run(*user.exec("--", *inner))
    assert (done.returncode, done.stdout, done.stderr) == (0, FQRN + OTHER, "")
    assert nothing_is_left(user)


def test_those_of_the_configuration(user):
    """One that cannot be had does not keep the others."""
    user.environment["CVMFS_REPOSITORIES"] = f"absent.example.org,{OTHER}"
    done = user.run(*user.exec("cat", f"/cvmfs/{OTHER}/name", repositories=()))
    assert (done.returncode, done.stdout) == (0, OTHER)
    assert "absent.example.org" in done.stderr


def test_what_is_beside_it_stays(user, place):
    """Also where the user wants the repositories elsewhere, beside links and files."""
    beside = Path(tempfile.mkdtemp(dir=place))
    beside.chmod(0o755)
    (beside / "directory").mkdir()
    (beside / "directory/file").write_text("content")
    (beside / "link").symlink_to("directory")
    (beside / "file").write_text("plain")
    script = f"cat link/file file {FQRN}/name; cd /; cd $OLDPWD; ls $PWD; touch new"
    where = ("-o", f"CVMFS_MOUNT_DIR={beside}")
    done = user.run(*user.exec(*where, "--", "sh", "-c", f"cd {beside}; {script}"))
    assert done.stdout == f"contentplain{FQRN}{FQRN}\ndirectory\nfile\nlink\n"
    assert "Read-only file system" in done.stderr
    assert sorted(os.listdir(beside)) == ["directory", "file", "link"]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("sh", "-c", "kill -TERM $$"), -signal.SIGTERM),
        (("no-such-command",), 127),
        (("",), 127),
    ],
    ids=str,
)
def test_how_it_ends(user, words, status):
    done = user.run(*user.exec("--", *words))
    assert done.returncode == status
    assert done.stderr == (f"cvfs: {words[0] or repr('')}: no such command\n" if status == 127 else "")
    assert nothing_is_left(user)


def test_signals_reach_the_command(user):
    """One that is sent to `cvfs exec` alone; and a stop of the command is one of `cvfs exec`, until it is continued."""
    with user.start(*user.exec("--", sys.executable, "-c", WAITING)) as running:
        assert running.stdout.readline() == "ready\n"
        command = int(running.stdout.readline())
        os.kill(command, signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(running.pid, os.WUNTRACED)[1])
        os.kill(running.pid, signal.SIGCONT)
        os.kill(running.pid, signal.SIGUSR1)
        assert running.stdout.read() == f"got {signal.SIGUSR1:d}\n"
        assert running.wait(60) == signal.SIGUSR1
    assert nothing_is_left(user)


def test_the_terminal(user):
    """What is typed at it reaches the command, once; it ends as it ended."""
    terminal, theirs = pty.openpty()
    words = user.words(*user.exec("--", sys.executable, "-c", WAITING))
    # It becomes the controlling terminal of a session whose foreground is the command.
    with subprocess.Popen(
        ["setsid", "--ctty", *words], env=user.environment, cwd=user.home, stdin=theirs, stdout=theirs, stderr=theirs
    ) as running:
        os.close(theirs)
        seen = b""
        while seen.count(b"\n") < 2:
            seen += os.read(terminal, 1024)
        os.write(terminal, b"\x03")
        # The end of all who had it open.
        with contextlib.suppress(OSError):
            while piece := os.read(terminal, 1024):
                seen += piece
        os.close(terminal)
        assert running.wait(60) == signal.SIGINT
    assert seen.count(b"got 2\r\n") == 1


def test_interrupted_before_the_command_runs(user):
    """It ends as the command would: a script that runs it ends, too."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        url = "http://{}:{}/@fqrn@".format(*silent.getsockname())
        running = stack.enter_context(user.start(*user.exec("-w", url, "true")))
        silent.settimeout(60)
        silent.accept()[0].close()
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == -signal.SIGINT


def test_killed(user):
    """Nothing can be done then: the command goes with it, and the clients with the command."""
    script = f"getfattr --only-values -n user.pid /cvmfs/{FQRN}; echo; echo $$; read end"
    with user.start(*user.exec("--", "sh", "-c", script)) as running:
        client, command = (int(running.stdout.readline()) for _ in range(2))
        running.kill()
        assert has_ended(command)
        assert has_ended(client)
    assert nothing_is_left(user)


def test_what_it_leaves_running(user):
    """It keeps its repositories, and they end with it."""
    work = f"read begin; cat /cvmfs/{FQRN}/name; read end"
    script = f"exec 3<&0; getfattr --only-values -n user.pid /cvmfs/{FQRN}; ({work}) <&3 &"
    with user.start(*user.exec("--", "sh", "-c", script)) as running:
        assert running.wait(60) == 0
        running.stdin.write("\n")
        running.stdin.flush()
        text = os.read(running.stdout.fileno(), 100).decode()
        while not text.endswith(FQRN):
            text += os.read(running.stdout.fileno(), 100).decode()
        client = int(text.removesuffix(FQRN))
        assert not has_ended(client, 0)
        running.stdin.close()
        assert has_ended(client)


def test_where_it_is_forbidden(user):
    """A switch of the machine that is off, in a user namespace whose switches are its own."""
    off = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all "$@"'
    within = ("unshare", "--user", "--map-root-user", "sh", "-c", off, "sh")
    done = user.run(*within, *user.exec("true"))
    assert done.returncode == 35
    assert done.stderr.startswith(
        "cvfs: cannot make a user namespace: user.max_user_namespaces is 0; as root: sysctl -w user.max_user_namespaces="
    )
    assert "; without it: cvfs mount with fusermount3" in done.stderr


def test_a_mount_by_the_helper(user):
    """What a set-user-id program on the machine makes possible: a mount that stays, in the user's own place."""
    place = user.home / "mnt"
    cvfs = shlex.join(CVFS)
    options = shlex.join([*user.published.options, "-c", f"{user.home}/cache"])
    script = f"mkdir {place}; {cvfs} mount {FQRN} {place} {options} && cat {place}/name && {cvfs} umount {place} && ls {place}"
    words = ordinary("sh", "-c", script, helpers=True)
    done = subprocess.run(words, env=user.environment, cwd=user.home, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, FQRN, "")
