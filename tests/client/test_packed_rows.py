"""Rows as a mount remembers them: nothing is lost but the name."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfs.client.packed_rows import has_attributes, mode_of, pack, unpack
from cvfs.format.dirent import DirectoryEntry

numbers = st.one_of(st.integers(0, 2**32), st.integers(0, 2**63 - 1))
rows = st.builds(
    DirectoryEntry,
    name=st.binary(max_size=20),
    mode=st.integers(0, 0xFFFF),
    size=numbers,
    mtime=st.integers(-(2**40), 2**40),
    mtime_ns=st.none() | st.integers(0, 10**9 - 1),
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    hardlinks=numbers,
    digest=st.none() | st.just(b"") | st.binary(min_size=20, max_size=20) | st.binary(max_size=40),
    flags=numbers,
    symlink=st.binary(max_size=50),
    xattr=st.none() | st.binary(max_size=50),
)


@given(rows)
def test_nothing_is_lost_but_the_name(row):
    assert unpack(pack(row)) == row._replace(name=b"")
    assert mode_of(pack(row)) == row.mode
    assert has_attributes(pack(row)) == (row.xattr is not None)


@given(rows, rows)
def test_equal_short_forms_mean_equal_rows(one, other):
    assert (pack(one) == pack(other)) == (one[1:] == other[1:])
    assert pack(one._replace(name=b"other")) == pack(one)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mtime_ns": 5},
        {"digest": None},
        {"digest": b""},
        {"symlink": b"../target" * 100},
        {"xattr": b""},
        {"xattr": b"\x01\x00"},
        {"size": 2**32 - 1, "mode": stat.S_IFDIR | 0o755},
    ],
)
def test_nearly_all_rows_are_short(row, changes):
    entry = row(b"name", **changes)
    packed = pack(entry)
    assert isinstance(packed, bytes)
    assert len(packed) <= 60 + len(entry.symlink) + len(entry.xattr or b"")


@pytest.mark.parametrize(
    "changes",
    [{"size": 2**32}, {"mtime": -1}, {"hardlinks": 2**32 + 2}, {"digest": b"x" * 19}, {"symlink": b"x" * 2**16}],
)
def test_the_few_others_stay_as_they_are(row, changes):
    entry = row(b"name", **changes)
    assert pack(entry) == entry._replace(name=b"")
