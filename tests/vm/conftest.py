"""What a virtual machine needs from outside: an image, wheels, a repository behind a Squid, and a seed with all it is told.

These tests take minutes, the first time more: they run only when asked for, by `make test-vm` or with CVFS_VM=1.
"""

import functools
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import ENVIRONMENT
from virtual_machine import Image, Machine

PROJECT = Path(__file__).parents[2]
BUILD = PROJECT / "build" / "vm"
HERE = Path(__file__).parent
# What the host is called in a network that QEMU makes up; it is the host's own loopback.
HOST = "10.0.2.2"
# The Python of the image, which may not be that of this machine.
PYTHON_OF_IMAGE = "3.11"
FQRN = "vm.example.org"

collect_ignore_glob = [] if os.environ.get("CVFS_VM") else ["test_*.py"]


@pytest.fixture(scope="session")
def image() -> Image:
    """Made once, and again when the script that makes it has changed."""
    script = HERE / "make-image"
    recipe = hashlib.sha256(script.read_bytes()).hexdigest()
    made_by = BUILD / "image" / "made-by"
    if not made_by.exists() or made_by.read_text() != recipe:
        shutil.rmtree(BUILD / "image", ignore_errors=True)
        subprocess.run([script, BUILD / "image"], check=True, timeout=3600)
        made_by.write_text(recipe)
    return Image(*(BUILD / "image" / name for name in ("disk.ext4", "kernel", "initrd")))


@pytest.fixture(scope="session")
def wheels(tmp_path_factory) -> Iterator[str]:
    """The URL, for the machine, of a directory with this project and all it needs."""
    own, kept = tmp_path_factory.mktemp("wheel"), BUILD / "wheels"
    source = own / "source"
    shutil.copytree(PROJECT, source, ignore=shutil.ignore_patterns(".*", "build", "dist", "tests", "*.egg-info"))
    _pip("wheel", "--no-deps", "--wheel-dir", own, source)
    wheel = next(own.glob("cvfs-*.whl"))
    for earlier in kept.glob("cvfs-*.whl"):
        # pip keeps what is there under that name.
        earlier.unlink()
    platforms = [f"--platform={name}" for name in ("manylinux2014_x86_64", "manylinux_2_28_x86_64")]
    _pip("download", "--only-binary=:all:", f"--python-version={PYTHON_OF_IMAGE}", *platforms, "--dest", kept,
         "--find-links", kept, f"{wheel}[zstd]")  # fmt: skip
    with _Served(kept) as port:
        yield f"http://{HOST}:{port}/"


def _pip(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *map(str, words)], check=True, timeout=1200)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class _Served:
    """A directory on a port of the loopback."""

    def __init__(self, directory: Path) -> None:
        handler = functools.partial(_Quiet, directory=str(directory))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> int:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self._server.server_port

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Publisher:
    """A site with one repository, and its server, which can be stopped and started again on the same port."""

    def __init__(self, directory: Path) -> None:
        self._environment = {**ENVIRONMENT, "CVFS_ROOT": str(directory / "site")}
        self.key = directory / "site" / "etc" / "cvmfs" / "keys" / f"{FQRN}.pub"
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def run(self, *words: object) -> None:
        """A verb of `cvfs-server`."""
        subprocess.run([*_SERVER, *map(str, words)], check=True, env=self._environment, timeout=300)

    def start(self) -> None:
        """Returns when it listens."""
        command = [*_SERVER, "serve", "--port", str(self.port)]
        self._process = subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline().rpartition("/cvmfs")[0].rpartition(":")[2])

    def stop(self) -> None:
        """At once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None


_SERVER = (sys.executable, "-c", "from cvfs_tools.server_command import main; main(prog_name='cvfs-server')")


@pytest.fixture(scope="module")
def publisher(image, tmp_path_factory) -> Iterator[Publisher]:
    """With programs, a library and data published."""
    directory = tmp_path_factory.mktemp("publisher")
    _make_tree(directory / "tree", image)
    made = Publisher(directory)
    made.run("mkfs", FQRN)
    made.run("publish", "--from", directory / "tree", FQRN)
    made.start()
    yield made
    made.stop()


def _make_tree(tree: Path, image: Image) -> None:
    for name, text in _SOFTWARE.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tree / "bin" / "analysis").chmod(0o755)
    # A program of the image's, so that it finds its libraries there.
    dump = f"dump -p /usr/bin/sha256sum {tree}/bin/sha256sum"
    subprocess.run(["debugfs", "-R", dump, image.disk], check=True, capture_output=True, timeout=60)


_SOFTWARE = {
    "bin/analysis": (
        "#!/usr/bin/python3 -B\n"
        "import os, sys\n"
        "top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))\n"
        "sys.path.insert(0, top + '/lib')\n"
        "import importlib\n"
        "steps = [importlib.import_module(f'physics.step{n}').step for n in range(20)]\n"
        "with open(top + '/data/events') as events:\n"
        "    print(sum(step(int(line)) for line in events for step in steps))\n"
    ),
    "lib/physics/__init__.py": "",
    **{f"lib/physics/step{n}.py": f"def step(value):\n    return value + {n}\n" for n in range(20)},
    "lib/.cvmfscatalog": "",
    "data/events": "".join(f"{n}\n" for n in range(1000)),
    "data/late": "read only when everything is back\n",
}


@pytest.fixture(scope="module")
def machine(image, seed, tmp_path_factory, request) -> Iterator[Machine]:
    """Started from the image as it is, told everything by the seed."""
    started = Machine(image, seed, BUILD / "console.log")
    failures = request.session.testsfailed
    try:
        started.start()
        yield started
    except TimeoutError:
        failures = -1
        raise
    finally:
        started.stop()
        if request.session.testsfailed != failures:
            print(f"The end of {started.console}:\n{started.last_words()}")


@pytest.fixture(scope="module")
def seed(user_data, tmp_path_factory) -> Path:
    """A volume for cloud-init: what a site wants, and from somebody else, as clouds do, the agent of these tests."""
    directory = tmp_path_factory.mktemp("seed")
    agent = (HERE / "agent.py").read_text()
    (directory / "meta-data").write_text("instance-id: vm-1\nlocal-hostname: node1\n")
    (directory / "user-data").write_text(user_data)
    (directory / "vendor-data").write_text(_VENDOR_DATA.replace("@agent@", agent))
    volume = tmp_path_factory.mktemp("volume") / "seed.iso"
    words = ["genisoimage", "-quiet", "-volid", "cidata", "-rational-rock", "-joliet", "-output", volume, directory]
    subprocess.run(words, check=True, timeout=60)
    return volume


# A hook that runs early at every boot.
_VENDOR_DATA = """\
#cloud-boothook
#!/bin/sh
cat >/run/agent.py <<'END OF AGENT'
@agent@
END OF AGENT
systemd-run --quiet --unit=agent --property=DefaultDependencies=no /usr/bin/python3 /run/agent.py
"""
