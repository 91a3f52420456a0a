"""What a path means while the kernel knows files by their paths: never two contents at a time."""

import pytest

from cvfs.fuse.known_paths import KnownPaths

PATH = b"/file"
TIMEOUT = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def paths(tree, clock) -> KnownPaths:
    return KnownPaths(tree, TIMEOUT, limit=3, clock=clock)


@pytest.fixture
def show(tree):
    """Puts another content at the path; gives what a walk finds there, with its reference."""

    def put(content: bytes | None = None):
        if content is not None:
            tree.add_file(b"file", content)
        return tree.lookup(1, b"file", True)

    return put


def test_the_newest_content_counts_if_nobody_depends_on_the_old(paths, show, tree):
    old = paths.tell(PATH, show(b"old"))
    new = paths.tell(PATH, show(b"newer"))
    assert new.size == 5
    assert tree.referenced() == {new.ino: 1}
    assert new.ino != old.ino


def test_a_file_that_is_open_stays_what_it_is_for_everybody(paths, show, tree):
    paths.tell(PATH, show(b"old"))
    handle, old = paths.open(PATH, show())
    assert paths.tell(PATH, show(b"newer")).size == 3
    again, node = paths.open(PATH, show())
    assert node == old
    paths.close(handle)
    assert paths.tell(PATH, show()).size == 3
    paths.close(again)
    new = paths.tell(PATH, show())
    assert new.size == 5
    assert tree.referenced() == {new.ino: 1}


def test_what_is_opened_is_what_the_kernel_believes(paths, show, clock):
    """It would read as many bytes as the old one had."""
    paths.tell(PATH, show(b"old"))
    clock.now += TIMEOUT
    handle, node = paths.open(PATH, show(b"newer"))
    assert paths.tell(PATH, show()).size == 3
    paths.close(handle)
    clock.now += TIMEOUT + 5
    handle, newer = paths.open(PATH, show())
    assert newer != node
    assert paths.read(handle) == newer


def test_without_timeouts_the_newest_is_opened(tree, show, clock):
    paths = KnownPaths(tree, 0.0, clock=clock)
    old = paths.tell(PATH, show(b"old"))
    assert paths.open(PATH, show(b"newer"))[1] != old.ino


def test_pages_of_another_content_are_not_kept(paths, show, clock):
    def has_its_pages() -> bool:
        handle, _ = paths.open(PATH, show())
        found = paths.has_its_pages(handle)
        paths.read(handle)
        paths.close(handle)
        return found

    show(b"old")
    assert [has_its_pages() for _ in range(2)] == [False, True]
    show(b"newer")
    clock.now += TIMEOUT + 5
    assert [has_its_pages() for _ in range(2)] == [False, True]


def test_another_type_is_told_at_once(paths, show, tree):
    """The kernel sees to it that the old one gives no bytes any more."""
    handle, old = paths.open(PATH, show(b"old"))
    tree.add_directory(b"file")
    directory = paths.tell(PATH, show())
    assert directory.ino != old
    assert tree.referenced() == {old: 1, directory.ino: 1}
    assert paths.read(handle) == old
    paths.close(handle)
    assert tree.referenced() == {directory.ino: 1}


def test_the_number_of_paths_is_bounded_but_what_is_open_stays(paths, tree):
    handles = {}
    for name in (b"a", b"b", b"c", b"d", b"e", b"f"):
        tree.add_file(name, b"x")
        path = b"/" + name
        if name in (b"a", b"b"):
            handles[path], _ = paths.open(path, tree.lookup(1, name, True))
        else:
            paths.tell(path, tree.lookup(1, name, True))
    assert len(paths) == 3
    numbers = tree.children[1]
    assert tree.referenced() == {numbers[name]: 1 for name in (b"a", b"b", b"f")}
    for handle in handles.values():
        paths.close(handle)


def test_nodes_are_given_back_on_request_unless_somebody_depends_on_them(paths, tree, clock):
    for name in (b"a", b"b", b"c"):
        tree.add_file(name, b"x")
    numbers = tree.children[1]
    paths.tell(b"/a", tree.lookup(1, b"a", True))
    clock.now += TIMEOUT + 5
    paths.tell(b"/b", tree.lookup(1, b"b", True))
    handle, _ = paths.open(b"/c", tree.lookup(1, b"c", True))
    paths.drop(set(numbers.values()))
    assert tree.referenced() == {numbers[b"b"]: 1, numbers[b"c"]: 1}
    paths.close(handle)
    clock.now += TIMEOUT + 5
    paths.drop(set(numbers.values()))
    assert tree.referenced() == {}
