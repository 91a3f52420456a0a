"""An opened repository: its files and bytes, revisions, threads, forks and pickles."""

import hashlib
import io
import mmap
import os
import pickle
import subprocess
import sys
import threading

import pytest

from cvfs.client.data_plane import connect
from cvfs.errors import FormatError, IsADirectory, NotFound, ReadOnly, StoreError, UsageError

LARGE = "/chunked/random_1m"
SMALL = "/files/hello.txt"


def published(tiny, path: str) -> dict:
    return next(entry for entry in tiny.manifests["s5"]["entries"] if entry["path"] == path)


@pytest.mark.parametrize("path", [LARGE, SMALL, "/files/empty", "/symlinks/relative_dir/hello.txt"])
def test_bytes(reader, tiny, path):
    real = published(tiny, path.replace("/symlinks/relative_dir", "/files"))
    assert hashlib.sha256(reader.read_bytes(path)).hexdigest() == real["sha256"]


@pytest.mark.parametrize("path", [LARGE, SMALL, "/files/empty"])
def test_a_part_of_a_file_is_a_slice_of_it(reader, path):
    data = reader.read_bytes(path)
    for bounds in (
        (0, 10),
        (5, None),
        (None, 7),
        (-9, None),
        (-9, -3),
        (10, 5),
        (len(data), None),
        (3, 10**12),
        (None, None),
    ):
        assert reader.read_bytes(path, *bounds) == data[slice(*bounds)]
    middle = len(data) // 2
    assert reader.read_bytes(path, middle - 1, middle + 1) == data[middle - 1 : middle + 1] if middle else True


def test_a_file_knows_where_it_came_from(reader):
    with reader.open(LARGE) as file:
        assert (file.path, file.size, file.reader) == (LARGE, 2**20, reader)
        assert repr(file) == f"<RepositoryFile {LARGE}>"
        assert file.read() == reader.read_bytes(LARGE)
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, os.SEEK_DATA)
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_text_is_utf_8_unless_said_otherwise(reader, tiny):
    with reader.open(SMALL, "r") as file:
        assert hashlib.sha256(file.read().encode()).hexdigest() == published(tiny, SMALL)["sha256"]
    with reader.open("/files/binary_all_bytes", "rt", encoding="latin-1", newline="") as file:
        assert file.read()[:256] == bytes(range(256)).decode("latin-1")
    with reader.open("/files/binary_all_bytes", "r") as file, pytest.raises(UnicodeDecodeError):
        file.read()


@pytest.mark.parametrize("mode", ["w", "wb", "r+", "a", "x", "rbt", "", "rU"])
def test_writing_is_refused(reader, mode):
    with pytest.raises(ReadOnly, match="published files are read"):
        reader.open(SMALL, mode)


def test_the_wrong_kind_of_entry(reader):
    for ask in (reader.open, reader.read_bytes):
        with pytest.raises(IsADirectory, match="/chunked: is a directory"):
            ask("/chunked")
        with pytest.raises(NotFound, match="/specialfiles/fifo: not a regular file"):
            ask("/specialfiles/fifo")
        with pytest.raises(FileNotFoundError, match="/none: no such file"):
            ask("/none")


# --- descriptors ------------------------------------------------------------------------------------------------------


def test_a_file_of_one_object_can_be_mapped(reader):
    data = reader.read_bytes(SMALL)
    with reader.open(SMALL) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[:] == data


def test_the_descriptor_goes_on_where_the_reader_is(reader):
    data = reader.read_bytes(SMALL)
    with reader.open(SMALL) as file, reader.open(SMALL) as other:
        assert file.read(5) == data[:5]
        assert other.read(1) == data[:1]
        assert os.read(file.fileno(), 100) == data[5:]
        assert os.read(other.fileno(), 100) == data[1:]
        done = subprocess.run(["/bin/cat"], stdin=file, capture_output=True, timeout=60)
        assert done.stdout == data[5:]


def test_a_file_in_chunks_has_no_descriptor(reader):
    with reader.open(LARGE) as file:
        with pytest.raises(io.UnsupportedOperation):
            file.fileno()
        assert not file.isatty()


@pytest.mark.parametrize("path", [LARGE, SMALL])
def test_a_place_for_programs_that_open_by_name(reader, path):
    with reader.local_path(path) as place:
        done = subprocess.run(["/bin/cat", place], capture_output=True, timeout=60)
        assert done.stdout == reader.read_bytes(path)
        assert os.path.basename(place) == path.rpartition("/")[2]
    assert not os.path.lexists(place)


def test_a_copy_tells_how_far_it_is(reader, tmp_path):
    steps = []
    for path in (LARGE, SMALL, "/files/empty"):
        steps.clear()
        size = reader.copy(path, tmp_path / "copy", steps.append)
        assert (tmp_path / "copy").read_bytes() == reader.read_bytes(path)
        assert sum(steps) == size == (tmp_path / "copy").stat().st_size
    assert reader.copy(SMALL, tmp_path / "again") == (tmp_path / "again").stat().st_size


# --- what is fetched --------------------------------------------------------------------------------------------------


def test_only_the_chunks_that_are_read_are_fetched(open_tiny, tiny, web):
    server = web(tiny.root)
    reader = open_tiny(f"{server.url}/{tiny.fqrn}")
    assert reader.path(LARGE).stat().st_size == 2**20
    where, entry = reader.find(LARGE)
    chunks = reader.repository.pieces(where, entry)
    assert len(chunks) > 10
    server.requests.clear()
    reader.read_bytes(LARGE, chunks[3].offset, chunks[4].offset + 1)
    assert sorted(server.requests) == sorted(f"/{tiny.fqrn}/{chunk.wanted.path}" for chunk in chunks[3:5])


def test_chunks_of_a_large_file_are_fetched_at_the_same_time(open_tiny, tiny, web):
    server = web(tiny.root)
    reader = open_tiny(f"{server.url}/{tiny.fqrn}")
    where, entry = reader.find(LARGE)
    server.held = {f"/{tiny.fqrn}/{chunk.wanted.path}" for chunk in reader.repository.pieces(where, entry)}
    found = []
    reading = threading.Thread(target=lambda: found.append(reader.read_bytes(LARGE)))
    reading.start()
    # None of them is answered before several have come.
    assert all(server.arrived.acquire(timeout=60) for _ in range(6))
    server.release.set()
    reading.join(60)
    assert hashlib.sha256(found[0]).hexdigest() == published(tiny, LARGE)["sha256"]


def test_more_readers_than_threads_do_not_wait_for_each_other(open_tiny, tiny):
    """Each occupies a thread of the pool that its own chunks are fetched with."""
    reader = open_tiny()
    reading = [reader.pool.submit(reader.read_bytes, LARGE) for _ in range(40)]
    assert {hashlib.sha256(one.result(60)).hexdigest() for one in reading} == {published(tiny, LARGE)["sha256"]}


def test_the_cache_is_shared_with_everybody_else(open_tiny, tiny, tmp_path, web):
    server = web(tiny.root)
    url = f"{server.url}/{tiny.fqrn}"
    first, second = open_tiny(url, cache=tmp_path / "c"), open_tiny(url, cache=tmp_path / "c")
    first.read_bytes(LARGE)
    server.requests.clear()
    assert second.read_bytes(LARGE) == first.read_bytes(LARGE)
    assert server.requests == []


def test_an_object_that_cannot_be_had_is_an_error_and_no_absence(publication, open_tiny, tiny):
    changed = publication()
    reader = open_tiny(f"file://{changed.storage}")
    chunk = reader.repository.pieces(*reader.find(LARGE))[5]
    changed.flip(chunk.wanted.content.path)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreError) as caught:
        reader.read_bytes(LARGE)
    assert not isinstance(caught.value, OSError)
    assert reader.path(LARGE).exists()
    assert reader.read_bytes(LARGE, 0, 100)
    reader.pool.shutdown(wait=True)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_an_object_shorter_than_the_catalog_says_is_refused(open_tiny, monkeypatch, tmp_path):
    reader = open_tiny()
    where, entry = reader.find(LARGE)
    pieces = reader.repository.pieces(where, entry)
    contents = reader.repository.contents_of(entry)

    def short(_wanted) -> int:
        descriptor, place = os.open(tmp_path / "short", os.O_RDWR | os.O_CREAT), b"x"
        os.write(descriptor, place)
        return descriptor

    monkeypatch.setattr(contents, "open", short)
    assert len(pieces) > 1
    with pytest.raises(FormatError, match="shorter than the catalog says"):
        reader.read_bytes(LARGE)
    with pytest.raises(FormatError, match="shorter than the catalog says"):
        reader.copy(LARGE, tmp_path / "copy")
    (tmp_path / "short").unlink()
    with reader.open(LARGE) as file, pytest.raises(FormatError, match="shorter than the catalog says"):
        file.read()


# --- revisions --------------------------------------------------------------------------------------------------------


def test_it_shows_one_revision_until_it_is_told_to_look(publication, open_tiny):
    changing = publication()
    changing.publish("s1")
    reader = open_tiny(f"file://{changing.storage}")
    before, path = reader.root_hash, reader.path("/versions")
    old = sorted(child.name for child in path.iterdir()) if path.exists() else []
    changing.publish("s4")
    assert reader.root_hash == before
    assert reader.refresh() is True
    assert reader.root_hash != before
    assert sorted(child.name for child in path.iterdir()) != old
    assert reader.refresh() is False


def test_a_server_that_lags_takes_nobody_back(publication, open_tiny):
    changing = publication()
    changing.publish("s4")
    reader = open_tiny(f"file://{changing.storage}")
    before, number = reader.root_hash, reader.revision
    # The root catalog of an earlier revision says so itself.
    changing.publish("s1")
    assert reader.refresh() is False
    assert (reader.root_hash, reader.revision) == (before, number)


def test_a_tag_stays(publication, open_tiny):
    reader = open_tiny(tag="s1")
    assert reader.refresh() is False


def test_after_closing_nothing_is_found_and_open_files_go_on(open_tiny):
    reader = open_tiny()
    file = reader.open(SMALL)
    path = reader.path(SMALL)
    text = path.read_bytes()
    reader.close()
    assert file.read() == text
    for ask in (path.exists, path.read_bytes, reader.connect, lambda: reader.revision):
        with pytest.raises(UsageError, match="closed, open it again"):
            ask()
    reader.close()


def test_a_read_that_is_under_way_comes_to_its_end_after_closing(open_tiny, tiny, monkeypatch):
    reader = open_tiny()
    contents = reader.repository.contents_of(reader.find(LARGE)[1])
    opened = contents.open

    def close_first(wanted) -> int:
        reader.close()
        return opened(wanted)

    monkeypatch.setattr(contents, "open", close_first)
    monkeypatch.setattr("cvfs.client.library.ahead._AHEAD", 1)
    assert hashlib.sha256(reader.read_bytes(LARGE)).hexdigest() == published(tiny, LARGE)["sha256"]


# --- other processes --------------------------------------------------------------------------------------------------


def test_a_pickle_shows_the_same_revision(publication, open_tiny):
    changing = publication()
    changing.publish("s1")
    reader = open_tiny(f"file://{changing.storage}")
    data = pickle.dumps((reader, reader.path("/files"), reader.root))
    changing.publish("s4")
    again, path, root = pickle.loads(data)
    assert again.root_hash == reader.root_hash
    assert path.repository is root.repository is again
    assert (path, root) == (reader.path("/files"), reader.root)
    again.close()
    assert pickle.loads(data)[0].revision == reader.revision


def test_one_path_after_another_out_of_pickles_is_one_connection(open_tiny, monkeypatch):
    """As a worker of a pool gets them, and forgets each."""
    data = pickle.dumps(open_tiny().path(SMALL))
    connections = []
    monkeypatch.setattr(
        "cvfs.client.library.reader.connect", lambda settings: connections.append(1) or connect(settings)
    )
    texts = {pickle.loads(data).read_bytes() for _ in range(3)}
    assert (len(texts), len(connections)) == (1, 1)


def test_an_open_file_is_reopened_where_it_was(reader):
    with reader.open(LARGE) as file:
        file.seek(12345)
        with pickle.loads(pickle.dumps(file)) as again:
            assert again.read(100) == file.read(100)


FORKING = """
import hashlib, os, sys, threading
import cvfs
url, key, cache, path = sys.argv[1:]
reader = cvfs.open_repository(url, public_key=key, cache=cache)
expected = reader.read_bytes(path)
found = reader.root / path
sessions = sorted(name for name in os.listdir(cache + "/txn") if name.endswith(".lock"))
children = []
for _ in range(2):
    child = os.fork()
    if not child:
        same = found.read_bytes() == expected and reader.pool.submit(lambda: reader.revision).result(60) == 6
        # The way an ordinary program ends, with everything that is called at the end.
        sys.exit(0 if same else 1)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
assert sorted(name for name in os.listdir(cache + "/txn") if name.endswith(".lock")) == sessions
assert reader.read_bytes(path) == expected
"""


def test_after_a_fork_both_go_on(tiny, tmp_path):
    arguments = [f"file://{tiny.storage}", str(tiny.public_key), str(tmp_path / "cache"), LARGE]
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    # At the end of a process its session with the cache is over, its books are written.
    assert [name for name in os.listdir(tmp_path / "cache" / "txn") if name.endswith(".lock")] == []
