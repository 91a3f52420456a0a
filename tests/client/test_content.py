"""Which objects hold which bytes of a file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfs.client.content import Piece, chunked, pieces_between, whole
from cvfs.compression import Compression
from cvfs.errors import FormatError
from cvfs.format.dirent import Chunk, Flag, content_flags
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.store.base import Wanted


def digest(number: int) -> bytes:
    return number.to_bytes(20)


def test_a_whole_file_is_one_piece(row):
    entry = row(b"f", size=7)
    wanted = Wanted(ContentHash(Algorithm.SHA1, entry.digest), Compression.ZLIB, 7)
    assert whole(b"/d/f", entry) == Piece(0, 7, wanted)


@pytest.mark.parametrize("missing", [None, b""])
def test_a_row_without_a_hash_is_refused(row, missing):
    with pytest.raises(FormatError, match="/d/f: the catalog names no object"):
        whole(b"/d/f", row(b"f", digest=missing))


def test_an_external_file_is_fetched_by_its_path(row):
    entry = row(b"f", size=7)
    piece = whole(b"/d/a b#", entry._replace(flags=entry.flags | Flag.EXTERNAL))
    assert piece.wanted.path == "d/a%20b%23"
    assert piece.wanted.content.digest == entry.digest


def test_external_chunks_are_uncompressed_ranges(row):
    entry = row(b"f", size=30)
    entry = entry._replace(flags=entry.flags | Flag.EXTERNAL | Flag.CHUNKED)
    pieces = chunked(b"/d/f", entry, [Chunk(0, 10, digest(1)), Chunk(10, 20, digest(2))])
    assert [piece.wanted.span for piece in pieces] == [(0, 10), (10, 20)]
    assert {piece.wanted.path for piece in pieces} == {"d/f"}
    assert {piece.wanted.compression for piece in pieces} == {Compression.NONE}


def test_chunks_have_the_file_s_algorithm_and_compression(row):
    entry = row(b"f", size=30)
    entry = entry._replace(flags=int(Flag.FILE | Flag.CHUNKED) | content_flags(Algorithm.SHAKE128, Compression.NONE))
    first, second = chunked(b"/f", entry, [Chunk(0, 10, digest(1)), Chunk(10, 20, digest(2))])
    assert first.wanted == Wanted(ContentHash(Algorithm.SHAKE128, digest(1), ObjectKind.CHUNK), Compression.NONE, 10)
    assert (second.offset, second.size) == (10, 20)


@pytest.mark.parametrize(
    "extents",
    [
        [],
        [(0, 29)],
        [(0, 31)],
        [(1, 29)],
        [(0, 10), (11, 19)],
        [(0, 10), (9, 21)],
        [(0, 10), (10, -1), (9, 21)],
        [(0, 10), (0, 10), (20, 10)],
        [(0, 30), (30, 1)],
    ],
)
def test_chunks_that_do_not_make_up_the_file_are_refused(row, extents):
    chunks = [Chunk(offset, size, digest(n)) for n, (offset, size) in enumerate(extents)]
    with pytest.raises(FormatError, match="/f: chunks"):
        chunked(b"/f", row(b"f", size=30), chunks)


def test_a_chunk_with_a_cut_digest_is_refused(row):
    with pytest.raises(FormatError, match="hash of 19 bytes"):
        chunked(b"/f", row(b"f", size=3), [Chunk(0, 3, digest(1)[1:])])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.data())
def test_pieces_between_hold_exactly_the_bytes_asked_for(sizes, data):
    pieces, position = [], 0
    for number, size in enumerate(sizes):
        pieces.append(Piece(position, size, Wanted(ContentHash(Algorithm.SHA1, digest(number)))))
        position += size
    if position == 0:
        return
    start = data.draw(st.integers(0, position - 1))
    end = data.draw(st.integers(start + 1, position))
    found = [
        byte for piece in pieces_between(pieces, start, end) for byte in range(piece.offset, piece.offset + piece.size)
    ]
    assert set(range(start, end)) <= set(found)
    assert len(found) == len(set(found))
    # Nothing is opened in vain: each piece that is not empty has a byte of the range.
    assert all(
        piece.offset < end and piece.offset + piece.size > start
        for piece in pieces_between(pieces, start, end)
        if piece.size
    )
