"""A mounted client in processes of its own, the way users start it."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import CVFS, ENVIRONMENT, has_ended

from cvfs.client.control import ask, socket_path


class Client:
    """One mount point, cache and trust state. Processes that were seen are ended with the test."""

    def __init__(self, directory: Path, fqrn: str, url: str, public_key: Path, binding: str) -> None:
        self.fqrn = fqrn
        self.url = url
        self.public_key = public_key
        self.mountpoint = directory / "mnt"
        self.cache = directory / "cache"
        self.directory = directory
        self.environment = ENVIRONMENT | {"CVFS_FUSE_BINDING": binding}
        self.mountpoint.mkdir(parents=True)
        self._pids: set[int] = set()

    def try_mount(self, *options: str, **changes: Any) -> subprocess.CompletedProcess[str]:
        """`cvfs mount`, whatever comes of it."""
        given = {"url": self.url, "mountpoint": self.mountpoint, "key": self.public_key, "cache": self.cache} | changes
        trust = f"CVFS_TRUST_STATE_DIR={self.directory}/trust"
        command = [
            *CVFS,
            "mount",
            given["url"],
            given["mountpoint"],
            "-k",
            given["key"],
            "-c",
            given["cache"],
            "-o",
            trust,
        ]
        return subprocess.run(
            [*map(str, command), *options],
            capture_output=True,
            text=True,
            timeout=90,
            cwd=self.directory,
            env=self.environment,
        )

    @property
    def at_once(self) -> tuple[str, ...]:
        """The options with which a new revision shows at once, where the kernel cannot be told of it."""
        fusepy = self.environment["CVFS_FUSE_BINDING"] == "fusepy"
        return ("-o", "CVMFS_KCACHE_TIMEOUT=0") if fusepy else ()

    def mount(self, *options: str, **changes: Any) -> dict[str, Any]:
        """Mount; returns what the mount says of itself."""
        done = self.try_mount(*options, **changes)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return self.state()

    def state(self) -> dict[str, Any]:
        """The answer to `cvfs stat`."""
        state: dict[str, Any] = json.loads(self.command("stat"))
        self._pids.add(state["pid"])
        return state

    def command(self, command: str) -> str:
        return ask(socket_path(str(self.cache), self.fqrn), command)

    def requests(self) -> dict[str, int]:
        """What the kernel has asked, by operation."""
        requests: dict[str, int] = self.state()["requests"]
        return requests

    def path(self, name: str) -> Path:
        return self.mountpoint / name

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def wait_gone(self, pid: int) -> bool:
        """Whether the process ends in time."""
        return has_ended(pid)

    def close(self) -> None:
        subprocess.run(["umount", "-l", self.mountpoint], capture_output=True)
        for pid in self._pids:
            if not has_ended(pid, 5):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def client(tmp_path, fuse_binding) -> Iterator[Callable[..., Client]]:
    """Makes a client of a publication or fixture that is served at a URL."""
    made: list[Client] = []

    def make(published, url: str, name: str = "client") -> Client:
        key = getattr(published, "repository", published).public_key
        made.append(Client(tmp_path / name, published.fqrn, f"{url}/{published.fqrn}", key, fuse_binding))
        return made[-1]

    yield make
    for one in made:
        one.close()
