"""Maps of users and groups."""

import pytest

from cvfs.client.owners import OwnerMap, parse_owner_map, read_owner_map
from cvfs.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", OwnerMap()),
        ("# nothing\n\n   \n", OwnerMap()),
        ("1000 2000", OwnerMap({1000: 2000})),
        ("  1 2  # both\n3\t4\n1 5\n", OwnerMap({1: 5, 3: 4})),
        ("* 65534\n0 0\n", OwnerMap({0: 0}, 65534)),
        ("4294967295 0\n", OwnerMap({4294967295: 0})),
    ],
)
def test_lines(text, expected):
    assert parse_owner_map(text, "f") == expected


@pytest.mark.parametrize(
    "line", ["1", "1 2 3", "a b", "1 *", "* *", "-1 2", "1 -2", "1=2", "4294967296 1", "1 99999999999"]
)
def test_one_bad_line_is_refused_with_its_place(line):
    with pytest.raises(UsageError, match=r"^f:2: expected"):
        parse_owner_map(f"1 2\n{line}\n", "f")


def test_numbers_that_are_not_named():
    assert [OwnerMap({1: 2}).of(n) for n in (1, 3)] == [2, 3]
    assert [OwnerMap({1: 2}, 9).of(n) for n in (1, 3)] == [2, 9]
    assert OwnerMap({}, 0).of(5) == 0


def test_files(tmp_path):
    place = tmp_path / "uids"
    place.write_text("1 2\n* 3\n")
    assert read_owner_map(str(place)) == OwnerMap({1: 2}, 3)
    place.write_bytes(b"\xff\xfe\n")
    with pytest.raises(UsageError, match="uids:1"):
        read_owner_map(str(place))
    with pytest.raises(UsageError, match="No such file"):
        read_owner_map(str(tmp_path / "none"))
    place.write_bytes(b"# " + b"x" * 2**22)
    with pytest.raises(UsageError, match="longer than"):
        read_owner_map(str(place))
