"""The site files of server/deploy under the real nginx and the real Apache: a client reads, nothing private is shown."""

import contextlib
import http.client
import os
import pwd
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import pytest

from cvfs.client.repository import Repository

DEPLOY = Path(__file__).parents[2] / "server/deploy"
FQRN = "tiny.example.org"
APACHE_MODULES = Path("/usr/lib/apache2/modules")
# What the file's first lines ask for, and what Debian switches on by itself.
APACHE_NEEDS = ("mpm_event", "alias", "authz_core", "env", "expires", "headers")
APACHE_DEFAULTS = ("autoindex", "deflate", "dir", "filter", "mime", "negotiation", "reqtimeout", "setenvif")


@dataclass
class Site:
    """A running web server over `root`, which is its /srv/cvmfs."""

    port: int
    root: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/cvmfs/{FQRN}"

    def ask(self, target: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by lower-case name, body; the target goes out as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, target, headers=headers)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


@pytest.fixture(scope="module", params=["nginx", "apache", "apache with Debian's modules"])
def site(request, fixture_repository, tmp_path_factory) -> Iterator[Site]:
    """The fixture repository, with something in its staging area, behind each web server."""
    prefix = tmp_path_factory.mktemp("site")
    repository = fixture_repository(FQRN)
    shutil.copytree(repository.storage, prefix / "srv/cvmfs" / FQRN)
    (prefix / "srv/cvmfs" / FQRN / "data/txn").mkdir(exist_ok=True)
    (prefix / "srv/cvmfs" / FQRN / "data/txn/secret").write_bytes(b"secret")
    (prefix / "srv/cvmfs/info/v1").mkdir(parents=True)
    (prefix / "srv/cvmfs/info/v1/repositories.json").write_bytes(b'{"schema": 1}')
    (prefix / "srv/secret").write_bytes(b"secret")
    _let_workers_in(prefix)
    port = _free_port()
    command = _apache(prefix, port, request.param) if "apache" in request.param else _nginx(prefix, port)
    with _running(command, port, prefix / "error.log"):
        yield Site(port, prefix / "srv/cvmfs")


def _nginx(prefix: Path, port: int) -> list[str]:
    program = _program("nginx")
    site = (DEPLOY / "nginx.conf").read_text()
    site = _replaced(site, "root /srv;", f"root {prefix}/srv;")
    site = _replaced(site, "listen 80;", f"listen 127.0.0.1:{port};")
    site = _replaced(site, "listen [::]:80;", "")
    (prefix / "site.conf").write_text(site)
    scratch = "\n".join(
        f"{kind}_temp_path {prefix}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
    )
    # As in Debian's nginx.conf, compression is on for whoever does not switch it off.
    (prefix / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; user {_user()};\n"
        f"pid {prefix}/pid; error_log {prefix}/error.log;\n"
        f"events {{ }}\n"
        f"http {{\n{scratch}\naccess_log off; gzip on; gzip_types *; gzip_min_length 1;\ninclude {prefix}/site.conf;\n}}\n"
    )
    return [program, "-p", str(prefix), "-c", str(prefix / "nginx.conf")]


def _apache(prefix: Path, port: int, kind: str) -> list[str]:
    program = _program("apache2")
    names = APACHE_NEEDS + (APACHE_DEFAULTS if "modules" in kind else ())
    modules = "".join(f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so\n" for name in names)
    site = _replaced((DEPLOY / "apache.conf").read_text(), '"/srv/cvmfs"', f'"{prefix}/srv/cvmfs"')
    (prefix / "site.conf").write_text(site)
    # As in Debian's apache2.conf, what nobody opened is closed; here compression is on for all types.
    others = "TypesConfig /dev/null\nSetOutputFilter DEFLATE\n" if "deflate" in names else ""
    (prefix / "apache.conf").write_text(
        f"ServerRoot {prefix}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {prefix}/pid\n"
        f"ErrorLog {prefix}/error.log\nDefaultRuntimeDir {prefix}\nUser {_user()}\n{modules}"
        f"<Directory />\nRequire all denied\n</Directory>\n{others}Include {prefix}/site.conf\n"
    )
    return [program, "-f", str(prefix / "apache.conf"), "-DFOREGROUND"]


def _replaced(text: str, old: str, new: str) -> str:
    assert old in text, f"{old!r} is what the test replaces"
    return text.replace(old, new)


def _program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"{name} must be tested here, but is not installed", pytrace=False)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def _user() -> str:
    """Whom the workers run as: not root, who may read everything."""
    return "www-data" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def _let_workers_in(prefix: Path) -> None:
    """The directories that pytest makes are the user's alone."""
    for directory in (prefix, *prefix.parents):
        mode = directory.stat().st_mode
        if os.geteuid() == 0 and mode & 0o011 != 0o011:
            directory.chmod(mode | 0o011)


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@contextlib.contextmanager
def _running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """The server, from when it answers until it has gone."""
    with log.open("ab") as errors, subprocess.Popen(command, stderr=errors) as process:
        try:
            _wait_for(process, port, log)
            yield
        finally:
            process.terminate()


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    pause = threading.Event()
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        assert process.poll() is None, log.read_text()
        pause.wait(0.05)
    pytest.fail("the web server does not listen")


@pytest.fixture
def an_object(site) -> str:
    """The path of some object, below the repository."""
    path = next(path for path in sorted((site.root / FQRN / "data").glob("[0-9a-f]*/*")) if path.stat().st_size > 100)
    return str(path.relative_to(site.root / FQRN))


def test_a_client_reads_the_repository(site, fixture_repository):
    with Repository.open(site.url, fixture_repository(FQRN).public_key) as repository:
        files = [path for path, entry in repository.walk("/") if entry.is_regular and entry.size]
        total = sum(len(repository.read(path)) for path in files[:40])

    assert len(files) > 40
    assert total > 0


@pytest.mark.parametrize(
    ("place", "content_type", "age"),
    [
        (".cvmfspublished", "application/x-cvmfs", "max-age=61"),
        (".cvmfswhitelist", "application/x-cvmfs", "max-age=61"),
        (".cvmfsreflog", "application/x-cvmfs", "max-age=61"),
        (".cvmfs_status.json", "application/json", "max-age=61"),
        ("../info/v1/repositories.json", "application/json", "max-age=61"),
        ("", "application/x-cvmfs", "max-age=259200"),
    ],
)
def test_headers(site, an_object, place, content_type, age):
    file = (site.root / FQRN / (place or an_object)).resolve()
    target = f"/cvmfs/{file.relative_to(site.root)}"
    status, headers, body = site.ask(target, **{"Accept-Encoding": "gzip, deflate"})
    of_head = site.ask(target, "HEAD")

    assert (status, body) == (200, file.read_bytes())
    assert (of_head[0], of_head[1]["content-length"], of_head[2]) == (200, headers["content-length"], b"")
    assert (headers["content-type"], headers["cache-control"]) == (content_type, age)
    assert int(headers["content-length"]) == file.stat().st_size
    assert not {"etag", "last-modified", "content-encoding"} & set(headers)


@pytest.mark.parametrize("header", ["If-Modified-Since", "If-None-Match"])
def test_a_conditional_request_gets_the_file(site, header):
    file = site.root / FQRN / ".cvmfspublished"
    version = formatdate(file.stat().st_mtime, usegmt=True) if header == "If-Modified-Since" else '"x"'
    status, _, body = site.ask(f"/cvmfs/{FQRN}/.cvmfspublished", **{header: version})

    assert (status, body) == (200, file.read_bytes())


def test_a_range(site, an_object):
    status, headers, body = site.ask(f"/cvmfs/{FQRN}/{an_object}", Range="bytes=10-19")
    data = (site.root / FQRN / an_object).read_bytes()

    assert (status, body) == (206, data[10:20])
    assert headers["content-range"] == f"bytes 10-19/{len(data)}"


def test_a_new_manifest_is_seen_at_once(site):
    place = site.root / FQRN / ".cvmfs_status.json"
    for text in (b"first", b"the next", b"one more"):
        place.with_suffix(".new").write_bytes(text)
        place.with_suffix(".new").replace(place)

        assert site.ask(f"/cvmfs/{FQRN}/.cvmfs_status.json")[2] == text


@pytest.mark.parametrize(
    "path",
    [
        "/cvmfs",
        "/cvmfs/",
        "/cvmfs/{fqrn}",
        "/cvmfs/{fqrn}/",
        "/cvmfs/{fqrn}/data",
        "/cvmfs/{fqrn}/data/",
        "/cvmfs/{fqrn}/data/00",
        "/cvmfs/{fqrn}/data/00/",
        "/cvmfs/{fqrn}/data/00/none",
        "/cvmfs/{fqrn}/.none",
        "/cvmfs/{fqrn}/data/txn",
        "/cvmfs/{fqrn}/data/txn/",
        "/cvmfs/{fqrn}/data/txn/secret",
        "/cvmfs/{fqrn}/data//txn/secret",
        "/cvmfs/{fqrn}//data/txn//secret",
        "/cvmfs/{fqrn}/data/./txn/secret",
        "/cvmfs/{fqrn}/data/00/../txn/secret",
        "/cvmfs/{fqrn}/data/%74xn/secret",
        "/cvmfs/{fqrn}/%64ata/txn/secret",
    ],
)
def test_not_there(site, path):
    status, _, body = site.ask(path.format(fqrn=FQRN))

    assert status == 404
    assert b"secret" not in body


@pytest.mark.parametrize(
    "path",
    [
        "/secret",
        "/cvmfs/../secret",
        "/cvmfs/{fqrn}/../../secret",
        "/cvmfs/%2e%2e/secret",
        "/cvmfs/{fqrn}/..%2f..%2fsecret",
        "/cvmfs/{fqrn}/../../../../../../etc/passwd",
        "/cvmfs../secret",
        "/cvmfs/{fqrn}%2fdata%2ftxn%2fsecret",
    ],
)
def test_nothing_outside_is_shown(site, path):
    status, _, body = site.ask(path.format(fqrn=FQRN))

    assert status in {400, 403, 404}
    assert b"secret" not in body
    assert b"root:" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(site, method):
    target = f"/cvmfs/{FQRN}/.cvmfs_status.json"
    before = site.ask(target)

    assert site.ask(target, method)[0] in {403, 405}
    assert site.ask(target)[2] == before[2]
