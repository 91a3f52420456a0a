"""The images, built from a base made here and run by Podman, with no registry: mounts shared, healed, taken away; exec.

The images and all they are made from stay in build/container. What runs is in namespaces of its
own, whose /cvmfs is shared as a host's.
"""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from processes import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(3600)]

PROJECT = Path(__file__).parents[2]
BUILD = PROJECT / "build" / "container"
CONTAINERFILE = "server/deploy/container/Containerfile"
FQRN = "tiny.example.org"
# A base by debootstrap has Debian 12's Python, which may not be that of this machine.
SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = "python3,python3-venv,ca-certificates"


def run(*command: object, within: float = 300, **options: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=within, **options)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-4000:])
    return done.stdout


class Engine:
    """Podman with a store of its own, on a host of its own."""

    # Neither systemd nor a limit higher than this process has is taken for granted.
    LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--network", "host")

    def __init__(self, directory: Path) -> None:
        self.share = directory / "cvmfs"
        self.etc = directory / "etc"
        for place in (self.share, self.etc / "keys"):
            place.mkdir(parents=True)
        script = 'mount --bind "$1" "$1" && mount --make-shared "$1" && echo up && exec sleep infinity'
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(self.share)]
        self.host = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.host.stdout.readline() == "up\n"
        # A store remembers what ran, which has gone with its namespaces.
        shutil.rmtree(BUILD / "store", ignore_errors=True)
        store = ["--root", BUILD / "store", "--runroot", directory / "run", "--storage-driver", "overlay"]
        self._enter = ["nsenter", f"--mount=/proc/{self.host.pid}/ns/mnt"]
        self._podman = [*self._enter, "podman", *store, "--cgroup-manager=cgroupfs"]
        if shutil.which("runc"):
            self._podman.append("--runtime=runc")

    def podman(self, *words: object, within: float = 300) -> str:
        return run(*self._podman, *words, within=within)

    def try_run(self, *words: object) -> subprocess.CompletedProcess[str]:
        command = [*map(str, (*self._podman, "run", "--rm", *self.LIMITS, *words))]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def image(self, target: str) -> None:
        arguments = [f"--build-arg={said}" for said in ("BASE=localhost/cvfs-base", "PIP_NO_INDEX=1")]
        self.podman(
            "build", "--isolation=chroot", "--format=docker", *arguments, "--layers=false", "--target", target,
            "-t", f"cvfs-{target}", "-f", BUILD / "context" / CONTAINERFILE, BUILD / "context", within=1200,
        )  # fmt: skip

    def on_host(self, *words: object) -> subprocess.CompletedProcess[str]:
        command = [*map(str, (*self._enter, *words))]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def close(self) -> None:
        subprocess.run(
            [*map(str, self._podman), "rm", "--all", "--force", "--time", "0"], capture_output=True, timeout=120
        )
        self.host.kill()
        self.host.communicate()


def prepare_context() -> None:
    """What images are built from: the files that the Containerfile names, and wheels."""
    context, wheels = BUILD / "context", BUILD / "wheels"
    shutil.rmtree(context, ignore_errors=True)
    source, ignored = (
        context / "source",
        shutil.ignore_patterns(".*", "build", "dist", "tests", "*.egg-info", "__pycache__"),
    )
    shutil.copytree(PROJECT, source, ignore=ignored)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    house = context / "build" / "wheelhouse"
    run(*pip, "wheel", "--no-deps", "--wheel-dir", house, source, within=600)
    platforms = [
        f"--platform={name}" for name in ("manylinux2014_x86_64", "manylinux_2_28_x86_64", "manylinux_2_34_x86_64")
    ]
    needed = ["--only-binary=:all:", f"--python-version={PYTHON}", *platforms, "--dest", wheels, "--find-links", wheels]
    run(*pip, "download", *needed, f"{next(house.glob('cvfs-*.whl'))}[zstd]", within=600)
    for wheel in wheels.glob("*.whl"):
        if not wheel.name.startswith("cvfs-"):
            shutil.copy(wheel, house)
    for name in ("LICENSE", "server/deploy"):
        target = context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (source / name).is_dir() else shutil.copy)(source / name, target)
    shutil.rmtree(source)


def prepare_base(engine: Engine) -> None:
    """A Debian with Python, from Debian's packages; made once."""
    archive = BUILD / "base.tar"
    if not archive.exists():
        root = BUILD / "root"
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, root, within=1200)
        run("tar", "-C", root, "-cf", f"{archive}.new", ".")
        os.rename(f"{archive}.new", archive)
        shutil.rmtree(root)
    engine.podman("import", archive, "localhost/cvfs-base")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """With all images."""
    BUILD.mkdir(parents=True, exist_ok=True)
    # As distributions have it.
    os.chmod("/dev/fuse", 0o666)
    one = Engine(tmp_path_factory.mktemp("host"))
    try:
        prepare_base(one)
        prepare_context()
        for target in ("service", "exec"):
            one.image(target)
        yield one
    finally:
        one.close()


@pytest.fixture(scope="module")
def configured(engine, fixture_repository):
    """The options by which a container knows the repository, which a server on this machine has."""
    published = fixture_repository(FQRN)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(published.root))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shutil.copy(published.public_key, engine.etc / "keys")
    url = f"http://127.0.0.1:{server.server_port}/@fqrn@"
    said = (f"CVMFS_REPOSITORIES={FQRN}", f"CVMFS_SERVER_URL={url}", "CVMFS_HTTP_PROXY=DIRECT")
    yield ["-v", f"{engine.etc}:/etc/cvmfs:ro", *(word for one in said for word in ("-e", one))]
    server.shutdown()


RIGHTS = ("--cap-add", "SYS_ADMIN", "--device", "/dev/fuse")


def state(engine, name):
    return json.loads(engine.podman("inspect", name))[0]["State"]


def mount_process(engine):
    (mounted,) = json.loads(engine.podman("exec", "service", "cvfs", "status", "--json"))
    return mounted["pid"]


def job_reads(engine):
    # Asked of the server, not of what the kernel remembers of a dead mount.
    words = ["exec", "job", "sh", "-c", f"stat -f /cvmfs/{FQRN} >/dev/null && cat /cvmfs/{FQRN}/files/hello.txt"]
    done = subprocess.run([*map(str, (*engine._podman, *words))], capture_output=True, text=True, timeout=60)
    return done.stdout.startswith("Hello")


def test_the_service_shares_heals_and_takes_away(engine, configured):
    place = engine.share / FQRN
    engine.podman("run", "-d", "--name", "job", *engine.LIMITS, "-v", f"{engine.share}:/cvmfs:rslave",
                  "localhost/cvfs-base", "sleep", "infinity")  # fmt: skip
    engine.podman("run", "-d", "--name", "service", *engine.LIMITS, *RIGHTS, "-v", f"{engine.share}:/cvmfs:rshared",
                  *configured, "cvfs-service")  # fmt: skip
    assert wait_until(lambda: job_reads(engine), 120), engine.podman("logs", "service")
    assert engine.on_host("cat", place / "files" / "hello.txt").stdout.startswith("Hello")
    engine.podman("healthcheck", "run", "service")

    engine.podman("exec", "service", "sh", "-c", f"kill -9 {mount_process(engine)}")
    assert wait_until(lambda: job_reads(engine), 120), engine.podman("logs", "service")

    engine.podman("kill", "service")
    engine.podman("wait", "service")
    engine.podman("start", "service")
    assert wait_until(lambda: job_reads(engine), 120), engine.podman("logs", "service")

    engine.podman("stop", "service")
    assert state(engine, "service")["ExitCode"] == 0
    assert engine.podman("exec", "job", "ls", f"/cvmfs/{FQRN}") == ""
    assert engine.on_host("mountpoint", place).returncode != 0


@pytest.mark.parametrize(
    ("rights", "complaint"),
    [
        (RIGHTS[2:], "not permitted"),
        (RIGHTS[:2], "/dev/fuse: No such file or directory: load the fuse module or allow the device"),
    ],
)
def test_without_rights_it_says_which(engine, configured, rights, complaint):
    done = engine.try_run(*rights, "-v", f"{engine.share}:/cvmfs:rshared", *configured, "cvfs-service")
    assert done.returncode == 35
    assert complaint in done.stderr + done.stdout


def test_exec_needs_no_capability(engine, configured):
    forbidden = ["--cap-drop=ALL", "--security-opt=no-new-privileges", "--security-opt=seccomp=unconfined"]
    script = f"cat /cvmfs/{FQRN}/files/hello.txt; id -u; exit 7"
    done = engine.try_run(
        *forbidden, "--device", "/dev/fuse", *configured, "cvfs-exec", "-r", FQRN, "--", "sh", "-c", script
    )
    assert done.returncode == 7, done.stderr
    hello, user = done.stdout.splitlines()
    assert (hello[:5], user) == ("Hello", "1000")
