"""The cache: what it keeps, what goes and what stays, and that neither crashes nor full disks leave anything wrong."""

import contextlib
import itertools
import logging
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import diskcache
import pytest

from cvfs.client.cache import object_cache
from cvfs.client.cache.files import content_named
from cvfs.client.cache.object_cache import ObjectCache
from cvfs.compression import ENCODERS
from cvfs.errors import CorruptObject, FormatError, StoreFull, Unreachable
from cvfs.hashes import Algorithm, ContentHash, ObjectKind


def _content(number, size=1000):
    """A content stored as it is, so that its name is the hash of its bytes: checkable without any books."""
    data = (b"%d:" % number).ljust(size, b"%d" % (number % 10))
    return ContentHash.of(data, Algorithm.SHA1), data


@pytest.fixture
def make(tmp_path):
    """Opens the cache in one directory, as many times as asked; time passes by one at every look at the clock."""
    made = []
    ticks = itertools.count(10**9)

    def cache(quota=None, directory=tmp_path / "cache"):
        made.append(ObjectCache(str(directory), quota, lambda: next(ticks)))
        made[-1].prepare()
        return made[-1]

    yield cache
    for one in made:
        one.close()


def _insert(cache, number, size=1000):
    content, data = _content(number, size)
    os.close(cache.insert(content, iter([data[:7], data[7:]]), size))


def _has(cache, number, size=1000):
    content, data = _content(number, size)
    descriptor = cache.open(content)
    if descriptor is None:
        return False
    try:
        assert os.pread(descriptor, 2**20, 0) == data
    finally:
        os.close(descriptor)
    return True


def _present(cache, numbers, size=1000):
    """Which of them are there, without using them."""
    names = {entry.content for entry in cache.entries()}
    return {number for number in numbers if _content(number, size)[0] in names}


def _files(tmp_path):
    """Every file of the cache but its books and the locks of live sessions."""
    found = (path for path in sorted((tmp_path / "cache").rglob("*")) if path.is_file())
    return [path for path in found if path.parent.name != "books" and path.suffix != ".lock"]


def test_keeps_what_is_inserted(make):
    cache = make()
    content, data = _content(1)
    assert cache.open(content) is None
    descriptor = cache.insert(content, iter([data]))
    assert os.pread(descriptor, 9999, 0) == data
    assert not os.get_inheritable(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(descriptor, b"x")
    os.close(descriptor)
    assert _has(cache, 1)
    assert _has(make(), 1)


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("kind", list(ObjectKind))
def test_files_are_named_by_the_hash(make, tmp_path, algorithm, kind):
    cache = make()
    content = ContentHash.of(b"text", algorithm, kind)
    os.close(cache.insert(content, iter([b"text"])))
    assert [str(path.relative_to(tmp_path / "cache")) for path in _files(tmp_path)] == [
        content.path.removeprefix("data/")
    ]
    assert [entry.content for entry in cache.entries()] == [content]
    assert content_named(content.name) == content


def test_open_is_one_system_call_and_no_database(make, monkeypatch):
    cache = make()
    _insert(cache, 1)
    cache.flush()
    calls = []
    opened = os.open
    monkeypatch.setattr(os, "open", lambda *arguments: calls.append(arguments) or opened(*arguments))
    monkeypatch.setattr(sqlite3, "connect", lambda *_, **__: pytest.fail("a database was opened"))
    descriptor = cache.open(_content(1)[0])
    monkeypatch.undo()
    os.close(descriptor)
    assert len(calls) == 1


@pytest.mark.parametrize("error", [Unreachable("cut"), CorruptObject("flipped"), KeyboardInterrupt()])
def test_an_interrupted_insertion_leaves_nothing(make, tmp_path, error):
    def pieces():
        yield b"half"
        raise error

    cache = make(10_000)
    with pytest.raises(type(error)):
        cache.insert(_content(1)[0], pieces())
    assert _files(tmp_path) == []
    assert cache.usage() == (0, 10_000)
    _insert(cache, 1)
    assert _has(cache, 1)


@pytest.mark.parametrize("size", [0, 999, 1001, 2**21])
def test_another_length_than_announced_is_refused(make, tmp_path, size):
    content, data = _content(1)
    with pytest.raises(CorruptObject, match=content.name):
        make().insert(content, iter([data]), size)
    assert _files(tmp_path) == []


def test_usage_counts_bytes(make):
    cache = make(100_000)
    for number in range(5):
        _insert(cache, number)
    _insert(cache, 0)
    cache.flush()
    assert cache.usage() == (5000, 100_000)
    assert cache.evict(_content(3)[0])
    assert not cache.evict(_content(3)[0])
    assert cache.usage() == (4000, 100_000)
    assert not _has(cache, 3)
    assert make(100_000).usage() == (4000, 100_000)


def test_beyond_the_quota_the_least_recently_used_go(make):
    cache = make(10_000)
    for number in range(10):
        _insert(cache, number)
    cache.flush()
    assert _present(cache, range(10)) == set(range(10))
    for number in (0, 2):
        assert _has(cache, number)
        cache.flush()
    _insert(cache, 10)
    cache.flush()
    assert _present(cache, range(11)) == {0, 2, 8, 9, 10}
    assert cache.usage() == (5000, 10_000)


def test_the_quota_is_kept_without_any_flush(make, tmp_path, monkeypatch):
    monkeypatch.setattr(object_cache, "_MAKING_ROOM", 60)
    cache = make(50_000)
    for number in range(160):
        _insert(cache, number)
        assert sum(path.stat().st_size for path in _files(tmp_path)) <= 51_000


def test_what_is_pinned_stays_until_it_is_unpinned_as_often(make):
    cache = make(10_000)
    for number in range(10):
        _insert(cache, number)
    pinned = _content(0)[0]
    cache.pin(pinned)
    cache.pin(pinned)
    cache.unpin(pinned)
    _insert(cache, 10)
    cache.flush()
    assert _present(cache, range(11)) == {0, 7, 8, 9, 10}
    assert [entry.content for entry in cache.entries() if entry.held] == [pinned]
    cache.unpin(pinned)
    cache.unpin(pinned)
    for number in range(11, 17):
        _insert(cache, number)
    cache.flush()
    assert 0 not in _present(cache, range(20))


def test_what_is_spared_stays_until_others_are_named(make):
    cache = make(10_000)
    for number in range(10):
        _insert(cache, number)
    cache.spare(_content(number)[0] for number in (1, 3))
    _insert(cache, 10)
    cache.flush()
    assert _present(cache, range(11)) == {1, 3, 8, 9, 10}
    cache.spare([])
    for number in range(11, 17):
        _insert(cache, number)
    cache.flush()
    assert _present(cache, range(17)) & {1, 3} == set()


def test_more_held_than_the_quota_allows_is_not_searched_at_every_insertion(make, monkeypatch):
    cache = make(10_000)
    for number in range(40):
        cache.pin(_content(number)[0])
    searched = []
    evict = cache._evict
    monkeypatch.setattr(cache, "_evict", lambda *told: searched.append(1) or evict(*told))
    for number in range(40):
        _insert(cache, number, 250)
        _insert(cache, number, 1000)
    cache.flush()
    assert _present(cache, range(40)) >= set(range(40))
    assert len(searched) < 100


def test_what_is_spared_gives_way_where_the_quota_would_be_exceeded(make):
    """Several mounts may spare more than there is room for."""
    first, second = make(10_000), make(10_000)
    for number in range(40):
        for cache in (first, second):
            cache.spare(_content(other)[0] for other in range(40))
            _insert(cache, number)
            assert len(_present(cache, range(40))) <= 11
    first.flush()
    assert first.usage()[0] <= 10_000
    assert 39 in _present(first, range(40))


def test_open_descriptors_survive_eviction(make):
    cache = make(10_000)
    _insert(cache, 0)
    descriptor = cache.open(_content(0)[0])
    for number in range(1, 30):
        _insert(cache, number)
    cache.flush()
    assert cache.open(_content(0)[0]) is None
    assert os.pread(descriptor, 9999, 0) == _content(0)[1]
    os.close(descriptor)


def test_the_newest_is_kept_even_if_it_fills_the_quota(make):
    cache = make(10_000)
    _insert(cache, 1)
    _insert(cache, 2, 9_900)
    cache.flush()
    assert _present(cache, [2], 9_900) == {2}
    assert _present(cache, [1]) == set()


def test_longer_than_the_quota_is_refused_before_it_is_fetched(make, tmp_path):
    cache = make(10_000)
    pieces = iter([b"x" * 10_001])
    with pytest.raises(StoreFull, match="quota"):
        cache.insert(_content(1)[0], pieces, 10_001)
    assert next(pieces)
    with pytest.raises(StoreFull, match="quota"):
        cache.insert(_content(1)[0], iter([b"x" * 6000] * 2))
    assert _files(tmp_path) == []


def test_processes_share_objects_quota_and_pins(make):
    first, second = make(10_000), make(10_000)
    for number in range(5):
        _insert(first, number)
    first.pin(_content(0)[0])
    first.spare([_content(1)[0]])
    first.flush()
    assert all(_has(second, number) for number in range(5))
    second.flush()
    for number in range(5, 11):
        _insert(second, number)
    second.flush()
    assert _present(first, range(11)) == {0, 1, 8, 9, 10}
    assert first.usage() == second.usage() == (5000, 10_000)


def test_a_session_that_ends_holds_nothing_any_more(make, tmp_path):
    first, second = make(10_000), make(10_000)
    _insert(first, 0)
    first.pin(_content(0)[0])
    first.close()
    assert not any(entry.held for entry in second.entries())
    for number in range(1, 11):
        _insert(second, number)
    second.flush()
    assert not _has(second, 0)


def test_threads_share_a_cache(make):
    cache = make(200_000)

    def work(seed):
        order = random.Random(seed).choices(range(300), k=300)
        for number in order:
            if not _has(cache, number):
                _insert(cache, number)
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))
    cache.flush()
    assert cache.usage()[0] <= 200_000
    assert cache.check().dropped == ()


INSERTER = """
import os, random, sys
from cvfs.client.cache.object_cache import ObjectCache
from cvfs.hashes import Algorithm, ContentHash

cache = ObjectCache(sys.argv[1], int(sys.argv[2]))
cache.prepare()
chance = random.Random(int(sys.argv[3]))

def pieces(data):
    for start in range(0, len(data), 400):
        os.write(1, b".")
        yield data[start : start + 400]

while True:
    data = b"%d" % chance.randrange(200) * 600
    content = ContentHash.of(data, Algorithm.SHA1)
    found = cache.open(content)
    os.close(cache.insert(content, pieces(data), len(data)) if found is None else found)
"""


def _inserter(directory, quota, seed):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", INSERTER, str(directory), str(quota), str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)


def _assert_sound(cache, tmp_path):
    """Every file is whole, by its own name, and the books say exactly what is there."""
    cache.flush()
    on_disk = {}
    for path in _files(tmp_path):
        content = ContentHash.of(path.read_bytes(), Algorithm.SHA1)
        assert content.path == f"data/{path.parent.name}/{path.name}"
        on_disk[content] = path.stat().st_size
    assert {entry.content: entry.size for entry in cache.entries()} == on_disk
    assert cache.usage()[0] == sum(on_disk.values())


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_process_leaves_nothing_wrong(make, tmp_path, seed):
    chance = random.Random(seed)
    processes = [_inserter(tmp_path / "cache", 60_000, seed * 10 + n) for n in range(2)]
    try:
        for process in processes:
            process.stdout.read(chance.randrange(1, 2500))
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            process.stdout.close()
    _assert_sound(make(60_000), tmp_path)


def test_a_pipe_in_the_place_of_a_lock_holds_up_nobody(make, tmp_path):
    (tmp_path / "cache" / "txn").mkdir(parents=True)
    os.mkfifo(tmp_path / "cache" / "txn" / "0123456789abcdef.lock")
    cache = make()
    _insert(cache, 1)
    assert _has(cache, 1)


def test_what_a_live_process_writes_is_left_alone(make, tmp_path):
    first = make()
    content, data = _content(1)

    def pieces():
        yield data[:10]
        _insert(make(), 2)
        yield data[10:]

    os.close(first.insert(content, pieces()))
    assert _has(first, 1)
    assert _has(first, 2)


def test_a_daemon_keeps_the_session_of_its_parent(make, tmp_path):
    """After a fork the lock is held as long as the child lives, although the parent is gone."""
    script = """
import os, sys
from cvfs.client.cache.object_cache import ObjectCache
cache = ObjectCache(sys.argv[1])
cache.prepare()
if os.fork():
    os._exit(0)
os.write(1, b"ready")
os.read(0, 1)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(tmp_path / "cache")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout.read(5) == b"ready"
        process.wait(30)
        make()
        locks = list((tmp_path / "cache" / "txn").glob("*.lock"))
        process.stdin.close()
        assert process.stdout.read() == b""
    assert len(locks) == 2


def _crash(cache):
    """End a session as a crash does: unwritten books are lost, the lock is released, its file stays."""
    cache._pending = {}
    os.close(cache._files._session._lock)
    cache._files._session, cache._files._token = None, ""


def test_after_a_process_crash_unrecorded_contents_are_adopted(make):
    cache = make(10_000)
    _insert(cache, 1)
    _crash(cache)
    again = make(10_000)
    assert _present(again, [1]) == {1}
    assert again.usage() == (1000, 10_000)


def test_after_a_machine_crash_only_what_was_recorded_and_surely_written_is_trusted(make, tmp_path):
    cache = make(100_000)
    for number in (1, 2, 4):
        _insert(cache, number)
    cache.flush()
    _insert(cache, 3)
    places = {n: tmp_path / "cache" / _content(n)[0].path.removeprefix("data/") for n in (1, 2, 3, 4)}
    os.truncate(places[2], 500)
    # Of the right length, but its bytes were still on their way to the disk.
    places[4].write_bytes(bytes(places[4].stat().st_size))
    for number in (1, 2, 3):
        os.utime(places[number], (1000, 1000))
    lock = tmp_path / "cache" / "txn" / f"{cache._files.session}.lock"
    _crash(cache)
    lock.write_bytes(b"the machine's start before this one")
    again = make(100_000)
    assert [_has(again, number) for number in (1, 2, 3, 4)] == [True, False, False, False]
    assert again.usage() == (1000, 100_000)


def _damage_header(path):
    path.write_bytes(b"this is no database at all" * 100)


def _damage_middle(path):
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)


def _truncate(path):
    os.truncate(path, 5000)


def _drop_table(path):
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE Settings")
    database.close()


def _pickled_row(path):
    with sqlite3.connect(path) as database:
        database.execute("UPDATE Cache SET mode = 4, value = ?", [b"cos\nsystem\n(S'touch /tmp/owned'\ntR."])
    database.close()


def _row_with_a_file(path):
    with sqlite3.connect(path) as database:
        database.execute("UPDATE Cache SET mode = 2, filename = '../../victim'")
    database.close()


def _short_row(path):
    with sqlite3.connect(path) as database:
        database.execute("UPDATE Cache SET value = x'00'")
    database.close()


DAMAGES = [_damage_header, _damage_middle, _truncate, _pickled_row, _row_with_a_file, _short_row]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("when", ["before it is opened", "while it is in use"])
def test_damaged_books_are_written_anew(make, tmp_path, caplog, damage, when):
    cache = make(10_000)
    for number in range(8):
        _insert(cache, number)
    cache.flush()
    if when == "before it is opened":
        cache.close()
    (tmp_path / "victim").write_bytes(b"")
    damage(tmp_path / "cache" / "books" / "cache.db")
    with caplog.at_level(logging.WARNING):
        again = make(10_000) if when == "before it is opened" else cache
        _insert(again, 8)
        again.flush()
        assert _present(again, range(9)) == set(range(9))
    assert any("damaged" in record.getMessage() for record in caplog.records)
    assert (tmp_path / "victim").exists()
    for number in range(9, 12):
        _insert(again, number)
    again.flush()
    assert again.usage()[0] <= 10_000
    _assert_sound(again, tmp_path)


def test_a_lost_table_is_damage(make, tmp_path):
    cache = make(10_000)
    for number in range(8):
        _insert(cache, number)
    cache.flush()
    _drop_table(tmp_path / "cache" / "books" / "cache.db")
    cache.flush()
    assert cache.usage() == (8000, 10_000)
    _assert_sound(cache, tmp_path)


def test_lost_books_are_written_anew(make, tmp_path):
    cache = make(10_000)
    for number in range(8):
        _insert(cache, number)
    cache.close()
    shutil.rmtree(tmp_path / "cache" / "books")
    again = make(10_000)
    assert again.usage() == (8000, 10_000)
    _assert_sound(again, tmp_path)


def test_the_books_hold_no_pickles(make):
    rows = make()._books._cache
    for key, value in [
        (b"bytes", b""),
        (1, b""),
        (("t",), b""),
        ("text", "text"),
        ("text", 1),
        ("text", {}),
        ("text", None),
    ]:
        with pytest.raises(TypeError):
            rows.set(key, value)
    rows.close()
    assert isinstance(rows, diskcache.Cache)


def test_foreign_files_are_left_alone(make, tmp_path):
    make().close()
    foreign = tmp_path / "cache" / "ab" / "notes.txt"
    foreign.parent.mkdir()
    foreign.write_bytes(b"mine")
    shutil.rmtree(tmp_path / "cache" / "books")
    cache = make(10_000)
    assert cache.check()[:3] == (0, 0, ())
    assert foreign.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "name", ["", "ab", "x" * 40, "0" * 39, "0" * 40 + "Z", "0" * 40 + "-md5", "0" * 40 + "PP", "0" * 41]
)
def test_names_of_other_files_are_not_contents(name):
    with pytest.raises(FormatError):
        content_named(name)


def _flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.mark.parametrize("bit", [0, 7, 4000, 7999])
def test_check_drops_exactly_what_was_flipped(make, tmp_path, bit):
    cache = make(100_000)
    for number in range(20):
        _insert(cache, number)
    assert cache.check()[:3] == (20, 20_000, ())
    flipped = _content(13)[0]
    _flip(tmp_path / "cache" / flipped.path.removeprefix("data/"), bit)
    assert cache.check()[:3] == (20, 20_000, (flipped,))
    assert not _has(cache, 13)
    assert cache.check()[:3] == (19, 19_000, ())
    assert cache.usage() == (19_000, 100_000)


@pytest.mark.parametrize("encoder", ["zlib", "zlib-fast", "zstd", "none"])
def test_check_proves_contents_whose_digest_was_lost(make, tmp_path, encoder):
    cache = make()
    contents = []
    for text in (b"first " * 3000, b"second " * 3000):
        contents.append(ContentHash.of(ENCODERS[encoder].encode(text), Algorithm.SHAKE128))
        os.close(cache.insert(contents[-1], iter([text])))
    cache.close()
    shutil.rmtree(tmp_path / "cache" / "books")
    again = make()
    assert again.check().dropped == ()
    _flip(tmp_path / "cache" / contents[0].path.removeprefix("data/"), 77)
    assert again.check().dropped == (contents[0],)


def test_a_directory_that_is_removed_while_it_is_in_use_is_made_again(make, tmp_path, caplog):
    cache = make(10_000)
    _insert(cache, 1)
    cache.pin(_content(2)[0])
    cache.flush()
    shutil.rmtree(tmp_path / "cache")
    assert not _has(cache, 1)
    with caplog.at_level(logging.WARNING):
        for number in (2, 3):
            _insert(cache, number)
        cache.flush()
    assert all(_has(cache, number) for number in (2, 3))
    assert [entry.content for entry in cache.entries() if entry.held] == [_content(2)[0]]
    assert any("gone" in record.getMessage() for record in caplog.records)
    _assert_sound(cache, tmp_path)
    assert len(list((tmp_path / "cache" / "txn").glob("*.lock"))) == 1


def test_a_directory_that_is_removed_is_made_again_by_the_next_upkeep(make, tmp_path):
    cache, other = make(10_000), make(10_000)
    other.pin(_content(1)[0])
    other.flush()
    shutil.rmtree(tmp_path / "cache")
    cache.flush()
    other.flush()
    assert len(list((tmp_path / "cache" / "txn").glob("*.lock"))) == 2
    _insert(cache, 1)
    assert [entry.held for entry in cache.entries()] == [True]
    _assert_sound(other, tmp_path)


def test_a_directory_that_cannot_be_made_is_told_once(make, tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        cache = make(10_000, tmp_path / "file" / "cache")
        assert not _has(cache, 1)
        for _ in range(3):
            with pytest.raises(StoreFull, match="not writable"):
                _insert(cache, 1)
        cache.flush()
    assert len(caplog.records) == 1


def test_books_that_cannot_be_written_now_are_made_up_for_later(make, tmp_path, caplog, monkeypatch):
    cache = make(10_000)
    with caplog.at_level(logging.WARNING), monkeypatch.context() as broken:
        broken.setattr(
            sqlite3, "connect", lambda *_, **__: (_ for _ in ()).throw(sqlite3.OperationalError("disk is full"))
        )
        for number in range(4):
            _insert(cache, number)
            cache.flush()
    assert len([record for record in caplog.records if "disk is full" in record.getMessage()]) == 1
    _insert(cache, 4)
    cache.flush()
    _assert_sound(cache, tmp_path)


def test_without_descriptors_it_says_so(make):
    cache = make()
    _insert(cache, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
    fillers = []
    try:
        with pytest.raises(OSError, match="Too many"):
            fillers.extend(os.open("/dev/null", os.O_RDONLY) for _ in itertools.count())
        with pytest.raises(StoreFull, match="descriptor"):
            cache.open(_content(1)[0])
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert _has(cache, 1)


def test_a_file_that_may_not_grow_is_not_kept(make, tmp_path):
    cache = make()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(StoreFull, match="File too large"):
            cache.insert(_content(1)[0], iter([b"x" * 4000] * 3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert _files(tmp_path) == []
    _insert(cache, 1)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one mebibyte."""
    (tmp_path / "cache").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path / "cache"], check=True)
    yield tmp_path / "cache"
    subprocess.run(["umount", "-l", tmp_path / "cache"], check=True)


@pytest.mark.system
def test_a_full_disk_keeps_nothing_wrong(small_disk, make, tmp_path):
    cache = make()
    kept = []
    with pytest.raises(StoreFull, match="No space left"):
        kept.extend(number for number in range(100) if not _insert(cache, number, 50_000))
    assert 5 < len(kept) < 21
    assert all(_has(cache, number, 50_000) for number in kept)
    taken = iter([b"x"])
    with pytest.raises(StoreFull, match="No space left"):
        cache.insert(_content(0)[0], taken, 2**20)
    assert next(taken), "a large file was fetched although there is no room for it"
    (small_disk / _content(0, 50_000)[0].path.removeprefix("data/")).unlink()
    _insert(cache, 200, 30_000)
    assert cache.check().dropped == ()


@pytest.mark.system
def test_a_full_disk_costs_no_second_download_and_is_used_again(small_disk, make):
    cache = make()
    with contextlib.suppress(StoreFull):
        for number in range(100):
            _insert(cache, number, 50_000)
    for size in (50_000, None):
        untouched = iter([b"x"])
        with pytest.raises(StoreFull, match="No space left"):
            cache.insert(_content(500)[0], untouched, size)
        assert next(untouched)
    assert cache.clean_up(100_000)
    assert 0 < cache.usage()[0] <= 100_000
    _insert(cache, 200, 50_000)
    _insert(cache, 201, 50_000)
    assert cache.check().dropped == ()


@pytest.mark.system
def test_a_read_only_disk_that_becomes_writable_is_used_from_the_next_upkeep_on(small_disk, make, caplog):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with caplog.at_level(logging.WARNING):
        cache = make()
        for _ in range(3):
            cache.flush()
    assert len(caplog.records) == 1
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    cache.flush()
    _insert(cache, 1)
    assert _has(cache, 1)
    _insert(make(), 2)
    assert _has(cache, 2)


@pytest.mark.system
def test_a_read_only_disk_serves_what_it_has(small_disk, make):
    cache = make()
    _insert(cache, 1)
    cache.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    again = make()
    assert _has(again, 1)
    with pytest.raises(StoreFull, match="not writable"):
        _insert(again, 2)
    again.flush()
