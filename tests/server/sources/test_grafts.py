"""Graft files: what they may say, what a publish makes of them, how they are made."""

import hashlib
import os
import stat
import subprocess
import tarfile
import zlib

import pytest

from cvfs.chunking import ChunkSizes
from cvfs.compression import Compression
from cvfs.errors import FormatError, Unpublishable, UsageError
from cvfs.format.dirent import Chunk
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs_server.draft import Contribution
from cvfs_server.publish import publish
from cvfs_server.sources import grafts
from cvfs_server.sources.grafting import GraftForm, graft_of, read_graft, regular_files, write_graft
from cvfs_server.sources.grafts import Graft
from cvfs_server.sources.template import Template
from cvfs_server.storage.local import LocalStorage
from cvfs_server.ways.archive import ArchiveOptions, publish_archive

ONE, TWO = "1" * 40, "2" * 40
NULL = "0" * 40

UNDERSTOOD = {
    "least": ("size=12\nchecksum=" + ONE, Graft(12, b"\x11" * 20)),
    "the original's example": (
        "size=12\nchecksum=ff049c626904064d641feca0e9936e5b211807c6\ncompression=zlib\n",
        Graft(12, bytes.fromhex("ff049c626904064d641feca0e9936e5b211807c6")),
    ),
    "blanks, comments, capitals": (f"# a comment\n\n  SIZE = 0 \n checksum\t={ONE}  \n\n#", Graft(0, b"\x11" * 20)),
    "tag of the algorithm": (f"size=1\nchecksum={ONE}-rmd160", Graft(1, b"\x11" * 20, (), Algorithm.RMD160)),
    "not compressed": (
        f"size=1\nchecksum={ONE}\ncompression=none",
        Graft(1, b"\x11" * 20, (), Algorithm.SHA1, Compression.NONE),
    ),
    "default": (f"size=1\nchecksum={ONE}\ncompression=default", Graft(1, b"\x11" * 20)),
    "chunks": (
        f"size=10\nchecksum={NULL}\nchunk_offsets=0,4\nchunk_checksums={ONE}P,{TWO}P\n",
        Graft(10, None, (Chunk(0, 4, b"\x11" * 20), Chunk(4, 6, b"\x22" * 20))),
    ),
    "chunks and the whole": (
        f"size=10\nchecksum={TWO}\nchunk_offsets=0, 4\nchunk_checksums={ONE}, {TWO}\n",
        Graft(10, b"\x22" * 20, (Chunk(0, 4, b"\x11" * 20), Chunk(4, 6, b"\x22" * 20))),
    ),
    "the last line wins": (f"size=1\nsize=2\nchecksum={ONE}", Graft(2, b"\x11" * 20)),
}


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_what_is_understood(case):
    text, expected = UNDERSTOOD[case]
    assert Graft.parse(text.encode()) == expected


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_what_is_written_is_understood(case):
    graft = UNDERSTOOD[case][1]
    assert Graft.parse(graft.serialise()) == graft


REFUSED = {
    "nothing": "",
    "no size": f"checksum={ONE}",
    "no checksum": "size=1",
    "size no number": f"size=one\nchecksum={ONE}",
    "size below zero": f"size=-1\nchecksum={ONE}",
    "size endless": f"size={'9' * 30}\nchecksum={ONE}",
    "size beyond all": f"size={2**63}\nchecksum={ONE}",
    "checksum too short": "size=1\nchecksum=abc",
    "checksum empty": f"size=1\nchecksum={NULL}",
    "compression unknown": f"size=1\nchecksum={ONE}\ncompression=lzma",
    "another word": f"size=1\nchecksum={ONE}\nchunk_offset=0",
    "no word": f"size=1\nchecksum={ONE}\nhello",
    "binary": "\0\1\2\xff",
    "offsets without checksums": f"size=9\nchecksum={ONE}\nchunk_offsets=0,4",
    "checksums without offsets": f"size=9\nchecksum={ONE}\nchunk_checksums={ONE}",
    "one checksum less": f"size=9\nchecksum={ONE}\nchunk_offsets=0,4\nchunk_checksums={ONE}",
    "first not zero": f"size=9\nchecksum={ONE}\nchunk_offsets=1,4\nchunk_checksums={ONE},{TWO}",
    "not ascending": f"size=9\nchecksum={ONE}\nchunk_offsets=0,4,4\nchunk_checksums={ONE},{TWO},{TWO}",
    "beyond the size": f"size=4\nchecksum={ONE}\nchunk_offsets=0,4\nchunk_checksums={ONE},{TWO}",
    "two algorithms": f"size=9\nchecksum={ONE}\nchunk_offsets=0\nchunk_checksums={ONE}-shake128",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    with pytest.raises(FormatError):
        Graft.parse(REFUSED[case].encode())


# --- published ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def own(new_repository):
    return new_repository(compression="zlib", xattrs=True)


def placed(own, content, name="data"):
    """An object in the repository's storage that no catalog names, and the graft file that describes it."""
    stored = zlib.compress(content)
    digest = ContentHash.of(stored, Algorithm.SHA1)
    LocalStorage(own.settings.storage).put(digest.path, stored)
    (own.tree / name).touch()
    os.chmod(own.tree / name, 0o755)
    (own.tree / f".cvmfsgraft-{name}").write_bytes(Graft(len(content), digest.digest).serialise())


def test_a_grafted_file_reads_as_what_it_describes(own):
    placed(own, b"content from elsewhere")
    os.setxattr(own.tree / "data", "user.test", b"kept")
    report = own.publish()
    with own.open() as opened:
        entry = opened.lookup(b"/data")
        assert opened.read(b"/data") == b"content from elsewhere"
        assert [found.name for found in opened.listing(b"")] == [b"data"]
        assert (entry.size, stat.S_IMODE(entry.mode)) == (22, 0o755)
        assert entry.mtime == int(os.stat(own.tree / "data").st_mtime)
        assert opened.xattrs(b"/data") == {b"user.test": b"kept"}
    assert report.bytes_in == 0
    assert own.check() == []


def test_grafted_chunks(own):
    content = [b"first", b"second piece"]
    stored = [zlib.compress(piece) for piece in content]
    hashes = [ContentHash.of(piece, Algorithm.SHA1, ObjectKind.CHUNK) for piece in stored]
    for digest, piece in zip(hashes, stored, strict=True):
        LocalStorage(own.settings.storage).put(digest.path, piece)
    chunks = (Chunk(0, 5, hashes[0].digest), Chunk(5, 12, hashes[1].digest))
    (own.tree / "data").touch()
    (own.tree / ".cvmfsgraft-data").write_bytes(Graft(17, None, chunks).serialise())
    own.publish()
    with own.open() as opened:
        assert opened.read(b"/data") == b"firstsecond piece"
    assert own.check() == []


def test_another_graft_for_the_same_file_is_seen(own):
    placed(own, b"one content")
    own.publish()
    placed(own, b"two content")
    own.publish()
    with own.open() as opened:
        assert opened.read(b"/data") == b"two content"
    (own.tree / ".cvmfsgraft-data").unlink()
    own.publish()
    with own.open() as opened:
        assert opened.read(b"/data") == b""
    assert own.check() == []


def test_nothing_changes_if_nothing_changed(own):
    placed(own, b"content")
    own.publish()
    report = own.publish()
    assert (report.added, report.modified, report.removed) == (0, 0, 0)


def test_grafts_of_an_external_repository_are_external(new_repository):
    own = new_repository(external=True)
    (own.tree / "data").touch()
    (own.tree / ".cvmfsgraft-data").write_bytes(Graft(17, b"\1" * 20, (), Algorithm.SHA1, Compression.NONE).serialise())
    own.publish()
    with own.open() as opened:
        assert opened.lookup(b"/data").is_external
    assert own.check() == []


def test_grafts_in_archives(own, tmp_path):
    placed(own, b"content from elsewhere")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(own.tree, "pkg")
    publish_archive(own.site, own.fqrn, ArchiveOptions(str(tmp_path / "a.tar"), b"/sw"))
    with own.open() as opened:
        assert opened.read(b"/sw/pkg/data") == b"content from elsewhere"
        assert [found.name for found in opened.listing(b"/sw/pkg")] == [b"data"]
    assert own.check() == []


def _bad(own):
    (own.tree / "data").touch()
    (own.tree / ".cvmfsgraft-data").write_bytes(b"size=1")


def _too_long(own):
    (own.tree / "data").touch()
    with open(own.tree / ".cvmfsgraft-data", "wb") as file:
        file.truncate(grafts._MAX_GRAFT + 1)


def _orphan(own):
    (own.tree / ".cvmfsgraft-data").write_bytes(Graft(1, b"\1" * 20).serialise())


def _of_a_directory(own):
    _orphan(own)
    (own.tree / "data").mkdir()


def _of_several_names(own):
    _orphan(own)
    (own.tree / "data").touch()
    os.link(own.tree / "data", own.tree / "same")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_bad, "checksum= is missing"),
        (_too_long, "longer than"),
        (_orphan, "there is no file of that name beside it"),
        (_of_a_directory, "is not a regular file with one name"),
        (_of_several_names, "is not a regular file with one name"),
    ],
)
def test_a_bad_graft_file_is_named(own, spoil, words):
    spoil(own)
    before = own.manifest()
    with pytest.raises(Unpublishable, match=r"^/\.cvmfsgraft-data: .*" + words):
        own.publish()
    assert own.manifest() == before


def test_the_bare_prefix_is_an_ordinary_name(own):
    (own.tree / ".cvmfsgraft-").write_bytes(b"no graft")
    (own.tree / ".cvmfsgraft-dir").mkdir()
    own.publish()
    with own.open() as opened:
        assert {entry.name for entry in opened.listing(b"")} == {b".cvmfsgraft-", b".cvmfsgraft-dir"}


# --- made --------------------------------------------------------------------------------------------------------------


def reader(data):
    source = iter([data[start : start + 7] for start in range(0, len(data), 7)])
    rest = [b""]

    def read(count):
        have = rest[0] or next(source, b"")
        rest[0] = have[count:]
        return have[:count]

    return read


@pytest.mark.parametrize("compression", ["none", "zlib", "zstd"])
@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 200, 950])
@pytest.mark.parametrize("bulk", [False, True])
def test_a_graft_of_a_stream(size, compression, bulk):
    data = hashlib.shake_128(b"seed").digest(size)
    graft = graft_of(reader(data), GraftForm(Algorithm.SHA1, compression, 100, bulk))
    assert graft.size == size
    assert Graft.parse(graft.serialise()) == graft
    if size <= 100:
        assert graft.chunks == ()
    else:
        assert [chunk.offset for chunk in graft.chunks] == list(range(0, size, 100))
        assert sum(chunk.size for chunk in graft.chunks) == size
        assert (graft.digest is not None) == bulk
    if compression == "none":
        pieces = [data[chunk.offset : chunk.offset + chunk.size] for chunk in graft.chunks]
        assert [chunk.digest for chunk in graft.chunks] == [hashlib.sha1(piece).digest() for piece in pieces]
        assert graft.digest in {None, hashlib.sha1(data).digest()}


def test_a_graft_without_chunks():
    graft = graft_of(reader(b"x" * 500), GraftForm(Algorithm.SHAKE128))
    assert (graft.chunks, graft.digest) == ((), hashlib.shake_128(b"x" * 500).digest(20))


def test_a_graft_file_is_what_a_publish_needs(own, new_repository, tmp_path):
    """Content published by one repository is grafted into another, without being read there."""
    content = hashlib.shake_128(b"seed").digest(3000)
    (tmp_path / "data").write_bytes(content)
    os.chmod(tmp_path / "data", 0o751)
    form = GraftForm(Algorithm.SHA1, "zlib", 1000)
    write_graft(os.fsencode(tmp_path / "data"), os.fsencode(own.tree / "deep/data"), form)
    assert (own.tree / "deep/data").read_bytes() == b""
    own.publish()
    with own.open() as opened:
        entry = opened.lookup(b"/deep/data")
        assert (entry.size, stat.S_IMODE(entry.mode), len(opened.tree.chunks(b"/deep/data"))) == (3000, 0o751, 3)
    for start in range(0, 3000, 1000):
        stored = zlib.compress(content[start : start + 1000], 6)
        LocalStorage(own.settings.storage).put(ContentHash.of(stored, Algorithm.SHA1, ObjectKind.CHUNK).path, stored)
    with own.open() as opened:
        assert opened.read(b"/deep/data") == content


def test_only_regular_files_are_found(tmp_path):
    for name in ("a", "d/b", "d/e/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo")
    assert list(regular_files(os.fsencode(tmp_path))) == [b"/a", b"/d/b", b"/d/e/c"]
    with pytest.raises(Unpublishable, match="nowhere"):
        list(regular_files(b"/nowhere"))


def test_what_cannot_be_grafted(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="not a regular file"):
        read_graft(os.fsencode(tmp_path / "fifo"), GraftForm())
    with pytest.raises(Unpublishable, match="No such file"):
        read_graft(b"/nowhere", GraftForm())


def test_external_contents_are_read_again_and_not_stored(new_repository):
    own = new_repository(external=True, chunk_sizes=ChunkSizes(4096, 8192, 16384))
    (own.tree / "big").write_bytes(hashlib.shake_128(b"seed").digest(100_000))
    (own.tree / "small").write_bytes(b"small")
    (own.tree / "d").mkdir()
    (own.tree / ".cvmfsdirtab").write_bytes(b"/d\n")
    before = {path for path, _ in LocalStorage(own.settings.storage).objects()}
    own.publish()
    new = {path for path, _ in LocalStorage(own.settings.storage).objects()} - before
    assert not [path for path in new if path.endswith("P")]
    with own.open() as opened:
        assert opened.lookup(b"/big").is_external
        assert opened.lookup(b"/big").compression is Compression.NONE
        assert len(opened.tree.chunks(b"/big")) > 1
        assert opened.lookup(b"/small").content.digest == hashlib.sha1(b"small").digest()
        for path in (b"/d/.cvmfscatalog", b"/.cvmfsdirtab"):
            assert not opened.lookup(path).is_external
        assert opened.read(b"/.cvmfsdirtab") == b"/d\n"
        assert opened.tree.root().counters()[0].external == 2
    assert own.check() == []
    # What is on other servers may have changed there without notice: it is read again.
    (own.tree / "small").write_bytes(b"other")
    assert own.publish().modified == 1


def test_a_program_reads_what_is_written(tmp_path):
    """The text is the original's, line by line."""
    (tmp_path / "data").write_bytes(b"x" * 3_000_000)
    graft = read_graft(os.fsencode(tmp_path / "data"), GraftForm(chunk_size=2**20))
    words = subprocess.run(["cut", "-d=", "-f1"], input=graft.serialise(), check=True, capture_output=True, timeout=60)
    assert words.stdout.split() == [b"size", b"checksum", b"compression", b"chunk_offsets", b"chunk_checksums"]
    assert graft.serialise().splitlines()[1] == b"checksum=" + b"0" * 40


def test_what_is_published_under_such_a_name_is_a_file_like_any(own, look_through, monkeypatch):
    """Publishers that know no grafts made it; copies of it are made without being asked what it means."""
    directory = own.tree / "d"
    directory.mkdir()
    for name in (".cvmfsgraft-alone", "file"):
        (directory / name).write_text(name)
    with monkeypatch.context() as unknowing:
        unknowing.setattr(grafts, "is_graft", lambda _entry: False)
        own.publish()
    publish(own.site, own.fqrn, lambda base: Contribution(Template.open(base.tree, b"/d", b"/copy")))
    with own.open() as newest:
        shown = look_through(newest)
    assert [shown[b"/copy/" + name].content for name in (b".cvmfsgraft-alone", b"file")] == [
        b".cvmfsgraft-alone",
        b"file",
    ]
    assert own.check() == []
