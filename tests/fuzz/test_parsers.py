"""Any bytes parse, or raise the one named error; what was parsed can be written and parsed again."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cvfs import trust
from cvfs.errors import FormatError, TrustError, UsageError
from cvfs.format import manifest, metainfo, whitelist, xattrs
from cvfs.format.fqrn import check_fqrn
from cvfs.format.signature import load_certificate, load_public_key, split_signed
from cvfs.hashes import Algorithm, ContentHash
from cvfs.history import History, Tag
from cvfs.reflog import Reflog

HEX = b"17f94ffb095781211676ea726a848fad66192e25"
# Pieces of the formats, so that random bytes get past the first check.
LINES = [b"C" + HEX, b"R" + b"0" * 32, b"D240", b"S6", b"Na.b", b"Gyes", b"20261122071029", b"E20461117071029"]
TOKENS = [
    b"\n",
    b"--\n",
    b"X",
    HEX,
    b"-shake128",
    b"-RMD160",
    b"Vpkcs7",
    b"Wcachain",
    b"#",
    b":",
    b"<a.b 5",
    b"\t",
    b"\xff",
    b"\0",
]
ARMOUR = [
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----END CERTIFICATE-----\n",
    b"-----BEGIN PUBLIC KEY-----\n",
    b"MIIB",
    b"AA==",
]
JSON = [b"{", b"}", b"[", b'"', b"1e999", b"NaN", b"\\ud800", b"null", b"\x01\x01\x01\x01kv"]
WORDS = st.sampled_from([line + b"\n" for line in LINES]) | st.sampled_from([*TOKENS, *ARMOUR, *JSON])
ANY = st.lists(WORDS | st.binary(max_size=20), max_size=30).map(b"".join)


@given(ANY)
@example(b"C" + HEX + b"\nR" + b"0" * 32 + b"\nD1\nS1\n")
def test_manifests(data):
    try:
        found = manifest.parse(data)
    except FormatError:
        return
    assert manifest.parse(found.serialise()) == found


@given(ANY)
@example(b"20261122071029\nE20461117071029\nNa.b\nVpkcs7\nWcachain\n" + HEX + b"-RMD160 #\n")
def test_whitelists(data):
    try:
        found = whitelist.parse(data)
    except FormatError:
        return
    assert whitelist.parse(found.serialise()) == found


@given(ANY)
def test_blacklists_never_fail(data):
    found = whitelist.parse_blacklist(data)
    assert found.joined(found) == found


@given(ANY)
def test_signed_documents(data):
    try:
        signed = split_signed(data)
    except FormatError:
        return
    assert signed.payload + b"--\n" + signed.digest_text + b"\n" + signed.signature == data


@given(ANY)
def test_documents_with_a_good_digest(payload):
    """Whatever is signed, a client without the right keys says no, and nothing else happens."""
    payload = payload.replace(b"\n--\n", b"\n") + b"\n"
    document = payload + b"--\n" + str(ContentHash.of(payload, Algorithm.SHA1)).encode() + b"\nsignature"
    with pytest.raises(TrustError):
        trust.TrustAnchors("a.b", ()).verify(document, document, b"", 0)
    try:
        found = trust.certificate_to_fetch(document)
    except TrustError:
        return
    assert manifest.parse(payload).certificate == found


@given(ANY)
@example(b"\x01\x01\x01\x01kvmore")
def test_extended_attributes(data):
    try:
        found = xattrs.unpack(data)
    except FormatError:
        assert xattrs.stored_attributes(data) == {}
        return
    assert xattrs.stored_attributes(xattrs.pack(found)) == found


@given(ANY)
@example(b'{"\\ud800": 1}')
def test_meta_info(data):
    try:
        found = metainfo.parse(data)
        assert metainfo.parse(metainfo.serialise(found)) == found
    except FormatError:
        return


@pytest.mark.parametrize("load", [load_certificate, load_public_key])
@given(ANY)
def test_keys(load, data):
    with pytest.raises(FormatError):
        load(data)


@given(st.text())
def test_names(text):
    try:
        assert check_fqrn(text) == text
    except UsageError:
        return
    assert text.isascii()
    assert "." in text


@given(st.text())
def test_hashes(text):
    try:
        assert str(ContentHash.parse(text)) == text
    except FormatError:
        return


@given(ANY)
def test_records_of_what_was_seen(data):
    try:
        found = trust.Seen.parse(data)
    except FormatError:
        return
    assert trust.Seen.parse(found.serialise()) == found


def database() -> bytes:
    root = ContentHash.of(b"root", Algorithm.SHA1)
    return History("a.b", tuple(Tag(f"tag{number}", root, number, number) for number in range(40))).serialise()


DATABASE = database()


@given(st.lists(st.tuples(st.integers(0, 8 * len(DATABASE) - 1)), min_size=1, max_size=8))
def test_tag_databases_with_flipped_bits(bits):
    damaged = bytearray(DATABASE)
    for (bit,) in bits:
        damaged[bit // 8] ^= 1 << bit % 8
    try:
        history = History.parse(bytes(damaged))
    except FormatError:
        return
    assert len(history.tags) <= 1000


@given(st.integers(0, len(DATABASE)))
def test_truncated_tag_databases(length):
    """The content hash catches a cut; here it must do no harm. SQLite reads a cut last page as if it ended in zeros."""
    try:
        history = History.parse(DATABASE[:length])
    except FormatError:
        return
    assert length > len(DATABASE) - 1024
    assert len(history.tags) <= 40


@pytest.fixture(scope="module")
def reflog_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("reflog") / "reflog"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "PRAGMA page_size = 1024; CREATE TABLE properties (key TEXT, value TEXT);"
            "INSERT INTO properties VALUES ('schema', '1.0');"
            "CREATE TABLE refs (hash TEXT PRIMARY KEY, type INTEGER, timestamp INTEGER);"
        )
        rows = [(str(ContentHash.of(bytes([number]), Algorithm.SHA1)), number % 4, number) for number in range(50)]
        connection.executemany("INSERT INTO refs VALUES (?, ?, ?)", rows)
        connection.commit()
    return path, path.read_bytes()


@given(bits=st.lists(st.integers(0, 8 * 1024 - 1), min_size=1, max_size=4), page=st.integers(0, 7))
def test_reflogs_with_flipped_bits(reflog_file, bits, page):
    path, data = reflog_file
    damaged = bytearray(data)
    for bit in bits:
        damaged[(page * 1024 + bit // 8) % len(data)] ^= 1 << bit % 8
    path.write_bytes(damaged)
    try:
        with Reflog.open(str(path)) as log:
            assert len(log.references()) <= 1000
    except FormatError:
        return
