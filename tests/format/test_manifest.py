"""Manifests: the original's files, every field both ways, and what is refused."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfs.errors import FormatError
from cvfs.format.manifest import ROOT_PATH_HASH, Manifest, parse
from cvfs.format.signature import split_signed
from cvfs.hashes import Algorithm, ContentHash, ObjectKind

# The example of FORMAT section 2.1.
EXAMPLE = b"""\
Cbd42d3b6b2c95e99fcf085fad0a6b95db1c9a746
B178176
Rd41d8cd98f00b204e9800998ecf8427e
D240
S6
Gyes
Ano
Ntiny.example.org
Xa5446aaa10981a5a43646957cdd0173b2e1f23f6
He4e2f185be305a7e6d2f6bb3b729b8eac5e8e3e5
T1795331432
M85e4f386da0d5d77c7f66cf2f58e10951f24b653
Y17f94ffb095781211676ea726a848fad66192e25
"""
SMALLEST = b"Cbd42d3b6b2c95e99fcf085fad0a6b95db1c9a746\nRd41d8cd98f00b204e9800998ecf8427e\nD900\nS1\n"
HEX = "17f94ffb095781211676ea726a848fad66192e25"


def content(text: str, kind: ObjectKind) -> ContentHash:
    return ContentHash.parse(text, kind)


def test_the_example():
    manifest = parse(EXAMPLE)
    assert manifest == Manifest(
        root_catalog=content("bd42d3b6b2c95e99fcf085fad0a6b95db1c9a746", ObjectKind.CATALOG),
        root_size=178176,
        root_path_hash=ROOT_PATH_HASH,
        ttl=240,
        revision=6,
        garbage_collectable=True,
        alternative_paths=False,
        fqrn="tiny.example.org",
        certificate=content("a5446aaa10981a5a43646957cdd0173b2e1f23f6", ObjectKind.CERTIFICATE),
        history=content("e4e2f185be305a7e6d2f6bb3b729b8eac5e8e3e5", ObjectKind.HISTORY),
        timestamp=1795331432,
        metainfo=content("85e4f386da0d5d77c7f66cf2f58e10951f24b653", ObjectKind.METAINFO),
        reflog=content("17f94ffb095781211676ea726a848fad66192e25", ObjectKind.FILE),
    )
    assert manifest.serialise() == EXAMPLE


@pytest.mark.parametrize("fqrn", ["tiny.example.org", "tiny-shake128.example.org"])
def test_the_originals_manifests_are_written_byte_by_byte(fixture_repository, fqrn):
    payload = split_signed((fixture_repository(fqrn).storage / ".cvmfspublished").read_bytes()).payload
    manifest = parse(payload)
    assert manifest.serialise() == payload
    assert (manifest.fqrn, manifest.revision) == (fqrn, 6)


def test_the_smallest_manifest():
    manifest = parse(SMALLEST)
    assert (manifest.ttl, manifest.revision) == (900, 1)
    defaults = [
        field.name
        for field in fields(Manifest)
        if field.name not in {"root_catalog", "ttl", "revision"} and getattr(manifest, field.name) != field.default
    ]
    assert defaults == []


TAGGED = HEX + "-shake128"
FIELDS = [
    ("L", HEX, "micro_catalog", content(HEX, ObjectKind.MICRO_CATALOG)),
    ("X", TAGGED, "certificate", content(TAGGED, ObjectKind.CERTIFICATE)),
    ("H", HEX + "-rmd160", "history", content(HEX + "-rmd160", ObjectKind.HISTORY)),
    ("M", HEX, "metainfo", content(HEX, ObjectKind.METAINFO)),
    ("Y", HEX, "reflog", content(HEX, ObjectKind.FILE)),
    ("B", "7", "root_size", 7),
    ("S", str(2**64 - 1), "revision", 2**64 - 1),
    ("D", "0", "ttl", 0),
    ("T", "1", "timestamp", 1),
    ("N", "a.b", "fqrn", "a.b"),
    ("G", "yes", "garbage_collectable", True),
    ("A", "yes", "alternative_paths", True),
    ("C", TAGGED, "root_catalog", content(TAGGED, ObjectKind.CATALOG)),
]


@pytest.mark.parametrize(("letter", "text", "field", "value"), FIELDS)
def test_every_field_both_ways_and_the_last_of_two_wins(letter, text, field, value):
    manifest = parse(EXAMPLE + f"{letter}{text}\n".encode())
    assert getattr(manifest, field) == value
    assert f"\n{letter}{text}\n" in "\n" + manifest.serialise().decode()
    assert replace(parse(EXAMPLE), **{field: value}) == manifest


@pytest.mark.parametrize("answer", [b"no", b"", b"YES", b"yes ", b"1"])
def test_anything_but_yes_is_no(answer):
    manifest = parse(EXAMPLE + b"G" + answer + b"\nA" + answer + b"\n")
    assert not manifest.garbage_collectable
    assert not manifest.alternative_paths


@pytest.mark.parametrize("extra", [b"", b"\n", b"\n\n", b"Q\xff\0anything\n", b"Zone\nZtwo\n", b"lower\n", b"--\nS9\n"])
def test_what_is_ignored(extra):
    assert parse(EXAMPLE + extra) == parse(EXAMPLE)


def test_the_order_does_not_matter():
    lines = EXAMPLE.splitlines(keepends=True)
    assert parse(b"".join(reversed(lines))) == parse(EXAMPLE)


@pytest.mark.parametrize("letter", [b"C", b"R", b"D", b"S"])
def test_required_fields(letter):
    payload = b"".join(line for line in EXAMPLE.splitlines(keepends=True) if not line.startswith(letter))
    with pytest.raises(FormatError, match=f"field {letter.decode()} is missing"):
        parse(payload)


NUMBERS = [b"", b"-1", b"+1", b" 1", b"1 ", b"0x1", b"1.0", b"1_0", b"18446744073709551616", b"9" * 5000, b"\xb2"]


@pytest.mark.parametrize("letter", [b"B", b"D", b"S", b"T"])
@pytest.mark.parametrize("number", NUMBERS, ids=range(len(NUMBERS)))
def test_bad_numbers(letter, number):
    with pytest.raises(FormatError, match="number"):
        parse(EXAMPLE + letter + number + b"\n")


@pytest.mark.parametrize("letter", [b"C", b"L", b"X", b"H", b"M", b"Y"])
@pytest.mark.parametrize(
    "text", [b"", HEX[:-1].encode(), HEX.encode() + b"C", HEX.encode() + b"-shake128C", b"\xff" * 40]
)
def test_bad_hashes(letter, text):
    with pytest.raises(FormatError, match="not a content hash"):
        parse(EXAMPLE + letter + text + b"\n")


@pytest.mark.parametrize("name", [b"../x.y", b"nodot", b"a b.c", b"\xe9.b", b"x" * 70 + b".y"])
def test_bad_names(name):
    with pytest.raises(FormatError, match="not a repository name"):
        parse(EXAMPLE + b"N" + name + b"\n")


@pytest.mark.parametrize("text", [b"", b"d41d8cd98f00b204e9800998ecf8427", b"D41D8CD98F00B204E9800998ECF8427E"])
def test_bad_root_path_hashes(text):
    with pytest.raises(FormatError, match="field R"):
        parse(EXAMPLE + b"R" + text + b"\n")


HASHES = st.builds(ContentHash, st.sampled_from(Algorithm), st.binary(min_size=20, max_size=20))


def hashes_of(kind: ObjectKind) -> st.SearchStrategy[ContentHash]:
    return HASHES.map(lambda found: found.as_kind(kind))


def maybe(kind: ObjectKind) -> st.SearchStrategy[ContentHash | None]:
    return st.none() | hashes_of(kind)


WORDS = st.integers(0, 2**64 - 1)
MANIFESTS = st.builds(
    Manifest,
    root_catalog=hashes_of(ObjectKind.CATALOG),
    revision=WORDS,
    fqrn=st.sampled_from(["", "a.b", "tiny.example.org"]),
    certificate=maybe(ObjectKind.CERTIFICATE),
    root_size=WORDS,
    root_path_hash=st.binary(min_size=16, max_size=16).map(bytes.hex),
    ttl=WORDS,
    garbage_collectable=st.booleans(),
    alternative_paths=st.booleans(),
    micro_catalog=maybe(ObjectKind.MICRO_CATALOG),
    history=maybe(ObjectKind.HISTORY),
    timestamp=WORDS,
    metainfo=maybe(ObjectKind.METAINFO),
    reflog=maybe(ObjectKind.FILE),
)


@given(MANIFESTS)
def test_every_manifest_survives(manifest):
    assert parse(manifest.serialise()) == manifest
