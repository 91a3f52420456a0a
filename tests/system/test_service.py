"""`cvfs service` in a container made by hand: a host, the service in namespaces of its own, and a container beside it.

What they see is looked at from outside, below /proc/<pid>/root: each has a table of mounts of its own.
"""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from processes import CVFS, ENVIRONMENT, has_ended, wait_until

from cvfs.kernel import mount_table

pytestmark = pytest.mark.system

FQRN = "tiny.example.org"


class Inhabited:
    """Namespaces in which a process lives."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    @property
    def pid(self) -> int:
        return self.process.pid

    def path(self, place: object) -> Path:
        """A place as the process sees it."""
        return Path(f"/proc/{self.pid}/root{place}")

    def mounted(self, place: object) -> bool:
        return mount_table.find_mount(str(place), self.pid) is not None

    def reads(self, place: object) -> bytes | None:
        """A file through that process's mounts; None where it is not there, or its mount is dead."""
        try:
            # The kernel goes on reading what it knows although nobody serves it; this it always asks.
            os.statvfs(self.path(place))
            return self.path(place).read_bytes()
        except OSError:
            return None

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


class Host:
    """A machine whose /cvmfs (`share`) is shared, and containers on it."""

    def __init__(self, directory: Path, share: Path, environment: dict[str, str]) -> None:
        self.share = share
        self.directory = directory
        self.environment = environment
        # What tests beside this one have mounted is not of this machine.
        script = 'umount -alt fuse.cvfs; mount --bind "$1" "$1" && mount --make-shared "$1" && echo up && exec sleep infinity'
        self.itself = self._start(
            ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, "sh", str(share)]
        )

    def container(self, propagation: str, script: str, *arguments: str, **options: object) -> Inhabited:
        """Namespaces of mounts and processes, from those of the host, with a shell as the first process."""
        enter = ["nsenter", f"--mount=/proc/{self.itself.pid}/ns/mnt"]
        own = ["unshare", "--mount", "--propagation", propagation, "--pid", "--fork", "--kill-child", "--mount-proc"]
        return self._start([*enter, *own, "sh", "-c", f"echo up; {script}", "sh", *arguments], **options)

    def _start(self, command: list[str], **options: object) -> Inhabited:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=self.environment, start_new_session=True, **options
        )
        started = Inhabited(process)
        assert process.stdout.readline() == "up\n"
        return started


class Service:
    """`cvfs service` as the first process of a container."""

    def __init__(self, host: Host, name: str, *options: str) -> None:
        self.log = host.directory / f"{name}.log"
        with self.log.open("wb") as log:
            self.outside = host.container("unchanged", 'exec "$@"', *CVFS, "service", *options, stderr=log)

    @property
    def pid(self) -> int:
        """The first process of the container, by its number outside."""
        return children(self.outside.pid)[0]

    def mount_process(self) -> int | None:
        """The process that mounts, None while there is none."""
        running = [pid for pid in children(self.pid) if b"--foreground" in command_line(pid)]
        return running[0] if running else None

    def end(self) -> None:
        self.outside.end()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def host(fixture_repository, tmp_path_factory):
    published, directory = fixture_repository(FQRN), tmp_path_factory.mktemp("service")
    share = directory / "cvmfs"
    share.mkdir()
    environment = ENVIRONMENT | {
        "CVMFS_REPOSITORIES": FQRN,
        "CVMFS_SERVER_URL": f"file://{published.root}/@fqrn@",
        "CVMFS_PUBLIC_KEY": str(published.public_key),
        "CVMFS_CACHE_BASE": str(directory / "cache"),
        "CVMFS_HTTP_PROXY": "DIRECT",
        "CVMFS_MOUNT_DIR": str(share),
    }
    one = Host(directory, share, environment)
    yield one
    one.itself.end()


@pytest.fixture(scope="module")
def beside(host):
    """A container that was there before anything was mounted; it sees what the host sees."""
    one = host.container("slave", "exec sleep infinity")
    yield one
    one.end()


@pytest.fixture
def service(host):
    started: list[Service] = []

    def start(name: str, *options: str) -> Service:
        started.append(Service(host, name, *options))
        return started[-1]

    yield start
    for one in started:
        one.end()


def test_mounts_are_seen_healed_and_taken_away_everywhere(host, beside, service):
    file, place = host.share / FQRN / "files" / "hello.txt", host.share / FQRN
    one = service("healed")
    assert wait_until(lambda: beside.reads(file)), one.log.read_text()
    assert host.itself.reads(file) == beside.reads(file)
    assert mount_table.find_mount(str(place)) is None  # no mount of this process's

    killed = one.mount_process()
    os.kill(killed, signal.SIGKILL)
    assert has_ended(killed)
    assert wait_until(lambda: one.mount_process() not in (None, killed) and beside.reads(file)), one.log.read_text()
    assert host.itself.reads(file)
    assert f"the mount of {FQRN} ended with signal 9, once more in 1 s" in one.log.read_text()

    first = one.pid
    os.kill(first, signal.SIGTERM)
    assert has_ended(first)
    assert one.outside.process.wait(30) == 0
    assert not host.itself.mounted(place)
    assert not beside.mounted(place)
    assert list(host.share.joinpath(FQRN).iterdir()) == []


def test_what_a_killed_service_left_is_replaced_by_the_next(host, beside, service):
    file = host.share / FQRN / "files" / "hello.txt"
    one = service("killed")
    assert wait_until(lambda: beside.reads(file)), one.log.read_text()
    # All that runs in the container dies with its first process, the watchdogs too.
    os.kill(one.pid, signal.SIGKILL)
    one.outside.process.wait(30)
    assert wait_until(lambda: beside.reads(file) is None)
    assert beside.mounted(host.share / FQRN)
    two = service("next")
    assert wait_until(lambda: beside.reads(file)), two.log.read_text()
    assert host.itself.reads(file)


def test_who_still_uses_a_mount_does_not_keep_the_service(host, beside, service):
    file = host.share / FQRN / "files" / "hello.txt"
    one = service("used", "--grace", "0.2")
    assert wait_until(lambda: beside.reads(file)), one.log.read_text()
    with beside.path(file).open("rb", buffering=0):
        os.kill(one.pid, signal.SIGTERM)
        assert wait_until(lambda: not beside.mounted(host.share / FQRN))
        assert one.outside.process.wait(30) == 0
    assert f"{FQRN} is still in use, it is taken away" in one.log.read_text()
