"""A repository in S3 as its release manager and its users meet it: published, mounted from the bucket and through nginx,
tagged, rolled back, collected."""

import contextlib
import http.client
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from object_store import object_server
from processes import ENVIRONMENT

from cvfs_server.site import Site
from cvfs_server.storage import bucket as requests
from cvfs_server.storage.s3_settings import load_s3_settings

pytestmark = pytest.mark.system

__all__ = ["object_server"]

SERVER = (sys.executable, "-c", "from cvfs_tools.server_command import main; main(prog_name='cvfs-server')")
NGINX_SITE = Path(__file__).parents[2] / "server" / "deploy" / "nginx-s3.conf"


class Manager:
    """Works with `cvfs-server` only."""

    def __init__(self, server, directory: Path) -> None:
        self.root = directory / "site"
        self.tree = directory / "tree"
        self.tree.mkdir()
        self.server = server
        self.fqrn = server.new_name()
        self.configuration = server.configuration(directory / "s3.conf")
        self.public_key = Site(str(self.root)).key(self.fqrn, "pub")

    def run(self, verb: str, *options: object) -> str:
        """One command about the repository; its output."""
        done = self.try_to(verb, *options)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def try_to(self, verb: str, *options: object) -> subprocess.CompletedProcess[str]:
        command = [*SERVER, verb, "--root", self.root, *options, self.fqrn]
        return subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=110, cwd="/", env=ENVIRONMENT
        )

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.tree / name).write_text(text)


@pytest.fixture
def manager(object_server, tmp_path):
    """One with a new repository in a bucket that everybody may read."""
    made = Manager(object_server, tmp_path)
    made.run("mkfs", "-s", made.configuration, "-w", object_server.public_url)
    client = requests._client(load_s3_settings(str(made.configuration)))
    client.put_bucket_acl(Bucket=object_server.bucket, ACL="public-read")
    return made


@pytest.fixture
def nginx(object_server, tmp_path):
    """The site file of server/deploy in front of the bucket; its URL."""
    if not (program := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")):
        pytest.skip("nginx is not installed")
    prefix = tmp_path / "nginx"
    prefix.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    site = NGINX_SITE.read_text().replace("http://s3.example.org/bucket/", f"{object_server.public_url}/")
    site = site.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("listen [::]:80;", "")
    places = "".join(
        f"{kind}_temp_path {prefix}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
    )
    (prefix / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; user {pwd.getpwuid(os.geteuid()).pw_name}; pid {prefix}/pid;\n"
        f"error_log {prefix}/error.log;\nevents {{ }}\nhttp {{ {places}access_log off;\n{site}\n}}\n"
    )
    command = [program, "-p", str(prefix), "-c", str(prefix / "nginx.conf")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}/cvmfs"
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as asked:
            asked.request("GET", "/")
            asked.getresponse()
            return
        time.sleep(0.05)
    pytest.fail("nginx does not answer")


def _mounted(client, manager, url, name):
    published = SimpleNamespace(fqrn=manager.fqrn, public_key=manager.public_key)
    one = client(published, url, name)
    one.mount()
    return one


def test_from_bucket_and_through_nginx(manager, nginx, object_server, client):
    manager.write(first="one", large="x" * 20_000_000)
    (manager.tree / "nested").mkdir()
    (manager.tree / "nested" / ".cvmfscatalog").touch()
    (manager.tree / "nested" / "file").write_text("deep")
    manager.run("publish", "--from", manager.tree, "-a", "v1", "-m", "first")
    for name, url in (("directly", object_server.public_url), ("nginx", nginx)):
        one = _mounted(client, manager, url, name)
        assert one.read("first") == b"one"
        assert one.read("large") == b"x" * 20_000_000
        assert one.read("nested/file") == b"deep"
    assert f"http://127.0.0.1:{object_server.port}/" in manager.run("info")
    assert "no problems found" in manager.run("check", "-i")


def test_a_transaction_on_top_of_the_bucket(manager):
    """The writable overlay; what it stands on stays, whatever is collected meanwhile."""
    manager.write(kept="kept", gone="gone")
    manager.run("publish", "--from", manager.tree)
    manager.run("transaction")
    place = manager.root / "cvmfs" / manager.fqrn
    try:
        manager.run("gc", "-fr", "0")
        (place / "gone").rename(place / "moved")
        (place / "kept").write_text("changed")
        manager.run("publish", "-a", "v1")
        manager.run("gc", "-fr", "0")
        assert {entry.name: entry.read_text() for entry in place.iterdir()} == {"kept": "changed", "moved": "gone"}
        assert "no problems found" in manager.run("check", "-i", "--all-tags")
    finally:
        manager.run("umount")


def test_tags_rollback_and_collection(manager, object_server, client):
    for number in (1, 2, 3):
        manager.write(file=f"content {number}", **{f"only{number}": f"only {number}"})
        manager.run("publish", "--from", manager.tree, "-a", f"v{number}")
        (manager.tree / f"only{number}").unlink()
    assert "v2" in manager.run("tag", "-l")
    manager.run("rollback", "-f", "-t", "v2")
    listed = manager.run("tag", "-l")
    assert "v2" in listed
    assert "v3" not in listed
    one = _mounted(client, manager, object_server.public_url, "after")
    assert one.read("file") == b"content 2"
    assert one.read("only2") == b"only 2"
    storage = _objects(manager)
    manager.run("gc", "-f", "-r", "0")
    assert _objects(manager) < storage
    assert "no problems found" in manager.run("check", "-i")
    manager.run("publish", "--from", manager.tree, "-a", "v4")
    assert "no problems found" in manager.run("check", "-i")


def _objects(manager) -> set[str]:
    client = requests._client(load_s3_settings(str(manager.configuration)))
    answer = client.list_objects_v2(Bucket=manager.server.bucket, Prefix=f"{manager.fqrn}/data/")
    return {found["Key"] for found in answer["Contents"]}


def test_nginx_tells_how_long_files_last(manager, nginx):
    manager.run("publish", "--from", manager.tree)
    some = next(iter(_objects(manager)))
    port = int(nginx.split(":")[2].partition("/")[0])
    for path, age in ((some, "max-age=259200"), (f"{manager.fqrn}/.cvmfspublished", "max-age=61")):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as asked:
            asked.request("GET", f"/cvmfs/{path}")
            answer = asked.getresponse()
            answer.read()
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == age
        assert answer.headers["Content-Type"] == "application/x-cvmfs"
        assert {"ETag", "Last-Modified"}.isdisjoint(answer.headers)


def test_a_new_repository_is_refused_where_one_is(manager):
    again = manager.try_to("mkfs", "-s", manager.configuration, "-w", manager.server.public_url)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_the_secret_is_never_shown(manager):
    manager.server.configuration(manager.configuration, SECRET_KEY="ThisMustNotBeShown")
    for verb in ("info", "check", "publish"):
        done = manager.try_to(verb, *(["--from", manager.tree] if verb == "publish" else []))
        assert done.returncode != 0
        assert "look at CVMFS_S3_ACCESS_KEY" in done.stderr
        assert "ThisMustNotBeShown" not in done.stderr + done.stdout
