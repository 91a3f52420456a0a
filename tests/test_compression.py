"""Compression both ways: vectors, bounds, damage, and that a foreign client never takes zstd bytes for a file."""

import contextlib
import os
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfs import compression
from cvfs.compression import ENCODERS, Compression, decode, decode_stream, encoder_named, holds
from cvfs.errors import CorruptObject, FormatError

zstandard = pytest.importorskip("zstandard")

MIB = 2**20
NOISE = random.Random(7).randbytes(300_000)
SAMPLES = {
    "empty": b"",
    "one byte": b"x",
    "text": b"hello world\n" * 1000,
    "zeros": bytes(MIB + 3),
    "noise": NOISE,
    "mixed": NOISE[:70_000] + bytes(400_000) + NOISE[:70_000],
}
NAMES = ("zlib", "zlib-fast", "zstd", "none")
COMPRESSED = ("zlib", "zlib-fast", "zstd")


def test_the_stored_forms_of_the_original():
    assert ENCODERS["zlib"].encode(b"hello world\n").hex() == "789ccb48cdc9c95728cf2fca49e102001e720467"
    assert ENCODERS["zlib"].encode(b"").hex() == "789c030000000001"
    assert ENCODERS["default"] is ENCODERS["zlib"]
    for content in SAMPLES.values():
        assert ENCODERS["zlib"].encode(content) == zlib.compress(content)


@pytest.mark.parametrize(("name", "code"), [("zlib", 0), ("zlib-fast", 0), ("none", 1), ("zstd", 2), ("default", 0)])
def test_codes(name, code):
    assert encoder_named(name).code == Compression(code) == code


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sample", SAMPLES)
def test_there_and_back(name, sample):
    encoder, content = ENCODERS[name], SAMPLES[sample]
    stored = encoder.encode(content)
    assert decode(stored, encoder.code, len(content)) == content


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sample", SAMPLES)
def test_whether_an_object_holds_so_many_bytes(name, sample):
    encoder, content = ENCODERS[name], SAMPLES[sample]
    stored, size = encoder.encode(content), len(content)
    # An empty zstd object, and one with a frame that is skipped, are left to the decoder.
    assert holds(bytearray(stored), encoder.code, size) is (name != "zstd" or (size > 0 and stored[-9:-8] != b"\x50"))
    damaged = {stored[:-1], stored + b"x", b"x" + stored} if name != "none" else {stored + b"x"}
    assert not any(holds(data, encoder.code, size) for data in damaged)
    assert not any(holds(stored, encoder.code, other) for other in (size + 1, size - 1, 2 * size + 7) if other >= 0)


@pytest.mark.parametrize("name", ["zlib", "zlib-fast", "zstd"])
def test_a_bomb_is_not_inflated_to_see_what_it_holds(name):
    stored = ENCODERS[name].encode(bytes(64 * MIB))
    tracemalloc.start()
    try:
        assert not holds(stored, ENCODERS[name].code, 1000)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("step", [1, 1000, MIB])
def test_pieces_of_any_size_there_and_back(name, sample, step):
    content = SAMPLES[sample][: 30_000 * step]
    compressor = ENCODERS[name].start()
    pieces = [compressor.compress(memoryview(content)[at : at + step]) for at in range(0, len(content), step)]
    stored = b"".join([*pieces, compressor.flush()])
    halves = [bytes(stored[at : at + step]) for at in range(0, len(stored), step)]
    assert b"".join(decode_stream(halves, ENCODERS[name].code, len(content))) == content


@given(st.binary(max_size=3000), st.sampled_from(NAMES))
def test_any_bytes_there_and_back(content, name):
    stored = ENCODERS[name].encode(content)
    assert decode(stored, ENCODERS[name].code, len(content)) == content


def test_fast_deflate_is_plain_zlib_to_every_reader():
    for content in SAMPLES.values():
        assert zlib.decompress(ENCODERS["zlib-fast"].encode(content)) == content


@pytest.mark.parametrize("level", range(10))
def test_every_level_is_read(level):
    stored = zlib.compress(SAMPLES["mixed"], level)
    assert decode(stored, Compression.ZLIB, len(SAMPLES["mixed"])) == SAMPLES["mixed"]


def _plain_frame(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=compression.ZSTD_LEVEL).compress(content)


def _plain_frame_of_a_stream(content: bytes) -> bytes:
    frame = zstandard.ZstdCompressor(level=compression.ZSTD_LEVEL).compressobj()
    return frame.compress(content) + frame.flush()


def _in_pieces(content: bytes) -> bytes:
    compressor = ENCODERS["zstd"].start()
    return compressor.compress(content) + compressor.flush()


@pytest.mark.parametrize(
    ("plain", "encode"), [(_plain_frame, ENCODERS["zstd"].encode), (_plain_frame_of_a_stream, _in_pieces)]
)
def test_a_zstd_object_never_has_the_length_of_its_content(plain, encode):
    """Text and noise in such a ratio that a plain zstd frame has exactly the length of its content."""
    contents = (b"a" * text + NOISE[:400] for text in range(200))
    content = next(content for content in contents if len(plain(content)) == len(content))
    stored = encode(content)
    assert len(stored) == len(content) + 8
    assert decode(stored, Compression.ZSTD, len(content)) == content


@given(st.integers(0, 200), st.integers(0, 2000))
def test_no_zstd_object_has_the_length_of_its_content(text, noise):
    content = b"a" * text + NOISE[:noise]
    assert len(ENCODERS["zstd"].encode(content)) != len(content)


def test_zstd_frames_and_skippable_frames_may_follow_each_other():
    encode = zstandard.ZstdCompressor().compress
    skippable = b"\x5f\x2a\x4d\x18\x03\0\0\0abc"
    stored = skippable + encode(b"one") + skippable + encode(b"two")
    assert decode(stored, Compression.ZSTD, 6) == b"onetwo"


@pytest.mark.parametrize("name", NAMES)
def test_one_byte_too_many_is_refused(name):
    content = SAMPLES["mixed"]
    stored = ENCODERS[name].encode(content)
    with pytest.raises(CorruptObject, match="more than"):
        decode(stored, ENCODERS[name].code, len(content) - 1)


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_bomb_is_not_inflated(name):
    """Sixty-four MiB in a small object: the decoder stops soon after the limit."""
    compressor = ENCODERS[name].start()
    stored = b"".join([*(compressor.compress(bytes(MIB)) for _ in range(64)), compressor.flush()])
    produced = []
    with pytest.raises(CorruptObject, match="more than 1000 bytes"):
        produced.extend(len(piece) for piece in decode_stream([stored], ENCODERS[name].code, 1000))
    assert sum(produced) <= 1000


def test_a_piece_is_never_much_larger_than_a_block():
    stored = ENCODERS["zlib"].encode(bytes(8 * MIB))
    assert max(len(piece) for piece in decode_stream([stored], Compression.ZLIB, 8 * MIB)) <= 256 * 1024


@pytest.mark.parametrize("name", COMPRESSED)
def test_every_truncation_is_found(name):
    content = SAMPLES["text"] + NOISE[:50]
    stored = ENCODERS[name].encode(content)
    for length in range(len(stored)):
        with pytest.raises(CorruptObject):
            decode(stored[:length], ENCODERS[name].code, len(content))


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("rest", [b"\0", b"x" * 5000])
def test_bytes_behind_the_end_are_refused(name, rest):
    stored = ENCODERS[name].encode(b"content")
    for pieces in ([stored + rest], [stored, rest]):
        with pytest.raises(CorruptObject):
            b"".join(decode_stream(pieces, ENCODERS[name].code, 2 * MIB))


def test_a_second_zlib_stream_is_refused():
    with pytest.raises(CorruptObject, match="behind the end"):
        decode(zlib.compress(b"one") + zlib.compress(b"two"), Compression.ZLIB, 100)


def test_empty_pieces_do_not_matter():
    stored = zlib.compress(b"content")
    assert b"".join(decode_stream([b"", stored[:3], b"", stored[3:], b""], Compression.ZLIB, 7)) == b"content"


def test_every_flipped_bit_of_a_zlib_stream_is_found_or_harmless():
    """Adler-32 and the header's check find it; a few bits of the header mean nothing to a decoder."""
    content = b"some content that is long enough to be compressed, compressed, compressed"
    stored = zlib.compress(content)
    for bit in range(8 * len(stored)):
        damaged = bytearray(stored)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            result = decode(damaged, Compression.ZLIB, 10 * len(content))
        except CorruptObject:
            continue
        assert result == content


@given(st.binary(max_size=300), st.sampled_from([Compression.ZLIB, Compression.ZSTD]))
def test_any_bytes_decode_or_are_corrupt(data, code):
    with contextlib.suppress(CorruptObject):
        assert len(decode(data, code, 1000)) <= 1000


def test_the_memory_of_a_hostile_zstd_frame_is_bounded():
    """A frame may ask its decoder for a window of gigabytes."""
    huge_window = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([21 << 3]) + b"\x01\x00\x00"
    with pytest.raises(CorruptObject):
        decode(huge_window, Compression.ZSTD, 1000)


def test_unknown_names_are_refused():
    with pytest.raises(FormatError, match="zlib, zlib-fast, zstd or none"):
        encoder_named("lzma")


def test_without_the_zstd_extra_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(compression, "zstandard", None)
    with pytest.raises(FormatError, match="pip install"):
        encoder_named("zstd")
    with pytest.raises(FormatError, match="pip install"):
        decode(b"x", Compression.ZSTD, 1)
    assert encoder_named("zlib").encode(b"") == zlib.compress(b"")


def test_decoding_is_lazy():
    def pieces():
        yield zlib.compress(os.urandom(10_000))[:5000]
        raise RuntimeError("asked for more than was needed")

    stream = decode_stream(pieces(), Compression.ZLIB, 10_000)
    assert next(stream)
