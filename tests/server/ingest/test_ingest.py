"""Contents of changed files: in order, each file once, whatever the workers do; bounded, and ended with the publish."""

import multiprocessing
import os
import select
import signal

import pytest

from cvfs.errors import StoreError, Unpublishable
from cvfs_server.changes import Change, DirectoryChanges, Kind
from cvfs_server.ingest import batches, ingest
from cvfs_server.ingest.batches import BATCH_FILES
from cvfs_server.ingest.content import ContentReader, StorageForm
from cvfs_server.ingest.ingest import INLINE_FILES, Ingest
from cvfs_server.sources.base import Place, ScannedEntry
from cvfs_server.sources.scan import ScanRules, TreeSource
from cvfs_server.sources.walk import ScannedCatalog

FORM = StorageForm(compression="none")
DEADLINE = 60


@pytest.fixture
def tree(tmp_path):
    """Makes directories of files, as a stream of changes; a file's content is its path."""
    top = tmp_path / "tree"

    def make(*counts, group=0, missing=()):
        for number, count in enumerate(counts):
            path = b"/d%d" % number
            (top / f"d{number}").mkdir(parents=True)
            changes = []
            for index in range(count):
                name = b"f%d" % index
                changes.append(_change(path + b"/" + name, name, group=group))
                if (number, index) not in missing:
                    (top / f"d{number}" / f"f{index}").write_bytes(path + b"/" + name)
            yield DirectoryChanges(path, _CATALOG, changes=changes)

    make.top = os.fsencode(top)
    return make


_ROOT = ScannedEntry(b"", 0o40755, 0, 0, 0, 0, 0, 0)
_CATALOG = ScannedCatalog(b"", _ROOT, None)


def _change(path, name, *, group=0, reads=True, generated=False):
    entry = ScannedEntry(name, 0o100644, 10, 0, 0, 0, 0, 0, group=group, generated=generated)
    return Change(Kind.ADD, path, entry, None, reads, 1)


def _run(storage, tree, changes, workers=2):
    with Ingest(storage, FORM, TreeSource(tree.top, ScanRules()), workers) as running:
        return list(running.run(changes))


def _read(storage, content):
    return b"".join(storage.fetch(f"data/{content.digest.hex()[:2]}/{content.digest.hex()[2:]}"))


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [0],
        [1],
        [0, 3, 0, 0, 2],
        [INLINE_FILES],
        [INLINE_FILES + 1],
        [INLINE_FILES + 1 + BATCH_FILES],
        [BATCH_FILES * 9 + 5, 0, 1, 0, BATCH_FILES],
        [1] * (BATCH_FILES * 4),
    ],
)
def test_the_stream_leaves_as_it_came(storage, tree, counts):
    done = _run(storage, tree, tree(*counts))
    assert [item.directory.path for item in done] == [b"/d%d" % number for number in range(len(counts))]
    for item, count in zip(done, counts, strict=True):
        assert sorted(item.contents) == list(range(count))
        for index, content in item.contents.items():
            assert _read(storage, content) == item.directory.changes[index].path


@pytest.mark.parametrize("inline", [0, INLINE_FILES])
def test_the_window_is_bounded(storage, tree, monkeypatch, inline):
    """Directories do not pile up behind one that is not complete, whoever reads."""
    monkeypatch.setattr(ingest, "WINDOW", 10)
    monkeypatch.setattr(ingest, "INLINE_FILES", inline)
    entered, left = 0, 0

    def counted(changes):
        nonlocal entered
        for directory in changes:
            entered += 1
            assert entered - left <= 7
            yield directory

    with Ingest(storage, FORM, TreeSource(tree.top, ScanRules()), 2) as running:
        for _ in running.run(counted(tree(*[1] * 100))):
            left += 1
    assert left == 100


def test_a_slow_file_holds_up_no_other_batch(storage, tree, monkeypatch):
    """What another worker finished meanwhile is taken, and more is sent."""
    plain, (waits, releases) = ContentReader.take, os.pipe()

    def slowly(reader, place):
        if place.path.endswith(b"/d0/f0"):
            assert select.select([waits], [], [], DEADLINE)[0]
        return plain(reader, place)

    def released(changes):
        for number, directory in enumerate(changes):
            if number == 19:
                # More than can be on their way at a time have passed by the first one.
                os.write(releases, b"x")
            yield directory

    monkeypatch.setattr(ContentReader, "take", slowly)
    assert len(_run(storage, tree, released(tree(*[BATCH_FILES] * 20)))) == 20
    os.close(waits)
    os.close(releases)


def test_names_of_one_file_are_read_once(storage, tree, monkeypatch):
    taken = []
    plain = ContentReader.take
    monkeypatch.setattr(ContentReader, "take", lambda reader, path: (taken.append(path), plain(reader, path))[1])
    (item,) = _run(storage, tree, tree(3, group=1))
    assert taken == [Place(tree.top + b"/d0/f0")]
    assert len({id(content) for content in item.contents.values()}) == 1
    assert sorted(item.contents) == [0, 1, 2]


def test_what_needs_no_reading_is_not_read(storage, tree):
    changes = [_change(b"/none", b"none", reads=False), _change(b"/made", b"made", generated=True)]
    (item,) = _run(storage, tree, [DirectoryChanges(b"", _CATALOG, changes=changes)])
    assert list(item.contents) == [1]
    assert item.contents[1].size == 0


@pytest.mark.parametrize("count", [5, BATCH_FILES * 6])
def test_a_vanished_file_is_named(storage, tree, count):
    with pytest.raises(Unpublishable, match=r"d0/f3: No such file or directory; nothing was published"):
        _run(storage, tree, tree(count, missing={(0, 3)}))
    assert multiprocessing.active_children() == []


def test_a_dying_worker_is_an_error(storage, tree, monkeypatch):
    monkeypatch.setattr(batches, "read_packed", _die)
    with pytest.raises(StoreError, match=r"a worker died near .*; nothing was published, try again"):
        _run(storage, tree, tree(BATCH_FILES * 6))
    assert multiprocessing.active_children() == []


def _die(_paths):
    os.kill(os.getpid(), signal.SIGKILL)


def test_no_worker_outlives_a_stream_that_is_given_up(storage, tree):
    running = Ingest(storage, FORM, TreeSource(tree.top, ScanRules()), 2)
    with running:
        next(running.run(tree(BATCH_FILES * 6, 1)))
        assert multiprocessing.active_children() != []
    assert multiprocessing.active_children() == []


def test_an_error_of_the_source_comes_through(storage, tree):
    def broken():
        yield from tree(BATCH_FILES * 3)
        raise Unpublishable("here")

    with pytest.raises(Unpublishable, match="here"):
        _run(storage, tree, broken())
    assert multiprocessing.active_children() == []
