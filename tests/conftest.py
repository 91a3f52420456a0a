"""What several test files share: repositories published by the original tools, and what system tests need."""

import contextlib
import dataclasses
import functools
import http.server
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cvfs.client.repository import Repository
from cvfs.format.manifest import parse as parse_manifest
from cvfs.format.signature import sign_manifest, sign_whitelist, split_signed
from cvfs.format.whitelist import parse as parse_whitelist
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs_server.mkfs import mkfs
from cvfs_server.publish import PublishOptions, PublishReport, publish
from cvfs_server.settings import RepositorySettings, default_settings
from cvfs_server.site import Site

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class FixtureRepository:
    """An unpacked repository of the original tools; tests only read it.

    `root` is served as /cvmfs/ and holds `storage`, named by the fqrn; `private` holds the throw-away keys;
    `manifests` gives, by tag, the tree as the original client showed it.
    """

    fqrn: str
    root: Path
    manifests: dict[str, Any]

    @property
    def storage(self) -> Path:
        return self.root / self.fqrn

    @property
    def public_key(self) -> Path:
        return self.root / "keys" / f"{self.fqrn}.pub"

    @property
    def private(self) -> Path:
        return self.root / "keys" / "private"


@pytest.fixture(scope="session")
def fixture_repository(tmp_path_factory) -> Callable[[str], FixtureRepository]:
    """Gives the repository of that name, unpacked once per test process."""
    unpacked: dict[str, FixtureRepository] = {}

    def repository(fqrn: str) -> FixtureRepository:
        if fqrn not in unpacked:
            unpacked[fqrn] = _unpack(fqrn, tmp_path_factory.mktemp(fqrn))
        return unpacked[fqrn]

    return repository


def _unpack(fqrn: str, root: Path) -> FixtureRepository:
    with tarfile.open(DATA / f"{fqrn}.tar.xz") as archive:
        archive.extractall(root, filter="data")
    manifests = {path.stem: json.loads(path.read_bytes()) for path in sorted((root / "manifests").glob("*.json"))}
    return FixtureRepository(fqrn, root, manifests)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A machine that cannot mount skips the system tests; continuous integration must be able to."""
    if item.get_closest_marker("system") is None:
        return
    missing = _missing_for_mounts()
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"system tests must run here, but {missing}", pytrace=False)
    if missing:
        pytest.skip(missing)


def _missing_for_mounts() -> str:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is missing or not accessible"
    if os.geteuid() != 0:
        return "mounting needs root"
    return ""


class WebServer:
    """A directory served over HTTP, whose files tests change. Remembers the paths it was asked for.

    A path in `held` is answered only after `release`; `arrived` counts those that wait. `on_request` is called first.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[str] = []
        self.held: set[str] = set()
        self.arrived = threading.Semaphore(0)
        self.release = threading.Event()
        self.on_request: Callable[[], None] = lambda: None
        self.url = ""


@pytest.fixture
def web() -> Iterator[Callable[[Path], WebServer]]:
    """Starts a web server over a directory."""
    with contextlib.ExitStack() as running:
        yield lambda root: running.enter_context(_serving(WebServer(root)))


@contextlib.contextmanager
def _serving(server: WebServer) -> Iterator[WebServer]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes

        def do_GET(self) -> None:
            server.requests.append(self.path)
            server.on_request()
            if self.path in server.held:
                server.arrived.release()
                server.release.wait(60)
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError):
                super().handle()

    class Threading(http.server.ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with Threading(("127.0.0.1", 0), functools.partial(Handler, directory=str(server.root))) as listener:
        server.url = f"http://127.0.0.1:{listener.server_port}"
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server
        finally:
            server.release.set()
            listener.shutdown()


class Publication:
    """A fixture's storage to be changed, with the keys to sign other documents for it."""

    def __init__(self, repository: FixtureRepository, root: Path) -> None:
        self.repository = repository
        self.fqrn = repository.fqrn
        self.root = root
        self.storage = root / repository.fqrn
        (self.storage / "data").mkdir(parents=True)
        for path in [*repository.storage.glob(".cvmfs*"), *(repository.storage / "data").iterdir()]:
            (self.storage / path.relative_to(repository.storage)).symlink_to(path)
        self.key = self._key(f"{self.fqrn}.key")
        self.master_key = self._key(f"{self.fqrn}.masterkey")
        self.manifest = parse_manifest(split_signed((self.storage / ".cvmfspublished").read_bytes()).payload)
        self.whitelist = parse_whitelist(split_signed((self.storage / ".cvmfswhitelist").read_bytes()).payload)

    def _key(self, name: str) -> Any:
        return load_pem_private_key((self.repository.private / name).read_bytes(), None)

    @property
    def algorithm(self) -> Algorithm:
        return self.manifest.root_catalog.algorithm

    def tag(self, name: str) -> tuple[ContentHash, int]:
        """Root hash and size of the root catalog of a tag."""
        for line in (self.repository.root / "tags.txt").read_text().splitlines():
            fields = line.split()
            if len(fields) > 5 and fields[0] == name and len(fields[1]) >= 40:
                return ContentHash.parse(fields[1], ObjectKind.CATALOG), int(fields[2])
        raise KeyError(name)

    def publish(self, tag: str | None = None, key: Any = None, **changes: Any) -> None:
        """Sign a manifest, for the root of a tag, as the next revision unless told otherwise."""
        if tag is not None:
            root, size = self.tag(tag)
            changes = {"root_catalog": root, "root_size": size} | changes
        later = {"revision": self.manifest.revision + 1, "timestamp": self.manifest.timestamp + 1}
        self.manifest = dataclasses.replace(self.manifest, **{**later, **changes})
        self.write(".cvmfspublished", sign_manifest(self.manifest.serialise(), self.algorithm, key or self.key))

    def vouch(self, key: Any = None, **changes: Any) -> None:
        """Sign a whitelist."""
        self.whitelist = dataclasses.replace(self.whitelist, **changes)
        document = sign_whitelist(self.whitelist.serialise(), self.algorithm, key or self.master_key)
        self.write(".cvmfswhitelist", document)

    def write(self, place: str, data: bytes) -> None:
        """Put a file in its place. What is only linked, the fixture's own, stays as it is."""
        directory = (self.storage / place).parent
        if directory.is_symlink():
            shared = directory.resolve()
            directory.unlink()
            shutil.copytree(shared, directory, copy_function=os.link)
        directory.mkdir(parents=True, exist_ok=True)
        temporary = self.storage / f"{place}.new"
        temporary.write_bytes(data)
        temporary.replace(self.storage / place)

    def flip(self, place: str, at: int = -1) -> None:
        """Flip a bit of a byte of a file, by default of the last one."""
        data = bytearray((self.storage / place).read_bytes())
        data[at] ^= 1
        self.write(place, bytes(data))


@pytest.fixture
def publication(fixture_repository, tmp_path) -> Callable[..., Publication]:
    """A private copy of a fixture that the test may change and sign."""
    return lambda fqrn="tiny.example.org", place="www": Publication(fixture_repository(fqrn), tmp_path / place)


class OwnRepository:
    """A new repository on a site of its own, published from the directory `tree`."""

    def __init__(self, root: Path, settings: RepositorySettings) -> None:
        self.site = Site(str(root / "site"))
        self.settings = settings
        self.fqrn = settings.fqrn
        self.tree = root / "tree"
        self.storage = Path(settings.storage)
        self.url = f"file://{settings.storage}"
        self.public_key = self.site.key(settings.fqrn, "pub")

    def publish(self, tree: Path | None = None, **options: Any) -> PublishReport:
        """Publish the tree, or another one."""
        return publish(self.site, self.fqrn, os.fsencode(tree or self.tree), PublishOptions(**options))

    def open(self, tag: str | None = None) -> Repository:
        """What clients see; to be closed."""
        return Repository.open(self.url, self.public_key, fqrn=self.fqrn, tag=tag)

    def manifest(self) -> Any:
        """The published manifest, whose signature a client checks."""
        return parse_manifest(split_signed((self.storage / ".cvmfspublished").read_bytes()).payload)


@pytest.fixture
def new_repository(tmp_path) -> Callable[..., OwnRepository]:
    """Makes a repository with an empty tree; settings by the names of `RepositorySettings`."""

    def make(fqrn: str = "own.example.org", place: str = "own", **settings: Any) -> OwnRepository:
        root = tmp_path / place
        site = Site(str(root / "site"))
        repository = OwnRepository(root, dataclasses.replace(default_settings(site, fqrn), **settings))
        repository.tree.mkdir(parents=True)
        mkfs(site, repository.settings)
        return repository

    return make
