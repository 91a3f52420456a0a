"""A real Squid for tests that go through a proxy, with the configuration that the project deploys."""

import contextlib
import os
import shutil
import socket
import subprocess
from pathlib import Path

from processes import wait_until


class Squid:
    """A real Squid with the project's configuration, which tests stop and start again; always on the same port."""

    PROGRAM = "/usr/sbin/squid"
    _CONFIGURATION = Path(__file__).parents[2] / "server/deploy/squid.conf"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """What to write into CVMFS_HTTP_PROXY."""
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Directories, configuration, an empty cache."""
        self._directory.mkdir(parents=True)
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            self.port = bound.getsockname()[1]
        (self._directory / "cache").mkdir()
        (self._directory / "squid.conf").write_text(self._configuration())
        if os.geteuid() == 0:
            for place in (self._directory, *self._directory.iterdir()):
                shutil.chown(place, "proxy", "proxy")
        made = subprocess.run([*self._command(), "-z"], capture_output=True, timeout=60)
        assert made.returncode == 0, made.stderr.decode()

    def start(self) -> None:
        """Returns when it answers."""
        with (self._directory / "errors").open("ab") as errors:
            self._process = subprocess.Popen(self._command(), stderr=errors)
        assert wait_until(self._listens), "squid does not listen"

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "errors").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True
        return False

    def stop(self) -> None:
        """As a machine goes that loses power: at once."""
        if self._process:
            self._process.kill()
            self._process.wait(60)
            self._process = None

    def results(self) -> list[str]:
        """What became of each request that it has logged, as TCP_MISS/200 or TCP_HIT/200, in the order they ended."""
        return [line.split()[3] for line in self._log()]

    def requests(self) -> list[str]:
        """What was asked for, in the same order."""
        return [line.split()[6] for line in self._log()]

    def _log(self) -> list[str]:
        log = self._directory / "access.log"
        return log.read_text().splitlines() if log.exists() else []

    def _command(self) -> list[str]:
        return [self.PROGRAM, "-N", "-f", str(self._directory / "squid.conf")]

    def _configuration(self) -> str:
        """The file as it is deployed, below a directory of the test."""
        text = self._CONFIGURATION.read_text()
        for old, new in (
            ("http_port 3128", f"http_port 127.0.0.1:{self.port}"),
            ("cache_dir ufs /var/spool/squid 50000 16 256", f"cache_dir ufs {self._directory}/cache 100 4 16"),
            ("coredump_dir /var/spool/squid", f"coredump_dir {self._directory}"),
            ("cache_mem 128 MB", "cache_mem 16 MB"),
            ("max_filedescriptors 16384", "max_filedescriptors 1024"),
            ("/var/log/squid/access.log", f"{self._directory}/access.log"),
            ("/var/log/squid/cache.log", f"{self._directory}/cache.log"),
            ("/run/squid.pid", f"{self._directory}/pid"),
        ):
            assert old in text, f"{old!r} is what the test replaces"
            text = text.replace(old, new)
        return text
