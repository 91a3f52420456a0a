"""Descriptors that are kept, taken over and let go of."""

import os

import pytest

from cvfs.client.open_files import OpenFiles


def descriptor() -> int:
    return os.open(os.devnull, os.O_RDONLY)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def key(number: int) -> tuple[bytes, int]:
    return bytes([number]) * 20, number


@pytest.fixture
def files() -> OpenFiles:
    return OpenFiles(limit=3)


def test_a_kept_file_is_found_by_digest_and_length(files):
    file = files.keep(key(1), descriptor())
    assert files.get(key(1)) is file
    assert files.get((key(1)[0], 99)) is None
    assert files.get(key(2)) is None


def test_the_least_recently_used_is_closed_first(files):
    fds = {number: descriptor() for number in (1, 2, 3)}
    for number, fd in fds.items():
        files.keep(key(number), fd)
    files.get(key(1))
    files.keep(key(4), descriptor())
    assert len(files) == 3
    assert not is_open(fds[2])
    assert is_open(fds[1])
    assert is_open(fds[3])


def test_bytes_are_bounded_but_for_the_newest():
    files = OpenFiles(limit=100, most_bytes=10)
    for number in (1, 2, 3, 4):
        files.keep(key(number), descriptor())
    assert len(files) == 4
    files.keep(key(1), descriptor())
    assert len(files) == 4
    files.keep(key(5), descriptor())
    assert [number for number in range(1, 6) if files.get(key(number))] == [1, 4, 5]
    files.keep(key(99), descriptor())
    assert [number for number in range(1, 100) if files.get(key(number))] == [99]
    files.keep(key(10), descriptor())
    assert [number for number in range(1, 100) if files.get(key(number))] == [10]
    files.clear()
    files.keep(key(9), descriptor())
    assert len(files) == 1


def test_who_still_reads_closes_last(files):
    fd = descriptor()
    file = files.keep(key(1), fd)
    for number in (2, 3, 4):
        files.keep(key(number), descriptor())
    assert files.get(key(1)) is None
    assert is_open(fd)
    del file
    assert not is_open(fd)


def test_a_second_descriptor_of_one_object_replaces_the_first(files):
    first, second = descriptor(), descriptor()
    files.keep(key(1), first)
    assert files.keep(key(1), second).fd == second
    assert len(files) == 1
    assert not is_open(first)
    assert is_open(second)


def test_clear_closes_everything(files):
    fds = [descriptor() for _ in range(3)]
    for number, fd in enumerate(fds):
        files.keep(key(number), fd)
    files.clear()
    assert len(files) == 0
    assert not any(map(is_open, fds))
