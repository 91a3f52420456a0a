"""Publishing a tree: what is reported for each kind of edit, what is read again, what is refused and what of it is odd."""

import os
import resource
import shutil
import socket
import stat
import time
from pathlib import Path

import pytest

from cvfs.chunking import ChunkSizes
from cvfs.errors import Locked, NotFound, TrustError, Unpublishable, UsageError
from cvfs.hashes import Algorithm
from cvfs_server import changes, draft
from cvfs_server.lock import publisher_lock
from cvfs_server.ways.tree import publish_tree

SMALL = ChunkSizes(1024, 2048, 4096)


@pytest.fixture
def own(new_repository):
    """Published once: a file, a chunked one, a link, two names of one file, a nested catalog, an empty directory."""
    made = new_repository(chunk_sizes=SMALL)
    tree = made.tree
    (tree / "nested/deep").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "nested/.cvmfscatalog").touch()
    (tree / "nested/file").write_text("in a catalog")
    (tree / "file").write_text("text")
    (tree / "large").write_bytes(bytes(range(256)) * 80)
    (tree / "one").write_text("names")
    os.link(tree / "one", tree / "two")
    (tree / "link").symlink_to("file")
    made.publish(tag="first")
    return made


def _published(own, **options):
    """What is reported; a directory whose entries changed is touched as well, that is left out."""
    found = []
    own.publish(report=lambda kind, path: found.append((kind, path.decode())), **options)
    assert own.check() == []
    directories = {"/" + str(path.relative_to(own.tree)) for path in own.tree.rglob("*") if path.is_dir()} | {"", "/."}
    return sorted(entry for entry in found if entry[0] != "tou" or entry[1] not in directories)


def _rewrite(name, data=b"other"):
    return lambda tree: (tree / name).write_bytes(data)


def _relink(tree):
    (tree / "link").unlink()
    (tree / "link").symlink_to("elsewhere")


def _become(name, make):
    def change(tree):
        if (tree / name).is_dir():
            shutil.rmtree(tree / name)
        else:
            (tree / name).unlink()
        make(tree / name)

    return change


EDITS = {
    "nothing": (lambda tree: None, []),
    "new file": (_rewrite("new"), [("add", "/new")]),
    "new directory": (lambda tree: (tree / "new").mkdir(), [("add", "/new")]),
    "new content": (_rewrite("file"), [("mod", "/file")]),
    "same bytes written again": (_rewrite("file", b"text"), [("tou", "/file")]),
    "new time": (lambda tree: os.utime(tree / "file", (5, 5)), [("tou", "/file")]),
    "new time of a chunked file": (lambda tree: os.utime(tree / "large", (5, 5)), [("tou", "/large")]),
    "new mode": (lambda tree: (tree / "file").chmod(0o600), [("tou", "/file")]),
    "new mode of a directory": (lambda tree: (tree / "empty").chmod(0o700), []),
    "attribute": (lambda tree: os.setxattr(tree / "file", "user.a", b"1"), [("tou", "/file")]),
    "chunked to whole": (_rewrite("large", b"small"), [("mod", "/large")]),
    "whole to chunked": (_rewrite("file", bytes(range(256)) * 80), [("mod", "/file")]),
    "one byte in a chunk": (_rewrite("large", bytes(range(256)) * 79 + bytes(256)), [("mod", "/large")]),
    "removed": (lambda tree: (tree / "file").unlink(), [("rem", "/file")]),
    "removed directory": (lambda tree: (tree / "empty").rmdir(), [("rem", "/empty")]),
    "renamed": (lambda tree: (tree / "file").rename(tree / "new"), [("add", "/new"), ("rem", "/file")]),
    "new target": (_relink, [("mod", "/link")]),
    "link becomes file": (_become("link", Path.touch), [("mod", "/link")]),
    "file becomes link": (_become("file", lambda path: path.symlink_to("one")), [("mod", "/file")]),
    "file becomes directory": (_become("file", Path.mkdir), [("mod", "/file")]),
    "file becomes fifo": (_become("file", os.mkfifo), [("mod", "/file")]),
    "directory becomes file": (_become("empty", Path.touch), [("mod", "/empty")]),
    "full directory becomes file": (
        _become("nested", Path.touch),
        [
            ("mod", "/nested"),
            *(("rem", f"/nested/{name}") for name in (".cvmfscatalog", "deep", "file")),
            ("x-catalog-rem", "/nested"),
        ],
    ),
    "a third name": (
        lambda tree: os.link(tree / "one", tree / "three"),
        [("add", "/three"), ("tou", "/one"), ("tou", "/two")],
    ),
    "one name less": (lambda tree: (tree / "two").unlink(), [("rem", "/two"), ("tou", "/one")]),
    "a name elsewhere": (lambda tree: os.link(tree / "one", tree / "empty/three"), [("add", "/empty/three")]),
    "names part": (_become("two", _rewrite("", b"names")), [("tou", "/one"), ("tou", "/two")]),
    "new catalog": (
        lambda tree: (tree / "empty/.cvmfscatalog").touch(),
        [("add", "/empty/.cvmfscatalog"), ("x-catalog-add", "/empty")],
    ),
    "catalog less": (
        lambda tree: (tree / "nested/.cvmfscatalog").unlink(),
        [("rem", "/nested/.cvmfscatalog"), ("x-catalog-rem", "/nested")],
    ),
    "catalog removed": (
        lambda tree: shutil.rmtree(tree / "nested"),
        [
            *(("rem", f"/nested{name}") for name in ("", "/.cvmfscatalog", "/deep", "/file")),
            ("x-catalog-rem", "/nested"),
        ],
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_reported_and_shown(own, look, look_through, name):
    edit, expected = EDITS[name]
    edit(own.tree)
    assert _published(own) == expected
    with own.open() as repository:
        assert _plain(look_through(repository)) == _plain(look(os.fsencode(own.tree)))
    with own.open("first") as repository:
        assert repository.read("/file") == b"text"


def _plain(tree):
    return {path: seen._replace(xattrs=()) for path, seen in tree.items()}


def test_what_is_read_again(own, monkeypatch):
    """Only what may have changed since the scan that published it, and all of it in another tree."""
    everything = own.publish().bytes_in
    assert everything == 4 + 5 + 12 + 256 * 80
    # As if the last scan had been long enough ago.
    monkeypatch.setattr(changes, "_CTIME_GRAIN_NS", -(10**18))
    assert own.publish().bytes_in == 0
    with open(own.tree / "file", "ab") as file:
        file.write(b"more")
    monkeypatch.setattr(changes, "_CTIME_GRAIN_NS", 0)
    assert own.publish().bytes_in == 8
    copy = own.tree.with_name("copy")
    shutil.copytree(own.tree, copy, symlinks=True)
    monkeypatch.setattr(changes, "_CTIME_GRAIN_NS", -(10**18))
    assert own.publish(copy).bytes_in > everything


def test_time_stamps_are_believed_if_asked_for(own):
    before = os.stat(own.tree / "file")
    (own.tree / "file").write_bytes(b"same")
    os.utime(own.tree / "file", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert own.publish(trust_mtime=True).bytes_in == 0
    with own.open() as repository:
        assert repository.read("/file") == b"text"
    own.publish()
    with own.open() as repository:
        assert repository.read("/file") == b"same"


def test_names_of_one_file_have_one_content_whatever_is_believed(own):
    """A new name is read, so the old ones are as well."""
    before = os.stat(own.tree / "one")
    (own.tree / "one").write_bytes(b"NAMES")
    os.link(own.tree / "one", own.tree / "three")
    os.utime(own.tree / "one", ns=(before.st_atime_ns, before.st_mtime_ns))
    own.publish(trust_mtime=True)
    with own.open() as repository:
        assert {repository.read(name) for name in ("/one", "/two", "/three")} == {b"NAMES"}
    assert own.check() == []


def test_the_report_counts(own):
    """Names of one file are read once; what is there is not stored again."""
    (own.tree / "four").write_text("new text")
    os.link(own.tree / "four", own.tree / "five")
    (own.tree / "six").write_text("text")
    (own.tree / "file").unlink()
    seen = []
    report = own.publish(trust_mtime=True, progress=lambda entries, size: seen.append((entries, size)))
    assert (report.added, report.removed, report.bytes_in, report.objects) == (3, 1, 12, 1)
    assert report.contents.regular == 8
    assert report.contents.nested == 1
    assert (report.revision, report.fqrn) == (3, own.fqrn)
    assert seen == sorted(seen)
    assert seen[-1][1] == 12


REFUSED = {
    "a marker at the top": lambda tree: (tree / ".cvmfscatalog").touch(),
    "a marker that is a directory": lambda tree: (tree / "empty/.cvmfscatalog").mkdir(),
    "a marker that is a link": lambda tree: (tree / "empty/.cvmfscatalog").symlink_to("../file"),
    "a reserved name": lambda tree: (tree / ".cvmfs").mkdir(),
    "a dirtab that is a directory": lambda tree: (tree / ".cvmfsdirtab").mkdir(),
    "a dirtab that is a fifo": lambda tree: os.mkfifo(tree / ".cvmfsdirtab"),
    "a dirtab that is a link": lambda tree: (tree / ".cvmfsdirtab").symlink_to("file"),
    "a dirtab without sense": lambda tree: (tree / ".cvmfsdirtab").write_text("relative/*"),
    "an endless dirtab": lambda tree: (tree / ".cvmfsdirtab").write_bytes(b"#" * (2**20 + 1)),
    "an attribute too long": lambda tree: os.setxattr(tree / "file", "user.long", b"x" * 256),
    "an attribute too long of a directory": lambda tree: os.setxattr(tree / "empty", "user.long", b"x" * 256),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_published_is_named_and_nothing_happens(own, name):
    REFUSED[name](own.tree)
    (own.tree / "file").write_text("changed")
    before = own.manifest()
    with pytest.raises(Unpublishable) as caught:
        own.publish()
    assert "\n" not in str(caught.value)
    assert any(part in str(caught.value) for part in (".cvmfs", "file", "empty"))
    assert own.manifest() == before
    with own.open() as repository:
        assert repository.read("/file") == b"text"


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_tree(own, name):
    with pytest.raises(Unpublishable, match=name):
        own.publish(own.tree / name)


def test_what_cannot_be_asked(own):
    for tag in ("first", "trunk"):
        with pytest.raises(UsageError, match="exists already"):
            own.publish(tag=tag)
    with pytest.raises(UsageError, match="no tag name"):
        own.publish(tag="a b")
    assert own.manifest().revision == 2
    with pytest.raises(NotFound):
        publish_tree(own.site, "other.example.org", os.fsencode(own.tree))


@pytest.mark.parametrize("text", ["soon", "4", "x weeks ago", "4 weeks to go"])
def test_a_time_span_without_sense(new_repository, text):
    own = new_repository()
    with open(own.site.configuration(own.fqrn), "a", encoding="utf-8") as file:
        file.write(f"CVMFS_AUTO_TAG_TIMESPAN='{text}'\n")
    with pytest.raises(UsageError, match="CVMFS_AUTO_TAG_TIMESPAN"):
        own.publish()
    assert own.manifest().revision == 1


def test_one_at_a_time(new_repository):
    own = new_repository(lock_timeout=0)
    with (
        publisher_lock(f"{own.settings.spool}/publish.lock", "publish"),
        pytest.raises(Locked, match="locked by process"),
    ):
        own.publish()
    own.publish()


def test_a_manifest_of_somebody_else_is_not_built_upon(own, new_repository):
    other = new_repository(place="other")
    shutil.copy(other.storage / ".cvmfspublished", own.storage)
    with pytest.raises(TrustError):
        own.publish()


def test_time_does_not_run_backwards(own, monkeypatch):
    ahead = own.manifest().timestamp
    monkeypatch.setattr(time, "time", lambda: ahead - 1000.0)
    own.publish()
    monkeypatch.undo()
    assert own.manifest().timestamp == ahead


class Meddler:
    """Does something as soon as the scan has passed the root."""

    def __init__(self, monkeypatch, act):
        self._scan = draft.walk
        self._act = act
        monkeypatch.setattr(draft, "walk", self)

    def __call__(self, *arguments):
        yield from self._scan(*arguments)
        self._act()


@pytest.mark.parametrize("replace", [None, Path.mkdir, os.mkfifo, lambda path: path.symlink_to("one")])
def test_a_file_that_vanishes_behind_the_scan(own, monkeypatch, replace):
    (own.tree / "file").write_text("changed")

    def act():
        (own.tree / "file").unlink()
        if replace:
            replace(own.tree / "file")

    Meddler(monkeypatch, act)
    with pytest.raises(Unpublishable, match="file: "):
        own.publish()
    monkeypatch.undo()
    with own.open() as repository:
        assert repository.read("/file") == b"text"
    own.publish()
    assert own.check() == []


def test_a_file_that_grows_behind_the_scan_is_published_as_it_is_read(own, monkeypatch):
    Meddler(monkeypatch, lambda: (own.tree / "file").write_text("much longer than before"))
    own.publish()
    monkeypatch.undo()
    with own.open() as repository:
        assert repository.read("/file") == b"much longer than before"
        assert repository.lookup("/file").mtime == int((own.tree / "file").stat().st_mtime)
    assert own.check() == []


def test_odd_trees(own, look, look_through):
    """Long names, deep nesting, any byte, links as long as they get, files without a name in any language."""
    top = os.fsencode(own.tree)
    deep = b"/".join([b"d" * 20] * 60)
    os.makedirs(top + b"/" + deep)
    for marked in (10, 30, 31, 60):
        place = b"/".join(deep.split(b"/")[:marked])
        Path(os.fsdecode(top + b"/" + place), ".cvmfscatalog").touch()
    for name in (b"x" * 255, bytes(set(range(1, 256)) - {0x2F}), b"\n", b" ", b"\\", b"..."):
        with open(top + b"/empty/" + name, "wb") as file:
            file.write(name)
    os.symlink(b"l" * 4000, top + b"/empty/long")
    for stamp in (-1, -(10**9) - 1, 2**31 * 10**9):
        path = top + b"/empty/t%d" % stamp
        Path(os.fsdecode(path)).touch()
        os.utime(path, ns=(stamp, stamp))
    own.publish()
    with own.open() as repository:
        assert look_through(repository) == look(top)
    assert own.check() == []


def _socket(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.fspath(path))


def test_special_files(own, monkeypatch):
    monkeypatch.chdir(own.tree)
    os.mkfifo("fifo")
    _socket("socket")
    own.publish()
    with own.open() as repository:
        modes = {name: repository.lookup(f"/{name}") for name in ("fifo", "socket")}
    assert stat.S_ISFIFO(modes["fifo"].mode)
    assert stat.S_ISSOCK(modes["socket"].mode)
    assert {entry.size for entry in modes.values()} == {0}
    assert own.check() == []


def test_special_files_are_left_out_if_asked_for(new_repository):
    own = new_repository(ignore_special_files=True)
    os.mkfifo(own.tree / "fifo")
    (own.tree / "file").touch()
    own.publish()
    with own.open() as repository:
        assert [entry.name for entry in repository.listing("/")] == [b"file"]


def test_the_top_may_be_a_link(own, look, look_through):
    os.setxattr(own.tree, "user.test", b"of the directory")
    link = own.tree.with_name("link")
    link.symlink_to(own.tree)
    own.publish(link)
    with own.open() as repository:
        assert look_through(repository) == look(os.fsencode(own.tree))


def test_a_wide_and_deep_tree_needs_little_memory(new_repository):
    """A sparse file of a gigabyte is read, but never held."""
    own = new_repository(compression="zlib-fast")
    with open(own.tree / "sparse", "wb") as file:
        file.truncate(2**30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = own.publish()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert report.bytes_in == 2**30
    assert report.bytes_stored < 2**24
    assert grown * 1024 < 64 * 2**20
    with own.open() as repository:
        assert repository.read("/sparse", 2**29, 100) == bytes(100)


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("compression", ["zlib", "zlib-fast", "zstd", "none"])
def test_every_form(new_repository, look, look_through, algorithm, compression):
    own = new_repository(algorithm=algorithm, compression=compression, chunk_sizes=SMALL, bulk_chunks=True)
    (own.tree / "large").write_bytes(bytes(range(256)) * 80)
    (own.tree / "small").write_bytes(b"small")
    (own.tree / "empty").touch()
    own.publish()
    with own.open() as repository:
        assert look_through(repository) == look(os.fsencode(own.tree))
    assert own.check() == []


def test_settings_may_change_between_revisions(own, look, look_through):
    """What is published stays in its form; what is new has the new one."""
    configuration = Path(own.site.configuration(own.fqrn))
    for old, new in (
        ("sha1", "shake128"),
        ("=zlib", "=none"),
        ("CVMFS_USE_FILE_CHUNKING=true", "CVMFS_USE_FILE_CHUNKING=no"),
    ):
        text = configuration.read_text()
        assert old in text
        configuration.write_text(text.replace(old, new))
        (own.tree / "new").write_text(new * 1000)
        own.publish()
        with own.open() as repository:
            assert look_through(repository) == look(os.fsencode(own.tree))
        assert own.check() == []
