"""A long tar of the mount through two real Squids and two servers, one a real nginx, while each goes and comes in turn."""

import hashlib
import os
import pwd
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

DEPLOY = Path(__file__).parents[2] / "server/deploy"
FILES, SIZE = 240, 20_000


class Nginx:
    """The site file of server/deploy under the real nginx."""

    def __init__(self, place: Path, root: Path) -> None:
        self._place = place
        self._root = root
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            self.port = bound.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        site = (DEPLOY / "nginx.conf").read_text()
        for old, new in (
            ("root /srv;", f"root {self._root};"),
            ("listen 80;", f"listen 127.0.0.1:{self.port};"),
            ("listen [::]:80;", ""),
        ):
            assert old in site
            site = site.replace(old, new)
        (self._place / "site.conf").write_text(site)
        kinds = ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
        scratch = "".join(f"{kind}_temp_path {self._place}/{kind};" for kind in kinds)
        user = "www-data" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        (self._place / "nginx.conf").write_text(
            f"daemon off; master_process off; user {user}; pid {self._place}/pid; error_log {self._place}/errors;\n"
            f"events {{ }}\nhttp {{ {scratch} access_log off; include {self._place}/site.conf; }}\n"
        )

    def start(self) -> None:
        """Returns when it answers."""
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            pytest.fail("nginx is not installed") if os.environ.get("CI") else pytest.skip("nginx is not installed")
        self._process = subprocess.Popen([program, "-p", str(self._place), "-c", str(self._place / "nginx.conf")])
        pause = threading.Event()
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
            except OSError:
                assert self._process.poll() is None, (self._place / "errors").read_text()
                pause.wait(0.05)
            else:
                return
        pytest.fail("nginx does not listen")

    def stop(self) -> None:
        """At once."""
        if self._process:
            self._process.kill()
            self._process.wait(60)
            self._process = None


@pytest.fixture
def nginx(tmp_path):
    """Starts one over a directory."""
    place = Path(tempfile.mkdtemp(prefix="nginx-"))
    started: list[Nginx] = []

    def start(root: Path) -> Nginx:
        started.append(Nginx(place, root))
        started[0].prepare()
        started[0].start()
        return started[0]

    yield start
    for one in started:
        one.stop()
    shutil.rmtree(place)


def test_a_long_tar(published, peer, mounted, squid, nginx):
    repository = published()
    files = repository.fill(FILES, SIZE)
    servers = [nginx(repository.root), peer(repository.root)]
    proxies = [squid(), squid()]
    client = mounted(repository)
    client.mount(servers, "|".join(proxy.url for proxy in proxies), CVMFS_TIMEOUT=3)
    found = {}
    events = [event for one in (*proxies, *servers) for event in (one.stop, one.start)] * 2
    every = FILES // (len(events) + 1)
    tar = subprocess.Popen(
        ["tar", "c", *sorted(os.listdir(client.mountpoint))], cwd=client.mountpoint, stdout=subprocess.PIPE
    )
    # Where they happen goes by what was read: the writer waits while the pipe is full.
    with tarfile.open(fileobj=tar.stdout, mode="r|", bufsize=tarfile.RECORDSIZE) as archive:
        for member in archive:
            if member.isreg():
                found[member.name] = hashlib.sha256(archive.extractfile(member).read()).hexdigest()
                if len(found) % every == 0 and events:
                    events.pop(0)()
    assert tar.wait(60) == 0
    assert found == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert events == []
    client.unmount()
