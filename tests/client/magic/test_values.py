"""What each magic attribute says of a repository that the original tools published."""

import hashlib
import json
import os
import time
from dataclasses import replace

import pytest

from cvfs.client.inodes import ROOT
from cvfs.client.magic.mounts import Observation
from cvfs.client.presentation import view_of
from cvfs.client.settings.view import MagicSettings
from cvfs.client.volume import Volume
from cvfs.errors import NoSuchAttribute

ANYWHERE = [
    "catalog_counters",
    "expires",
    "external_host",
    "external_timeout",
    "fqrn",
    "hitrate",
    "host",
    "host_list",
    "inode_max",
    "logbuffer",
    "maxfd",
    "ncleanup24",
    "nclg",
    "ndiropen",
    "ndownload",
    "nioerr",
    "nopen",
    "pid",
    "proxy",
    "proxy_list",
    "proxy_list_external",
    "pubkeys",
    "repo_counters",
    "repo_metainfo",
    "revision",
    "root_hash",
    "rx",
    "speed",
    "tag",
    "timeout",
    "timeout_direct",
    "timestamp_last_ioerr",
    "uptime",
    "usedfd",
    "useddirp",
    "version",
]
COUNTERS = [
    "chunked",
    "chunked_size",
    "chunks",
    "dir",
    "external",
    "external_file_size",
    "file_size",
    "nested",
    "regular",
    "special",
    "symlink",
    "xattr",
]


@pytest.fixture
def tiny(fixture_repository):
    return fixture_repository("tiny.example.org")


class Mounted:
    """A volume as a mount shows it, and what is asked of it."""

    def __init__(self, repository, **observed) -> None:
        given = {"control": lambda: "/run/socket", "due": lambda: time.time() + 150, "started": time.time() - 190}
        self.observed = Observation(**given | observed)
        self.volume = Volume(repository, view_of(repository.settings, self.observed))

    def ask(self, name: str, path: bytes = b"", **options) -> bytes:
        return self.volume.getxattr(self.number(path), f"user.{name}".encode(), **options)

    def number(self, path: bytes) -> int:
        number = ROOT
        for name in path.split(b"/")[1:]:
            number = self.volume.lookup(number, name).ino
        return number


@pytest.fixture
def mounted(opened, tiny) -> Mounted:
    return Mounted(opened(tiny))


def csv(value: bytes) -> dict[str, int]:
    lines = [line.split(",") for line in value.decode().splitlines()]
    return {name: int(number) for name, number in lines}


def test_the_root_lists_the_names_that_apply_everywhere(mounted):
    listed = mounted.volume.listxattr(ROOT)
    assert len(listed) == 72
    assert sorted(set(listed)) == sorted(f"user.{name}".encode() for name in ANYWHERE)
    assert mounted.volume.listxattr(mounted.number(b"/chunked/random_1m")) == []


@pytest.mark.parametrize("name", ANYWHERE)
def test_each_can_be_read_everywhere(mounted, name):
    for path in (b"", b"/chunked/random_1m"):
        assert isinstance(mounted.ask(name, path), bytes)


def test_the_repository(mounted, tiny):
    repository = mounted.volume.repository
    assert mounted.ask("fqrn") == b"tiny.example.org"
    assert mounted.ask("revision") == b"%d" % repository.number
    assert mounted.ask("root_hash") == str(repository.revision.root_hash).encode()
    assert mounted.ask("pubkeys") == tiny.public_key.read_bytes()
    assert mounted.ask("tag") == b""
    with pytest.raises(NoSuchAttribute):
        mounted.ask("authz")
    assert json.loads(mounted.ask("repo_metainfo")) if repository.revision.verified.manifest.metainfo else True


def test_keys_out_of_a_directory(opened, tiny, tmp_path):
    key = tmp_path / "keys" / "tiny.example.org.pub"
    key.parent.mkdir()
    key.write_bytes(tiny.public_key.read_bytes())
    mounted = Mounted(opened(tiny, public_keys=(), keys_dir=str(key.parent)))
    assert mounted.ask("pubkeys") == key.read_bytes()


def test_a_tag_names_itself_and_a_pinned_root_never_expires(opened, tiny):
    tagged = Mounted(opened(tiny, tag="s3"))
    assert tagged.ask("tag") == b"s3"
    assert tagged.ask("expires") == b"never (fixed root catalog)"
    pinned = Mounted(opened(tiny, root_hash=tagged.volume.repository.revision.root_hash))
    assert pinned.ask("repo_metainfo") == b"manifest not available"
    assert pinned.ask("revision") == tagged.ask("revision")


def test_the_process(opened, tiny):
    mounted = Mounted(
        opened(tiny),
        requests=lambda: {"OPEN": 9, "OPENDIR": 5, "RELEASEDIR": 3},
        io_errors=lambda: (4, 1234.5),
        log=lambda: "[now] hello\n",
        highest_inode=lambda: 4711,
    )
    told = {
        "pid": str(os.getpid()),
        "expires": "2",
        "uptime": "3",
        "nioerr": "4",
        "timestamp_last_ioerr": "1234",
        "logbuffer": "[now] hello\n",
        "inode_max": "4711",
        "nopen": "9",
        "ndiropen": "5",
        "useddirp": "2",
        "hitrate": "n/a",
        "ncleanup24": "0",
        "cvfs.control": "/run/socket",
    }
    assert {name: mounted.ask(name).decode() for name in told} == told
    assert int(mounted.ask("usedfd")) >= 3
    assert int(mounted.ask("maxfd")) >= int(mounted.ask("usedfd"))
    assert mounted.ask("nclg") == b"1"


def test_what_was_never_asked_for_is_zero(mounted):
    for name in ("nioerr", "timestamp_last_ioerr", "nopen", "ndiropen", "useddirp"):
        assert mounted.ask(name) == b"0"


def test_the_counters_of_the_repository(mounted, tiny):
    counted = csv(mounted.ask("repo_counters"))
    assert list(counted) == COUNTERS
    own, below = mounted.volume.repository.tree.root().counters()
    assert counted == {name: getattr(own + below, name) for name in COUNTERS}
    files = [entry for entry in tiny.manifests["s5"]["entries"] if entry["type"] == "file"]
    assert counted["regular"] == len(files)
    assert counted["file_size"] == sum(entry["size"] for entry in files)


@pytest.mark.parametrize("path", [b"", b"/names", b"/nested_renamed/inner"])
def test_the_counters_of_the_catalog_that_holds_a_path(mounted, path):
    nested = mounted.volume.repository.tree.governing(path)
    head, mountpoint, *lines = mounted.ask("catalog_counters", path).decode().splitlines(keepends=True)
    assert head == f"catalog_hash: {nested.content}\n"
    assert mountpoint == f"catalog_mountpoint: {nested.path.decode()}\n"
    assert list(csv("".join(lines).encode())) == COUNTERS


def test_a_file_belongs_to_the_catalog_of_its_directory(mounted):
    directory = mounted.ask("catalog_counters", b"/nested_renamed/inner")
    assert mounted.ask("catalog_counters", b"/nested_renamed/inner/up") == directory


def test_a_whole_file(mounted, tiny):
    path = b"/files/hello.txt"
    content = mounted.volume.repository.lookup(path).content
    assert mounted.ask("hash", path) == str(content).encode()
    size = mounted.volume.repository.lookup(path).size
    assert mounted.ask("chunks", path) == b"1"
    assert mounted.ask("chunk_list", path) == b"hash,offset,size\n%s,0,%d\n" % (str(content).encode(), size)
    told = {"compression": b"zlib", "direct_io": b"0", "external_file": b"0"}
    assert {name: mounted.ask(name, path) for name in told} == told
    assert mounted.ask("lhash", path) == b"Not in cache"
    data = bytes(mounted.volume.read(mounted.number(path), 0, 100))
    assert mounted.ask("lhash", path) == hashlib.sha1(data, usedforsecurity=False).hexdigest().encode()


def test_a_chunked_file(mounted):
    path = b"/chunked/random_1m"
    chunks = mounted.volume.repository.tree.chunks(path)
    entry = mounted.volume.repository.lookup(path)
    assert len(chunks) > 5
    assert mounted.ask("chunks", path) == b"%d" % len(chunks)
    lines = [f"{chunk.content(entry)},{chunk.offset},{chunk.size}\n" for chunk in chunks]
    assert mounted.ask("chunk_list", path) == "".join(["hash,offset,size\n", *lines]).encode()
    assert mounted.ask("chunk_list~?", path) == b"num_pages, 1"


def test_a_link(mounted):
    assert mounted.ask("rawlink", b"/nested_renamed/inner/up") == b"../../files/hello.txt"
    assert (
        mounted.volume.getxattr(mounted.number(b"/nested_renamed/inner/up"), b"xfsroot.rawlink")
        == b"../../files/hello.txt"
    )


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("hash", b"/files"),
        ("lhash", b"/files"),
        ("chunks", b"/files"),
        ("chunk_list", b"/nested_renamed/inner/up"),
        ("compression", b"/files"),
        ("direct_io", b"/files"),
        ("external_file", b"/nested_renamed/inner/up"),
        ("external_url", b"/files/hello.txt"),
        ("rawlink", b"/files/hello.txt"),
        ("none", b"/files/hello.txt"),
        ("chunks~1", b"/files/hello.txt"),
    ],
)
def test_what_does_not_apply_is_no_attribute(mounted, name, path):
    with pytest.raises(NoSuchAttribute):
        mounted.ask(name, path)


@pytest.mark.parametrize(
    ("name", "path"), [("lhash", b"/files/hello.txt"), ("pubkeys", b""), ("chunk_list", b"/chunked/random_1m")]
)
def test_what_takes_long_waits_in_a_worker(mounted, name, path, monkeypatch):
    number = mounted.number(path)
    if name == "chunk_list":
        monkeypatch.setattr(mounted.volume.repository.tree, "chunks", absent)
    with pytest.raises(BlockingIOError):
        mounted.volume.getxattr(number, f"user.{name}".encode(), wait=False)


def absent(_path, *, wait):
    assert not wait
    raise BlockingIOError


def test_names_are_listed_where_they_apply(opened, tiny):
    repository = opened(tiny)
    settings = replace(repository.settings, view=replace(repository.settings.view, magic=MagicSettings("always")))
    volume = Volume(repository, view_of(settings, Mounted(repository).observed))
    shown = Mounted(repository)
    shown.volume = volume
    listed = {
        path: {name.decode().removeprefix("user.") for name in volume.listxattr(shown.number(path))} - set(ANYWHERE)
        for path in (b"", b"/files/hello.txt", b"/nested_renamed/inner/up")
    }
    assert listed == {
        b"": set(),
        b"/files/hello.txt": {"chunk_list", "chunks", "compression", "direct_io", "external_file", "hash", "lhash"},
        b"/nested_renamed/inner/up": {"rawlink", "xfsroot.rawlink"},
    }
