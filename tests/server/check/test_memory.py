"""What checks remember: claims with a time, in files that a check sum guards; believed only as far as somebody asks."""

import pytest

from cvfs_server.check.memory import NEVER, Memory, PartMemory

NOW = 1_800_000_000.0
FIRST, SECOND = b"a" * 31, b"b" * 31


def remembered(tmp_path, since=0.0, fqrn="m.example.org") -> PartMemory:
    part = Memory(str(tmp_path), fqrn, since).of_part(7)
    part.load()
    return part


@pytest.fixture
def written(tmp_path):
    part = remembered(tmp_path)
    part.add(FIRST, NOW)
    part.add(SECOND, NOW - 1000)
    part.save()
    return tmp_path


@pytest.mark.parametrize(
    ("since", "known"),
    [
        (0.0, [True, True]),
        (NOW - 1000, [True, True]),
        (NOW - 999, [True, False]),
        (NOW + 1, [False] * 2),
        (NEVER, [False] * 2),
    ],
)
def test_what_was_found_sound_is_believed_from_a_time_on(written, since, known):
    part = remembered(written, since)
    assert [part.knows(claim, NOW) for claim in (FIRST, SECOND)] == known
    assert not part.knows(b"c" * 31, NOW)


def test_times_to_come_are_not_believed(written):
    assert not remembered(written).knows(FIRST, NOW - 2 * 86400)


def test_what_is_not_sound_any_more_or_not_asked_about_is_forgotten(written):
    part = remembered(written)
    part.forget(FIRST)
    part.save()
    part = remembered(written)
    assert (part.knows(FIRST, NOW), part.knows(SECOND, NOW)) == (False, True)
    part.keep_only([FIRST])
    part.save()
    assert not remembered(written).knows(SECOND, NOW)


def test_nothing_is_written_unless_something_changed(tmp_path):
    part = remembered(tmp_path)
    part.forget(FIRST)
    part.keep_only([FIRST])
    part.save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "longer"])
def test_a_damaged_file_says_nothing(written, damage):
    (file,) = written.iterdir()
    data = bytearray(file.read_bytes())
    data[-1] ^= damage == "flipped"
    file.write_bytes({"cut": data[:-35], "flipped": data, "empty": b"", "longer": data + b"x"}[damage])
    part = remembered(written)
    assert not part.knows(FIRST, NOW)
    part.add(FIRST, NOW)
    part.save()
    assert remembered(written).knows(FIRST, NOW)


def test_another_repositorys_file_says_nothing(written):
    assert not remembered(written, fqrn="other.example.org").knows(FIRST, NOW)
