import pytest

from cvfs.compression import Compression
from cvfs.errors import CorruptObject, MissingObject, Unreachable
from cvfs.hashes import Algorithm, ContentHash
from cvfs.store.base import Wanted
from cvfs.store.failover import Failover
from cvfs.store.memory import MemoryStore
from cvfs.store.verified import Verified


class Scripted:
    """A store that plays a list of answers: pieces, or an error in their place."""

    def __init__(self, *pieces):
        self.pieces = pieces
        self.asked = []

    def fetch(self, path, *, fresh=False, span=None):
        self.asked.append((path, fresh, span))
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def has(self, path):
        self.asked.append(path)
        if isinstance(self.pieces[0], Exception):
            raise self.pieces[0]
        return True


def _down():
    return Scripted(Unreachable("down"))


def test_unreachable_moves_on_and_stays_there():
    first, second = _down(), Scripted(b"x")
    store = Failover([first, second])
    assert [b"".join(store.fetch("a")) for _ in range(3)] == [b"x"] * 3
    assert (len(first.asked), len(second.asked)) == (1, 3)


def test_missing_asks_the_next_for_this_request_alone():
    first, second = MemoryStore({"a": b"1"}), MemoryStore({"a": b"2", "b": b"2"})
    store = Failover([first, second])
    assert b"".join(store.fetch("b")) == b"2"
    assert b"".join(store.fetch("a")) == b"1"


def test_missing_everywhere_is_missing():
    store = Failover([MemoryStore({}), MemoryStore({})])
    with pytest.raises(MissingObject):
        list(store.fetch("a"))
    assert not store.has("a")


@pytest.mark.parametrize("stores", [(_down(), MemoryStore({})), (MemoryStore({}), _down())])
def test_nothing_is_missing_while_a_store_is_out_of_reach(stores):
    with pytest.raises(Unreachable, match="down"):
        list(Failover(stores).fetch("a"))
    with pytest.raises(Unreachable, match="down"):
        Failover(stores).has("a")


def test_begins_anew_with_the_first_when_all_have_failed():
    first, second = _down(), _down()
    store = Failover([first, second])
    for _ in range(2):
        with pytest.raises(Unreachable):
            list(store.fetch("a"))
    assert (len(first.asked), len(second.asked)) == (2, 2)


def test_a_stream_that_breaks_in_the_middle_is_the_askers_to_repeat():
    first, second = Scripted(b"1", Unreachable("cut")), Scripted(b"1", b"2")
    store = Failover([first, second])
    stream = store.fetch("a")
    assert next(stream) == b"1"
    with pytest.raises(Unreachable, match="cut"):
        next(stream)
    assert b"".join(store.fetch("a")) == b"12"
    assert len(first.asked) == 1


def test_two_streams_that_break_on_one_store_move_on_once():
    stores = [Scripted(b"1", Unreachable("cut")), Scripted(b"2"), Scripted(b"3")]
    store = Failover(stores)
    streams = [store.fetch("a"), store.fetch("a")]
    for stream in streams:
        next(stream)
    for stream in streams:
        with pytest.raises(Unreachable):
            next(stream)
    assert b"".join(store.fetch("a")) == b"2"


def test_passes_on_how_to_ask():
    inner = Scripted(b"x")
    list(Failover([inner]).fetch("a", fresh=True, span=(3, 1)))
    assert inner.asked == [("a", True, (3, 1))]


def test_a_fresh_copy_comes_from_another_store_for_this_request_alone():
    stores = [MemoryStore({"a": b"bad", "b": b"1"}), MemoryStore({"a": b"good", "b": b"2"})]
    store = Failover(stores)
    assert b"".join(store.fetch("a", fresh=True)) == b"good"
    assert b"".join(store.fetch("b")) == b"1"


def test_a_fresh_copy_that_only_one_store_has_comes_from_there():
    store = Failover([MemoryStore({"a": b"1"}), MemoryStore({})])
    assert b"".join(store.fetch("a", fresh=True)) == b"1"


def test_a_corrupt_copy_on_one_server_costs_nothing_but_a_request():
    data = b"content"
    content = ContentHash.of(data, Algorithm.SHA1)
    bad, good = MemoryStore({content.path: b"kontent"}), MemoryStore({content.path: data})
    wanted = Wanted(content, Compression.NONE, len(data))
    assert b"".join(Verified(Failover([bad, good])).read(wanted)) == data
    with pytest.raises(CorruptObject):
        list(Verified(Failover([bad, bad])).read(wanted))


def test_an_empty_file_is_an_answer():
    assert list(Failover([MemoryStore({"a": b""}), MemoryStore({"a": b"other"})]).fetch("a")) == []
