"""Numbers that last: over restarts, under other mounts, for what was renamed, changed or removed."""

import os
import sqlite3
import stat
import threading
from dataclasses import replace

import pytest

from cvfs.catalog.diff import differences
from cvfs.client.inodes import ROOT, StaleNode
from cvfs.client.settings.view import ExportSettings
from cvfs.client.stable_inodes import FILE, StableInodes, named, open_stable_inodes
from cvfs.client.volume import Volume
from cvfs.errors import NotFound, Unreachable, UsageError

A, B = (b"/a", b"/a"), (b"/b", b"/b")


@pytest.fixture
def stable(tmp_path):
    """Opens the map of this test's directory, as often as one likes."""
    opened = []

    def open_one(*residue) -> StableInodes:
        opened.append(StableInodes.open(str(tmp_path / "maps"), *residue))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


# --- the map ----------------------------------------------------------------------------------------------------------


def test_a_number_is_given_out_once_and_for_ever(stable):
    first = stable()
    one, two = first.numbers([A, B], wait=True)
    assert one != two
    assert first.numbers([B, A, B], wait=True) == [two, one, two]
    again = stable()
    assert again.numbers([A], wait=True) == [one]
    assert again.entry_of(one) == A
    assert again.entry_of(one + 1000) is None


def test_what_is_not_in_memory_waits(stable):
    first = stable()
    with pytest.raises(BlockingIOError):
        first.numbers([A], wait=False)
    numbers = first.numbers([A], wait=True)
    assert first.numbers([A], wait=False) == numbers
    with pytest.raises(BlockingIOError):
        first.numbers([A, B], wait=False)


def test_who_must_not_wait_does_not_wait_for_a_writer_either(stable):
    first = stable()
    first.numbers([A], wait=True)
    with first._lock, pytest.raises(BlockingIOError):
        first.numbers([A], wait=False)


def test_a_renewed_number_means_nothing_any_more(stable):
    first = stable()
    [old] = first.numbers([A], wait=True)
    new = first.renew(A)
    assert new != old
    assert first.numbers([A], wait=False) == [new]
    assert first.entry_of(old) is None
    assert first.entry_of(new) == A
    assert stable().numbers([B], wait=True)[0] not in (old, new)


@pytest.mark.parametrize(("residue", "modulus"), [(0, 1), (0, 2), (1, 2), (3, 7), (299, 300)])
def test_only_one_class_of_residues_is_given_out(stable, residue, modulus):
    numbers = stable(residue, modulus).numbers([(b"/%d" % n, b"/%d" % n) for n in range(20)], wait=True)
    assert {number % modulus for number in numbers} == {residue}
    assert len(set(numbers)) == 20
    assert min(numbers) >= 256


def test_several_mounts_share_a_map(stable):
    """Each number has one meaning, whoever asks first."""
    maps = [stable() for _ in range(4)]
    entries = [(b"/%d" % n, b"/%d" % n) for n in range(60)]
    found: list[list[int]] = [[] for _ in maps]

    def ask(number):
        order = entries[number:] + entries[:number]
        given = {key: maps[number].numbers([(key, path)], wait=True)[0] for key, path in order}
        found[number] = [given[key] for key, _ in entries]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found[0] == found[1] == found[2] == found[3]
    assert len(set(found[0])) == 60


def test_hard_linked_entries_are_known_by_their_group():
    key = (b"/nested", 5, b"digest", 1700000000)
    assert named(key, b"/nested/a")[0] == named(key, b"/nested/b")[0]
    assert named(key, b"/nested/a")[0] != named((b"/nested", 6, b"digest", 1700000000), b"/nested/a")[0]
    assert named(b"/a", b"/a") == A


def test_numbers_end_some_day(stable, tmp_path):
    stable().numbers([A], wait=True)
    with sqlite3.connect(tmp_path / "maps" / FILE) as connection:
        connection.execute("UPDATE numbers SET number = ?", (2**32 - 1,))
    connection.close()
    with pytest.raises(Unreachable, match="no inode numbers are left"):
        stable().numbers([B], wait=True)


def test_a_map_that_is_none_is_refused(tmp_path):
    (tmp_path / FILE).write_bytes(b"garbage" * 1000)
    with pytest.raises(UsageError, match="no map of inodes"):
        StableInodes.open(str(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="CVMFS_NFS_SHARED"):
        StableInodes.open(str(tmp_path / "file" / "below"))


def test_a_map_that_cannot_be_used_is_an_error_in_time(stable, tmp_path, monkeypatch):
    first = stable()
    first._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(tmp_path / "maps" / FILE, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unreachable, match="locked"):
        first.numbers([A], wait=True)
    other.execute("ROLLBACK")
    other.close()
    assert first.numbers([A], wait=True)
    monkeypatch.setattr("cvfs.client.stable_inodes._PATIENCE", 0.01)
    with first._lock, pytest.raises(Unreachable, match="does not answer"):
        first.numbers([A], wait=True)


def test_where_the_map_lies(make_settings, tmp_path):
    plain = make_settings(workspace=str(tmp_path / "w"))
    assert open_stable_inodes(plain) is None
    own = replace(plain, view=replace(plain.view, export=ExportSettings(nfs_source=True)))
    open_stable_inodes(own).close()
    assert (tmp_path / "w" / f"nfs_maps.{own.fqrn}" / FILE).exists()
    shared = ExportSettings(nfs_source=True, shared=str(tmp_path / "s"), residue=1, modulus=3)
    opened = open_stable_inodes(replace(plain, view=replace(plain.view, export=shared)))
    assert opened.numbers([A], wait=True)[0] % 3 == 1
    opened.close()
    assert (tmp_path / "s" / own.fqrn / FILE).exists()


# --- the volume -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(fixture_repository):
    return fixture_repository("tiny.example.org")


@pytest.fixture
def mount(opened, tiny, stable):
    """A volume with lasting numbers, as after another start of the mount."""
    return lambda tag="s5": Volume(opened(tiny, tag=tag), stable=stable())


def everything(volume: Volume) -> dict[bytes, int]:
    """All paths with their numbers."""
    found, waiting = {}, [(b"", ROOT)]
    while waiting:
        path, ino = waiting.pop()
        for name, attributes in volume.listing(ino):
            found[path + b"/" + name] = attributes.ino
            if stat.S_ISDIR(attributes.mode):
                waiting.append((path + b"/" + name, attributes.ino))
    return found


def test_numbers_are_the_same_after_a_restart(mount):
    before = everything(mount())
    again = mount()
    for path in sorted(before, reverse=True)[:50]:
        ino = ROOT
        for name in path.split(b"/")[1:]:
            ino = again.lookup(ino, name).ino
        assert ino == before[path]
    assert everything(again) == before


def test_a_number_from_before_is_found_again(mount):
    before = everything(mount())
    again = mount()
    hello = before[b"/files/hello.txt"]
    with pytest.raises(BlockingIOError):
        again.lookup(hello, b".", wait=False)
    found = again.lookup(hello, b".")
    assert found.ino == hello
    assert len(again.read(hello, 0, 2**20)) == found.size
    assert again.lookup(hello, b"..").ino == before[b"/files"]
    directory = before[b"/deep/moved00/level01"]
    assert again.lookup(directory, b"level02").ino == before[b"/deep/moved00/level01/level02"]
    assert again.lookup(directory, b"..").ino == before[b"/deep/moved00"]


def test_what_is_gone_is_stale(mount, tiny):
    """The revision that is shown after the restart has some of the entries no more."""
    before = everything(mount("s5"))
    again = mount("s1")
    there = {entry["path"].encode("utf-8", "surrogateescape") for entry in tiny.manifests["s1"]["entries"]}
    gone = sorted(before.keys() - there)
    assert gone
    for path in gone[:20]:
        with pytest.raises((StaleNode, NotFound)):
            again.lookup(before[path], b".")
    with pytest.raises(StaleNode):
        again.lookup(2**32 - 5, b".")


def test_a_changed_file_gets_another_number_that_lasts(mount, opened, tiny):
    old, newer = mount("s1"), opened(tiny, tag="s2")
    first = {e["path"]: e for e in tiny.manifests["s1"]["entries"]}
    second = {e["path"]: e for e in tiny.manifests["s2"]["entries"]}
    path = next(
        p.encode()
        for p, e in sorted(first.items())
        if e["type"] == "file"
        and p in second
        and second[p].get("sha256") not in (None, e["sha256"])
        and e["nlink"] == 1
    )
    numbers = [ROOT]
    for name in path.split(b"/")[1:]:
        numbers.append(old.lookup(numbers[-1], name).ino)
    found = list(differences(old.repository.tree, newer.tree))
    old.remember(found)
    assert old.switch(newer, found, {node.path for node in old.known_directories()})
    with pytest.raises(BlockingIOError):
        old.lookup(numbers[-2], os.path.basename(path), wait=False)
    changed = old.lookup(numbers[-2], os.path.basename(path)).ino
    assert changed != numbers[-1]
    assert old.getattr(numbers[-1]).ino == numbers[-1]
    again = mount("s2")
    assert everything(again)[path] == changed
    with pytest.raises(StaleNode):
        mount("s2").lookup(numbers[-1], b".")
