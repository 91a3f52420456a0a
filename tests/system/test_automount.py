"""The parent mount for real: repositories appear on first access, come back when their client dies, go when they are idle."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from ordinary import USER, ordinary
from processes import CVFS, ENVIRONMENT, has_ended, wait_until

from cvfs.client.parent.clients import Client
from cvfs.kernel.mount_table import find_mount, mount_table
from cvfs_tools.setup.autofs import MAP, autofs_map
from cvfs_tools.setup.plan import File

pytestmark = pytest.mark.system

ONE, OTHER = "tiny.example.org", "tiny-shake128.example.org"
FILE = "chunked/random_500k"
PATIENCE = 60.0


class Automount:
    """A parent mount with the repositories that a configuration tree knows."""

    def __init__(self, etc: Path, directory: Path, *options: str) -> None:
        self.directory = directory
        words = [*CVFS, "--etc", str(etc), "automount", "--foreground", str(directory), *options]
        self.process = Client("parent", ["env", f"PYTHONPATH={ENVIRONMENT['PYTHONPATH']}", *words])

    def start(self) -> "Automount":
        with self.process.start() as news:
            self.process.wait_ready(news, time.monotonic() + PATIENCE)
        return self

    def path(self, fqrn: str, name: str = "") -> Path:
        return self.directory / fqrn / name

    def mounted(self, fqrn: str) -> str | None:
        entry = find_mount(self.path(fqrn).as_posix())
        return entry.device if entry else None

    def client(self, fqrn: str) -> int:
        return int(os.getxattr(self.path(fqrn), "user.pid"))

    def end(self) -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)
        return self.process.has_ended(PATIENCE)


@pytest.fixture(scope="module")
def etc(tmp_path_factory, fixture_repository):
    """A tree that knows two repositories, one whose server refuses, and how clients live here."""
    root = tmp_path_factory.mktemp("automount")
    tree = root / "etc"
    for directory in ("keys", "config.d"):
        (tree / directory).mkdir(parents=True)
    for fqrn in (ONE, OTHER):
        fixture = fixture_repository(fqrn)
        (tree / "keys" / fixture.public_key.name).write_bytes(fixture.public_key.read_bytes())
        (tree / "config.d" / f"{fqrn}.conf").write_text(f"CVMFS_SERVER_URL=file://{fixture.storage}\n")
    refusing = "CVMFS_SERVER_URL=http://127.0.0.1:1/cvmfs/@fqrn@\nCVMFS_MAX_RETRIES=0\n"
    (tree / "config.d" / "refused.example.org.conf").write_text(refusing)
    common = f"CVMFS_HTTP_PROXY=DIRECT\nCVMFS_CACHE_BASE={root}/cache\nCVMFS_SHARED_CACHE=no\n"
    (tree / "default.local").write_text(common)
    return tree


@pytest.fixture
def automount(etc, tmp_path):
    """Starts parent mounts with options, each below a directory that it makes itself."""
    made = []

    def start(*options):
        made.append(Automount(etc, tmp_path / "cvmfs", *options))
        return made[-1].start()

    yield start
    for one in made:
        one.end()
        leftovers = [entry.mountpoint for entry in mount_table() if entry.mountpoint.startswith(bytes(tmp_path))]
        for place in reversed(leftovers):
            subprocess.run(["umount", "-l", place], capture_output=True)


@pytest.fixture(scope="module")
def parent(etc, tmp_path_factory):
    """One for the tests that leave it as it was."""
    one = Automount(etc, tmp_path_factory.mktemp("parent") / "cvmfs").start()
    yield one
    assert one.end()
    assert not [entry for entry in mount_table() if entry.mountpoint.startswith(bytes(one.directory))]


def test_the_first_access_mounts(parent):
    assert os.getxattr(parent.path(ONE), "user.fqrn") == ONE.encode()
    assert os.listdir(parent.directory) == [ONE]


@pytest.mark.parametrize("name", ["unknown.example.org", "refused.example.org"])
def test_what_cannot_be_mounted_does_not_exist(parent, name):
    started = time.monotonic()
    with pytest.raises(FileNotFoundError):
        os.stat(parent.path(name))
    assert time.monotonic() - started < PATIENCE


def test_a_client_that_dies_is_replaced_at_the_next_access(parent):
    parent.path(ONE, FILE).read_bytes()
    pid, device = parent.client(ONE), parent.mounted(ONE)
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: parent.mounted(ONE) != device)
    assert parent.path(ONE, FILE).read_bytes()
    assert parent.client(ONE) != pid


def test_a_killed_parent_is_replaced_by_the_same_command_and_programs_go_on(automount):
    first = automount()
    content = first.path(ONE, FILE).read_bytes()
    with open(first.path(ONE, FILE), "rb") as running:
        os.kill(first.process.pid, signal.SIGKILL)
        assert first.process.has_ended(PATIENCE)
        assert first.path(ONE, FILE).read_bytes() == content
        second = automount()
        assert second.path(ONE, FILE).read_bytes() == content
        assert running.read() == content


def test_the_end_takes_away_what_is_there_and_spares_who_uses_it(automount):
    parent = automount()
    content = parent.path(ONE, FILE).read_bytes()
    parent.path(OTHER, FILE).read_bytes()
    used, idle = parent.client(ONE), parent.client(OTHER)
    with open(parent.path(ONE, FILE), "rb") as running:
        assert parent.end()
        assert has_ended(idle)
        assert os.listdir(parent.directory) == []
        assert running.read() == content
    assert has_ended(used)


def test_in_the_background_it_is_there_when_the_command_returns(etc, tmp_path):
    """Names that are relative count from where the command was given, although nothing of it goes on working there."""
    command = [*CVFS, "--etc", os.path.relpath(etc, tmp_path), "automount", "--log", "log", "--", "cvfs"]
    surroundings = {"cwd": tmp_path, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": PATIENCE}
    try:
        done = subprocess.run(command, **surroundings)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        client = int(os.getxattr(tmp_path / "cvfs" / ONE, "user.pid"))
        again = subprocess.run(command, **surroundings)
        assert (again.returncode, again.stderr) == (
            35,
            f"cvfs: {tmp_path}/cvfs: is mounted already, unmount it first\n",
        )
        assert f"{tmp_path}/cvfs/{ONE} mounted" in (tmp_path / "log").read_text()
    finally:
        subprocess.run(["umount", "-l", tmp_path / "cvfs"])
    assert has_ended(client)


USERS = """
mount --bind "$HOME/fuse.conf" /etc/fuse.conf && exec "$@"
"""
OF_A_USER = """
set -e
"$@" automount "$HOME/cvmfs"
look() { wc -c < "$HOME/cvmfs/$FILE"; "$PYTHON" -c "import os; print(os.getxattr('$HOME/cvmfs/$FQRN', 'user.pid').decode())"; }
look
fusermount3 -u "$HOME/cvmfs/$FQRN"
look
fusermount3 -u -z "$HOME/cvmfs"
"""


@pytest.mark.skipif(not (shutil.which("fusermount3") and os.path.exists("/etc/fuse.conf")), reason="needs fuse3")
def test_a_users_own_where_the_machine_lets_users_share_mounts(fixture_repository):
    """By fusermount3, which somebody else is: the machine says user_allow_other."""
    fixture = fixture_repository(ONE)
    with tempfile.TemporaryDirectory(prefix="automount-") as name:
        home = Path(name)
        shutil.copytree(fixture.storage, home / "storage")
        shutil.copyfile(fixture.public_key, home / "key.pub")
        (home / "fuse.conf").write_text("user_allow_other\n")
        for path in (home, *home.rglob("*")):
            os.chown(path, USER, USER)
        site = {"CVMFS_SERVER_URL": f"file://{home}/storage", "CVMFS_PUBLIC_KEY": f"{home}/key.pub"}
        words = ordinary("sh", "-c", OF_A_USER, "-", *CVFS, helpers=True)
        environment = (
            ENVIRONMENT | site | {"HOME": name, "FILE": f"{ONE}/{FILE}", "FQRN": ONE, "PYTHON": sys.executable}
        )
        done = subprocess.run(
            ["unshare", "-m", "--propagation", "slave", "sh", "-c", USERS, "-", *words],
            env=environment, cwd=home, capture_output=True, text=True, timeout=2 * PATIENCE,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        size, first, again, second = done.stdout.split()
        assert (size, again) == ("512000", "512000")
        assert has_ended(int(first))
        assert has_ended(int(second))


HELPER = '#!/bin/sh\nexec {python} -c \'from cvfs_tools.mount_helper import main; main(prog_name="mount.cvfs")\' "$@"\n'
AUTOFS = """
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$HELPERS:/usr/sbin" /usr/sbin
# A process group of its own: nothing that it does waits for itself, everything that we do waits for it.
setsid "$@" >&2 & daemon=$!
until findmnt -t autofs "$DIRECTORY" >/dev/null; do sleep 0.05; done
cat "$DIRECTORY/$FILE" | wc -c
ls "$DIRECTORY/nodot" || kill $daemon
wait $daemon
"""


def test_autofs_mounts_by_the_map_of_the_set_up(etc, tmp_path):
    """The daemon makes everybody wait for what it mounts, except for its own process group: that has to be the mounter's."""
    daemon = shutil.which("automount")
    if daemon is None or "\tautofs\n" not in Path("/proc/filesystems").read_text():
        pytest.skip("autofs is not installed, or the kernel has none")
    helper, script, master = tmp_path / "bin/mount.cvfs", tmp_path / "auto.cvfs", tmp_path / "auto.master"
    for directory in (tmp_path / "cvmfs", helper.parent):
        directory.mkdir()
    helper.write_text(HELPER.format(python=sys.executable))
    for step in autofs_map(f"{tmp_path}/cvmfs").steps:
        if isinstance(step, File):
            place = script if step.place == MAP else master
            place.write_text(step.content.decode().replace(MAP, str(script)))
    for program in (helper, script):
        program.chmod(0o755)
    command = [daemon, "--foreground", "--verbose", "--pid-file", f"{tmp_path}/pid", master]
    places = {"DIRECTORY": f"{tmp_path}/cvmfs", "FILE": f"{ONE}/{FILE}", "HELPERS": str(helper.parent)}
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "slave", "sh", "-c", AUTOFS, "-", *command],
        env=ENVIRONMENT | places | {"CVFS_ETC": str(etc)}, capture_output=True, text=True, timeout=2 * PATIENCE,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "512000"), done.stderr
