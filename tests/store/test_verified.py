"""Bytes are believed only once their hash is known: what is refused, what is asked for again, where they wait."""

import contextlib
import errno
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfs.compression import ENCODERS, Compression
from cvfs.errors import CorruptObject, MissingObject, StoreFull, Unreachable
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.store import verified as module
from cvfs.store.base import Wanted
from cvfs.store.local import LocalStore
from cvfs.store.memory import MemoryStore
from cvfs.store.verified import MemoryBudget, Verified, stored_limit


class Scripted:
    """A store whose n-th answer is the n-th list of pieces and errors; the last one is repeated."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def fetch(self, path, *, fresh=0, span=None, patience=None):
        self.asked.append(fresh)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        for piece in answer:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def _read(store, wanted, **options):
    return b"".join(Verified(store, **options).read(wanted))


def _flip(data, bit=77):
    place = bit // 8 % len(data)
    return data[:place] + bytes([data[place] ^ 1 << bit % 8]) + data[place + 1 :]


@pytest.fixture
def text(stored):
    return stored(b"some text\n" * 200)


CONTENT = b"some text\n" * 200


@pytest.mark.parametrize("bad", [1, 2])
def test_bad_copies_are_asked_for_again_with_more_doubt_each_time(text, bad):
    wanted, data = text
    store = Scripted(*[[_flip(data)]] * bad, [data])
    assert _read(store, wanted) == CONTENT
    assert store.asked == list(range(bad + 1))


def test_three_bad_copies_are_corrupt(text):
    wanted, data = text
    store = Scripted([_flip(data)])
    with pytest.raises(CorruptObject, match=f"{wanted.path}.*hash"):
        _read(store, wanted)
    assert store.asked == [0, 1, 2]


def test_a_broken_stream_is_the_stores_to_mend(text):
    wanted, data = text
    store = Scripted([data[:10], Unreachable("cut")], [data])
    with pytest.raises(Unreachable, match="cut"):
        _read(store, wanted)
    assert store.asked == [0]


@pytest.mark.parametrize("error", [Unreachable("down"), MissingObject("nowhere")])
def test_no_answer_is_not_repeated_here(text, error):
    store = Scripted([error])
    with pytest.raises(type(error)):
        _read(store, text[0])
    assert store.asked == [False]


def test_a_broken_stream_goes_on_at_the_next_server(text, over):
    wanted, data = text
    first, second = Scripted([data[:10], Unreachable("cut")]), Scripted([data])
    assert _read(over([first, second]), wanted) == CONTENT
    assert (len(first.asked), len(second.asked)) == (1, 1)


@given(content=st.binary(max_size=300), encoder=st.sampled_from(sorted(ENCODERS)), bit=st.integers(min_value=0))
def test_any_flipped_bit_is_found(content, encoder, bit):
    data = ENCODERS[encoder].encode(content)
    wanted = Wanted(ContentHash.of(data, Algorithm.SHA1), ENCODERS[encoder].code, len(content))
    assert _read(Scripted([data]), wanted) == content
    for damaged in filter(None, [_flip(data, bit) if data else b"x", data[:-1] or b"x", data + b"\0"]):
        with pytest.raises(CorruptObject):
            _read(Scripted([damaged]), wanted)


def test_no_decoder_sees_unverified_bytes(text, monkeypatch):
    wanted, data = text
    monkeypatch.setattr(module, "decode_stream", lambda *_: pytest.fail("a decoder was started"))
    with pytest.raises(CorruptObject):
        _read(Scripted([_flip(data)]), wanted)


def test_right_bytes_that_do_not_decode_are_not_asked_for_again():
    data = b"this is no zlib stream"
    store = Scripted([data])
    with pytest.raises(CorruptObject, match="data/"):
        _read(store, Wanted(ContentHash.of(data, Algorithm.SHA1)))
    assert store.asked == [False]


def test_a_bomb_is_refused_at_the_announced_length(stored):
    wanted, data = stored(bytes(4_000_000))
    small = Wanted(wanted.content, wanted.compression, 1000)
    seen = []
    with pytest.raises(CorruptObject, match="more than 1000"):
        seen.extend(Verified(Scripted([data])).read(small))
    assert len(b"".join(seen)) <= 1000


@pytest.mark.parametrize(
    ("size", "code", "span", "limit"),
    [
        (0, Compression.ZLIB, None, 4096),
        (8000, Compression.ZLIB, None, 13096),
        (8000, Compression.NONE, None, 8000),
        (8000, Compression.NONE, (16, 100), 100),
    ],
)
def test_an_endless_object_is_cut_off(size, code, span, limit):
    def endless():
        while True:
            taken.append(1000)
            yield bytes(1000)

    taken = []
    wanted = Wanted(ContentHash.of(b"", Algorithm.SHA1), code, size, span=span)
    assert stored_limit(wanted) == limit
    store = Scripted([])
    store.fetch = lambda *_, **__: endless()
    with pytest.raises(CorruptObject, match="longer than"):
        _read(store, wanted)
    assert sum(taken) <= 3 * (limit + 1000)


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
@pytest.mark.parametrize("length", [0, 1, 1000, 200_000])
def test_honest_objects_stay_below_the_limit(stored, encoder, length):
    wanted, data = stored(os.urandom(length), encoder)
    assert len(data) <= stored_limit(wanted)


def _pieces(data, length=1000):
    return [data[start : start + length] for start in range(0, len(data), length)]


@pytest.mark.parametrize("memory", [0, 1, 999, 1000, 49_999, 10**6])
def test_bytes_wait_in_memory_and_then_in_a_file(stored, tmp_path, memory):
    content = os.urandom(50_000)
    wanted, data = stored(content, "none")
    assert _read(Scripted(_pieces(data)), wanted, directory=str(tmp_path), memory=memory) == content
    assert os.listdir(tmp_path) == []


def _held_below(directory):
    """Open files below the directory, those without a name included."""
    links = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{number}"))
    return [link for link in links if link.startswith(str(directory))]


@pytest.mark.parametrize("answer", ["good", "flipped", "cut"])
def test_no_descriptor_is_left_behind(stored, tmp_path, answer):
    wanted, data = stored(os.urandom(50_000), "none")
    pieces = {"good": _pieces(data), "flipped": _pieces(_flip(data)), "cut": [*_pieces(data)[:30], Unreachable("cut")]}
    try:
        _read(Scripted(pieces[answer]), wanted, directory=str(tmp_path), memory=10_000)
    except (CorruptObject, Unreachable):
        assert answer != "good"
    assert _held_below(tmp_path) == []


def test_a_reader_that_gives_up_leaves_no_descriptor(stored, tmp_path):
    wanted, data = stored(os.urandom(50_000), "none")
    reading = Verified(MemoryStore({wanted.path: data}), str(tmp_path), 0).read(wanted)
    next(reading)
    assert len(_held_below(tmp_path)) == 1
    reading.close()
    assert _held_below(tmp_path) == []


def test_all_objects_on_their_way_share_one_budget_of_memory(stored, tmp_path):
    budget = MemoryBudget(60_000)
    wanted, data = stored(os.urandom(50_000), "none")
    verified = Verified(Scripted(*[_pieces(data)] * 3), str(tmp_path), budget=budget)
    readings = [verified.read(wanted) for _ in range(3)]
    pieces = [[next(reading)] for reading in readings]
    # The first has all it needs, the second what was left; the third goes to the disk.
    assert len(_held_below(tmp_path)) == 2
    assert 0 <= budget.left < 20_000
    for reading, piece in zip(readings[1:], pieces[1:], strict=True):
        assert b"".join([*piece, *reading]) == data
    readings[0].close()
    assert budget.left == 60_000
    assert _held_below(tmp_path) == []


@pytest.mark.parametrize("answer", ["flipped", "cut"])
def test_a_failure_gives_its_memory_back(stored, answer):
    budget = MemoryBudget(10_000)
    wanted, data = stored(os.urandom(50_000), "none")
    pieces = {"flipped": _pieces(_flip(data)), "cut": [*_pieces(data)[:30], Unreachable("cut")]}[answer]
    with pytest.raises((CorruptObject, Unreachable)):
        list(Verified(Scripted(pieces, pieces), budget=budget).read(wanted))
    assert budget.left == 10_000


def test_a_full_disk_on_the_way_is_made_up_for_by_memory(stored, tmp_path, monkeypatch):
    content = os.urandom(50_000)
    wanted, data = stored(content, "none")
    write, room = os.pwrite, [20_000]

    def full(descriptor, piece, offset):
        if "memfd" not in os.readlink(f"/proc/self/fd/{descriptor}"):
            if room[0] < len(piece):
                raise OSError(errno.ENOSPC, "No space left on device")
            room[0] -= len(piece)
        return write(descriptor, piece, offset)

    monkeypatch.setattr(os, "pwrite", full)
    assert _read(Scripted(_pieces(data)), wanted, directory=str(tmp_path), memory=0) == content
    assert room[0] < 1000


def test_where_nothing_holds_the_bytes_it_is_told(stored, monkeypatch):
    wanted, data = stored(os.urandom(50_000), "none")

    def full(*_):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreFull, match="no room"):
        _read(Scripted(_pieces(data)), wanted, memory=0)


def test_nothing_is_asked_for_before_it_is_needed(text):
    store = Scripted([text[1]])
    Verified(store).read(text[0])
    assert store.asked == []


@pytest.mark.parametrize("letter", ["", "P", "C", "H", "X", "M"])
def test_objects_of_the_original_tools(fixture_repository, letter):
    storage = fixture_repository("tiny.example.org").storage
    store = Verified(LocalStore(str(storage)))
    paths = [path for path in sorted((storage / "data").glob("??/*")) if path.name[38:] == letter][:50]
    wanted = [Wanted(ContentHash.parse(path.parent.name + path.name[:38], ObjectKind(letter))) for path in paths]
    assert wanted
    for one in wanted:
        stored = (storage / one.path).read_bytes()
        # Some files of that repository are stored without compression.
        code = Compression.ZLIB if stored[:1] == b"\x78" else Compression.NONE
        content = b"".join(store.read(Wanted(one.content, code)))
        assert content == (zlib.decompress(stored) if code is Compression.ZLIB else stored)
