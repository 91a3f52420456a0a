"""Numbers: given out once, counted, detached, bounded."""

import pytest

from cvfs.client import inodes
from cvfs.client.inodes import ROOT, Inodes, StaleNode
from cvfs.errors import CvfsError


@pytest.fixture
def table(row) -> Inodes:
    return Inodes(row(b"", 0o040755))


def add(table, row, path: bytes, mode: int = 0o100644, references: int = 0):
    node = table.assign(path, path, row(path.rpartition(b"/")[2], mode))
    for _ in range(references):
        table.reference([node])
    return node


def test_one_number_for_one_key(table, row):
    node = add(table, row, b"/a")
    assert table.assign(b"/a", b"/a", node.entry) is node
    assert add(table, row, b"/b").ino != node.ino
    assert table.node(node.ino) is node
    assert table.at(b"/a") is node


def test_the_root_is_never_forgotten(table):
    table.forget(ROOT, 10**9)
    assert table.node(ROOT).path == b""


def test_numbers_below_256_mean_nothing_but_the_root(table, row):
    assert add(table, row, b"/a").ino == 256
    for ino in (0, 2, 255, -1, 2**64):
        with pytest.raises(StaleNode) as caught:
            table.node(ino)
        assert isinstance(caught.value, CvfsError)
        assert caught.value.errno == 116


@pytest.mark.parametrize(("given", "back", "lives"), [(1, 1, False), (3, 2, True), (3, 3, False), (1, 5, False)])
def test_references_are_counted(table, row, given, back, lives):
    node = add(table, row, b"/a", references=given)
    table.forget(node.ino, back)
    assert (table.at(b"/a") is node) == lives
    assert len(table) == 1 + lives


def test_forgetting_the_unknown_is_harmless(table):
    table.forget(4711, 1)
    assert len(table) == 1


def test_a_detached_number_lives_until_it_is_forgotten(table, row):
    old = add(table, row, b"/a", references=1)
    table.detach(old)
    new = add(table, row, b"/a", references=1)
    assert old.detached
    assert not new.detached
    assert new.ino != old.ino
    assert table.node(old.ino) is old
    assert table.detached() == [old.ino]
    table.forget(old.ino, 1)
    assert table.detached() == []
    assert table.at(b"/a") is new
    with pytest.raises(StaleNode):
        table.node(old.ino)


def test_a_directory_takes_along_what_is_below_and_nothing_beside(table, row):
    paths = (b"/d", b"/d/f", b"/d/e/f", b"/d2", b"/d2/f", b"/a/d")
    nodes = {path: add(table, row, path, references=1) for path in paths}
    table.detach_below({b"/d"})
    assert {path for path in paths if table.at(path) is None} == {b"/d", b"/d/f", b"/d/e/f"}
    assert all(table.node(node.ino) is node for node in nodes.values())


def test_files_are_detached_unless_their_directory_was_compared(table, row):
    for path in (b"/f", b"/d/f", b"/e/f"):
        add(table, row, path)
    for path in (b"/d", b"/e"):
        add(table, row, path, 0o040755)
    table.detach_files_outside({b"", b"/d"})
    assert {node.path for node in table if node.detached} == {b"/e/f"}


def test_what_was_never_handed_out_is_bounded(table, row, monkeypatch):
    monkeypatch.setattr(inodes, "_UNREFERENCED_LIMIT", 5)
    held = add(table, row, b"/held", references=1)
    for number in range(20):
        add(table, row, b"/%d" % number)
    assert len(table) == 1 + 1 + 5
    assert table.node(held.ino) is held
    assert table.at(b"/19") is not None
    assert table.at(b"/14") is None


def test_numbers_start_again_below_two_to_the_32_and_skip_those_in_use(table, row):
    first = add(table, row, b"/first", references=1)
    table._next = 2**32 - 1
    last = add(table, row, b"/last", references=1)
    wrapped = add(table, row, b"/wrapped", references=1)
    assert last.ino == 2**32 - 1
    assert (first.ino, wrapped.ino) == (256, 257)
