"""What several test files share: repositories published by the original tools, and what system tests need."""

import contextlib
import dataclasses
import functools
import http.server
import json
import os
import shutil
import signal
import stat
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import processes
import pytest
from bindings import require_fusepy
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from random_edits import RandomEdits
from squid import Squid

from cvfs.client.repository import Repository
from cvfs.format.dirent import DirectoryEntry
from cvfs.format.manifest import parse as parse_manifest
from cvfs.format.signature import load_public_key, sign_manifest, sign_whitelist, split_signed
from cvfs.format.whitelist import parse as parse_whitelist
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.store.local import LocalStore
from cvfs_server.check.check import CheckOptions, check
from cvfs_server.check.findings import Finding
from cvfs_server.founding.mkfs import mkfs
from cvfs_server.publication import PublishOptions, PublishReport
from cvfs_server.settings import RepositorySettings, default_settings
from cvfs_server.signing.keychain import Keychain, new_keychain
from cvfs_server.site import Site
from cvfs_server.storage import local
from cvfs_server.ways.tree import TreeOptions, publish_tree

DATA = Path(__file__).parent / "data"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What is started in the background of a script ignores SIGINT, and so would every program that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
        # Python 3.11 knows the filter from 3.11.4 on; Debian 12 has 3.11.2.
        archive.extractall(root, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    manifests = {path.stem: json.loads(path.read_bytes()) for path in sorted((root / "manifests").glob("*.json"))}
    return FixtureRepository(fqrn, root, manifests)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fuse-binding", choices=("native", "fusepy"), help="make every mount by this binding (default: as marked)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Every process that a test starts obeys the option, and so does what xdist starts."""
    if chosen := config.getoption("--fuse-binding"):
        os.environ["CVFS_FUSE_BINDING"] = processes.ENVIRONMENT["CVFS_FUSE_BINDING"] = chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of what the bindings have in common are run with each, unless one was chosen for all."""
    if metafunc.definition.get_closest_marker("both_bindings") and not metafunc.config.getoption("--fuse-binding"):
        metafunc.parametrize("fuse_binding", ["native", "fusepy"], indirect=True)


@pytest.fixture
def fuse_binding(request) -> str:
    """The binding that this test's mounts are made by."""
    chosen = getattr(request, "param", None) or request.config.getoption("--fuse-binding") or "native"
    if chosen == "fusepy":
        require_fusepy()
    return chosen


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A machine that cannot mount skips the system tests; continuous integration must be able to."""
    native_only = item.get_closest_marker("native_only")
    if native_only and item.config.getoption("--fuse-binding") == "fusepy":
        pytest.skip(f"native binding only: {native_only.args[0]}")
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

    def publish(
        self, tree: Path | None = None, *, to: bytes = b"", trust_mtime: bool = False, **options: Any
    ) -> PublishReport:
        """Publish the tree, or another one."""
        source, chosen = os.fsencode(tree or self.tree), TreeOptions(to, trust_mtime)
        return publish_tree(self.site, self.fqrn, source, PublishOptions(**options), chosen)

    def open(self, tag: str | None = None) -> Repository:
        """What clients see; to be closed."""
        return Repository.open(self.url, self.public_key, fqrn=self.fqrn, tag=tag)

    def check(self, **options: Any) -> list[Finding]:
        """What is wrong with it: all objects are read."""
        keys = (load_public_key(Path(self.public_key).read_bytes()),)
        chosen = CheckOptions(**{"integrity": True, "public_keys": keys, "now": time.time(), "workers": 1, **options})
        with tempfile.TemporaryDirectory() as scratch:
            return list(check(LocalStore(self.settings.storage), self.manifest(), chosen, scratch))

    def manifest(self) -> Any:
        """The published manifest, whose signature a client checks."""
        return parse_manifest(split_signed((self.storage / ".cvmfspublished").read_bytes()).payload)


_sync_filesystem = local._sync_filesystem


@pytest.fixture(scope="session", autouse=True)
def no_power_cuts() -> Iterator[None]:
    """A publish in this process does not wait for the disk, which all tests share; those in other processes do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_sync_filesystem", lambda _descriptor: None)
        yield


@pytest.fixture
def power_cuts(monkeypatch) -> None:
    """For a test that waits for the disk after all."""
    monkeypatch.setattr(local, "_sync_filesystem", _sync_filesystem)


@pytest.fixture(scope="session")
def keychains() -> Callable[[str, str], Keychain]:
    """Keys by repository and place, made once: that takes longer than most tests."""
    return functools.cache(lambda fqrn, _place: new_keychain(fqrn))


@pytest.fixture
def new_repository(tmp_path, make_repository) -> Callable[..., OwnRepository]:
    """Makes a repository with an empty tree; settings by the names of `RepositorySettings`."""
    return lambda fqrn="own.example.org", place="own", **settings: make_repository(tmp_path, fqrn, place, **settings)


@pytest.fixture(scope="session")
def make_repository(keychains) -> Callable[..., OwnRepository]:
    """The same below a directory of one's own, for what several tests share."""

    def make(top: Path, fqrn: str = "own.example.org", place: str = "own", **settings: Any) -> OwnRepository:
        root = top / place
        site = Site(str(root / "site"))
        repository = OwnRepository(root, dataclasses.replace(default_settings(site, fqrn), **settings))
        repository.tree.mkdir(parents=True)
        for kind, text in keychains(fqrn, place).items():
            path = Path(site.key(fqrn, kind))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
            path.chmod(0o644 if kind in {"pub", "crt"} else 0o600)
        mkfs(site, repository.settings)
        return repository

    return make


class Looked(NamedTuple):
    """What a user sees of one name in a tree; sizes and links of directories are left out: file systems differ.

    `together` are the names of the same file in the same directory.
    """

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    content: bytes
    xattrs: tuple[tuple[str, bytes], ...]
    together: tuple[bytes, ...]


def look(top: bytes) -> dict[bytes, Looked]:
    """A tree by way of the kernel: every path below `top`, which is the empty path, and what is there."""
    found = {b"": _look_at(top, ())}
    pending = [b""]
    while pending:
        directory = pending.pop()
        names = [directory + b"/" + name for name in os.listdir(top + directory)]
        status = {name: os.lstat(top + name) for name in names}
        for name in names:
            same = [other for other in names if os.path.samestat(status[name], status[other])]
            found[name] = _look_at(top + name, tuple(sorted(same)))
            if stat.S_ISDIR(status[name].st_mode):
                pending.append(name)
    return found


def _look_at(place: bytes, together: tuple[bytes, ...]) -> Looked:
    status = os.lstat(place)
    kind = stat.S_IFMT(status.st_mode)
    size, content = {stat.S_IFDIR: 0, stat.S_IFREG: status.st_size}.get(kind, status.st_rdev), b""
    if kind == stat.S_IFREG:
        content = Path(os.fsdecode(place)).read_bytes()
    elif kind == stat.S_IFLNK:
        content = os.readlink(place)
        size = status.st_size
    named = sorted(os.listxattr(place, follow_symlinks=False))
    values = tuple((name, os.getxattr(place, name, follow_symlinks=False)) for name in named if _is_published(name))
    return Looked(status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, size, content, values, together)


def _is_published(attribute: str) -> bool:
    return attribute.startswith(("user.test", "trusted."))


@pytest.fixture
def random_edits() -> type[RandomEdits]:
    """Changes to a source tree at random."""
    return RandomEdits


@pytest.fixture(name="look")
def look_fixture() -> Callable[[bytes], dict[bytes, Looked]]:
    """Looks at a whole tree by way of the kernel."""
    return look


@pytest.fixture
def look_through() -> Callable[[Repository], dict[bytes, Looked]]:
    """The same of a published tree, without a kernel; checks link counts on the way."""
    return _look_through


def _look_through(repository: Repository) -> dict[bytes, Looked]:
    found, pending = {b"": _looked(repository, b"", repository.lookup(b""), ())}, [b""]
    while pending:
        directory = pending.pop()
        entries = {directory + b"/" + entry.name: entry for entry in repository.listing(directory)}
        subdirectories = [path for path, entry in entries.items() if entry.is_directory]
        assert repository.lookup(directory).hardlinks == 2 + len(subdirectories)
        for path, entry in entries.items():
            group = entry.hardlink_group
            same = [path, *(p for p, other in entries.items() if group and other.hardlink_group == group and p != path)]
            assert entry.is_directory or entry.linkcount == len(same)
            found[path] = _looked(repository, path, entry, tuple(sorted(same)))
        pending += subdirectories
    return found


def _looked(repository: Repository, path: bytes, entry: DirectoryEntry, together: tuple[bytes, ...]) -> Looked:
    content = repository.read(path) if entry.is_regular else entry.symlink
    xattrs = tuple(sorted((os.fsdecode(name), value) for name, value in repository.xattrs(path).items()))
    stamp = entry.mtime * 10**9 + (entry.mtime_ns or 0)
    size = 0 if entry.is_directory else entry.size
    return Looked(entry.mode, entry.uid, entry.gid, stamp, size, content, xattrs, together)


@pytest.fixture
def squid() -> Iterator[Callable[[], Squid]]:
    """Starts proxies: real Squids, each with a cache of its own."""
    with _squids() as start:
        yield start


@pytest.fixture(scope="module")
def lasting_squid() -> Iterator[Callable[[], Squid]]:
    """The same for all tests of a file."""
    with _squids() as start:
        yield start


@contextlib.contextmanager
def _squids() -> Iterator[Callable[[], Squid]]:
    if not os.path.exists(Squid.PROGRAM):
        if os.environ.get("CI") == "true":
            pytest.fail("squid must be tested here, but is not installed", pytrace=False)
        pytest.skip("squid is not installed")
    with contextlib.ExitStack() as running:

        def start() -> Squid:
            # Not below pytest's directory: Squid gives up root, and every pytest that starts closes that one to others.
            place = Path(
                running.enter_context(tempfile.TemporaryDirectory(prefix="squid-", ignore_cleanup_errors=True))
            )
            place.chmod(0o755)
            proxy = Squid(place / "area")
            proxy.prepare()
            running.callback(proxy.stop)
            proxy.start()
            return proxy

        yield start
