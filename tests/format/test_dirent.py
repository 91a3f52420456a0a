"""Rows of a catalog: flags, hard links, codes, hashes (FORMAT sections 5.2, 5.4 to 5.6)."""

import stat

import pytest

from cvfs.compression import Compression
from cvfs.errors import FormatError
from cvfs.format.dirent import Chunk, DirectoryEntry, Flag, content_flags, pack_hardlinks, type_flags
from cvfs.hashes import Algorithm, ContentHash, ObjectKind


def row(**changes) -> DirectoryEntry:
    return DirectoryEntry(b"name", 0o100644, 3, 1700000000, None, 0, 0, 1, b"\1" * 20, 4)._replace(**changes)


@pytest.mark.parametrize(
    ("mode", "flags"),
    [
        (stat.S_IFDIR | 0o755, 0x1),
        (stat.S_IFREG | 0o644, 0x4),
        (stat.S_IFLNK | 0o777, 0xC),
        (stat.S_IFIFO | 0o644, 0x14),
        (stat.S_IFSOCK | 0o644, 0x14),
        (stat.S_IFCHR | 0o644, 0x14),
        (stat.S_IFBLK | 0o644, 0x14),
    ],
)
def test_the_type_bits_follow_from_the_mode(mode, flags):
    assert type_flags(mode) == flags


PREDICATES = {
    "is_mountpoint": 0x2,
    "is_nested_root": 0x20,
    "is_chunked": 0x40,
    "is_external": 0x80,
    "is_bind_mountpoint": 0x4000,
    "is_hidden": 0x8000,
    "is_direct_io": 0x10000,
}


@pytest.mark.parametrize(("predicate", "bit"), PREDICATES.items())
def test_each_predicate_is_one_bit(predicate, bit):
    assert getattr(row(flags=bit), predicate) is True
    assert getattr(row(flags=0x1FFFF & ~bit), predicate) is False


@pytest.mark.parametrize(
    ("predicate", "modes"),
    [
        ("is_directory", {stat.S_IFDIR}),
        ("is_regular", {stat.S_IFREG}),
        ("is_link", {stat.S_IFLNK}),
        ("is_device", {stat.S_IFBLK, stat.S_IFCHR}),
    ],
)
def test_the_type_comes_from_the_mode_whatever_the_flags_say(predicate, modes):
    every = (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)
    for mode in every:
        assert getattr(row(mode=mode | 0o644, flags=0x1F), predicate) is (mode in modes)


@pytest.mark.parametrize(
    ("group", "count", "packed"),
    [(0, 1, 1), (5, 3, 21474836483), (1, 2, 4294967298), (2**31 - 1, 7, 2**63 - 2**32 + 7)],
)
def test_hard_links_pack_and_unpack(group, count, packed):
    assert pack_hardlinks(group, count) == packed
    assert row(hardlinks=packed).hardlink_group == group
    assert row(hardlinks=packed).linkcount == count


def test_no_link_count_means_one():
    assert row(hardlinks=0).linkcount == 1
    assert row(hardlinks=5 << 32).linkcount == 1


@pytest.mark.parametrize(
    ("algorithm", "compression", "flags"),
    [
        (Algorithm.SHA1, Compression.ZLIB, 0x0),
        (Algorithm.RMD160, Compression.ZLIB, 0x100),
        (Algorithm.SHAKE128, Compression.NONE, 0xA00),
        (Algorithm.SHA1, Compression.ZSTD, 0x1000),
    ],
)
def test_codes_of_hash_and_compression(algorithm, compression, flags):
    assert content_flags(algorithm, compression) == flags
    entry = row(flags=flags | Flag.FILE | Flag.HIDDEN | Flag.EXTERNAL | Flag.CHUNKED)
    assert (entry.algorithm, entry.compression) == (algorithm, compression)


@pytest.mark.parametrize("code", range(3, 8))
def test_unknown_codes_are_refused(code):
    with pytest.raises(FormatError, match=f"algorithm code {code}"):
        row(flags=code << 8).algorithm
    with pytest.raises(FormatError, match=f"compression code {code}"):
        row(flags=code << 11).compression
    with pytest.raises(FormatError):
        row(flags=code << 8).content


def test_the_content_hash_has_the_algorithm_of_the_flags():
    content = row(flags=0xA04).content
    assert content == ContentHash(Algorithm.SHAKE128, b"\1" * 20, ObjectKind.FILE)
    piece = Chunk(0, 3, b"\2" * 20).content(row(flags=0xA44))
    assert piece == ContentHash(Algorithm.SHAKE128, b"\2" * 20, ObjectKind.CHUNK)


def test_no_digest_means_no_whole_file_object():
    assert row(digest=None).content is None
    assert row(digest=b"").content is None


@pytest.mark.parametrize("length", [1, 19, 21, 40])
def test_digests_of_another_length_are_refused(length):
    with pytest.raises(FormatError, match=f"{length} bytes"):
        row(digest=b"x" * length).content
    with pytest.raises(FormatError, match=f"{length} bytes"):
        Chunk(0, 1, b"x" * length).content(row())


def test_a_chunk_needs_a_digest():
    with pytest.raises(FormatError):
        Chunk(0, 1, b"").content(row())
