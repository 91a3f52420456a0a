"""`cvmfs://` through fsspec: what is there, bytes, many at a time, other processes, and no writing."""

import asyncio
import datetime as dt
import errno
import json
import os
import pickle
import posixpath
import stat
import subprocess
import sys
import tarfile
import threading

import fsspec
import pytest
from fsspec.callbacks import Callback

from cvfs.client.library.fsspec_filesystem import CvmfsFileSystem
from cvfs.errors import NotFound, ReadOnly, StoreError, UsageError

FQRN = "tiny.example.org"
LARGE = f"{FQRN}/chunked/random_1m"
SMALL = f"{FQRN}/files/hello.txt"

pytestmark = pytest.mark.usefixtures("forgetting", "no_configuration")


@pytest.fixture(scope="module")
def options(fixture_repository, tmp_path_factory) -> dict[str, str]:
    """What is said about all repositories: there is no configuration here."""
    tiny, place = fixture_repository(FQRN), tmp_path_factory.mktemp("fsspec")
    (place / "etc").mkdir()
    return {
        "server_url": f"file://{tiny.root}/@fqrn@",
        "public_key": str(tiny.public_key),
        "cache": str(place / "cache"),
        "etc": str(place / "etc"),
    }


@pytest.fixture(scope="module")
def fs(options) -> CvmfsFileSystem:
    """It is opened once: tests only read it."""
    return fsspec.filesystem("cvmfs", **options)


def entries(tiny) -> dict[str, dict]:
    return {entry["path"]: entry for entry in tiny.manifests["s5"]["entries"]}


def test_it_is_registered():
    assert fsspec.get_filesystem_class("cvmfs") is CvmfsFileSystem


# --- what is there ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "path"),
    [
        (f"cvmfs://{SMALL}", SMALL),
        (f"cvmfs:///{SMALL}", SMALL),
        (SMALL, SMALL),
        (f"/{SMALL}/", SMALL),
        (f"cvmfs://{FQRN}", FQRN),
        ("cvmfs://", ""),
        ([f"cvmfs://{FQRN}", SMALL], [FQRN, SMALL]),
    ],
)
def test_urls(url, path):
    assert CvmfsFileSystem._strip_protocol(url) == path


def test_a_url_says_where(fs, options):
    found, path = fsspec.url_to_fs(f"cvmfs://{SMALL}", **options)
    assert (found, path) == (fs, SMALL)
    assert fs.unstrip_protocol(SMALL) == f"cvmfs://{SMALL}"
    assert fs.fsid == "cvmfs"


def test_everything_that_is_published_is_found(fs, tiny):
    hidden = {path for path, entry in entries(tiny).items() if path.startswith("/.")} - {"/.cvmfsdirtab"}
    published = {f"{FQRN}{path}" for path in entries(tiny) if path and path not in hidden}
    assert set(fs.find(FQRN, withdirs=True)) == published | {FQRN}
    assert {
        name for where, inside, files in fs.walk(FQRN) for name in (f"{where}/{one}" for one in [*inside, *files])
    } == published
    assert fs.glob(f"{FQRN}/chunked/random_1638[34]") == [
        f"{FQRN}/chunked/random_16383",
        f"{FQRN}/chunked/random_16384",
    ]
    assert set(fs.glob(f"{FQRN}/**/hello.txt")) == {SMALL}


def test_a_listing_tells_what_each_entry_is_by_itself(fs, tiny):
    known = entries(tiny)
    infos = {info["name"]: info for info in fs.ls(f"{FQRN}/files")}
    assert set(infos) == set(fs.ls(f"{FQRN}/files", detail=False)) == set(fs.listdir(f"{FQRN}/files", detail=False))
    for name, info in infos.items():
        entry = known[name.removeprefix(FQRN)]
        assert info["type"] == {"file": "file", "dir": "directory", "symlink": "file"}.get(entry["type"], "other")
        if entry["type"] == "file":
            assert info["size"] == entry["size"]
    assert fs.ls(SMALL) == [fs.info(SMALL)]


def test_what_stat_tells(fs):
    info = fs.info(SMALL)
    assert info["name"] == SMALL
    assert stat.S_ISREG(info["mode"])
    assert (info["uid"], info["gid"], info["islink"]) == (0, 0, False)
    assert info["created"] == info["mtime"] == fs.modified(SMALL).timestamp() == fs.created(SMALL).timestamp()
    assert fs.modified(SMALL).tzinfo == dt.UTC
    assert len(info["hash"]) == 40
    assert fs.size(LARGE) == 2**20
    assert fs.info("")["type"] == "directory"


def test_links(fs):
    link = fs.info(f"{FQRN}/symlinks/relative_dir")
    assert (link["type"], link["islink"], link["destination"]) == ("directory", True, "../files")
    assert fs.cat(f"{FQRN}/symlinks/relative_dir/hello.txt") == fs.cat(SMALL)
    listed = {posixpath.basename(info["name"]): info for info in fs.ls(f"{FQRN}/symlinks")}
    # Neither is descended into: a link may lead to what it lies in.
    assert {listed[name]["type"] for name in ("relative_dir", "dot", "dotdot", "dangling", "self")} == {"other"}
    assert (listed["in_repo_sibling"]["type"], listed["in_repo_sibling"]["size"]) == (
        "file",
        listed["relative"]["size"],
    )
    dangling = f"{FQRN}/symlinks/dangling"
    assert (fs.exists(dangling), fs.lexists(dangling), fs.lexists(f"{dangling}x")) == (False, True, False)
    with pytest.raises(FileNotFoundError):
        fs.info(dangling)


@pytest.mark.parametrize(
    ("path", "exists", "isfile", "isdir"),
    [
        (SMALL, True, True, False),
        (FQRN, True, False, True),
        ("", True, False, True),
        (f"{SMALL}/x", False, False, False),
        (f"{FQRN}/none", False, False, False),
        (f"{FQRN}/symlinks/self", False, False, False),
        (f"{FQRN}/symlinks/absolute", False, False, False),
        (f"{FQRN}/specialfiles/fifo", True, False, False),
    ],
)
def test_kinds(fs, path, exists, isfile, isdir):
    assert (fs.exists(path), fs.isfile(path), fs.isdir(path)) == (exists, isfile, isdir)
    asynchronous = asyncio.run(kinds_of(fs, path))
    assert asynchronous == (exists, isfile, isdir)


async def kinds_of(fs, path):
    return await fs._exists(path), await fs._isfile(path), await fs._isdir(path)


def test_bytes_below_a_path(fs, tiny):
    below = [entry for path, entry in entries(tiny).items() if path.startswith("/chunked/") and entry["type"] == "file"]
    assert fs.du(f"{FQRN}/chunked") == sum(entry["size"] for entry in below)
    assert fs.du(LARGE, total=False) == {LARGE: 2**20}
    assert fs.du(FQRN) > fs.du(f"{FQRN}/chunked")


def test_a_content_has_one_key(fs):
    assert fs.ukey(SMALL) == fs.info(SMALL)["hash"]
    assert fs.ukey(f"{FQRN}/files/now_a_file" if fs.exists(f"{FQRN}/files/now_a_file") else LARGE) != fs.ukey(SMALL)
    assert fs.ukey(LARGE) != fs.ukey(f"{FQRN}/chunked/random_500k")
    assert fs.ukey(f"{FQRN}/files") != fs.ukey(FQRN)
    assert fs.checksum(SMALL) == fs.checksum(f"{FQRN}/symlinks/relative_dir/hello.txt") != fs.checksum(LARGE)
    assert fs.ukey("") == ""


def test_repositories_are_listed_that_are_configured_or_used(options, tmp_path):
    (tmp_path / "etc").mkdir()
    fs = fsspec.filesystem("cvmfs", **options | {"etc": str(tmp_path / "etc")})
    assert fs.ls("", detail=False) == []
    fs.info(FQRN)
    for wrong in ("none.example.org", "no name"):
        with pytest.raises((StoreError, UsageError)):
            fs.info(wrong)
    (tmp_path / "etc" / "default.local").write_text("CVMFS_REPOSITORIES=sw.example.org,tiny.example.org\n")
    assert fs.ls("", detail=False) == ["sw.example.org", FQRN]
    with pytest.raises(IsADirectoryError):
        fs.cat("")


def test_a_repository_that_is_not_there_is_an_error(fs):
    for ask in (fs.exists, fs.isfile, fs.ls, fs.info):
        with pytest.raises((StoreError, UsageError)):
            ask("none.example.org/x")


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_reading(fs, reader, options):
    data = reader.read_bytes("/chunked/random_1m")
    assert fs.cat(LARGE) == fs.cat_file(LARGE) == fs.read_bytes(LARGE) == data
    assert fs.cat_file(LARGE, 10, 20) == data[10:20]
    assert fs.cat_file(LARGE, -10) == fs.tail(LARGE, 10) == data[-10:]
    assert fs.head(LARGE, 10) == data[:10]
    assert fs.read_block(LARGE, 1000, 10) == data[1000:1010]
    assert fs.cat_ranges([LARGE, SMALL, LARGE], [0, 1, 5], [3, 4, 9]) == [data[:3], fs.cat(SMALL)[1:4], data[5:9]]
    with fs.open(LARGE) as file:
        file.seek(100)
        assert file.read(50) == data[100:150]
    with fsspec.open(f"cvmfs://{SMALL}", "rt", **options) as file:
        assert file.read().encode() == fs.cat(SMALL)


def test_failures_of_many(fs):
    missing = f"{FQRN}/none"
    with pytest.raises(FileNotFoundError):
        fs.cat([SMALL, missing])
    assert set(fs.cat([SMALL, missing], on_error="omit")) == {SMALL}
    assert isinstance(fs.cat([SMALL, missing], on_error="return")[missing], NotFound)
    with pytest.raises(IsADirectoryError):
        fs.cat_file(f"{FQRN}/files")


def test_many_files_are_fetched_at_the_same_time(tiny, web, options, tmp_path):
    server = web(tiny.root)
    fs = fsspec.filesystem("cvmfs", **options | {"server_url": f"{server.url}/@fqrn@", "cache": str(tmp_path / "new")})
    names = list({fs.ukey(name): name for name in fs.find(f"{FQRN}/modes") + fs.find(f"{FQRN}/names")}.values())[:12]
    server.held = {f"/{FQRN}/{fs.repository(FQRN).find(name.removeprefix(FQRN))[1].content.path}" for name in names}
    assert len(server.held) == 12
    found = {}
    reading = threading.Thread(target=lambda: found.update(fs.cat(names)))
    reading.start()
    # None of them is answered before all have come.
    assert all(server.arrived.acquire(timeout=60) for _ in names)
    server.release.set()
    reading.join(60)
    assert set(found) == set(names)


def test_a_mapping(options):
    mapping = fsspec.get_mapper(f"cvmfs://{FQRN}/chunked", **options)
    assert "random_1m" in mapping
    assert len(mapping["random_1m"]) == 2**20
    assert set(mapping.getitems(["random_1m", "none"], on_error="omit")) == {"random_1m"}
    assert set(mapping) == {
        "random_1m",
        "random_500k",
        "random_16383",
        "random_16384",
        "random_16385",
        "random_65536",
        "text_400k",
    }
    with pytest.raises(KeyError):
        _ = mapping["none"]


class Steps(Callback):
    """Remembers how far each file was."""

    def __init__(self, **given) -> None:
        super().__init__(**given)
        self.children: list[Callback] = []

    def branched(self, _source, _target, **_):
        self.children.append(Callback())
        return self.children[-1]


def test_copying(fs, tmp_path, caplog):
    steps = Steps()
    fs.get(f"{FQRN}/chunked/", f"{tmp_path}/got/", recursive=True, callback=steps)
    assert {name: (tmp_path / "got" / name).read_bytes() for name in os.listdir(tmp_path / "got")} == {
        posixpath.basename(name): data for name, data in fs.cat(f"{FQRN}/chunked/*").items()
    }
    assert sorted(child.value for child in steps.children if child.size) == sorted(
        info["size"] for info in fs.ls(f"{FQRN}/chunked")
    )
    fs.get(f"{FQRN}/symlinks/", f"{tmp_path}/links/", recursive=True)
    assert (tmp_path / "links" / "in_repo_sibling").read_bytes() == (tmp_path / "links" / "relative").read_bytes()
    assert not os.path.lexists(tmp_path / "links" / "dot")
    assert not os.path.lexists(tmp_path / "links" / "dangling")
    assert f"{FQRN}/symlinks/dangling: a symbolic link that leads to no file, not copied" in caplog.text
    with pytest.raises(FileNotFoundError):
        fs.get(f"{FQRN}/symlinks/dangling", f"{tmp_path}/one")
    fs.get_file(SMALL, f"{tmp_path}/new/dir/file")
    assert (tmp_path / "new" / "dir" / "file").read_bytes() == fs.cat(SMALL)
    with (tmp_path / "opened").open("wb") as file:
        fs.get_file(SMALL, file)
    assert (tmp_path / "opened").read_bytes() == fs.cat(SMALL)


def test_chained_with_other_file_systems(new_repository, tmp_path, options):
    repository = new_repository()
    (repository.tree / "inside.txt").write_text("inside")
    with tarfile.open(repository.tree / "a.tar", "w") as archive:
        archive.add(repository.tree / "inside.txt", "dir/inside.txt")
    repository.publish()
    own = options | {"server_url": repository.url, "public_key": repository.public_key}
    with fsspec.open(f"tar://dir/inside.txt::cvmfs://{repository.fqrn}/a.tar", cvmfs=own) as file:
        assert file.read() == b"inside"
    for chain in ("simplecache", "filecache"):
        chained = {"cvmfs": own, chain: {"cache_storage": str(tmp_path / chain)}}
        with fsspec.open(f"{chain}::cvmfs://{repository.fqrn}/inside.txt", **chained) as file:
            assert file.read() == b"inside"
    inside = fsspec.filesystem("dir", path=f"{repository.fqrn}", target_protocol="cvmfs", target_options=own)
    assert inside.cat("inside.txt") == b"inside"


# --- asynchronous -----------------------------------------------------------------------------------------------------


def test_within_a_running_loop(options, fs):
    async def read() -> tuple[bytes, dict[str, bytes]]:
        own = fsspec.filesystem("cvmfs", asynchronous=True, **options)
        return await asyncio.gather(own._cat_file(SMALL), own._cat([SMALL, LARGE]))

    one, many = asyncio.run(read())
    assert one == many[SMALL] == fs.cat(SMALL)
    assert many[LARGE] == fs.cat(LARGE)


# --- revisions and other processes ------------------------------------------------------------------------------------


def test_a_new_revision_shows_when_it_is_asked_for(publication, options, tmp_path):
    changing = publication()
    changing.publish("s1")
    fs = fsspec.filesystem(
        "cvmfs", **options | {"server_url": f"file://{changing.storage}", "cache": str(tmp_path / "c")}
    )
    before = fs.find(FQRN)
    changing.publish("s4")
    assert fs.find(FQRN) == before
    fs.invalidate_cache("other.example.org/x")
    assert fs.find(FQRN) == before
    fs.invalidate_cache(f"cvmfs://{FQRN}/files")
    assert fs.find(FQRN) != before


def test_workers_read_the_revision_of_whoever_sent_them(publication, options, tmp_path):
    changing = publication()
    changing.publish("s1")
    own = options | {"server_url": f"file://{changing.storage}", "cache": str(tmp_path / "c")}
    sent = fsspec.filesystem("cvmfs", **own)
    names = sent.find(FQRN)
    data = pickle.dumps(sent)
    assert pickle.loads(data) is sent
    changing.publish("s4")
    # A worker that knows nothing yet, and one that has looked at the repository before.
    CvmfsFileSystem.clear_instance_cache()
    assert pickle.loads(data).find(FQRN) == names
    CvmfsFileSystem.clear_instance_cache()
    newer = fsspec.filesystem("cvmfs", **own)
    assert newer.find(FQRN) != names
    older = pickle.loads(data)
    assert older is not newer
    assert older.find(FQRN) == names
    older.invalidate_cache()
    assert older.find(FQRN) == names


WORKER = """
import pickle, sys
for file in pickle.load(sys.stdin.buffer):
    with file as opened:
        print(len(opened.read()))
"""


def test_files_are_sent_to_processes(options, tmp_path):
    files = fsspec.open_files(f"cvmfs://{FQRN}/chunked/random_1*", **options)
    assert run_apart(WORKER, tmp_path, pickle.dumps(files)).split() == [b"16383", b"16384", b"16385", b"1048576"]


def run_apart(code: str, place, said: bytes = b"", arguments: tuple[str, ...] = ()) -> bytes:
    """What another interpreter prints, which must not fail."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, *arguments]
    done = subprocess.run(command, input=said, capture_output=True, timeout=100, cwd=place)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


FORKING = """
import json, os, sys
import fsspec
options, path = json.loads(sys.argv[1]), sys.argv[2]
fs = fsspec.filesystem("cvmfs", **options)
expected, names = fs.cat(path), fs.find(os.path.dirname(path))
child = os.fork()
if not child:
    again = fsspec.filesystem("cvmfs", **options)
    same = fs.cat([path]) == {path: expected} == again.cat([path]) and fs.find(os.path.dirname(path)) == names
    sys.exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
assert fs.cat([path]) == {path: expected}
"""


def test_after_a_fork_both_go_on(options, tmp_path):
    run_apart(FORKING, tmp_path, arguments=(json.dumps(options), LARGE))


# --- writing ----------------------------------------------------------------------------------------------------------

WRITING = [
    ("open", (SMALL, "wb")),
    ("open", (SMALL, "ab")),
    ("open", (SMALL, "xb")),
    ("open", (SMALL, "w")),
    ("touch", (SMALL,)),
    ("pipe", (SMALL, b"x")),
    ("pipe", ({SMALL: b"x"},)),
    ("pipe_file", (SMALL, b"x")),
    ("write_text", (SMALL, "x")),
    ("put", (__file__, SMALL)),
    ("put_file", (__file__, SMALL)),
    ("upload", (__file__, SMALL)),
    ("rm", (SMALL,)),
    ("rm", (FQRN, True)),
    ("rm_file", (SMALL,)),
    ("rmdir", (f"{FQRN}/files",)),
    ("mkdir", (f"{FQRN}/new",)),
    ("makedirs", (f"{FQRN}/new/er",)),
    ("cp", (SMALL, f"{SMALL}2")),
    ("cp_file", (SMALL, f"{SMALL}2")),
    ("copy", (SMALL, f"{SMALL}2")),
    ("mv", (SMALL, f"{SMALL}2")),
    ("move", (SMALL, f"{SMALL}2")),
]


@pytest.mark.parametrize(("verb", "arguments"), WRITING)
def test_writing_is_refused(fs, verb, arguments):
    with pytest.raises(ReadOnly) as caught:
        getattr(fs, verb)(*arguments)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.EROFS


def test_nothing_is_signed(fs):
    with pytest.raises(UsageError):
        fs.sign(SMALL)
