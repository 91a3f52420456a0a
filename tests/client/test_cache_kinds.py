"""Every kind of cache keeps one contract; and what is special about alien, tiered and memory caches."""

import logging
import os
import stat
from random import Random

import pytest

from cvfs.client.cache.alien import AlienCache
from cvfs.client.cache.base import EntryKind
from cvfs.client.cache.choice import keeping, make_cache, open_cache
from cvfs.client.cache.object_cache import ObjectCache
from cvfs.client.cache.ram import RamCache
from cvfs.client.cache.tiered import TieredCache
from cvfs.client.settings.cache import CacheSettings, PosixCache
from cvfs.client.settings.cache import RamCache as RamSettings
from cvfs.client.settings.cache import TieredCache as TieredSettings
from cvfs.compression import ENCODERS
from cvfs.errors import CorruptObject, StoreFull, Unreachable, UsageError
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.store.base import Wanted
from cvfs.store.memory import MemoryStore
from cvfs.store.verified import Verified

PLENTY = 10**8


def _content(data, kind=ObjectKind.FILE, algorithm=Algorithm.SHA1):
    """Stored as it is: checkable without anything else."""
    return ContentHash.of(data, algorithm, kind)


def _insert(cache, data, kind=ObjectKind.FILE, algorithm=Algorithm.SHA1):
    content = _content(data, kind, algorithm)
    os.close(cache.insert(content, iter([data[:5], data[5:]]), len(data)))
    return content


def _read(descriptor):
    if descriptor is None:
        return None
    try:
        return os.pread(descriptor, 2**24, 0)
    finally:
        os.close(descriptor)


def _got(cache, content):
    """What a reader gets of the cache, one way or the other."""
    data = _read(cache.open(content))
    return _read(cache.retrieve(content)) if data is None else data


KINDS = {
    "posix": lambda place: ObjectCache(str(place / "posix"), PLENTY),
    "verified": lambda place: ObjectCache(str(place / "verified"), PLENTY, verify=True),
    "alien": lambda place: AlienCache(str(place / "alien")),
    "alien-verified": lambda place: AlienCache(str(place / "alien"), verify=True),
    "ram": lambda _: RamCache(PLENTY),
    "tiered": lambda place: TieredCache(RamCache(PLENTY), AlienCache(str(place / "lower"))),
    "tiered-read-only": lambda place: TieredCache(RamCache(PLENTY), AlienCache(str(place / "l")), read_only=True),
    "tiered-disks": lambda place: TieredCache(
        ObjectCache(str(place / "upper"), PLENTY), ObjectCache(str(place / "lower"), None)
    ),
}


@pytest.fixture(params=KINDS)
def cache(request, tmp_path):
    made = KINDS[request.param](tmp_path)
    made.prepare()
    yield made
    made.close()


@pytest.mark.parametrize("size", [0, 6, 300_000, 2**21])
@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_what_is_inserted_is_there(cache, size, algorithm):
    data = Random(size).randbytes(size)
    content = _content(data, algorithm=algorithm)
    assert _got(cache, content) is None
    descriptor = cache.insert(content, iter([data]), size)
    assert not os.get_inheritable(descriptor)
    assert _read(descriptor) == data
    assert _got(cache, content) == data
    assert _read(cache.open(content)) == data
    assert cache.evict(content)
    assert not cache.evict(content)
    assert _got(cache, content) is None


@pytest.mark.parametrize("error", [Unreachable("cut"), CorruptObject("flipped"), KeyboardInterrupt()])
def test_an_interrupted_insertion_leaves_nothing(cache, error):
    def pieces():
        yield b"half"
        raise error

    with pytest.raises(type(error)):
        cache.insert(_content(b"whole"), pieces())
    assert _got(cache, _content(b"whole")) is None
    with pytest.raises(CorruptObject):
        cache.insert(_content(b"whole"), iter([b"half"]), 5)
    assert _got(cache, _content(b"whole")) is None
    assert cache.check().objects == 0


def test_several_contents_at_once(cache):
    texts = [b"%d" % number * 100 for number in range(40)]
    contents = [_insert(cache, text) for text in texts]
    cache.flush()
    assert {entry.content for entry in cache.entries()} == set(contents)
    assert {entry.size for entry in cache.entries()} == {100, 200}
    assert cache.usage()[0] == sum(map(len, texts))
    assert [_got(cache, content) for content in contents] == texts
    checked = cache.check(workers=3)
    assert (checked.dropped, checked.unfixed) == ((), ())
    assert checked.objects >= 40


def test_descriptors_survive_an_eviction(cache):
    data = b"some text" * 100_000
    for size in (100, len(data)):
        content = _insert(cache, data[:size])
        descriptor = cache.open(content)
        cache.evict(content)
        assert _read(descriptor) == data[:size]


def test_it_says_what_it_is(cache):
    assert "cache manager" in cache.describe()
    assert "\n" not in cache.describe()


@pytest.fixture
def bounded(request, tmp_path):
    """Caches of ten thousand bytes."""
    made = ObjectCache(str(tmp_path / "c"), 10_000) if request.param == "posix" else RamCache(10_000)
    made.prepare()
    yield made
    made.close()


@pytest.mark.parametrize("bounded", ["posix", "ram"], indirect=True)
class TestBounded:
    """What has a quota."""

    def test_the_least_recently_used_go(self, bounded):
        contents = [_insert(bounded, b"%d" % number * 1000) for number in range(10)]
        bounded.flush()
        for moment in (0, 2):
            assert _got(bounded, contents[moment])
            bounded.flush()
        contents.append(_insert(bounded, b"x" * 1000))
        bounded.flush()
        present = {entry.content for entry in bounded.entries()}
        assert present == {contents[n] for n in (0, 2, 8, 9, 10)}
        assert bounded.usage() == (5000, 10_000)
        assert bounded.cleanups_within(60) == 1

    def test_volatile_goes_first_and_catalogs_last(self, bounded):
        catalogs = [_insert(bounded, b"%d" % number * 1000, ObjectKind.CATALOG) for number in range(2)]
        data = [_insert(bounded, b"%d" % number * 1000) for number in range(2, 6)]
        bounded.volatile = True
        volatile = [_insert(bounded, b"%d" % number * 1000) for number in range(6, 9)]
        catalogs.append(_insert(bounded, b"9" * 100, ObjectKind.CATALOG))
        bounded.volatile = False
        assert {entry.kind for entry in bounded.entries()} == set(EntryKind)
        bounded.clean_up(6200)
        present = {entry.content for entry in bounded.entries()}
        assert present == {*catalogs, *data}
        bounded.clean_up(2500)
        present = {entry.content for entry in bounded.entries()}
        assert present >= set(catalogs)
        assert not present & {*volatile, *data}

    def test_what_is_pinned_stays_and_what_is_spared_goes_last(self, bounded):
        contents = [_insert(bounded, b"%d" % number * 1000) for number in range(9)]
        bounded.pin(contents[0])
        bounded.spare([contents[1]])
        assert bounded.clean_up(3000)
        assert {entry.content for entry in bounded.entries() if entry.held} == set(contents[:2])
        assert not bounded.clean_up(0)
        assert [entry.content for entry in bounded.entries() if entry.held] == contents[:1]
        bounded.unpin(contents[0])
        bounded.spare([])
        bounded.clean_up(0)
        assert len(bounded.entries()) <= 1

    def test_what_is_spared_is_no_reason_to_exceed_the_quota(self, bounded):
        contents = []
        for number in range(30):
            contents.append(_insert(bounded, b"%02d" % number * 500))
            bounded.spare(contents)
            bounded.flush()
            assert bounded.usage()[0] <= 10_000
        assert contents[-1] in {entry.content for entry in bounded.entries()}

    def test_it_is_resized_while_it_is_in_use(self, bounded):
        contents = [_insert(bounded, b"%d" % number * 1000) for number in range(9)]
        bounded.flush()
        bounded.resize(4000)
        assert bounded.usage() == (2000, 4000)
        assert {entry.content for entry in bounded.entries()} == set(contents[-2:])
        with pytest.raises(StoreFull):
            _insert(bounded, b"x" * 4001)
        bounded.resize(None)
        for number in range(30):
            _insert(bounded, b"%d" % number * 1000)
        assert len(bounded.entries()) >= 30


def test_a_new_limit_reaches_every_process_but_not_later_ones(tmp_path):
    one, other = (ObjectCache(str(tmp_path / "c"), 10_000) for _ in range(2))
    for cache in (one, other):
        cache.prepare()
    one.resize(5000)
    assert other.usage()[1] == 10_000
    other.flush()
    assert other.usage()[1] == 5000
    other.resize(None)
    one.flush()
    assert one.usage()[1] is None
    later = ObjectCache(str(tmp_path / "c"), 10_000)
    later.prepare()
    later.flush()
    assert later.usage()[1] == 10_000
    for cache in (one, other, later):
        cache.close()


def test_an_alien_cache_has_the_layout_of_the_original(tmp_path):
    cache = AlienCache(str(tmp_path / "a"))
    cache.prepare()
    old = os.umask(0o077)
    try:
        content = _insert(cache, b"text", ObjectKind.CATALOG, Algorithm.RMD160)
    finally:
        os.umask(old)
    hexadecimal = content.digest.hex()
    place = tmp_path / "a" / hexadecimal[:2] / f"{hexadecimal[2:]}-rmd160"
    assert place.read_bytes() == b"text"
    assert stat.S_IMODE(place.stat().st_mode) == 0o660
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"txn", "quarantaine"} | {f"{first:02x}" for first in range(256)}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").iterdir()} == {0o770}
    assert os.listdir(tmp_path / "a" / "txn") == []


def test_an_alien_cache_is_filled_by_others(tmp_path):
    cache, other = AlienCache(str(tmp_path / "a")), AlienCache(str(tmp_path / "a"))
    cache.prepare()
    other.prepare()
    content = _insert(other, b"text")
    assert _got(cache, content) == b"text"
    assert cache.check().objects == 1


def test_an_alien_cache_forgets_what_was_abandoned(tmp_path):
    cache = AlienCache(str(tmp_path / "a"))
    cache.prepare()
    for name, age in (("old", 1000), ("new", 2**31)):
        path = tmp_path / "a" / "txn" / name
        path.write_bytes(b"")
        os.utime(path, (age, age))
    AlienCache(str(tmp_path / "a")).prepare()
    assert os.listdir(tmp_path / "a" / "txn") == ["new"]


def test_an_alien_cache_that_is_removed_is_made_again(tmp_path):
    cache = AlienCache(str(tmp_path / "a"))
    cache.prepare()
    os.rename(tmp_path / "a", tmp_path / "b")
    content = _insert(cache, b"text")
    assert _got(cache, content) == b"text"


def test_an_alien_cache_has_no_quota(tmp_path):
    with pytest.raises(UsageError, match="quota"):
        AlienCache(str(tmp_path)).resize(5)


def _flip(directory, content, *, named=str):
    name = named(content)
    path = directory / name[:2] / name[2:]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda place, verify: AlienCache(place, verify=verify), str),
        (lambda place, verify: ObjectCache(place, None, verify=verify), lambda content: content.name),
    ],
    ids=["alien", "posix"],
)
@pytest.mark.parametrize("kind", [ObjectKind.FILE, ObjectKind.CATALOG])
def test_a_flipped_bit_is_found_when_a_content_is_opened(tmp_path, caplog, make, named, kind):
    cache = make(str(tmp_path / "a"), False)
    cache.prepare()
    # Stored with a level that nobody here would find again: only the digest that was kept proves it.
    contents = [ContentHash.of(b"compressed elsewhere %d" % n, Algorithm.SHA1, kind) for n in range(2)]
    for number, content in enumerate(contents):
        os.close(cache.insert(content, iter([b"text %d" % number])))
    cache.close()
    _flip(tmp_path / "a", contents[1], named=named)
    trusting = make(str(tmp_path / "a"), False)
    assert _read(trusting.open(contents[1])) not in (None, b"text 1")
    again = make(str(tmp_path / "a"), True)
    again.prepare()
    assert [again.open(content) for content in contents] == [None, None]
    with caplog.at_level(logging.WARNING):
        assert [_read(again.retrieve(content)) for content in contents] == [b"text 0", None]
    assert [contents[1].digest.hex() in record.getMessage() for record in caplog.records] == [True]
    assert _read(again.open(contents[0])) == b"text 0"
    assert trusting.open(contents[1]) is None
    os.close(again.insert(contents[1], iter([b"text 1"])))
    assert _read(again.open(contents[1])) == b"text 1"
    again.close()


def test_contents_of_the_original_in_an_alien_cache_are_proven_by_their_name(tmp_path):
    """No digest: other software kept them."""
    cache = AlienCache(str(tmp_path / "a"), verify=True)
    cache.prepare()
    contents = [ContentHash.of(ENCODERS[name].encode(b"text" * 99), Algorithm.SHA1) for name in ("zlib", "none")]
    for content in contents:
        (tmp_path / "a" / str(content)[:2] / str(content)[2:]).write_bytes(b"text" * 99)
    assert [_got(cache, content) for content in contents] == [b"text" * 99] * 2
    _flip(tmp_path / "a", contents[0])
    assert cache.check().dropped == (contents[0],)
    assert os.listdir(tmp_path / "a" / "quarantaine") == [str(contents[0])]


@pytest.fixture
def tiers(tmp_path):
    upper, lower = RamCache(PLENTY), AlienCache(str(tmp_path / "lower"))
    for cache in (upper, lower):
        cache.prepare()
    return upper, lower


def test_what_is_below_is_lifted_when_it_is_needed(tiers):
    upper, lower = tiers
    cache = TieredCache(upper, lower, read_only=True)
    content = _insert(lower, b"text")
    assert cache.open(content) is None
    assert _read(cache.retrieve(content)) == b"text"
    assert _read(upper.open(content)) == b"text"
    assert _read(cache.open(content)) == b"text"


@pytest.mark.parametrize("read_only", [True, False])
def test_what_is_fetched_goes_below_unless_that_is_read_only(tiers, read_only):
    upper, lower = tiers
    cache = TieredCache(upper, lower, read_only=read_only)
    content = _insert(cache, b"text")
    assert _read(upper.open(content)) == b"text"
    assert _read(lower.open(content)) == (None if read_only else b"text")
    cache.evict(content)
    assert lower.open(content) is None
    below = _insert(lower, b"below")
    cache.evict(below)
    assert _read(lower.open(below)) == (b"below" if read_only else None)


def test_what_the_upper_has_no_room_for_is_served_from_below(tmp_path):
    upper, lower = RamCache(10), AlienCache(str(tmp_path / "lower"))
    lower.prepare()
    cache = TieredCache(upper, lower)
    content = _insert(cache, b"more than ten bytes")
    assert _got(cache, content) == b"more than ten bytes"
    assert upper.usage()[0] == 0
    with pytest.raises(StoreFull):
        _insert(TieredCache(upper, lower, read_only=True), b"also more than ten bytes")


def test_a_lower_cache_that_keeps_nothing_is_told_once(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    lower = AlienCache(str(tmp_path / "file" / "lower"))
    lower.prepare()
    cache = TieredCache(RamCache(PLENTY), lower)
    with caplog.at_level(logging.WARNING):
        contents = [_insert(cache, text) for text in (b"one text", b"two text")]
    assert [_got(cache, content) for content in contents] == [b"one text", b"two text"]
    assert len(caplog.records) == 1


def test_pins_and_volatile_reach_the_upper_cache(tiers):
    upper, lower = tiers
    cache = TieredCache(upper, lower)
    cache.volatile = True
    content = _insert(cache, b"text")
    cache.pin(content)
    cache.resize(100)
    assert [(entry.held, entry.kind) for entry in upper.entries()] == [(True, EntryKind.VOLATILE)]
    assert not cache.clean_up(0) or cache.entries()
    cache.unpin(content)
    assert cache.usage() == upper.usage() == (4, 100)


@pytest.mark.parametrize(
    ("instance", "kind"),
    [
        (PosixCache("p", "c", 5), ObjectCache),
        (PosixCache("p", "c", alien=True), AlienCache),
        (RamSettings("m", 5), RamCache),
        (TieredSettings("t", RamSettings("m", 5), PosixCache("p", "c", alien=True)), TieredCache),
    ],
)
def test_each_kind_is_made_by_its_settings(tmp_path, monkeypatch, instance, kind):
    monkeypatch.chdir(tmp_path)
    assert type(make_cache(instance)) is kind
    cache = open_cache(CacheSettings(primary=instance))
    assert type(cache) is kind
    cache.close()
    assert open_cache(CacheSettings()) is None


@pytest.mark.parametrize(("streaming", "kept"), [(False, {"", "C"}), (True, {"C"})])
def test_with_streaming_only_catalogs_are_kept(streaming, kept):
    cache = RamCache(PLENTY)
    wanted = [
        Wanted(_content(kind.value.encode(), kind), ENCODERS["none"].code)
        for kind in (ObjectKind.FILE, ObjectKind.CATALOG)
    ]
    store = MemoryStore({one.path: one.content.kind.value.encode() for one in wanted})
    contents = keeping(CacheSettings(streaming=streaming), cache, Verified(store))
    for one in wanted:
        assert _read(contents.open(one)) == one.content.kind.value.encode()
    assert {entry.content.kind.value for entry in cache.entries()} == kept
