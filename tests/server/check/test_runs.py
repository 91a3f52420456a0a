"""Checks that are interrupted and resumed, that believe what earlier ones found, and that share catalogs between tags."""

import os
import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from cvfs.errors import Locked
from cvfs.store.local import LocalStore
from cvfs_server.check.check import CheckOptions, check
from cvfs_server.check.memory import NEVER
from cvfs_server.check.runs import interrupted, remembering
from cvfs_server.storage.choice import storage_of
from cvfs_server.tags.tags import list_tags


class Watched(LocalStore):
    """A repository that counts what is read, and interrupts the reader at the `last` object."""

    def __init__(self, base, last=None):
        super().__init__(base)
        self._storage = None
        self.read = Counter()
        self.last = last

    def objects(self, since=0):
        return self._storage.objects(since)

    @classmethod
    def of(cls, own, last=None):
        store = cls(own.settings.storage, last)
        store._storage = storage_of(own.settings)
        return store

    def fetch(self, path, *, fresh=False, span=None):
        if path.startswith("data/") and path[-1] not in "CHXM":
            if self.last is not None and len(self.read) == self.last:
                raise KeyboardInterrupt
            self.read[path] += 1
        return super().fetch(path, fresh=fresh, span=span)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tree of a repository with nested catalogs; each file has an object of its own."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("", "one", "two"):
        (tree / name).mkdir(exist_ok=True)
        if name:
            (tree / name / ".cvmfscatalog").touch()
        for number in range(20):
            (tree / name / f"file{number}").write_bytes(f"{name}{number}".encode() * 50)
    return tree


@pytest.fixture
def own(new_repository, made):
    repository = new_repository()
    shutil.copytree(made, repository.tree, dirs_exist_ok=True)
    repository.publish(tag="first")
    return repository


def run(own, tmp_path, store, *, resume=False, since=NEVER, **options):
    """The findings of one integrity check that remembers."""
    with remembering(own.settings, resume=resume, since=since) as memory:
        scratch = tmp_path / f"scratch{len(os.listdir(tmp_path))}"
        scratch.mkdir()
        chosen = CheckOptions(integrity=True, workers=1, memory=memory, **options)
        with closing(check(store, own.manifest(), chosen, str(scratch))) as findings:
            return list(findings)


def test_an_interrupted_check_is_resumed_where_it_ended(own, tmp_path):
    stopped = Watched.of(own, last=30)
    with pytest.raises(KeyboardInterrupt):
        run(own, tmp_path, stopped)
    assert interrupted(own.settings) is not None
    rest = Watched.of(own)
    assert run(own, tmp_path, rest, resume=True) == []
    everything = Watched.of(own)
    assert run(own, tmp_path, everything) == []
    # What was being looked at when it ended is looked at again: parts are written down when they are done.
    assert set(rest.read) | set(stopped.read) == set(everything.read)
    assert len(rest.read) <= len(everything.read) - 25
    assert interrupted(own.settings) is None


def test_a_check_that_came_to_its_end_leaves_nothing_to_resume(own, tmp_path):
    assert run(own, tmp_path, Watched.of(own)) == []
    again = Watched.of(own)
    assert run(own, tmp_path, again, resume=True) == []
    assert len(again.read) >= 61


def test_what_was_found_sound_lately_is_not_read_again_but_must_be_there(own, tmp_path):
    assert run(own, tmp_path, Watched.of(own)) == []
    (own.tree / "new").write_bytes(b"not verified yet")
    own.publish()
    believing = Watched.of(own)
    assert run(own, tmp_path, believing, since=0.0) == []
    assert len(believing.read) == 1
    objects = [path for path, _ in storage_of(own.settings).objects() if path[-1] not in "CHXM"]
    missing, short = sorted(set(objects) - set(believing.read))[:2]
    os.unlink(f"{own.settings.storage}/{missing}")
    Path(own.settings.storage, short).write_bytes(b"")
    found = run(own, tmp_path, Watched.of(own), since=0.0)
    assert sorted(finding.what.partition(":")[0] for finding in found) == [
        "its object",
        f"its object {missing} is missing",
    ]


def test_a_damaged_object_is_forgotten(own, tmp_path):
    assert run(own, tmp_path, Watched.of(own)) == []
    path, size = next((path, size) for path, size in storage_of(own.settings).objects() if path[-1] not in "CHXM")
    place = Path(own.settings.storage, path)
    whole = place.read_bytes()
    place.write_bytes(bytes(size))
    # Bytes that rot do not show in a listing: only reading finds them, once or as often as it is asked for.
    assert run(own, tmp_path, Watched.of(own), since=0.0) == []
    assert len(run(own, tmp_path, Watched.of(own))) == 1
    assert len(run(own, tmp_path, Watched.of(own), since=0.0)) == 1
    place.write_bytes(whole)
    assert run(own, tmp_path, Watched.of(own), since=0.0) == []


def test_one_check_at_a_time_remembers(own):
    with remembering(own.settings), pytest.raises(Locked), remembering(own.settings):
        pass


@pytest.mark.parametrize("workers", [1, 2])
def test_without_reading_a_truncated_object_shows_in_the_listing(own, workers, tmp_path, monkeypatch):
    monkeypatch.setattr("cvfs_server.check.tree._INLINE_ENTRIES", 0)
    store = storage_of(own.settings)
    path = next(path for path, _ in store.objects() if path[-1] not in "CHXM")
    Path(own.settings.storage, path).write_bytes(b"")
    found = list(check(store, own.manifest(), CheckOptions(workers=workers), str(tmp_path)))
    assert [finding.what for finding in found] == [
        f"its object {path} has 0 bytes: at least 8 are needed, it was truncated"
    ]


def test_all_tags_are_checked_and_what_they_share_once(own, tmp_path):
    (own.tree / "one" / "file3").write_bytes(b"another content")
    own.publish(tag="second")
    catalogs = Counter()

    class Counting(Watched):
        def fetch(self, path, *, fresh=False, span=None):
            catalogs[path] += path.endswith("C")
            return super().fetch(path, fresh=fresh, span=span)

    store = Counting.of(own)
    assert run(own, tmp_path, store, all_tags=True) == []
    # Three of each revision, and the empty one that mkfs published; /two is the same in both.
    assert sum(catalogs.values()) == 3 + 2 + 1
    assert max(store.read.values()) == 1


def test_what_only_a_tag_lacks_is_said_with_its_name(own, tmp_path):
    (own.tree / "one" / "file3").write_bytes(b"another content")
    own.publish()
    (lost,) = [tag.root_catalog for tag in list_tags(own.site, own.fqrn) if tag.name == "first"]
    os.unlink(f"{own.settings.storage}/{lost.path}")
    assert [finding for finding in own.check() if finding.where == "/"] == []
    found = [finding.where for finding in own.check(all_tags=True)]
    assert "tag first: /" in found


def test_several_tags_by_name(own, tmp_path):
    (own.tree / "one" / "file3").write_bytes(b"another content")
    own.publish(tag="second")
    store = Watched.of(own)
    assert run(own, tmp_path, store, tags=("first", "second")) == []
    assert len(store.read) == 62
