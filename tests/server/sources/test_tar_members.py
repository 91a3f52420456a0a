"""The headers of tar archives: what other programs write, what nobody should, and what is broken."""

import io
import os
import random
import stat
import subprocess
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvfs.errors import FormatError
from cvfs_server.sources import tar_extensions
from cvfs_server.sources.tar_extensions import Segment
from cvfs_server.sources.tar_members import members

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


@pytest.fixture
def read(tmp_path):
    """The members of an archive that is given as bytes."""

    def members_of(data):
        path = tmp_path / "archive.tar"
        path.write_bytes(data)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return list(members(descriptor))
        finally:
            os.close(descriptor)

    return members_of


def member(name="file", data=b"", **fields):
    """A member for the standard library's writer."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def archive(*entries, form=tarfile.PAX_FORMAT):
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=form, errors="surrogateescape") as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return written.getvalue()


def header(name=b"file", *, size=0, kind=b"0", mode=b"0000644", magic=b"ustar\x0000", mtime=b"0", **fields):
    """A header block by hand; `fields` are bytes at offsets, as at345."""
    block = bytearray(512)
    parts = {0: name, 100: mode, 108: b"0000000", 116: b"0000000", 136: mtime, 156: kind, 257: magic}
    parts[124] = size if isinstance(size, bytes) else b"%011o" % size
    parts |= {int(place.removeprefix("at")): value for place, value in fields.items()}
    for offset, value in parts.items():
        block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data):
    return data + bytes(-len(data) % 512)


def pax(*records, kind=b"x"):
    text = b""
    for record in records:
        length = len(record) + 3
        while len(b"%d %s\n" % (length, record)) != length:
            length += 1
        text += b"%d %s\n" % (length, record)
    return header(b"pax", size=len(text), kind=kind) + padded(text)


END = bytes(1024)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "name", ["file", "a/b/c", "a" * 99, "a" * 100, "d" * 90 + "/" + "f" * 90, "ä", "x\udcff\udc80y"]
)
def test_names_of_every_length(read, form, name):
    data = archive(member(name, b"content"), member("next", b"more"), form=FORMATS[form])
    found = read(data)
    assert [entry.name for entry in found] == [os.fsencode(name), b"next"]
    assert [data[entry.offset : entry.offset + entry.stored] for entry in found] == [b"content", b"more"]


@pytest.mark.parametrize("form", ["gnu", "pax"])
@pytest.mark.parametrize("name", ["x" * 255, "/".join(["level"] * 60), "x" * 4000, "new\nline and\ttab"])
def test_names_that_need_extensions(read, form, name):
    target = name[:3000] + "/target"
    found = read(archive(member(name, type=tarfile.SYMTYPE, linkname=target), form=FORMATS[form]))
    assert [(entry.name, entry.target) for entry in found] == [(name.encode(), target.encode())]


TYPES = {
    "file": (tarfile.REGTYPE, stat.S_IFREG),
    "old file": (tarfile.AREGTYPE, stat.S_IFREG),
    "contiguous": (tarfile.CONTTYPE, stat.S_IFREG),
    "directory": (tarfile.DIRTYPE, stat.S_IFDIR),
    "symbolic link": (tarfile.SYMTYPE, stat.S_IFLNK),
    "fifo": (tarfile.FIFOTYPE, stat.S_IFIFO),
    "character device": (tarfile.CHRTYPE, stat.S_IFCHR),
    "block device": (tarfile.BLKTYPE, stat.S_IFBLK),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("case", TYPES)
def test_types(read, form, case):
    kind, bits = TYPES[case]
    entry, behind = read(
        archive(
            member("name", type=kind, mode=0o4751, linkname="target", devmajor=8, devminor=300, uid=7, gid=9, mtime=77),
            member("behind"),
            form=FORMATS[form],
        )
    )
    assert (entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (bits | 0o4751, 7, 9, 77 * 10**9)
    assert entry.target == (b"target" if case == "symbolic link" else b"")
    assert entry.device == (os.makedev(8, 300) if "device" in case else 0)
    assert not entry.is_link
    assert behind.name == b"behind"


def test_hard_links_carry_their_target(read):
    _, link = read(archive(member("file", b"content"), member("link", type=tarfile.LNKTYPE, linkname="file")))
    assert (link.is_link, link.target) == (True, b"file")


def test_an_old_directory_ends_with_a_slash(read):
    (entry,) = read(header(b"dir/", kind=b"\0", magic=b"") + END)
    assert stat.S_ISDIR(entry.mode)


def test_a_directory_with_a_size_has_no_data(read):
    assert [entry.name for entry in read(header(b"dir", size=4096, kind=b"5") + header(b"next") + END)] == [
        b"dir",
        b"next",
    ]


def test_the_prefix_of_star_is_shorter(read):
    block = header(b"name", at345=b"prefix", at476=b"01234567012", at508=b"tar\0")
    assert read(block + END)[0].name == b"prefix/name"


def test_gnu_headers_have_no_prefix(read):
    assert read(header(b"name", magic=b"ustar  \0", at345=b"01234567012\0") + END)[0].name == b"name"


def test_a_checksum_over_signed_bytes(read):
    block = bytearray(header("ä".encode()))
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:]) + 256
    block[148:156] = b"%06o\0 " % signed
    assert read(bytes(block) + END)[0].name == "ä".encode()


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"\x80" + bytes(6) + b"\x01\x00\x00\x00\x00", 2**32),
        (b"\xff" * 12, -1),
        (b"\xff" * 8 + b"\xff\xff\xff\x00", -256),
        (b"00000000010\0", 8),
        (b"         10\0", 8),
        (b"10 ", 8),
        (bytes(12), 0),
    ],
)
def test_numbers(read, field, expected):
    assert read(header(mtime=field) + END)[0].mtime_ns == expected * 10**9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1", 10**9),
        (b"1.5", 1_500_000_000),
        (b"1700000000.123456789", 1_700_000_000_123_456_789),
        (b"1.1234567891234", 1_123_456_789),
        (b"-1.25", -1_250_000_000),
        (b"0.", 0),
    ],
)
def test_times_to_the_nanosecond(read, text, expected):
    assert read(pax(b"mtime=" + text) + header() + END)[0].mtime_ns == expected


def test_pax_says_it_better(read):
    values = (b"path=a/long name", b"uid=100000", b"gid=4294967294", b"size=3", b"comment=no matter")
    (entry,) = read(pax(*values) + header(b"short", size=0) + padded(b"abc") + END)
    assert (entry.name, entry.uid, entry.gid, entry.size, entry.stored) == (
        b"a/long name",
        100_000,
        4_294_967_294,
        3,
        3,
    )


def test_global_headers_last_and_local_ones_win(read):
    found = read(pax(b"mtime=5", kind=b"g") + header(b"a") + pax(b"mtime=6") + header(b"b") + header(b"c") + END)
    assert [(entry.name, entry.mtime_ns // 10**9) for entry in found] == [(b"a", 5), (b"b", 6), (b"c", 5)]


def test_a_long_link_name_belongs_to_the_next_member_only(read):
    long = header(b"././@LongLink", size=6, kind=b"K") + padded(b"other\0")
    found = read(long + header(b"a", kind=b"2", at157=b"target") + header(b"b", kind=b"2", at157=b"target") + END)
    assert [entry.target for entry in found] == [b"other", b"target"]


def test_attributes_of_both_kinds(read):
    records = (
        b"SCHILY.xattr.user.bin=\x00\xff=\n",
        b"LIBARCHIVE.xattr.user.a%20b=AP8",
        b"LIBARCHIVE.xattr.user.bin=AA",
    )
    (entry,) = read(pax(*records) + header() + END)
    assert entry.attributes == {b"user.bin": b"\x00\xff=\n", b"user.a b": b"\x00\xff"}


def test_volume_labels_are_no_members(read):
    assert read(header(b"label", kind=b"V") + header(b"file") + END)[0].name == b"file"


def test_what_follows_the_end_is_of_no_meaning(read):
    assert len(read(header() + bytes(512) + b"garbage" * 100)) == 1


def test_an_archive_of_nothing(read):
    assert read(END) == []


SPARSE = {
    "holes": (2**20, [(0, 5), (65536, 512), (2**20 - 3, 3)]),
    "only a hole": (10**6, []),
    "many segments": (2**22, [(place * 8192, 4096) for place in range(300)]),
}


@pytest.fixture
def gnu_sparse(tmp_path):
    """An archive by GNU tar of one sparse file, and the file."""

    def make(form, size, written):
        path = tmp_path / "sparse"
        with open(path, "wb") as file:
            file.truncate(size)
            for offset, length in written:
                file.seek(offset)
                file.write(random.Random(offset).randbytes(length))
        kind = ["--format=gnu"] if form == "gnu" else ["--format=pax", f"--sparse-version={form}"]
        command = ["tar", "-C", tmp_path, "--sparse", *kind, "-cf", tmp_path / "gnu.tar", "sparse"]
        subprocess.run(command, check=True, timeout=60)
        return (tmp_path / "gnu.tar").read_bytes(), path.read_bytes()

    return make


@pytest.mark.parametrize("case", SPARSE)
@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files(read, gnu_sparse, form, case):
    data, expected = gnu_sparse(form, *SPARSE[case])
    (entry,) = read(data)
    content, offset = bytearray(entry.size), entry.offset
    for segment in entry.segments:
        content[segment.offset : segment.offset + segment.size] = data[offset : offset + segment.size]
        offset += segment.size
    assert entry.name == b"sparse"
    assert bytes(content) == expected


def _old_sparse(*, size=1000, stored=512, first=(0, 512), more=0):
    table = b"%011o\0%011o\0" % first
    return header(size=stored, kind=b"S", magic=b"ustar  \0", at386=table, at482=bytes([more]), at483=b"%011o\0" % size)


BROKEN = {
    "nothing at all": b"",
    "no tar": b"this is no archive" * 100,
    "half a header": header()[:300],
    "no end": header(),
    "no data": header(size=10_000) + b"x" * 600,
    "data beyond the end": header(size=2**40) + END,
    "extension without a member": pax(b"mtime=1") + END,
    "extension beyond the end": header(size=1000, kind=b"x") + b"x" * 10,
    "wrong checksum": header(b"file").replace(b"file", b"fime") + END,
    "checksum no number": header()[:148] + b"zzzzzz\0 " + header()[156:] + END,
    "unknown type": header(kind=b"N") + END,
    "another volume": header(kind=b"M", size=0) + END,
    "size no number": header(size=b"xyz") + END,
    "size not octal": header(size=b"00000000009") + END,
    "size below zero": header(size=b"\xff" * 12) + END,
    "identity below zero": header(at108=b"\xff" * 8) + END,
    "identity too large": pax(b"uid=4294967295") + header() + END,
    "time beyond all": header(mtime=b"\x80" + b"\x7f" * 11) + END,
    "time no number": pax(b"mtime=yesterday") + header() + END,
    "time endless": pax(b"mtime=" + b"9" * 30) + header() + END,
    "device too large": header(kind=b"3", at329=b"\x80\0\0\0\0\xff\xff\xff") + END,
    "pax size no number": pax(b"size=-5") + header() + END,
    "pax size beyond the end": pax(b"size=99999999999999") + header() + END,
    "pax without a length": header(size=9, kind=b"x") + padded(b"path=abc\n") + header() + END,
    "pax length zero": header(size=9, kind=b"x") + padded(b"0 path=a\n") + header() + END,
    "pax length negative": header(size=10, kind=b"x") + padded(b"-9 path=a\n") + header() + END,
    "pax length too long": header(size=10, kind=b"x") + padded(b"99 path=a\n") + header() + END,
    "pax without a keyword": pax(b"=value") + header() + END,
    "attribute no base64": pax(b"LIBARCHIVE.xattr.user.a=A") + header() + END,
    "list of nonsense": pax(b"SCHILY.acl.access=nonsense") + header() + END,
    "sparse map odd": pax(b"GNU.sparse.size=9", b"GNU.sparse.map=1") + header() + END,
    "sparse map overlaps": pax(b"GNU.sparse.size=999", b"GNU.sparse.map=0,300,200,212")
    + header(size=512)
    + bytes(1536),
    "sparse map too long": pax(b"GNU.sparse.size=9", b"GNU.sparse.map=0,512") + header(size=512) + bytes(1536),
    "sparse map too short": pax(b"GNU.sparse.size=999", b"GNU.sparse.map=0,5") + header(size=512) + bytes(1536),
    "sparse beyond all": pax(b"GNU.sparse.size=99999999999999", b"GNU.sparse.map=") + header() + END,
    "sparse map without end": pax(b"GNU.sparse.major=1", b"GNU.sparse.realsize=9") + header(size=512) + b"1" * 512,
    "sparse map cut off": pax(b"GNU.sparse.major=1", b"GNU.sparse.realsize=9") + header(size=512) + b"1" * 100 + END,
    "old sparse beyond": _old_sparse(size=100) + bytes(1536),
    "old sparse of nothing": _old_sparse(first=(0, 0)) + bytes(1536),
    "old sparse without end": _old_sparse(more=1) + b"\1" * 512,
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_refused(read, case):
    with pytest.raises(FormatError):
        read(BROKEN[case])


def test_extension_headers_have_a_limit(read, monkeypatch):
    with pytest.raises(FormatError, match="extension header of 1048577 bytes"):
        read(header(size=2**20 + 1, kind=b"x") + bytes(2**20 + 512) + header() + END)
    with pytest.raises(FormatError, match="global extension headers"):
        read(pax(b"a=" + b"x" * 600_000, kind=b"g") + pax(b"b=" + b"x" * 600_000, kind=b"g") + END)
    monkeypatch.setattr(tar_extensions, "_MAX_SEGMENTS", 1)
    with pytest.raises(FormatError, match="map of a sparse file is broken"):
        read(pax(b"GNU.sparse.size=9", b"GNU.sparse.map=0,0,1,0") + header() + END)


@pytest.mark.parametrize("segments", [[(0, 512)], [(5, 100), (500, 412)]])
def test_segments_that_are_in_order(segments):
    tar_extensions.check_segments([Segment(*pair) for pair in segments], 1000, 512)


def test_where_it_was_cut_off_makes_no_difference(read):
    whole = archive(member("a", b"x" * 700), member("b" * 150, b"y"), member("c"))
    # Behind the first block of zeros the archive is over.
    end = whole.index(bytes(512), 4096)
    for length in range(0, end - end % 512 + 1, 64):
        with pytest.raises(FormatError):
            read(whole[:length])
    assert len(read(whole)) == 3


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_damage_is_refused_or_harmless(read, data):
    whole = bytearray(
        archive(member("a", b"x" * 700), member("b" * 150, b"y"), member("l", type=tarfile.LNKTYPE, linkname="a"))
        + b"trailing"
    )
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(whole))
    except FormatError:
        return
    assert all(0 <= entry.offset <= entry.offset + entry.stored <= len(whole) for entry in found)


_names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0/"), min_size=1, max_size=120)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(
            _names, st.binary(max_size=1500), st.integers(0, 2**34), st.integers(0, 2**31), st.integers(0, 0o7777)
        ),
        max_size=6,
    ),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_whatever_is_written_is_read(read, files, form):
    entries = [
        member(name, data, mtime=mtime, uid=identity, gid=identity, mode=mode)
        for name, data, mtime, identity, mode in files
    ]
    whole = archive(*entries, form=form)
    found = [
        (
            entry.name,
            whole[entry.offset : entry.offset + entry.stored],
            entry.mtime_ns // 10**9,
            entry.uid,
            entry.mode & 0o7777,
        )
        for entry in read(whole)
    ]
    assert found == [(name.encode(), data, mtime, identity, mode) for name, data, mtime, identity, mode in files]
