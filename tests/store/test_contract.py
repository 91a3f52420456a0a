"""One suite over every store, and one over everything that gives contents as open files."""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from cvfs.client.cache.object_cache import ObjectCache
from cvfs.errors import CorruptObject, MissingObject, Unreachable
from cvfs.hashes import Algorithm, ContentHash
from cvfs.store.base import MAX_DOCUMENT, Wanted, fetch_document
from cvfs.store.cached import Cached, Uncached
from cvfs.store.coalesced import Coalesced
from cvfs.store.http import HttpStore
from cvfs.store.local import LocalStore
from cvfs.store.memory import MemoryStore
from cvfs.store.verified import Verified

FILES = {
    ".cvmfspublished": b"Croot\n--\n",
    "data/00/empty": b"",
    "data/ab/small": b"0123456789",
    "data/ab/largeP": bytes(range(256)) * 4096,
    "external/a%20name": b"abc",
}


def _local(files, tmp_path):
    for path, data in files.items():
        place = tmp_path / "storage" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return LocalStore(os.fsencode(tmp_path / "storage"))


def _http(files, serve):
    by_path = {f"/cvmfs/x.example.org/{path}": data for path, data in files.items()}
    return HttpStore(serve(lambda request: request.serve(by_path)).url + "/cvmfs/x.example.org")


@pytest.fixture(params=["memory", "local", "http", "proxied", "failover", "failover-http"])
def store(request, serve, tmp_path, over):
    if request.param == "memory":
        return MemoryStore(FILES)
    if request.param == "local":
        return _local(FILES, tmp_path)
    if request.param == "http":
        return _http(FILES, serve)
    if request.param == "proxied":
        # A proxy is asked with the whole URL; the host behind it need not even exist.
        by_url = {f"http://far.example.org/cvmfs/{path}": data for path, data in FILES.items()}
        return HttpStore("http://far.example.org/cvmfs/", serve(lambda request: request.serve(by_url)).url)
    if request.param == "failover":
        return over([MemoryStore({}), MemoryStore(FILES)])
    return over([HttpStore(serve(lambda request: request.serve({})).url), _http(FILES, serve)])


@pytest.mark.parametrize("path", sorted(FILES))
def test_gives_the_bytes(store, path):
    assert b"".join(store.fetch(path)) == FILES[path]
    assert b"".join(store.fetch(path, fresh=True)) == FILES[path]
    assert store.has(path)


@pytest.mark.parametrize("path", sorted(FILES))
def test_pieces_are_never_empty(store, path):
    assert all(store.fetch(path))


@pytest.mark.parametrize("path", ["data/ab/absent", "data/ab", "nowhere/at/all", "data/ab/small/below"])
def test_misses_what_it_has_not(store, path):
    with pytest.raises(MissingObject, match=path):
        list(store.fetch(path))
    assert not store.has(path)


@pytest.mark.parametrize("path", ["../storage/data/ab/small", "data/../../etc/passwd", "data/./ab/small", ".."])
def test_never_leaves_its_base(store, path):
    with pytest.raises(MissingObject):
        list(store.fetch(path))


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (3, 4), (9, 1), (0, 10)])
def test_gives_exactly_the_part(store, offset, length):
    assert b"".join(store.fetch("data/ab/small", span=(offset, length))) == b"0123456789"[offset : offset + length]


@pytest.mark.parametrize("span", [(0, 11), (10, 1), (500, 5)])
def test_refuses_a_part_that_is_not_all_there(store, span):
    with pytest.raises(Unreachable):
        list(store.fetch("data/ab/small", span=span))


def test_serves_many_threads(store):
    paths = sorted(FILES) * 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda path: b"".join(store.fetch(path)), paths)) == [FILES[path] for path in paths]


def test_an_abandoned_stream_does_no_harm(store):
    stream = store.fetch("data/ab/largeP")
    next(stream)
    del stream
    assert b"".join(store.fetch("data/ab/small")) == b"0123456789"


def test_documents_are_bounded(store):
    assert fetch_document(store, ".cvmfspublished") == FILES[".cvmfspublished"]
    with pytest.raises(Unreachable, match="longer than"):
        fetch_document(store, "data/ab/largeP", MAX_DOCUMENT - 1)


CONTENTS = {"empty": b"", "small": b"some text\n" * 30, "large": os.urandom(700_000) + bytes(300_000)}


@pytest.fixture
def files():
    """What the store under the contents has; a test may damage it."""
    return {}


@pytest.fixture(params=["uncached", "uncached-disk", "cached", "coalesced-uncached", "coalesced-cached"])
def contents(request, files, tmp_path):
    directory = str(tmp_path) if request.param == "uncached-disk" else None
    verified = Verified(MemoryStore(files), directory, memory=4096 if directory else 2**20)
    cache = ObjectCache(str(tmp_path / "cache"), 2**30)
    cache.prepare()
    inner = Uncached(verified, directory) if "uncached" in request.param else Cached(verified, cache, str(tmp_path))
    yield Coalesced(inner) if "coalesced" in request.param else inner
    cache.close()


def _content(descriptor):
    try:
        return os.pread(descriptor, 2**21, 0)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("form", list(itertools.product(["zlib", "zlib-fast", "zstd", "none"], Algorithm)), ids=str)
@pytest.mark.parametrize("name", sorted(CONTENTS))
def test_opens_the_content(contents, files, stored, name, form):
    wanted, data = stored(CONTENTS[name], *form)
    files[wanted.path] = data
    for _ in range(2):
        assert _content(contents.open(wanted)) == CONTENTS[name]


def test_opens_a_content_of_unknown_length(contents, files, stored):
    wanted, data = stored(CONTENTS["large"])
    files[wanted.path] = data
    assert _content(contents.open(Wanted(wanted.content))) == CONTENTS["large"]


def test_descriptors_are_not_inherited(contents, files, stored):
    wanted, data = stored(b"x")
    files[wanted.path] = data
    for _ in range(2):
        descriptor = contents.open(wanted)
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


def test_opens_a_part_of_an_external_file(contents, files):
    files["far/away%20file"] = b"0123456789"
    content = ContentHash.of(b"345", Algorithm.SHA1)
    wanted = Wanted(content, compression=1, size=3, place="far/away%20file", span=(3, 3))
    assert _content(contents.open(wanted)) == b"345"


def test_what_is_missing_is_missing_each_time(contents, stored):
    wanted, _ = stored(b"absent")
    for _ in range(2):
        with pytest.raises(MissingObject, match=wanted.path):
            contents.open(wanted)
    assert contents.open_present(wanted) is None


def test_a_corrupt_object_is_refused_until_it_is_whole_again(contents, files, stored):
    wanted, data = stored(CONTENTS["small"])
    files[wanted.path] = data[:9] + bytes([data[9] ^ 1]) + data[10:]
    with pytest.raises(CorruptObject, match=wanted.path):
        contents.open(wanted)
    assert contents.open_present(wanted) is None
    files[wanted.path] = data
    assert _content(contents.open(wanted)) == CONTENTS["small"]


@pytest.mark.parametrize("size", [0, 299, 301, 2**20])
def test_a_content_of_another_length_than_the_catalog_says_is_refused(contents, files, stored, size):
    wanted, data = stored(CONTENTS["small"])
    files[wanted.path] = data
    with pytest.raises(CorruptObject):
        contents.open(Wanted(wanted.content, wanted.compression, size))


def test_only_a_cache_has_it_present(contents, files, stored, request):
    wanted, data = stored(b"text")
    files[wanted.path] = data
    assert contents.open_present(wanted) is None
    os.close(contents.open(wanted))
    present = contents.open_present(wanted)
    if "uncached" in request.node.callspec.params["contents"]:
        assert present is None
    else:
        files.clear()
        assert _content(present) == b"text"
        assert _content(contents.open(wanted)) == b"text"


def test_one_hash_under_two_compressions_is_two_contents(contents, files, stored):
    # The zlib stream of a text, published itself as a file that is stored as it is.
    plain, data = stored(b"hello " * 100)
    files[plain.path] = data
    packed = Wanted(plain.content, compression=1, size=len(data))
    for _ in range(2):
        assert _content(contents.open(plain)) == b"hello " * 100
        assert _content(contents.open(packed)) == data
