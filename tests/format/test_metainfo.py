"""Meta info of a repository."""

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfs.errors import FormatError
from cvfs.format import manifest
from cvfs.format.metainfo import KEYS, MAX_SIZE, parse, serialise
from cvfs.format.signature import split_signed


@pytest.mark.parametrize("fqrn", ["tiny.example.org", "tiny-shake128.example.org"])
def test_the_template_of_the_original(fixture_repository, fqrn):
    storage = fixture_repository(fqrn).storage
    revision = manifest.parse(split_signed((storage / ".cvmfspublished").read_bytes()).payload)
    members = parse(zlib.decompress((storage / revision.metainfo.path).read_bytes()))
    assert set(members) == set(KEYS)
    assert members["recommended-stratum1s"] == ["stratum1 url", "stratum1 url"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
)


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(st.characters(codec="utf-8")), JSON, max_size=5))
def test_there_and_back(members):
    assert parse(serialise(members)) == members


BAD = [
    b"",
    b"[]",
    b'"text"',
    b"{",
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b"\xff{}",
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b'{"a": ' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_anything_else_is_refused(data):
    with pytest.raises(FormatError, match="meta info") as refused:
        parse(data)
    assert "\n" not in str(refused.value)


def test_the_size_is_bounded_both_ways():
    fits = {"description": "x" * (MAX_SIZE - len(serialise({"description": ""})))}
    assert parse(serialise(fits)) == fits
    with pytest.raises(FormatError, match="at most 65536"):
        serialise({"description": fits["description"] + "x"})
    with pytest.raises(FormatError, match="at most 65536"):
        parse(json.dumps(fits).encode() + b" " * MAX_SIZE)


@pytest.mark.parametrize("members", [{"a": float("nan")}, {"a": {1, 2}}, {"a": "\ud800"}, {"a": b"bytes"}])
def test_what_json_cannot_hold(members):
    with pytest.raises(FormatError, match="cannot be written"):
        serialise(members)
