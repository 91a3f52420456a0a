"""Which way is asked next, what is remembered, and that a request never waits longer than twice the time-out."""

import contextlib
import gc
import itertools
import threading
import weakref
from itertools import pairwise

import pytest

from cvfs.compression import Compression
from cvfs.errors import CorruptObject, MissingObject, Trouble, Unreachable
from cvfs.hashes import Algorithm, ContentHash
from cvfs.store.base import Wanted
from cvfs.store.memory import MemoryStore
from cvfs.store.verified import Verified


class Scripted:
    """A store that plays a list of answers, one after the other and the last one for ever: pieces, or an error."""

    def __init__(self, *answers, clock=None):
        self.answers = [answer if isinstance(answer, tuple) else (answer,) for answer in answers]
        self.asked = []
        self.clock = clock

    def _next(self, patience):
        number = min(len(self.asked), len(self.answers)) - 1
        for piece in self.answers[number]:
            if isinstance(piece, Exception):
                if self.clock and piece.trouble is Trouble.SILENT:
                    self.clock.now += patience
                raise piece
            yield piece

    def fetch(self, path, *, fresh=0, span=None, patience=None):
        self.asked.append((path, fresh, span))
        yield from self._next(patience)

    def has(self, path, *, patience=None):
        self.asked.append((path, 0, None))
        return list(self._next(patience)) != []


def error(trouble, text="down"):
    return Unreachable(text, trouble)


DOWN = error(Trouble.NOT_CONNECTED)
SILENT = error(Trouble.SILENT)
GATEWAY = error(Trouble.GATEWAY)
STATUS = error(Trouble.STATUS, "500")
BROKEN = error(Trouble.ANSWER, "cut")


def _read(store, path="a", **how):
    return b"".join(store.fetch(path, **how))


@pytest.mark.parametrize("failure", [DOWN, STATUS, BROKEN, SILENT, GATEWAY], ids=lambda e: e.trouble.name)
def test_a_server_that_fails_is_left_and_stays_so(over, failure):
    first, second = Scripted(failure), Scripted(b"x")
    store = over([first, second])
    assert [_read(store) for _ in range(3)] == [b"x"] * 3
    assert len(first.asked) == (2 if failure is SILENT else 1)
    assert store.routes.server == "http://1"
    assert store.routes.failovers.host == 1


def test_missing_asks_the_next_for_this_request_alone(over):
    store = over([MemoryStore({"a": b"1"}), MemoryStore({"a": b"2", "b": b"2"})])
    assert _read(store, "b") == b"2"
    assert _read(store, "a") == b"1"


def test_missing_everywhere_is_missing(over):
    store = over([MemoryStore({}), MemoryStore({})])
    with pytest.raises(MissingObject):
        _read(store)
    assert not store.has("a")


def test_missing_is_asked_once_of_each_server_through_one_proxy_alone(over):
    stores = {key: Scripted(MissingObject("404")) for key in ("s a", "s b", "t a", "t b")}
    with pytest.raises(MissingObject):
        _read(over(stores, "a:1|b:1"))
    assert sum(len(store.asked) for store in stores.values()) == 2


@pytest.mark.parametrize("failure", [DOWN, STATUS])
@pytest.mark.parametrize("order", [1, -1])
def test_nothing_is_missing_while_a_server_is_out_of_reach(over, failure, order):
    store = over([Scripted(failure), MemoryStore({})][::order])
    for _ in range(2):
        with pytest.raises(Unreachable, match=r"down|out of reach|500"):
            _read(store)
        with pytest.raises(Unreachable, match=r"down|out of reach|500"):
            store.has("a")


def test_an_object_that_no_server_gives_blames_nobody(over):
    stores = [Scripted(STATUS), Scripted(BROKEN)]
    store = over(stores)
    for _ in range(3):
        with pytest.raises(Unreachable, match="no way gives an answer"):
            _read(store)
    assert store.routes.offline_since is None
    assert store.routes.server == "http://0"
    assert store.routes.failovers == (0, 0, 0)


def test_a_stream_that_breaks_goes_on_by_another_way(over):
    first, second = Scripted((b"12", BROKEN)), Scripted((b"1", b"23", b"4"))
    store = over([first, second])
    assert list(store.fetch("a")) == [b"12", b"3", b"4"]
    assert _read(store) == b"1234"
    assert len(first.asked) == 1


def test_a_stream_is_not_taken_from_a_shorter_copy(over):
    store = over([Scripted((b"123", BROKEN)), Scripted((b"12",))])
    with pytest.raises(Unreachable):
        _read(store)


def test_a_stream_that_breaks_for_ever_ends(over, clock):
    class Breaking:
        asked = 0

        def fetch(self, path, *, fresh=0, span=None, patience=None):
            Breaking.asked += 1
            yield b"x" * Breaking.asked
            clock.now += patience
            raise SILENT

    with pytest.raises(Unreachable):
        _read(over([Breaking(), Breaking()]))
    assert Breaking.asked <= 24


def test_passes_on_how_to_ask(over):
    inner = Scripted(b"x")
    _read(over([inner]), fresh=True, span=(3, 1))
    assert inner.asked == [("a", True, (3, 1))]


def test_an_empty_file_is_an_answer(over):
    assert list(over([MemoryStore({"a": b""}), MemoryStore({"a": b"other"})]).fetch("a")) == []


class Copies:
    """A store of contents, some of which are bad until they are asked for past the caches."""

    def __init__(self, good, bad=b"bad", healed_by=9):
        self.good, self.bad, self.healed_by = good, bad, healed_by
        self.asked = []

    def fetch(self, path, *, fresh=0, span=None, patience=None):
        self.asked.append(fresh)
        yield self.good if fresh >= self.healed_by else self.bad


def test_a_bad_copy_is_asked_for_past_the_caches_then_from_another_server_by_another_proxy(over):
    data = b"content"
    content = ContentHash.of(data, Algorithm.SHA1)
    wanted = Wanted(content, Compression.NONE, len(data))
    stores = {key: Copies(data, b"kontent") for key in ("s a", "s b", "t a", "t b")}
    store = over(stores, "a:1|b:1")
    proxy = store.routes.proxy[7]
    stores["t " + "ba"["ab".index(proxy)]].healed_by = 2
    assert b"".join(Verified(store).read(wanted)) == data
    assert stores["s " + proxy].asked == [0, 1]
    assert store.routes.server == "http://t"
    with pytest.raises(CorruptObject):
        list(Verified(over([Copies(data, b"kontent")] * 2)).read(wanted))


def test_bad_copies_never_leave_the_last_server(over):
    store = over([Copies(b""), Copies(b"")])
    for _ in range(6):
        _read(store, fresh=2)
    assert store.routes.server == "http://1"
    assert store.routes.failovers.host == 1
    assert store.routes.offline_since is None


# Four ways: servers s and t, proxies a and b. What fails, and who is found guilty by what the others do.
@pytest.mark.parametrize(
    ("guilty", "failure"),
    [
        *itertools.product(["a", "b", "s", "t", "s a"], [SILENT, GATEWAY, STATUS, BROKEN]),
        # Who does not accept the connection is always the proxy itself.
        *itertools.product(["a", "b"], [DOWN]),
    ],
    ids=lambda value: value if isinstance(value, str) else value.trouble.name,
)
def test_one_fault_never_costs_the_answer_and_is_learned(over, clock, failure, guilty):
    stores = {}
    for key in ("s a", "s b", "t a", "t b"):
        is_bad = guilty in key.split() or guilty == key
        stores[key] = Scripted(failure, clock=clock) if is_bad else Scripted(b"x")
    store = over(stores, "a:1|b:1")
    for _ in range(3):
        assert _read(store) == b"x"
    asked = sum(len(s.asked) for s in stores.values())
    for _ in range(10):
        assert _read(store) == b"x"
    assert sum(len(s.asked) for s in stores.values()) == asked + 10
    assert store.routes.offline_since is None


def test_the_innocent_is_used_again_when_the_guilty_is_found(over, clock):
    # Server s is silent: first the proxy is suspected, then by the other proxy it is seen to be the server.
    stores = {key: Scripted(SILENT if key[0] == "s" else b"x", clock=clock) for key in ("s a", "s b", "t a", "t b")}
    store = over(stores, "a:1|b:1")
    _read(store)
    assert any(proxy.down for proxy in store.routes.proxy_groups()[0])
    _read(store)
    assert not any(proxy.down for proxy in store.routes.proxy_groups()[0])
    assert store.routes.server == "http://t"


def test_a_time_out_is_repeated_once_before_anybody_is_blamed(over, clock):
    slow = Scripted(SILENT, b"x", clock=clock)
    store = over([slow, Scripted(b"y")])
    assert _read(store) == b"x"
    assert store.routes.server == "http://0"
    assert store.routes.failovers == (0, 0, 1)


def test_slow_for_one_object_is_not_dead_when_others_get_theirs(over, clock):
    class Busy(Scripted):
        """While one request waits, another one gets its answer."""

        def _next(self, patience):
            if self.asked[-1][0] == "slow":
                assert _read(store, "quick") == b"q"
                clock.now += patience
                raise SILENT
            yield b"q"

    store = over([Busy(b""), Scripted(b"s")])
    assert _read(store, "slow") == b"s"
    assert store.routes.server == "http://0"


WAYS = [
    ("", ["0"]),
    ("", ["0", "1"]),
    ("", [str(number) for number in range(12)]),
    ("a:1", ["s a"]),
    ("a:1|b:1", ["s a", "s b", "t a", "t b"]),
    ("a:1|b:1;DIRECT", [f"{s} {p}" for s in "stuvwxyz" for p in ("a", "b", "DIRECT")]),
]


@pytest.mark.parametrize(("proxies", "ways"), WAYS)
@pytest.mark.parametrize("failure", [DOWN, SILENT, GATEWAY], ids=lambda e: e.trouble.name)
def test_a_dead_network_ends_every_request_in_time_and_then_at_once(over, clock, proxies, ways, failure):
    stores = [Scripted(failure, clock=clock) for _ in ways]
    store = over(dict(zip(ways, stores, strict=True)) if proxies else stores, proxies)
    began = clock.now
    with pytest.raises(Unreachable):
        _read(store)
    assert clock.now - began <= (10 if proxies else 20) + 0.2
    assert store.routes.offline_since is not None
    began, asked = clock.now, sum(len(s.asked) for s in stores)
    for number in range(100):
        with pytest.raises(Unreachable):
            _read(store, str(number))
    assert (clock.now, sum(len(s.asked) for s in stores)) == (began, asked)


def test_one_request_at_a_time_looks_whether_the_network_is_back(over, clock):
    inner = Scripted(DOWN)
    store = over([inner], retries=0)
    with pytest.raises(Unreachable):
        _read(store)
    since = store.routes.offline_since
    pauses = []
    for _ in range(4):
        asked = len(inner.asked)
        while len(inner.asked) == asked:
            with pytest.raises(Unreachable):
                _read(store)
            clock.now += 0.25
        pauses.append(clock.now)
    gaps = [later - earlier for earlier, later in pairwise(pauses)]
    assert gaps == [4, 8, 10]
    assert store.routes.offline_since == since
    inner.answers = [(b"x",)]
    clock.now += 10
    assert _read(store) == b"x"
    assert store.routes.offline_since is None
    assert _read(store) == b"x"


def test_while_one_looks_the_others_fail_at_once(over, clock):
    looking, go_on = threading.Event(), threading.Event()

    class Held(Scripted):
        def _next(self, patience):
            looking.set()
            go_on.wait(20)
            yield b"x"

    inner = Scripted(DOWN)
    stores = [inner]
    store = over(stores, retries=0)
    with pytest.raises(Unreachable):
        _read(store)
    stores[0] = Held(b"")
    clock.now += 100
    looker = threading.Thread(target=_read, args=[store])
    looker.start()
    assert looking.wait(20)
    with pytest.raises(Unreachable, match="offline"):
        _read(store, "b")
    go_on.set()
    looker.join(20)
    assert _read(store, "b") == b"x"


def test_who_gives_up_looking_lets_another_one_look(over, clock):
    inner = Scripted(DOWN)
    store = over([inner], retries=0)
    with pytest.raises(Unreachable):
        _read(store)
    inner.answers = [(b"1", b"2")]
    clock.now += 100
    stream = store.fetch("a")
    next(stream)
    stream.close()
    assert _read(store) == b"12"


def test_refusals_are_tried_again_after_a_pause(over, clock):
    inner = Scripted(DOWN, b"x")
    assert _read(over([inner])) == b"x"
    assert [1 <= pause <= 2 for pause in clock.slept] == [True]


@pytest.mark.parametrize(("failure", "retries"), [(STATUS, 3), (BROKEN, 3), (DOWN, 0)])
def test_what_a_pause_would_not_mend_is_not_tried_again(over, clock, failure, retries):
    inner = Scripted(failure)
    with pytest.raises(Unreachable):
        _read(over([inner], retries=retries))
    assert (len(inner.asked), clock.slept) == (1, [])


def test_what_took_long_to_fail_fails_at_once_for_a_moment(over, clock):
    # A kernel that reads ahead asks again for the page that it needs.
    stores = [Scripted(SILENT, clock=clock), Scripted(STATUS)]
    store = over(stores)
    with pytest.raises(Unreachable):
        _read(store)
    asked = [len(s.asked) for s in stores]
    began = clock.now
    with pytest.raises(Unreachable, match="no way"):
        _read(store)
    assert [len(s.asked) for s in stores] == asked
    assert clock.now == began
    clock.now += 2.1
    stores[1].answers = [(b"x",)]
    assert _read(store) == b"x"


def test_what_failed_keeps_nothing_of_its_callers(over, clock):
    class Silent(Scripted):
        def _next(self, patience):
            clock.now += patience
            raise Unreachable("silent", Trouble.SILENT)
            yield

    store = over([Silent(b"")])

    def ask() -> weakref.ref:
        revision = Scripted(b"")
        with contextlib.suppress(Unreachable):
            _read(store)
        return weakref.ref(revision)

    found = ask()
    gc.collect()
    assert found() is None


def test_many_requests_on_one_dead_proxy_blame_it_alone(over, clock):
    ready = threading.Barrier(8)

    class Hanging(Scripted):
        def _next(self, patience):
            ready.wait(20)
            yield from super()._next(patience)

    dead = Hanging(DOWN)
    stores = {"s a": Scripted(b"x"), "s b": Scripted(b"x"), "s c": Scripted(b"x")}
    store = over(stores, "a:1|b:1|c:1")
    stores["s " + store.routes.proxy[7]] = dead
    results = []
    threads = [threading.Thread(target=lambda: results.append(_read(store))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [b"x"] * 8
    assert [proxy.down for proxy in store.routes.proxy_groups()[0]].count(True) == 1
    assert store.routes.failovers.proxy == 1


def test_who_is_known_to_be_down_is_asked_when_nobody_else_helps(over, clock):
    first, second = Scripted(DOWN), Scripted(b"x")
    store = over([first, second])
    assert _read(store) == b"x"
    first.answers, second.answers = [(b"y",)], [(STATUS,)]
    clock.now += 1
    assert [_read(store) for _ in range(2)] == [b"y"] * 2
    assert store.routes.server == "http://0"
    assert (len(first.asked), len(second.asked)) == (3, 2)
