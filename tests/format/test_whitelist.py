"""Whitelists and blacklists: the original's files, every rule of a line, expiry by the hour."""

import calendar
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfs.errors import FormatError
from cvfs.format.signature import certificate_fingerprint, load_certificate, split_signed
from cvfs.format.whitelist import Blacklist, Whitelist, parse, parse_blacklist, stamp
from cvfs.hashes import Algorithm, ContentHash

# The example of FORMAT section 3.1.
EXAMPLE = b"""\
20261122071029
E20461117071029
Ntiny.example.org
81:BA:60:CF:80:B3:51:5F:84:D5:1E:68:4C:98:5F:78:4B:60:F7:E8
"""
HEX = "81ba60cf80b3515f84d51e684c985f784b60f7e8"
PRINT = ContentHash(Algorithm.SHA1, bytes.fromhex(HEX))
HEAD = b"20261122071029\nE20461117071029\nNtiny.example.org\n"


@pytest.fixture(scope="module")
def certificate(fixture_repository):
    repository = fixture_repository("tiny.example.org")
    return load_certificate((repository.root / "keys" / "tiny.example.org.crt").read_bytes())


def test_the_example():
    whitelist = Whitelist("20261122071029", "20461117071029", "tiny.example.org", (PRINT,))
    assert parse(EXAMPLE) == whitelist
    assert whitelist.serialise() == EXAMPLE


@pytest.mark.parametrize("fqrn", ["tiny.example.org", "tiny-shake128.example.org"])
def test_the_originals_whitelists_are_written_byte_by_byte(fixture_repository, fqrn):
    repository = fixture_repository(fqrn)
    payload = split_signed((repository.storage / ".cvmfswhitelist").read_bytes()).payload
    assert parse(payload).serialise() == payload
    certificate = load_certificate((repository.root / "keys" / f"{fqrn}.crt").read_bytes())
    assert parse(payload).lists(certificate)


TAGGED = [("", Algorithm.SHA1), ("-rmd160", Algorithm.RMD160), ("-shake128", Algorithm.SHAKE128)]
LINES = [HEX, HEX.upper(), PRINT.digest.hex(":"), PRINT.digest.hex(":").upper()]


@pytest.mark.parametrize(("tag", "algorithm"), TAGGED)
@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("comment", ["", " a comment", "\tx", "# x", "#x", " "])
def test_forms_of_a_fingerprint(tag, algorithm, line, comment):
    expected = (ContentHash(algorithm, PRINT.digest),)
    for printed in (tag, tag.upper()):
        assert parse(HEAD + f"{line}{printed}{comment}\n".encode()).fingerprints == expected


@pytest.mark.parametrize(
    "line",
    [b"", b"# " + HEX.encode(), b" " + HEX.encode(), HEX[:-2].encode(), HEX.encode() + b"00", b"\xff\0", b"Vother"],
)
def test_other_lines_are_skipped(line):
    assert parse(HEAD + line + b"\n" + HEX.encode() + b"\n") == parse(EXAMPLE)


def test_every_tag_is_written_as_it_is_read():
    whitelist = replace(parse(EXAMPLE), fingerprints=tuple(ContentHash(a, PRINT.digest) for a in Algorithm))
    assert parse(whitelist.serialise()) == whitelist
    assert b":E8-SHAKE128\n" in whitelist.serialise()


@pytest.mark.parametrize(
    ("flags", "pkcs7", "ca_chain"),
    [
        (b"", False, False),
        (b"Vpkcs7\n", True, False),
        (b"Wcachain\n", False, True),
        (b"Vpkcs7\nWcachain\n", True, True),
        (b"Wcachain\nVpkcs7\n", False, True),
        (b"#\nVpkcs7\n", False, False),
    ],
)
def test_variants(flags, pkcs7, ca_chain):
    whitelist = parse(HEAD + flags + HEX.encode() + b"\n")
    assert (whitelist.pkcs7, whitelist.ca_chain) == (pkcs7, ca_chain)
    assert whitelist.fingerprints == (PRINT,)
    assert parse(whitelist.serialise()) == whitelist


def changed(number: int, line: bytes) -> bytes:
    lines = EXAMPLE.split(b"\n")
    lines[number] = line
    return b"\n".join(lines)


@pytest.mark.parametrize("payload", [b"", b"\n\n\n", EXAMPLE.split(b"\n")[0], b"x" + EXAMPLE, EXAMPLE[15:]])
def test_a_head_that_is_none(payload):
    with pytest.raises(FormatError, match="whitelist"):
        parse(payload)


@pytest.mark.parametrize("line", [b"2026112207102", b"202611220710290", b"2026112207102\xff"])
def test_a_bad_issue_time(line):
    with pytest.raises(FormatError, match="whitelist"):
        parse(changed(0, line))


def test_the_issue_time_is_not_understood_only_kept():
    assert parse(changed(0, b"whenever it is")).issued == "whenever it is"


@pytest.mark.parametrize(
    "line",
    [
        b"20461117071029",
        b"E2046111707102",
        b"E204611170710290",
        b"E2046111707102x",
        b"e20461117071029",
        b"E+0461117071029",
    ],
)
def test_a_bad_expiry(line):
    with pytest.raises(FormatError, match="expiry"):
        parse(changed(1, line))


@pytest.mark.parametrize("line", [b"tiny.example.org", b"N", b"N tiny.example.org", b"Nnodot", b"N\xff.b"])
def test_a_bad_name(line):
    with pytest.raises(FormatError, match="whitelist"):
        parse(changed(2, line))


@pytest.mark.parametrize("field", ["issued", "expires"])
@pytest.mark.parametrize("text", ["", "2026", "20261122\n71029", "\N{ARABIC-INDIC DIGIT ONE}" * 14])
def test_what_cannot_be_written(field, text):
    with pytest.raises(FormatError, match="14 characters"):
        replace(parse(EXAMPLE), **{field: text})


def seconds(text: str) -> int:
    return calendar.timegm((int(text[:4]), *(int(text[at : at + 2]) for at in range(4, 14, 2))))


@pytest.mark.parametrize(
    ("now", "expired"),
    [
        ("20261122115959", False),
        ("20261122120000", True),
        ("20261122125900", True),
        ("20261122130000", True),
        ("20261121235959", False),
        ("20251231235959", False),
        ("20270101000000", True),
        ("99991231235959", True),
    ],
)
def test_expiry_at_12_59_is_dead_at_12_00(now, expired):
    whitelist = replace(parse(EXAMPLE), expires="20261122125900")
    assert whitelist.is_expired(seconds(now)) == expired


@given(st.integers(0, 2**34))
def test_stamps(now):
    assert seconds(stamp(now)) == now


@pytest.mark.parametrize("algorithm", Algorithm)
def test_which_certificate_is_listed(certificate, algorithm):
    own = certificate_fingerprint(certificate, algorithm)
    whitelist = replace(parse(EXAMPLE), fingerprints=(PRINT, own))
    assert whitelist.lists(certificate)
    assert not parse(EXAMPLE).lists(certificate)
    mixed_up = ContentHash(Algorithm((algorithm + 1) % 3), own.digest)
    assert not replace(whitelist, fingerprints=(mixed_up,)).lists(certificate)


def test_a_whitelist_without_fingerprints_lists_nobody(certificate):
    assert not parse(HEAD).lists(certificate)


def test_a_blacklist():
    text = (
        f"# comment\n{HEX.upper()}\n<tiny.example.org 5\n<tiny.example.org \t 9\n<tiny.example.org 7\n<other.org\t1\n"
    )
    blacklist = parse_blacklist(text.encode())
    assert blacklist.fingerprints == {PRINT}
    assert [blacklist.floor(name) for name in ("tiny.example.org", "other.org", "third.org")] == [9, 1, 0]


@pytest.mark.parametrize(
    "line",
    [
        b"<a.b",
        b"<a.b ",
        b"<a.b 5 ",
        b"<a.b 5x",
        b"<a.b -5",
        b" <a.b 5",
        b"a.b 5",
        b"<a.b 5\r",
        b"< a.b 5",
        b"<a.b 5 6",
        b"<a.b " + b"9" * 30,
    ],
)
def test_lines_that_blacklist_nothing(line):
    assert parse_blacklist(line).floor("a.b") == 0


def test_a_blacklisted_certificate(certificate):
    line = str(certificate_fingerprint(certificate, Algorithm.SHAKE128)).encode()
    assert parse_blacklist(line).lists(certificate)
    assert not Blacklist().lists(certificate)


def test_two_blacklists_refuse_what_either_refuses():
    first = parse_blacklist(b"<a.b 5\n<c.d 7\n")
    second = parse_blacklist(HEX.encode() + b"\n<a.b 6\n<c.d 2\n")
    joined = first.joined(second)
    assert joined == second.joined(first)
    assert joined.fingerprints == {PRINT}
    assert (joined.floor("a.b"), joined.floor("c.d")) == (6, 7)
