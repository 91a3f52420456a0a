"""fsck, wipecache, cache, preload as users type them: words, exit statuses, and which caches are meant."""

import json
import os
import shutil

import pytest
from click.testing import CliRunner

from cvfs.client.cache.object_cache import ObjectCache
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs_tools.cvfs_command import main

FQRN = "tiny.example.org"


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def filled(tmp_path):
    """A cache of four contents, one of them a catalog, and the place of the last."""
    cache = ObjectCache(str(tmp_path / "base" / "shared"))
    cache.prepare()
    for number in range(4):
        content = ContentHash.of(b"%d" % number * 99, Algorithm.SHA1, ObjectKind.FILE if number else ObjectKind.CATALOG)
        os.close(cache.insert(content, iter([b"%d" % number * 99])))
    cache.close()
    return tmp_path / "base" / "shared", tmp_path / "base" / "shared" / content.name[:2] / content.name[2:]


def _flip(place):
    data = bytearray(place.read_bytes())
    data[7] ^= 1
    place.write_bytes(data)


def test_fsck_of_a_sound_cache(filled):
    directory, _ = filled
    done = run("fsck", directory)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"CernVM-FS fsck on {directory}\nVerified 4 files\n"


@pytest.mark.parametrize("flags", [(), ("-j", "4"), ("-v",)])
def test_fsck_finds_and_repairs(filled, flags):
    directory, place = filled
    _flip(place)
    done = run("fsck", *flags, directory)
    assert done.exit_code == 4
    assert f"Error: {place} is corrupted" in done.stdout
    assert (f"Checking file {place}\n" in done.stdout) == ("-v" in flags)
    assert place.exists()
    done = run("fsck", "-p", *flags, directory)
    assert done.exit_code == 1
    assert f"Fix: {place} is corrupted, moved to quarantaine folder\n" in done.stdout
    assert "WARNING: There might by corrupted files in the kernel buffers" in done.stdout
    assert not place.exists()
    assert os.listdir(directory / "quarantaine") == [place.parent.name + place.name]
    done = run("fsck", "-p", directory)
    assert (done.exit_code, "Verified 3 files\n" in done.stdout) == (0, True)


def test_fsck_makes_the_books_agree(filled):
    directory, place = filled
    place.unlink()
    done = run("fsck", "-f", directory)
    assert done.exit_code == 1
    assert "Fix: managed cache db rebuilt\n" in done.stdout
    assert json.loads(run("cache", "size", "-c", directory, "--json").stdout)["objects"] == 3


def test_fsck_of_a_cache_whose_books_are_lost(filled):
    directory, place = filled
    shutil.rmtree(directory / "books")
    _flip(place)
    assert run("fsck", "-p", directory).exit_code == 1
    assert json.loads(run("cache", "size", "-c", directory, "--json").stdout)["objects"] == 3


def test_fsck_for_programs(filled):
    directory, place = filled
    _flip(place)
    done = run("fsck", "--json", directory)
    found = json.loads(done.stdout)
    assert (done.exit_code, found["status"], found["objects"], found["size"]) == (4, 4, 4, 396)
    assert found["unfixed"] == [place.parent.name + place.name]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("/nowhere/at/all",), 8, "Could not chdir to /nowhere/at/all"),
        (("/proc/sys",), 8, "Invalid cache directory, /proc/sys/txn does not exist"),
        (("-j", "0"), 16, "0 is not in the range"),
        (("--perhaps",), 16, "No such option"),
        (("-o", "CVMFS_QUOTA_LIMIT=many", FQRN), 2, "CVMFS_QUOTA_LIMIT=many"),
    ],
)
def test_fsck_of_what_cannot_be_checked(arguments, status, words):
    done = run("fsck", *arguments)
    assert done.exit_code == status
    assert words in done.stderr


@pytest.fixture
def etc(tmp_path, monkeypatch):
    """A configuration with two repositories, one of them with a cache of its own."""
    tree = tmp_path / "etc"
    (tree / "config.d").mkdir(parents=True)
    (tree / "default.conf").write_text(
        f"CVMFS_CACHE_BASE={tmp_path}/base\nCVMFS_CLIENT_PROFILE=single\nCVMFS_SHARED_CACHE=yes\n"
        "CVMFS_REPOSITORIES=one.example.org,two.example.org\nCVMFS_QUOTA_LIMIT=100\n"
    )
    (tree / "config.d" / "two.example.org.conf").write_text("CVMFS_SHARED_CACHE=no\n")
    monkeypatch.setenv("CVFS_ETC", str(tree))
    for name in [name for name in os.environ if name.startswith("CVMFS_")]:
        monkeypatch.delenv(name)
    return tree


def test_all_caches_of_the_configuration_are_meant(etc, filled, tmp_path):
    shared, _ = filled
    own = ObjectCache(str(tmp_path / "base" / "two.example.org"))
    own.prepare()
    own.close()
    done = run("fsck")
    assert done.exit_code == 0, done.output
    heads = [line for line in done.stdout.splitlines() if line.startswith("CernVM-FS fsck")]
    assert sorted(heads) == [f"CernVM-FS fsck on {shared}", f"CernVM-FS fsck on {tmp_path}/base/two.example.org"]
    done = run("fsck", "two.example.org")
    assert "shared" not in done.stdout
    done = run("wipecache", "two.example.org")
    assert done.stdout == f"Wiping out {tmp_path}/base/two.example.org ... OK\n"
    done = run("wipecache")
    assert (done.exit_code, done.stdout.count(" ... OK\n")) == (0, 2)
    assert json.loads(run("cache", "size", "--json").stdout) == {"used": 0, "pinned": 0, "objects": 0}


def test_an_unused_cache_is_passed_over(etc):
    assert [(done.exit_code, done.output) for done in (run("fsck"), run("wipecache"))] == [(0, "")] * 2


def test_wiping_a_cache_that_is_in_use(filled):
    directory, _ = filled
    user = ObjectCache(str(directory), 10_000)
    user.prepare()
    held = ContentHash.of(b"1" * 99, Algorithm.SHA1)
    user.pin(held)
    descriptor = user.open(held)
    user.flush()
    done = run("wipecache", "-c", directory)
    assert (done.exit_code, done.stdout) == (0, f"Wiping out {directory} ... OK\n")
    assert user.open(held) is None
    assert os.pread(descriptor, 999, 0) == b"1" * 99
    os.close(descriptor)
    os.close(user.insert(held, iter([b"1" * 99])))
    user.flush()
    assert user.usage()[0] == 99
    user.close()


def test_an_alien_cache_is_not_wiped(tmp_path):
    for name in ("txn", "quarantaine"):
        (tmp_path / name).mkdir()
    done = run("wipecache", "-c", tmp_path)
    assert (done.exit_code, done.stdout) == (1, f"Wiping out {tmp_path} ... Failed!\n")
    assert "alien" in done.stderr


def test_what_is_in_a_cache(filled):
    directory, _ = filled
    user = ObjectCache(str(directory), 10_000)
    user.prepare()
    user.pin(ContentHash.of(b"1" * 99, Algorithm.SHA1))
    user.volatile = True
    os.close(user.insert(ContentHash.of(b"v", Algorithm.SHA1), iter([b"v"])))
    user.flush()
    try:
        assert run("cache", "size", "-c", directory).stdout == (
            "Current cache size is 0MB (397 Bytes), pinned: 0MB (99 Bytes)\n"
        )
        counts = {
            what: len(run("cache", "list", *what, "-c", directory).stdout.splitlines())
            for what in ((), ("pinned",), ("catalogs",), ("volatile",))
        }
        assert counts == {(): 5, ("pinned",): 1, ("catalogs",): 1, ("volatile",): 1}
        (line,) = run("cache", "list", "pinned", "-c", directory).stdout.splitlines()
        assert line == f"{ContentHash.of(b'1' * 99, Algorithm.SHA1)} 99 data pinned"
        rows = [json.loads(row) for row in run("cache", "list", "--json", "-c", directory).stdout.splitlines()]
        assert {row["kind"] for row in rows} == {"data", "catalog", "volatile"}
    finally:
        user.close()
    assert run("cache", "size", "-c", directory / "not" / "there").exit_code == 2


def test_preload_into_an_alien_cache(fixture_repository, tmp_path):
    tiny = fixture_repository(FQRN)
    place = tmp_path / "alien"
    arguments = ("preload", "-u", f"file://{tiny.storage}", "-r", place, "-k", tiny.public_key, "-n", "2")
    arguments = (*arguments, "-o", f"CVMFS_CACHE_BASE={tmp_path}/base", "-x", tmp_path, "-t", "7", "-a", "2")
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    first = json.loads(done.stdout)
    assert (first["fqrn"], first["failed"]) == (FQRN, 0)
    assert first["files"] > 900
    assert (place / f"cvmfschecksum.{FQRN}").exists()
    done = run(*arguments, "-m", FQRN)
    assert done.exit_code == 0
    assert (
        done.stdout
        == f"{FQRN}: {first['files']} files, {first['fetched'] + first['present']} objects were there, 0 fetched (0 MB)\n"
    )
    assert run("fsck", place).exit_code == 0


def test_preload_of_a_part(fixture_repository, configuration, tmp_path):
    tiny = fixture_repository(FQRN)
    (tmp_path / "dirtab").write_text("/chunked\n!/chunked/*500k\n")
    done = run("preload", FQRN, "-o", f"config={configuration}", "--tag", "s5", "-d", tmp_path / "dirtab", "--json")
    assert done.exit_code == 0, done.output
    paths = {entry["path"] for entry in tiny.manifests["s5"]["entries"] if entry["type"] == "file"}
    chosen = {path for path in paths if path.startswith("/chunked/") and not path.endswith("500k")}
    assert json.loads(done.stdout)["files"] == len(chosen)


def test_preload_says_what_could_not_be_had(fixture_repository, tmp_path):
    tiny = fixture_repository(FQRN)
    shutil.copytree(tiny.storage, tmp_path / "www")
    objects = (tmp_path / "www" / "data").rglob("*")
    arguments = ("preload", "-u", f"file://{tmp_path}/www", "-r", tmp_path / "alien")
    arguments = (*arguments, "-k", tiny.public_key, "-m", FQRN)
    arguments = (*arguments, "-o", f"CVMFS_CACHE_BASE={tmp_path}/base")
    chunk = next(path for path in objects if path.name.endswith("P"))
    chunk.unlink()
    done = run(*arguments)
    assert done.exit_code == 1
    assert "could not be preloaded, run the same command again" in done.stderr
    assert not list((tmp_path / "alien").glob("cvmfschecksum*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name what to preload"),
        (("-u", "http://s/x.example.org", "-d", "/nowhere"), "/nowhere"),
        (("-u", "ftp://s/x.example.org"), "ftp"),
    ],
)
def test_preload_refuses(arguments, words, tmp_path):
    done = run("preload", *arguments, "-o", f"CVMFS_CACHE_BASE={tmp_path}")
    assert done.exit_code in (1, 2)
    assert words in done.stderr
