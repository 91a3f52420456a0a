"""Cut marks: the published vectors, and a literal reading of the rule as a witness."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfs.chunking import ChunkSizes, Cutter, cut
from cvfs.errors import UsageError

KIB, MIB = 2**10, 2**20


def generated(length: int, seed: int = 42) -> bytes:
    """The byte stream of FORMAT appendix C."""
    state, out = seed, bytearray(length)
    for index in range(length):
        state = (state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        out[index] = int(float(state) * 256 / 2**64) % 256
    return bytes(out)


@pytest.fixture(scope="module")
def stream() -> bytes:
    return generated(4300000)


def cut_by_the_letter(data: bytes, sizes: ChunkSizes) -> list[int]:
    """FORMAT section 4.5 transcribed, byte by byte."""
    cuts, last, threshold = [], 0, 0xFFFFFFFF // sizes.average
    while (at := next_by_the_letter(data, last, sizes, threshold)) < len(data):
        cuts.append(at)
        last = at
    return cuts


def next_by_the_letter(data: bytes, last: int, sizes: ChunkSizes, threshold: int) -> int:
    x = 0
    for i in range(last + sizes.minimum - 32, min(last + sizes.maximum, len(data))):
        x = ((x << 1) ^ data[i]) & 0xFFFFFFFF
        difference = (x - 0x7FFFFFFF) & 0xFFFFFFFF
        if difference >= 2**31:
            difference -= 2**32
        # The absolute value of the smallest number stays negative in 32 bits.
        near = difference == -(2**31) or abs(difference) < threshold
        if near and i >= last + sizes.minimum:
            return i
    return last + sizes.maximum


def test_the_stream_of_the_vectors(stream):
    assert stream[:16].hex() == "913969a1ae06052779065b87eb53cb64"
    assert hashlib.sha1(stream[:MIB]).hexdigest() == "a095143fa98c447f32ab567bae81ac820b3b0a87"


def test_vector_with_a_hard_cut(stream):
    assert cut(stream, ChunkSizes(512000, 1024000, 2048000)) == [742752, 2790752, 3521796, 4188893]


@pytest.mark.slow
def test_vector_with_the_default_sizes():
    assert cut(generated(48 * MIB), ChunkSizes()) == [9159233, 15364830, 22557049, 27763062, 36410687, 49303250]


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 99, 100, 101])
def test_no_cut_up_to_the_minimum(length):
    assert cut(b"\1" * length, ChunkSizes(100, 200, 400)) == ([100] if length > 100 else [])


@pytest.mark.parametrize("byte", range(256))
def test_constant_fill(byte):
    sizes = ChunkSizes(300, 700, 1000)
    step = 300 if byte == 1 else 1000
    assert cut(bytes([byte]) * 10000, sizes) == list(range(step, 10000, step))


@pytest.mark.parametrize("length", [1999, 2000, 2001])
def test_a_cut_at_the_end_of_the_file_is_dropped(length):
    assert cut(bytes(length), ChunkSizes(100, 200, 1000)) == ([1000, 2000] if length > 2000 else [1000])


SIZES = st.sampled_from(
    [
        ChunkSizes(32, 33, 34),
        ChunkSizes(32, 64, 100),
        ChunkSizes(64, 128, 4096),
        ChunkSizes(100, 1000, 5000),
        ChunkSizes(1024, 65536, 100000),
        ChunkSizes(33, 2**26, 2**27),
        ChunkSizes(33, 2**32 - 3, 2**32 - 2),
    ]
)


@st.composite
def near_hits(draw: st.DrawFn) -> bytes:
    """Data made to hit the rule or to miss it narrowly: short periods, long runs of 1, and windows solved for a value."""
    pieces = st.one_of(
        st.binary(max_size=200),
        st.builds(lambda byte, n: bytes([byte]) * n, st.sampled_from([0, 1, 2, 127, 254, 255]), st.integers(0, 300)),
        st.builds(lambda period, n: period * n, st.binary(min_size=1, max_size=40), st.integers(1, 40)),
        st.builds(window_for, st.integers(0x80000000 - 700, 0x80000000 + 700), st.binary(min_size=32, max_size=32)),
        st.builds(window_for, st.integers(0xFFFFFFFF - 200, 0xFFFFFFFF), st.binary(min_size=32, max_size=32)),
    )
    return b"".join(draw(st.lists(pieces, max_size=12)))


def window_for(value: int, noise: bytes) -> bytes:
    """Thirty-two bytes whose rolling value is exactly `value`: the lowest bits of the bytes correct the noise."""
    window = bytearray(noise)
    for bit in range(32):
        x = 0
        for byte in window:
            x = (x << 1) ^ byte
        if (x ^ value) >> bit & 1:
            window[31 - bit] ^= 1
    return bytes(window)


def test_a_solved_window_cuts_where_its_value_says():
    # The byte before a value of ones always hits too: it must lie before the minimum.
    sizes = ChunkSizes(101, 8 * MIB, 16 * MIB)
    edge = sizes.threshold
    assert edge == 511
    hits = {0x7FFFFFFF - edge + 1, 0x7FFFFFFF, 0x80000000, 0x7FFFFFFF + edge - 1, 0xFFFFFFFF}
    misses = {0x7FFFFFFF - edge, 0x7FFFFFFF + edge, 0xFFFFFFFE, 0}
    for value in hits | misses:
        data = bytes(70) + window_for(value, generated(32)) + b"tail"
        assert (101 in cut(data, sizes)) == (value in hits), hex(value)
        assert cut(data, sizes) == cut_by_the_letter(data, sizes)


@given(near_hits(), SIZES)
def test_equals_the_rule_read_by_the_letter(data, sizes):
    assert cut(data, sizes) == cut_by_the_letter(data, sizes)


@pytest.mark.parametrize("sizes", [(64, 128, 4096), (500, 3000, 20000), (16 * KIB, 32 * KIB, 64 * KIB)])
def test_equals_the_rule_over_many_blocks(stream, sizes):
    data = stream[: 300 * KIB] + b"\1" * 70000 + bytes(70000) + b"ab" * 5000
    assert cut(data, ChunkSizes(*sizes)) == cut_by_the_letter(data, ChunkSizes(*sizes))


@given(near_hits(), SIZES, st.lists(st.integers(0, 400), max_size=30))
def test_pieces_do_not_matter(data, sizes, lengths):
    cutter, cuts, start = Cutter(sizes), [], 0
    for length in [*lengths, len(data)]:
        piece = data[start : start + length]
        found = cutter.feed(memoryview(piece))
        assert all(start <= at < start + len(piece) for at in found)
        cuts += found
        start += len(piece)
    assert cuts == cut(data, sizes)


@pytest.mark.parametrize("sizes", [(31, 40, 50), (32, 32, 50), (40, 50, 50), (32, 33, 2**32), (-1, 5, 9)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(UsageError, match="chunk sizes"):
        ChunkSizes(*sizes)


def test_the_defaults_are_those_of_the_original():
    assert ChunkSizes() == ChunkSizes(4194304, 8388608, 16777216)
