"""A mount that is made for one sample or one contest: its process, what it costs, and its end, which comes whatever happens."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring.processes import has_gone, taken
from benchmarks.model import ClientCosts, Failed, State
from benchmarks.network.link import Connected
from benchmarks.targets import kernel_caches
from benchmarks.targets.site import Site, warmed

_PATIENCE = 60.0
_PAUSE = 0.02
_KILLED_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class MountPlace:
    """A tree in a mount. `operations` asks the client what the kernel asked of it."""

    top: Path
    pid: int
    link: Connected
    operations: Callable[[], Mapping[str, int]]

    def costs(self) -> ClientCosts | None:
        """Of the mount's process and those that it started. Raises Failed if it does not answer."""
        fuse = self.operations()
        own = taken(self.pid)
        wire = self.link.passed()
        return ClientCosts(own.cpu_seconds, own.resident, own.peak, own.switches, wire.requests, wire.body_bytes, fuse)


@contextlib.contextmanager
def serving(words: Sequence[str], mountpoint: Path, environment: Mapping[str, str], log: Path) -> Iterator[int]:
    """A command in the foreground that says to systemd when its mount is ready, as long as the context lasts.

    Gives the number of its process. Raises Failed if the mount does not come to be.
    """
    mountpoint.mkdir(parents=True, exist_ok=True)
    with _news() as news, log.open("wb") as output:
        address = "@" + news.getsockname()[1:].decode()
        process = subprocess.Popen(
            words,
            env={**environment, "NOTIFY_SOCKET": address},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            _wait_ready(process, news, log)
            yield process.pid
        finally:
            end(process, mountpoint)


@contextlib.contextmanager
def _news() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as news:
        # An address of the kernel's choice, without a file.
        news.bind("")
        news.settimeout(0.2)
        yield news


def _wait_ready(process: "subprocess.Popen[bytes]", news: socket.socket, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(TimeoutError):
            if b"READY=1" in news.recv(4096):
                return
    lines = log.read_text(errors="replace").strip().splitlines() or ["no word of it"]
    raise Failed(f"the mount did not come to be: {lines[-1]}")


def end(process: "subprocess.Popen[bytes]", mountpoint: Path) -> None:
    """Unmounted, even if somebody is still in it, and the process gone, by force at last."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_KILLED_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_KILLED_WITHIN)
    unmount(mountpoint)


def emptied(*directories: Path) -> None:
    """Take directories away with all that is in them. Raises OSError: what stayed would pass for cold."""
    for directory in directories:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(directory)


def prepare(site: Site, cache: Path, state: State) -> None:
    """What the client or the server reads lies in memory, for every sample alike: another target may just have dropped it."""
    if state is State.COLD:
        emptied(cache, trust_beside(cache))
        warmed(site)
    elif state is State.WARM:
        kernel_caches.fill(cache)
    cache.mkdir(parents=True, exist_ok=True)


def trust_beside(cache: Path) -> Path:
    """Where a client of cvfs remembers the newest revision that it saw."""
    return cache.with_name(f"{cache.name}.trust")


def wait_gone(pid: int, patience: float = _PATIENCE) -> None:
    """Raises Failed: a client that lives on after its mount shares the cache of the next sample."""
    deadline = time.monotonic() + patience
    while not has_gone(pid):
        if time.monotonic() > deadline:
            raise Failed(f"a client, process {pid}, has not ended {patience:g} s after its mount")
        time.sleep(_PAUSE)


def unmount(mountpoint: Path) -> None:
    """If there is anything."""
    if is_mounted(mountpoint):
        words = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
        subprocess.run([*words, str(mountpoint)], check=False, capture_output=True, timeout=_KILLED_WITHIN)


def is_mounted(mountpoint: Path) -> bool:
    """By the kernel's own table: to look at a dead mount is an error."""
    place = os.fspath(mountpoint.absolute()).replace(" ", "\\040")
    return any(line.split()[4] == place for line in Path("/proc/self/mountinfo").read_text().splitlines())
