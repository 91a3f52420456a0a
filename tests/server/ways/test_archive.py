"""Archives into repositories: everything that a program packed is published as if it had been unpacked there."""

import bz2
import gzip
import io
import itertools
import lzma
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import time

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from random_trees import tried

from cvfs.chunking import ChunkSizes
from cvfs.errors import StoreFull, Unpublishable
from cvfs_server.publication import PublishOptions
from cvfs_server.sources import archive_file
from cvfs_server.sources.archive import Owner
from cvfs_server.sources.archive_index import ArchiveIndex
from cvfs_server.ways.archive import ArchiveOptions, publish_archive

_CHUNKS = ChunkSizes(4096, 8192, 16384)
_numbers = itertools.count()
# Types are text, contents are bytes.
DIRECTORY, SYMLINK, LINK, FIFO, CHARACTER, BLOCK = "5", "2", "1", "6", "3", "4"


@pytest.fixture
def own(new_repository):
    """A repository with something in it."""
    own = new_repository(compression="zlib-fast", chunk_sizes=_CHUNKS)
    (own.tree / "sw/old").mkdir(parents=True)
    (own.tree / "sw/old/kept").write_bytes(b"kept")
    (own.tree / "sw/file").write_bytes(b"file")
    (own.tree / "sw/link").symlink_to("old")
    own.publish()
    return own


@pytest.fixture
def ingest(own, tmp_path):
    """Publishes members, or the bytes of an archive."""

    def publish(*members, base=b"/sw", data=None, options=None, **chosen):
        path = tmp_path / "archive.tar"
        path.write_bytes(packed(*members) if data is None else data)
        chosen = {"archive": str(path), "base": base, **chosen}
        return publish_archive(own.site, own.fqrn, ArchiveOptions(**chosen), options)

    return publish


def packed(*members, form=tarfile.PAX_FORMAT):
    """An archive of members: a name with content, or with a type and target."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=form, errors="surrogateescape") as tar:
        for name, what, *rest in members:
            info = tarfile.TarInfo(name)
            info.mtime = 1_000_000_000
            if isinstance(what, str):
                info.type = what.encode()
                info.mode = 0o755 if what == DIRECTORY else 0o644
                info.linkname = rest[0] if rest else ""
                tar.addfile(info)
            else:
                info.size = len(what)
                for key, value in (rest[0] if rest else {}).items():
                    setattr(info, key, value)
                tar.addfile(info, io.BytesIO(what))
    return written.getvalue()


def tree_of(own, look_through):
    with own.open() as opened:
        return look_through(opened)


def names(own, look_through):
    return sorted(path.decode("utf-8", "backslashreplace") for path in tree_of(own, look_through) if path)


def read(own, path):
    with own.open() as opened:
        return opened.read(path)


BEFORE = ["/sw", "/sw/file", "/sw/link", "/sw/old", "/sw/old/kept"]


# --- where things go ---------------------------------------------------------------------------------------------------


def test_members_are_added_to_what_is_there(own, ingest, look_through):
    ingest(("old/new", b"new"), ("other/deep/er", b"deep"), ("file", b"another file"))
    assert names(own, look_through) == sorted(
        [*BEFORE, "/sw/old/new", "/sw/other", "/sw/other/deep", "/sw/other/deep/er"]
    )
    assert read(own, b"/sw/file") == b"another file"
    assert read(own, b"/sw/old/kept") == b"kept"
    assert own.check() == []


@pytest.mark.parametrize("base", [b"", b"/new/and/deep"])
def test_base_directories(own, ingest, look_through, base):
    ingest(("dir/", DIRECTORY), ("dir/file", b"content"), base=base)
    assert read(own, base + b"/dir/file") == b"content"
    assert set(BEFORE) < set(names(own, look_through))
    assert own.check() == []


def test_directories_that_nobody_packed_belong_to_the_owner_of_all(own, ingest):
    before = int(time.time())
    ingest(("a/b/file", b"", {"uid": 5, "gid": 6}), base=b"/new", owner=Owner(1000, 100))
    with own.open() as opened:
        for path in (b"/new", b"/new/a", b"/new/a/b"):
            entry = opened.lookup(path)
            assert (entry.mode, entry.uid, entry.gid) == (stat.S_IFDIR | 0o755, 1000, 100)
            assert before <= entry.mtime <= time.time()
        assert (opened.lookup(b"/new/a/b/file").uid, opened.lookup(b"/new/a/b/file").gid) == (1000, 100)
        assert opened.lookup(b"/sw").uid == os.stat(own.tree / "sw").st_uid


def test_owners_of_the_archive_are_kept_if_that_is_wanted(own, ingest):
    ingest(("file", b"x", {"uid": 5, "gid": 6}), ("other", b"x", {"uid": 2**31, "gid": 7}))
    with own.open() as opened:
        assert (opened.lookup(b"/sw/file").uid, opened.lookup(b"/sw/other").uid) == (5, 2**31)


def test_the_top_of_the_archive_is_the_base_directory(own, ingest):
    ingest(("./", DIRECTORY), ("./file", b"content"), base=b"/sw/old")
    with own.open() as opened:
        assert opened.lookup(b"/sw/old").mtime == 1_000_000_000
        assert opened.read(b"/sw/old/kept") == b"kept"


def test_the_top_of_the_archive_is_the_root(own, ingest):
    ingest(("./", DIRECTORY), ("./file", b"content"), base=b"")
    with own.open() as opened:
        assert opened.lookup(b"").mtime == 1_000_000_000
    assert own.check() == []


def test_what_leads_out_of_the_base_directory_does_not(own, ingest, look_through):
    ingest(("/absolute", b"a"), ("//twice", b"b"), ("./././dot", b"c"), ("x//y", b"d"))
    expected = [*BEFORE, "/sw/absolute", "/sw/dot", "/sw/twice", "/sw/x", "/sw/x/y"]
    assert names(own, look_through) == sorted(expected)


def test_later_members_win(own, ingest):
    ingest(("a", b"first"), ("b/", DIRECTORY), ("c", b"file"), ("a", b"second"), ("b", b"file now"), ("c/", DIRECTORY))
    with own.open() as opened:
        assert (opened.read(b"/sw/a"), opened.read(b"/sw/b")) == (b"second", b"file now")
        assert opened.lookup(b"/sw/c").is_directory


def test_a_file_takes_the_place_of_a_directory_and_the_other_way_round(own, ingest, look_through):
    ingest(("old", b"a file now"), ("file/", DIRECTORY), ("file/inside", b"x"), ("link/", DIRECTORY))
    assert names(own, look_through) == ["/sw", "/sw/file", "/sw/file/inside", "/sw/link", "/sw/old"]
    assert own.check() == []


# --- removals ----------------------------------------------------------------------------------------------------------


def test_removals_without_an_archive(own, look_through):
    chosen = ArchiveOptions(removals=(b"/sw/old", b"/sw/old/kept", b"/sw/file"))
    publish_archive(own.site, own.fqrn, chosen)
    assert names(own, look_through) == ["/sw", "/sw/link"]
    assert own.check() == []


def test_removals_come_before_members(own, ingest, look_through):
    ingest(("old/new", b"new"), ("file", b"again"), removals=(b"/sw/old", b"/sw/file"))
    assert names(own, look_through) == ["/sw", "/sw/file", "/sw/link", "/sw/old", "/sw/old/new"]
    assert own.check() == []


def test_the_base_directory_itself_is_removed_first(own, ingest, look_through):
    ingest(("only", b"this"), removals=(b"/sw",))
    assert names(own, look_through) == ["/sw", "/sw/only"]
    assert own.check() == []


@pytest.mark.parametrize("order", [(b"/sw/old/kept", b"/sw/old"), (b"/sw/old", b"/sw/old/kept")])
def test_removals_below_removals(own, look_through, order):
    publish_archive(own.site, own.fqrn, ArchiveOptions(removals=order))
    assert names(own, look_through) == ["/sw", "/sw/file", "/sw/link"]


def test_what_is_not_there_cannot_be_removed_and_is_told(own, ingest, look_through):
    told = []
    ingest(("new", b""), removals=(b"/nothing", b"/sw/file/below", b""), options=PublishOptions(warn=told.append))
    assert [text.split(" ")[0] for text in told] == ["/nothing", "/sw/file/below", "/"]
    assert "/sw/new" in names(own, look_through)


# --- catalogs ----------------------------------------------------------------------------------------------------------


def test_a_nested_catalog_starts_at_the_base_directory(own, ingest):
    ingest(("a/file", b"x"), base=b"/sw/pkg/1.0", catalog=True)
    ingest(("a/other", b"y"), base=b"/sw/pkg/1.0", catalog=True)
    with own.open() as opened:
        assert opened.tree.governing(b"/sw/pkg/1.0/a").path == b"/sw/pkg/1.0"
        assert opened.read(b"/sw/pkg/1.0/.cvmfscatalog") == b""
    assert own.check() == []


def test_markers_in_the_archive_start_catalogs(own, ingest):
    ingest(("pkg/.cvmfscatalog", b"", {}), ("pkg/file", b"x"))
    with own.open() as opened:
        assert opened.tree.governing(b"/sw/pkg").path == b"/sw/pkg"
    assert own.check() == []


def test_the_root_is_no_nested_catalog(ingest):
    with pytest.raises(Unpublishable, match="root cannot be a nested catalog"):
        ingest(("file", b""), base=b"", catalog=True)


# --- hard links --------------------------------------------------------------------------------------------------------


def together(own, look_through):
    return {
        path.decode(): [name.decode() for name in seen.together] for path, seen in tree_of(own, look_through).items()
    }


def test_hard_links_in_one_directory_are_one_file(own, ingest, look_through):
    ingest(("d/a", b"x" * 9000), ("d/b", LINK, "d/a"), ("d/c", LINK, "./d/b"), ("e/d", LINK, "/d/a"))
    found = together(own, look_through)
    assert found["/sw/d/a"] == found["/sw/d/b"] == found["/sw/d/c"] == ["/sw/d/a", "/sw/d/b", "/sw/d/c"]
    assert found["/sw/e/d"] == ["/sw/e/d"]
    assert read(own, b"/sw/e/d") == b"x" * 9000
    assert own.check() == []


def test_hard_links_before_what_they_point_to(own, ingest, look_through):
    ingest(("c", LINK, "b"), ("b", LINK, "a"), ("a", b"content"))
    assert together(own, look_through)["/sw/c"] == ["/sw/a", "/sw/b", "/sw/c"]


def test_chains_of_hard_links_are_followed_once(ingest, monkeypatch):
    """Each link before its target, or to a published file: what takes a pass over all of them for each takes for ever."""
    asked, find = [], ArchiveIndex._find
    monkeypatch.setattr(ArchiveIndex, "_find", lambda index, target: asked.append(target) or find(index, target))
    count = 300
    chain = [(f"c{number}", LINK, f"c{number + 1}") for number in range(count)]
    known = [(f"p{number}", LINK, "old/kept") for number in range(count)]
    ingest(*chain, (f"c{count}", b"content"), *known)
    # When it comes, when it is followed, when it is resolved.
    assert len(asked) <= 3 * 2 * count


def test_hard_links_in_a_circle_are_refused(ingest):
    with pytest.raises(Unpublishable, match="a file neither of the archive nor of the repository"):
        ingest(("a", LINK, "b"), ("b", LINK, "c"), ("c", LINK, "a"))


def test_a_hard_link_keeps_what_it_was_made_of(own, ingest):
    ingest(("a", b"first"), ("b", LINK, "a"), ("a", b"second"))
    assert (read(own, b"/sw/a"), read(own, b"/sw/b")) == (b"second", b"first")


def test_a_hard_link_to_itself_changes_nothing(own, ingest):
    ingest(("a", b"content"), ("a", LINK, "a"))
    assert read(own, b"/sw/a") == b"content"


def test_a_hard_link_to_a_published_file(own, ingest, look_through):
    big = random.Random(1).randbytes(50_000)
    ingest(("big", big, {"mode": 0o4755}))
    ingest(("copy", LINK, "big"), ("again", LINK, "copy"), ("sub/third", LINK, "old/kept"))
    with own.open() as opened:
        assert opened.read(b"/sw/copy") == big
        assert stat.S_IMODE(opened.lookup(b"/sw/copy").mode) == 0o4755
        assert opened.read(b"/sw/sub/third") == b"kept"
    assert own.check() == []


def test_hard_links_to_symbolic_links(own, ingest):
    ingest(("link2", SYMLINK, "target"), ("link3", LINK, "link2"))
    with own.open() as opened:
        assert opened.lookup(b"/sw/link3").symlink == b"target"
    assert own.check() == []


# --- refusals ----------------------------------------------------------------------------------------------------------

REFUSED = {
    "dots": ((("../file", b""),), r"\.\./file in the archive leaves"),
    "dots inside": ((("a/../../file", b""),), "leaves"),
    "dots in a hard link": ((("a", LINK, "../../etc/passwd"),), "leaves"),
    "below a file": ((("a", b"x"), ("a/b", b"y")), "a/b in the archive lies below a, which is no directory"),
    "below a link": ((("a", SYMLINK, "/etc"), ("a/b", b"y")), "lies below a, which is no directory"),
    "directory with names, then file": (
        (("a/b", b"x"), ("a", b"y")),
        "a directory that is not empty, and something else",
    ),
    "missing target": ((("a", LINK, "nowhere"),), "a in the archive is a hard link to nowhere, a file neither of"),
    "target removed": ((("a", LINK, "nowhere/else"),), "a hard link to nowhere/else"),
    "circle": ((("a", LINK, "b"), ("b", LINK, "a")), "hard link to"),
    "itself": ((("a", LINK, "a"),), "hard link to a"),
    "hard link to a directory": (
        (("a/", DIRECTORY), ("b", LINK, "a")),
        "b in the archive is a hard link to a directory",
    ),
    "hard link to a published directory": ((("b", LINK, "old"),), "hard link to old, a file neither"),
    "top is a file": ((("./", b"content"),), "is the archive's top, and no directory"),
    "long name": ((("x" * 256, b""),), "is longer than 4095 bytes, or 255 between two slashes"),
    "long path": ((("/".join(["x" * 200] * 30), b""),), "is longer than 4095 bytes"),
    "marker that is a link": (((".cvmfscatalog", SYMLINK, "x"),), "must be a regular file"),
    "attribute too large": ((("a", b"xx", {"pax_headers": {"SCHILY.xattr.user.a": "x" * 300}}),), "/sw/a: extended"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_published_is_named(own, ingest, case):
    members, words = REFUSED[case]
    before = own.manifest()
    with pytest.raises(Unpublishable, match=words):
        ingest(("fine", b"content"), *members)
    assert own.manifest() == before


def test_a_member_below_a_published_link_is_refused(own, ingest):
    with pytest.raises(Unpublishable, match=r"/sw/link: is published, and is no directory; remove it \(-d\)"):
        ingest(("link/file", b"x"))
    with pytest.raises(Unpublishable, match="/sw/link: is published, and is no directory"):
        ingest(("file", b"x"), base=b"/sw/link/deep")


def test_a_removed_link_is_no_obstacle(own, ingest):
    ingest(("link/file", b"x"), removals=(b"/sw/link",))
    assert read(own, b"/sw/link/file") == b"x"


def test_a_hard_link_to_a_removed_file_is_refused(ingest):
    with pytest.raises(Unpublishable, match="hard link to file"):
        ingest(("new", LINK, "file"), removals=(b"/sw/file",))
    with pytest.raises(Unpublishable, match="hard link to old/kept"):
        ingest(("new", LINK, "old/kept"), ("old/", DIRECTORY), removals=(b"/sw/old",))


def test_names_of_the_snapshots_directory_are_reserved(ingest):
    with pytest.raises(Unpublishable, match=r"/\.cvmfs: this name is reserved"):
        ingest((".cvmfs/file", b""), base=b"")


@pytest.mark.parametrize("length", [0, 100, 512, 1000, 1536, 2000])
def test_an_archive_that_was_cut_off_publishes_nothing(own, ingest, length):
    before = own.manifest()
    with pytest.raises(Unpublishable, match=r"is no tar archive: it ends|was cut off"):
        ingest(data=packed(("a", b"x" * 600), ("b", b"y"))[:length])
    assert own.manifest() == before


def test_no_archive_at_all(own, ingest, tmp_path):
    with pytest.raises(Unpublishable, match=r"archive\.tar is no tar archive: there is no tar header at byte 0"):
        ingest(data=b"#!/bin/sh\necho no archive\n" * 100)
    for name, words in ((str(tmp_path), "is a directory, not an archive"), ("/nowhere.tar", "No such file")):
        with pytest.raises(Unpublishable, match=words):
            publish_archive(own.site, own.fqrn, ArchiveOptions(name, b"/sw"))


def test_an_archive_that_changes_meanwhile_is_refused(own, tmp_path, monkeypatch):
    path = tmp_path / "changing.tar"
    path.write_bytes(packed(("a", b"content")))
    found = archive_file.ArchiveFile.__init__

    def open_and_change(self, *arguments):
        found(self, *arguments)
        os.utime(path, ns=(1, 1))

    monkeypatch.setattr(archive_file.ArchiveFile, "__init__", open_and_change)
    with pytest.raises(Unpublishable, match=r"changing\.tar: changed since it was opened"):
        publish_archive(own.site, own.fqrn, ArchiveOptions(str(path), b"/sw"))


def test_no_descriptor_is_left_open(own, ingest):
    ingest(("warm", b"up"))
    before = len(os.listdir("/proc/self/fd"))
    ingest(("a", b"x"))
    with pytest.raises(Unpublishable):
        ingest(("../a", b"x"))
    with pytest.raises(Unpublishable):
        ingest(data=gzip.compress(b"no tar"))
    assert len(os.listdir("/proc/self/fd")) == before


# --- compressed, and through pipes -------------------------------------------------------------------------------------

COMPRESSED = {
    "gzip": gzip.compress,
    "gzip in two": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    "bzip2": bz2.compress,
    "bzip2 in two": lambda data: bz2.compress(data[:700]) + bz2.compress(data[700:]),
    "xz": lzma.compress,
    "xz with padding": lambda data: lzma.compress(data[:700]) + bytes(8) + lzma.compress(data[700:]) + bytes(4),
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    "plain": lambda data: data,
}


@pytest.fixture
def standard_input(monkeypatch, tmp_path):
    """What a command reads from a pipe."""

    def give(data):
        source, target = os.pipe()
        child = os.fork()
        if not child:
            os.close(source)
            with open(target, "wb") as pipe:
                pipe.write(data)
            os._exit(0)
        os.close(target)
        pipe = open(source, encoding="utf-8")  # noqa: SIM115
        monkeypatch.setattr(sys, "stdin", pipe)
        return child

    return give


@pytest.mark.parametrize("case", COMPRESSED)
def test_compressed_archives(own, ingest, case):
    content = random.Random(2).randbytes(200_000)
    ingest(data=COMPRESSED[case](packed(("big", content), ("small", b"content"))))
    assert (read(own, b"/sw/big"), read(own, b"/sw/small")) == (content, b"content")
    assert own.check() == []


@pytest.mark.parametrize("case", COMPRESSED)
def test_archives_from_standard_input(own, standard_input, case):
    child = standard_input(COMPRESSED[case](packed(("small", b"content"))))
    publish_archive(own.site, own.fqrn, ArchiveOptions("-", b"/sw"))
    os.waitpid(child, 0)
    assert read(own, b"/sw/small") == b"content"


def test_a_standard_input_that_is_no_archive(own, standard_input, monkeypatch):
    child = standard_input(b"#!/bin/sh")
    with pytest.raises(Unpublishable, match="the standard input is no tar archive"):
        publish_archive(own.site, own.fqrn, ArchiveOptions("-", b"/sw"))
    os.waitpid(child, 0)
    monkeypatch.setattr(archive_file.sys, "stdin", None)
    with pytest.raises(Unpublishable, match="standard input: it is closed"):
        publish_archive(own.site, own.fqrn, ArchiveOptions("-", b"/sw"))


@pytest.mark.parametrize("target", [b"", b"x" * 4096])
def test_links_that_no_kernel_can_read(own, ingest, target):
    before = own.manifest()
    with pytest.raises(Unpublishable, match="link in the archive is a symbolic link to nothing, or to more than 4095"):
        ingest(data=linked(target))
    assert own.manifest() == before


def test_the_longest_link(own, ingest):
    ingest(data=linked(b"x" * 4095))
    with own.open() as repository:
        assert repository.readlink("/sw/link") == b"x" * 4095


def linked(target):
    member, packed_link = tarfile.TarInfo("link"), io.BytesIO()
    member.type, member.linkname = tarfile.SYMTYPE, target.decode()
    with tarfile.open(fileobj=packed_link, mode="w") as file:
        file.addfile(member)
    return packed_link.getvalue()


def test_an_archive_in_a_pipe_that_has_a_name(own, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    child = os.fork()
    if not child:
        with open(tmp_path / "pipe", "wb") as pipe:
            pipe.write(packed(("small", b"content")))
        os._exit(0)
    publish_archive(own.site, own.fqrn, ArchiveOptions(str(tmp_path / "pipe"), b"/sw"))
    os.waitpid(child, 0)
    assert read(own, b"/sw/small") == b"content"


@pytest.mark.parametrize("case", ["gzip", "bzip2", "xz", "zstd"])
@pytest.mark.parametrize("damage", ["cut off", "garbage"])
def test_broken_compression_publishes_nothing(own, ingest, case, damage):
    whole = COMPRESSED[case](packed(("big", random.Random(3).randbytes(5000))))
    data = whole[:-100] if damage == "cut off" else whole[:1000] + b"garbage" * 100 + whole[1700:]
    before = own.manifest()
    with pytest.raises(Unpublishable, match=r"cut off|cannot be unpacked"):
        ingest(data=data)
    assert own.manifest() == before


def test_xz_may_not_ask_for_any_memory(ingest, monkeypatch):
    monkeypatch.setattr(archive_file, "_MAX_XZ_MEMORY", 2**16)
    with pytest.raises(Unpublishable, match=r"[Mm]emory"):
        ingest(data=lzma.compress(packed(("a", b"x"))))


def test_a_full_disk_is_told(own, ingest, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive_file, "_write_fully", refuse)
    with pytest.raises(StoreFull, match=r"cannot unpack the archive into .*: No space left on device; make room there"):
        ingest(data=gzip.compress(packed(("a", b"x"))))


def test_nothing_is_left_of_an_unpacked_archive(own, ingest):
    ingest(data=gzip.compress(packed(("a", b"x"))))
    assert os.listdir(f"{own.settings.spool}/tmp") == []


# --- what programs pack ------------------------------------------------------------------------------------------------


def test_times_to_the_nanosecond(new_repository, tmp_path):
    own = new_repository(mtime_ns=True)
    path = tmp_path / "a.tar"
    path.write_bytes(packed(("a", b"xx", {"pax_headers": {"mtime": "1700000000.123456789"}})))
    publish_archive(own.site, own.fqrn, ArchiveOptions(str(path), b"/sw"))
    with own.open() as opened:
        assert (opened.lookup(b"/sw/a").mtime, opened.lookup(b"/sw/a").mtime_ns) == (1_700_000_000, 123_456_789)


def test_times_to_the_second(new_repository, tmp_path):
    own = new_repository(mtime_ns=False)
    path = tmp_path / "a.tar"
    path.write_bytes(packed(("a", b"xx", {"pax_headers": {"mtime": "1700000000.123456789"}})))
    publish_archive(own.site, own.fqrn, ArchiveOptions(str(path), b"/sw"))
    with own.open() as opened:
        assert (opened.lookup(b"/sw/a").mtime, opened.lookup(b"/sw/a").mtime_ns) == (1_700_000_000, None)


ATTRIBUTES = {
    "SCHILY.xattr.user.a": "value",
    "SCHILY.xattr.security.selinux": "label",
    "SCHILY.xattr.com.apple.quarantine": "other systems",
    "SCHILY.acl.access": "user::rw-,user:7:r--,group::r--,mask::r--,other::---",
}


@pytest.mark.parametrize("wanted", [True, False])
def test_attributes(new_repository, tmp_path, wanted):
    own = new_repository(xattrs=wanted)
    path = tmp_path / "a.tar"
    path.write_bytes(packed(("a", b"xx", {"pax_headers": ATTRIBUTES}), ("l", b"xxx")))
    publish_archive(own.site, own.fqrn, ArchiveOptions(str(path), b"/sw"))
    with own.open() as opened:
        found = opened.xattrs(b"/sw/a")
    assert set(found) == ({b"user.a", b"system.posix_acl_access"} if wanted else set())


@pytest.mark.parametrize("ignored", [True, False])
def test_special_files(new_repository, tmp_path, look_through, ignored):
    own = new_repository(ignore_special_files=ignored)
    path = tmp_path / "a.tar"
    path.write_bytes(packed(("fifo", FIFO), ("null", CHARACTER), ("disk", BLOCK), ("f", b"xx")))
    publish_archive(own.site, own.fqrn, ArchiveOptions(str(path), b"/sw"))
    expected = ["/sw", "/sw/f"] if ignored else ["/sw", "/sw/disk", "/sw/f", "/sw/fifo", "/sw/null"]
    assert names(own, look_through) == expected
    assert own.check() == []


def test_a_sparse_file(own, tmp_path):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(10**6)
        file.seek(500_000)
        file.write(b"data in the middle")
    command = ["tar", "-C", tmp_path, "--sparse", "--format=pax", "-cf", tmp_path / "sparse.tar", "sparse"]
    subprocess.run(command, check=True, timeout=60)
    publish_archive(own.site, own.fqrn, ArchiveOptions(str(tmp_path / "sparse.tar"), b"/sw"))
    assert read(own, b"/sw/sparse") == path.read_bytes()
    assert own.check() == []


@given(seed=st.integers(0, 2**32), form=st.sampled_from(["pax", "gnu"]), how=st.sampled_from(["plain", "gzip"]))
@tried(8)
@pytest.mark.timeout(3600)
def test_what_tar_packs_is_what_is_published(  # noqa: PLR0917
    new_repository, random_edits, look, look_through, tmp_path, seed, form, how
):
    place = f"own{next(_numbers)}"
    own = new_repository(place=place, compression="zlib-fast", chunk_sizes=_CHUNKS)
    top, edits = os.fsencode(own.tree), random_edits(os.fsencode(own.tree), random.Random(seed))
    for _ in range(2):
        edits.run(40)
        file = tmp_path / f"{place}.tar"
        options = ["--xattrs", "--xattrs-include=user.*"] if form == "pax" else []
        subprocess.run(
            ["tar", "-C", own.tree, f"--format={form}", *options, "--sparse", "-cf", file, "."], check=True, timeout=600
        )
        if how == "gzip":
            file.write_bytes(gzip.compress(file.read_bytes(), 1))
        with own.open() as before:
            removals = tuple(b"/" + entry.name for entry in before.listing(b""))
        publish_archive(own.site, own.fqrn, ArchiveOptions(str(file), b"", removals))
        expected = {path: as_packed(path, seen, form) for path, seen in look(top).items()}
        with own.open() as opened:
            assert {path: as_packed(path, seen, form) for path, seen in look_through(opened).items()} == expected
        assert own.check() == []
    shutil.rmtree(tmp_path / place)


def as_packed(path, seen, form):
    """GNU archives have neither attributes nor fractions of seconds; names of one pipe are packed as several."""
    if stat.S_ISFIFO(seen.mode):
        seen = seen._replace(together=(path,))
    if form == "pax":
        return seen
    return seen._replace(xattrs=(), mtime_ns=seen.mtime_ns // 10**9)
