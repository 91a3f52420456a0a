"""Packed extended attributes, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfs.errors import FormatError
from cvfs.format.xattrs import fits, pack, stored_attributes, unpack

LONG = b"v" * 255
TABLE = [
    # The example of FORMAT section 5.7.
    (
        {b"user.foo": b"bar", b"user.bin": b"\x00\xff"},
        bytes.fromhex("01020802757365722e62696e00ff0803757365722e666f6f626172"),
    ),
    ({b"k": b""}, b"\x01\x01\x01\x00k"),
    ({b"\xff" * 255: LONG}, b"\x01\x01\xff\xff" + b"\xff" * 255 + LONG),
    ({b"b": b"2", b"a": b"1", b"B": b"3"}, b"\x01\x03\x01\x01B3\x01\x01a1\x01\x01b2"),
]


@pytest.mark.parametrize(("attributes", "blob"), TABLE)
def test_table(attributes, blob):
    assert pack(attributes) == blob
    assert unpack(blob) == attributes
    assert stored_attributes(blob) == attributes


def test_the_example_has_27_bytes():
    assert len(TABLE[0][1]) == 27


def test_no_attributes_are_null():
    assert pack({}) is None
    assert stored_attributes(None) == {}


def test_bytes_behind_the_list_are_ignored():
    assert unpack(TABLE[0][1] + b"more") == TABLE[0][0]


def test_255_attributes_fit_256_do_not():
    attributes = {b"user.%d" % number: b"" for number in range(255)}
    assert unpack(pack(attributes)) == attributes
    with pytest.raises(FormatError, match="256 extended attributes"):
        pack(attributes | {b"user.more": b""})


@pytest.mark.parametrize(("key", "value"), [(b"", b""), (b"k" * 256, b""), (b"k", b"v" * 256), (b"k\0", b"")])
def test_what_does_not_fit(key, value):
    assert not fits(key, value)
    with pytest.raises(FormatError, match="extended attribute"):
        pack({key: value})


REFUSED = [
    b"",
    b"\x01",
    b"\x00\x00",
    b"\x02\x01\x01\x00k",
    b"\x01\x01",
    b"\x01\x01\x01",
    b"\x01\x01\x02\x00k",
    b"\x01\x01\x01\x02kv",
    b"\x01\x01\x00\x00",
    b"\x01\x01\x02\x00k\x00",
    b"\x01\x02\x01\x01kv",
]


@pytest.mark.parametrize("blob", REFUSED)
def test_a_list_is_refused_whole(blob):
    with pytest.raises(FormatError):
        unpack(blob)
    assert stored_attributes(blob) == {}


@pytest.mark.parametrize("length", range(27))
def test_every_truncation_is_refused(length):
    with pytest.raises(FormatError):
        unpack(TABLE[0][1][:length])


KEYS = st.binary(min_size=1, max_size=255).filter(lambda key: b"\0" not in key)


@given(st.dictionaries(KEYS, st.binary(max_size=255), min_size=1, max_size=20))
def test_what_fits_survives(attributes):
    assert unpack(pack(attributes)) == attributes


@given(st.binary(max_size=100))
def test_what_is_read_can_be_written(blob):
    attributes = stored_attributes(blob)
    assert attributes == stored_attributes(pack(attributes))
