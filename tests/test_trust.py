"""The rules of trust: every refusal by its name, every field forged in turn, and nothing older than what was seen."""

import calendar
import datetime as dt
import zlib
from dataclasses import dataclass, field, replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from cvfs import trust
from cvfs.errors import FormatError, TrustError
from cvfs.format.manifest import Manifest
from cvfs.format.signature import certificate_fingerprint, load_public_key, sign_manifest, sign_whitelist
from cvfs.format.whitelist import Blacklist, Whitelist, parse_blacklist, stamp
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.trust import Limits, Seen, TrustAnchors, Verified, certificate_to_fetch

FQRN = "forge.example.org"
NOW = calendar.timegm((2026, 11, 22, 7, 30, 0))
SHA1 = Algorithm.SHA1


@dataclass(slots=True)
class Forge:
    """A repository's signed documents, made anew from fields that a test edits; every part is honest until then."""

    master_key: RSAPrivateKey
    key: RSAPrivateKey
    other_key: RSAPrivateKey
    certificate: x509.Certificate
    manifest: Manifest = field(init=False)
    whitelist: Whitelist = field(init=False)
    stored: bytes = field(init=False)

    def __post_init__(self):
        self.store(self.certificate.public_bytes(Encoding.PEM))
        self.whitelist = Whitelist("20261122070000", "20261222070000", FQRN, (self.fingerprint(),))

    def store(self, content: bytes) -> None:
        """Another content of the certificate object, and a manifest that names it."""
        self.stored = zlib.compress(content)
        self.manifest = Manifest(
            root_catalog=ContentHash.of(b"root", SHA1, ObjectKind.CATALOG),
            revision=6,
            fqrn=FQRN,
            certificate=ContentHash.of(self.stored, SHA1, ObjectKind.CERTIFICATE),
            timestamp=1000,
        )

    def fingerprint(self, algorithm: Algorithm = SHA1) -> ContentHash:
        return certificate_fingerprint(self.certificate, algorithm)

    def anchors(self, **others) -> TrustAnchors:
        return TrustAnchors(**{"fqrn": FQRN, "public_keys": (self.master_key.public_key(),)} | others)

    def documents(self) -> tuple[bytes, bytes, bytes]:
        manifest = sign_manifest(self.manifest.serialise(), SHA1, self.key)
        return manifest, sign_whitelist(self.whitelist.serialise(), SHA1, self.master_key), self.stored

    def edit_manifest(self, **changes) -> "Forge":
        self.manifest = replace(self.manifest, **changes)
        return self

    def edit_whitelist(self, **changes) -> "Forge":
        self.whitelist = replace(self.whitelist, **changes)
        return self

    def verify(self, now: float = NOW, **anchors) -> Verified:
        return self.anchors(**anchors).verify(*self.documents(), now)


@pytest.fixture(scope="module")
def keys():
    return [generate_private_key(65537, 2048) for _ in range(3)]


def make_certificate(fqrn: str, key: RSAPrivateKey) -> x509.Certificate:
    """One whose dates have passed: clients do not look at them."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, fqrn)])
    begin, end = dt.datetime(2000, 1, 1), dt.datetime(2001, 1, 1)  # noqa: DTZ001  # as the library wants it
    return x509.CertificateBuilder(name, name, key.public_key(), 17, begin, end).sign(key, SHA256())


@pytest.fixture(scope="module")
def certificate(keys):
    return make_certificate(FQRN, keys[1])


@pytest.fixture
def forge(keys, certificate):
    return Forge(*keys, certificate)


@pytest.fixture
def other_repository(keys):
    """The documents of other.example.org by name."""
    master_key, _, key = keys
    certificate = make_certificate("other.example.org", key)
    forge = Forge(master_key, key, key, certificate)
    forge.edit_manifest(fqrn="other.example.org").edit_whitelist(fqrn="other.example.org")
    manifest, whitelist, stored = forge.documents()
    return {"manifest": manifest, "whitelist": whitelist, "certificate": stored, "x509": certificate}


def refused(step: str, verify, *arguments, **options) -> str:
    with pytest.raises(TrustError) as error:
        verify(*arguments, **options)
    assert error.value.step == step
    assert str(error.value).startswith(f"{step}: ")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_honest_documents_are_accepted(forge):
    verified = forge.verify()
    assert verified == Verified(forge.manifest, forge.whitelist, NOW)
    assert verified.seen == Seen(6, 1000, str(forge.manifest.root_catalog), "20261122070000")


@pytest.mark.parametrize("fqrn", ["tiny.example.org", "tiny-shake128.example.org"])
def test_the_originals_documents_are_accepted(fixture_repository, fqrn):
    repository = fixture_repository(fqrn)
    manifest = (repository.storage / ".cvmfspublished").read_bytes()
    certificate = (repository.storage / certificate_to_fetch(manifest).path).read_bytes()
    anchors = TrustAnchors(fqrn, (load_public_key(repository.public_key.read_bytes()),))
    verified = anchors.verify(manifest, (repository.storage / ".cvmfswhitelist").read_bytes(), certificate, NOW)
    assert (verified.manifest.revision, verified.manifest.fqrn) == (6, fqrn)


def test_the_certificate_to_fetch(forge):
    assert certificate_to_fetch(forge.documents()[0]) == forge.manifest.certificate
    refused(trust.MANIFEST_FORMAT, certificate_to_fetch, b"nonsense")
    forge.edit_manifest(certificate=None)
    refused(trust.MANIFEST_FORMAT, certificate_to_fetch, forge.documents()[0])
    refused(trust.MANIFEST_FORMAT, forge.verify)


# What the whitelist step refuses.


def test_no_master_key(forge):
    assert "CVMFS_PUBLIC_KEY" in refused(trust.MASTER_KEY, forge.verify, public_keys=())


def test_a_whitelist_that_is_none(forge):
    manifest, _, certificate = forge.documents()
    for whitelist in (b"", b"\n--\n", manifest):
        refused(trust.WHITELIST_FORMAT, forge.anchors().verify, manifest, whitelist, certificate, NOW)


def test_a_whitelist_signed_by_somebody_else(forge):
    refused(trust.WHITELIST_SIGNATURE, forge.verify, public_keys=(forge.other_key.public_key(),))


def test_one_of_several_master_keys_is_enough(forge):
    public_keys = (forge.other_key.public_key(), forge.master_key.public_key())
    assert forge.verify(public_keys=public_keys).manifest == forge.manifest


@pytest.mark.parametrize("variant", ["pkcs7", "ca_chain"])
def test_variants_that_nobody_can_verify(forge, variant):
    refused(trust.WHITELIST_VARIANT, forge.edit_whitelist(**{variant: True}).verify)


def test_expiry_counts_in_hours(forge):
    forge.edit_whitelist(expires="20261122125900")
    last = calendar.timegm((2026, 11, 22, 11, 59, 59))
    assert forge.verify(now=last)
    assert "20261122125900" in refused(trust.WHITELIST_EXPIRY, forge.verify, now=last + 1)


def test_a_whitelist_for_another_repository(forge):
    refused(trust.WHITELIST_NAME, forge.edit_whitelist(fqrn="other.example.org").verify)


def test_a_whitelist_older_than_the_newest_seen(forge):
    seen = replace(forge.verify().seen, whitelist_issued="20261122070001")
    refused(trust.WHITELIST_ROLLBACK, forge.verify, seen=seen)
    assert forge.edit_whitelist(issued="20261122070001").verify(seen=seen)


# What the certificate step refuses.


def test_another_object_in_place_of_the_certificate(forge):
    forge.stored = zlib.compress(b"something else")
    refused(trust.CERTIFICATE_HASH, forge.verify)


def test_an_object_that_is_no_certificate(forge):
    for content in (b"", b"no certificate", forge.certificate.public_bytes(Encoding.DER), bytes(3 * 2**20)):
        forge.store(content)
        refused(trust.CERTIFICATE_FORMAT, forge.verify)


def test_a_raw_pem_object_is_refused(forge):
    forge.stored = forge.certificate.public_bytes(Encoding.PEM)
    forge.edit_manifest(certificate=ContentHash.of(forge.stored, SHA1, ObjectKind.CERTIFICATE))
    refused(trust.CERTIFICATE_FORMAT, forge.verify)


@pytest.mark.parametrize("fingerprints", [(), (ContentHash(SHA1, bytes(20)),)])
def test_a_certificate_that_is_not_listed(forge, fingerprints):
    refused(trust.CERTIFICATE_FINGERPRINT, forge.edit_whitelist(fingerprints=fingerprints).verify)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_fingerprint_in_any_algorithm_lists_it(forge, algorithm):
    assert forge.edit_whitelist(fingerprints=(ContentHash(SHA1, bytes(20)), forge.fingerprint(algorithm))).verify()


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_blacklisted_certificate(forge, algorithm):
    blacklist = Blacklist(frozenset({forge.fingerprint(algorithm)}))
    refused(trust.CERTIFICATE_BLACKLIST, forge.verify, blacklist=blacklist)


# What the manifest step refuses.


def test_a_manifest_that_is_none(forge):
    _, whitelist, certificate = forge.documents()
    for manifest in (b"", b"\n--\n", whitelist):
        refused(trust.MANIFEST_FORMAT, forge.anchors().verify, manifest, whitelist, certificate, NOW)


def test_a_manifest_signed_by_somebody_else(forge):
    forge.key = forge.other_key
    refused(trust.MANIFEST_SIGNATURE, forge.verify)


def test_a_manifest_signed_by_the_master_key(forge):
    forge.key = forge.master_key
    refused(trust.MANIFEST_SIGNATURE, forge.verify)


@pytest.mark.parametrize("fqrn", ["other.example.org", ""])
def test_a_manifest_for_another_repository(forge, fqrn):
    refused(trust.MANIFEST_NAME, forge.edit_manifest(fqrn=fqrn).verify)


def test_a_manifest_that_starts_elsewhere(forge):
    refused(trust.MANIFEST_ROOT_PATH, forge.edit_manifest(root_path_hash="0" * 32).verify)


# Documents of another repository, honest by themselves; its whitelist is signed by the same master key.


@pytest.mark.parametrize(
    ("borrowed", "step"),
    [
        ({"manifest"}, trust.CERTIFICATE_HASH),
        ({"manifest", "certificate"}, trust.CERTIFICATE_FINGERPRINT),
        ({"whitelist"}, trust.WHITELIST_NAME),
        ({"certificate"}, trust.CERTIFICATE_HASH),
        ({"manifest", "whitelist", "certificate"}, trust.WHITELIST_NAME),
    ],
)
def test_documents_of_another_repository(forge, other_repository, borrowed, step):
    names = ("manifest", "whitelist", "certificate")
    own, others = dict(zip(names, forge.documents(), strict=True)), other_repository
    mixed = [(others if name in borrowed else own)[name] for name in names]
    refused(step, forge.anchors().verify, *mixed, NOW)


def test_another_repository_whose_certificate_is_listed_here(forge, other_repository):
    """As where one key signs several repositories: the name decides."""
    listed = certificate_fingerprint(other_repository["x509"], SHA1)
    whitelist = forge.edit_whitelist(fingerprints=(forge.fingerprint(), listed)).documents()[1]
    manifest, certificate = other_repository["manifest"], other_repository["certificate"]
    refused(trust.MANIFEST_NAME, forge.anchors().verify, manifest, whitelist, certificate, NOW)


# What the last step refuses.


def test_a_revision_older_than_the_newest_seen(forge):
    seen = forge.verify().seen
    refused(trust.REVISION_ROLLBACK, forge.edit_manifest(revision=5, timestamp=999).verify, seen=seen)
    refused(trust.REVISION_ROLLBACK, forge.edit_manifest(revision=5, timestamp=1000).verify, seen=seen)


def test_fewer_revisions_published_later_are_another_history(forge):
    seen = forge.verify().seen
    refused(trust.REVISION_FORK, forge.edit_manifest(revision=5, timestamp=1001).verify, seen=seen)


def test_the_same_revision_with_another_root(forge):
    seen = forge.verify().seen
    other = ContentHash.of(b"other", SHA1, ObjectKind.CATALOG)
    refused(trust.REVISION_FORK, forge.edit_manifest(root_catalog=other).verify, seen=seen)
    assert forge.edit_manifest(revision=7).verify(seen=seen)


def test_revision_0_may_be_made_anew(forge):
    seen = forge.edit_manifest(revision=0).verify().seen
    other = ContentHash.of(b"other", SHA1, ObjectKind.CATALOG)
    assert forge.edit_manifest(root_catalog=other).verify(seen=seen)


@pytest.mark.parametrize("timestamp", [999, 0])
def test_a_newer_revision_that_claims_to_be_older(forge, timestamp):
    seen = forge.verify().seen
    refused(trust.TIMESTAMP_ROLLBACK, forge.edit_manifest(revision=7, timestamp=timestamp).verify, seen=seen)


def test_what_was_seen_is_accepted_again_and_so_is_what_is_newer(forge):
    seen = forge.verify().seen
    assert forge.verify(seen=seen).seen == seen
    newer = forge.edit_manifest(revision=8, timestamp=1001).edit_whitelist(issued="20261122080000").verify(seen=seen)
    assert newer.seen == Seen(8, 1001, seen.root_catalog, "20261122080000")


def test_blacklisted_revisions(forge):
    refused(trust.REVISION_BLACKLIST, forge.verify, blacklist=parse_blacklist(f"<{FQRN} 7".encode()))
    assert forge.verify(blacklist=parse_blacklist(f"<{FQRN} 6\n<other.example.org 9".encode()))


# What the configuration demands.


@pytest.mark.parametrize(("least", "accepted"), [(0, True), (5, True), (6, True), (7, False)])
def test_a_minimum_revision_cures_a_client_that_has_seen_nothing(forge, least, accepted):
    limits = Limits(revision=least)
    if accepted:
        assert forge.verify(limits=limits).manifest.revision == 6
    else:
        assert f"demands {least}" in refused(trust.MINIMUM_REVISION, forge.verify, limits=limits)


@pytest.mark.parametrize(
    ("age", "limit", "accepted"),
    [
        (0, 3600, True),
        (3600, 3600, True),
        (3601, 3600, False),
        (10 * 365 * 86400, 3600, False),
        (10 * 365 * 86400, 0, True),
        # The publisher's clock was ahead of ours.
        (-86400, 3600, True),
    ],
)
def test_a_limit_on_the_age_of_a_manifest_ends_a_freeze(forge, age, limit, accepted):
    forge.edit_manifest(timestamp=NOW - age)
    if accepted:
        assert forge.verify(limits=Limits(age=limit)).manifest == forge.manifest
    else:
        message = refused(trust.MANIFEST_AGE, forge.verify, limits=Limits(age=limit))
        assert f"{round(age / 3600)} hours ago, 1 are allowed" in message


# A clock that is wrong: ours, or that of whoever signed.


DAY = 86400
NOON = calendar.timegm((2026, 11, 22, 12, 0, 0))


@pytest.mark.parametrize(
    ("skew", "accepted"),
    [(0, True), (-DAY, True), (-20 * 365 * DAY, True), (29 * DAY, True), (30 * DAY, False), (20 * 365 * DAY, False)],
)
def test_our_clock_decides_about_expiry_alone(forge, skew, accepted):
    """A whitelist and a manifest of the last hour, good for thirty days, while our clock is off by `skew`."""
    forge.edit_manifest(timestamp=NOON - 60)
    forge.edit_whitelist(issued=stamp(NOON - 3600), expires=stamp(NOON + 30 * DAY))
    if accepted:
        assert forge.verify(now=NOON + skew)
    else:
        refused(trust.WHITELIST_EXPIRY, forge.verify, now=NOON + skew)


@pytest.mark.parametrize("ahead", [0, 3600, DAY, 2 * DAY, 365 * DAY, 2**63])
def test_a_publisher_whose_clock_was_ahead_locks_nobody_out_for_longer_than_a_day(forge, ahead):
    seen = forge.edit_manifest(timestamp=NOW + ahead).verify().seen
    assert seen.timestamp == NOW + min(ahead, DAY)
    again = forge.verify(now=NOW + 60, seen=seen)
    assert again.seen.timestamp == NOW + min(ahead, DAY + 60)
    mended = forge.edit_manifest(revision=7, timestamp=NOW + 2 * DAY)
    assert mended.verify(now=NOW + 2 * DAY, seen=again.seen).seen.timestamp == NOW + 2 * DAY


@pytest.mark.parametrize(
    "issued", ["20261122073000", "20261123073000", "20270101000000", "99991231235959", "zzzzzzzzzzzzzz"]
)
def test_a_whitelist_from_the_future_locks_nobody_out_for_longer_than_a_day(forge, issued):
    seen = forge.edit_whitelist(issued=issued).verify().seen
    assert seen.whitelist_issued == min(issued, "20261123073000")
    assert forge.edit_whitelist(issued=stamp(NOW + 2 * DAY)).verify(now=NOW + 2 * DAY, seen=seen)


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({}, True),
        ({"revision": 7}, True),
        ({"revision": 5}, False),
        ({"timestamp": 999}, False),
        ({"root_catalog": ContentHash.of(b"other", SHA1, ObjectKind.CATALOG)}, False),
    ],
)
def test_who_may_take_the_place_of_what_was_seen(forge, changes, accepted):
    seen = forge.verify().seen
    assert forge.edit_manifest(**changes).verify().is_not_older_than(seen) is accepted
    assert not forge.edit_whitelist(issued="20261122065959").verify().is_not_older_than(seen)


@pytest.mark.parametrize("expires", ["20261222070000", "20261222075959", "20990101000000"])
def test_the_moment_of_expiry(forge, expires):
    whitelist = replace(forge.whitelist, expires=expires)
    moment = trust.expiry(whitelist)
    assert not whitelist.is_expired(moment - 1)
    assert whitelist.is_expired(moment)


@given(st.text("0123456789", min_size=14, max_size=14))
def test_an_expiry_that_is_no_date_has_a_moment_too(expires):
    assert isinstance(trust.expiry(Whitelist("20261122070000", expires, FQRN, ())), float)


# Forgery: the signatures stay, one field changes, the digest is made right again.


def forged(document: bytes, old: bytes, new: bytes) -> bytes:
    payload, _, rest = document.partition(b"--\n")
    changed = payload.replace(old, new, 1)
    assert changed != payload
    return changed + b"--\n" + str(ContentHash.of(changed, SHA1)).encode() + rest[40:]


MANIFEST_FIELDS = [
    (b"\nS6", b"\nS7"),
    (b"C", b"C" + b"0" * 40 + b"\nC"),
    (b"\nB0", b"\nB1"),
    (b"\nD240", b"\nD241"),
    (b"\nGno", b"\nGyes"),
    (b"\nAno", b"\nAyes"),
    (b"\nT1000", b"\nT1001"),
    (b"\nN" + FQRN.encode(), b"\nNother.example.org"),
    (b"\nRd41d", b"\nR0000"),
    (b"\nS6\n", b"\nS6\nH" + b"0" * 40 + b"\n"),
    (b"\nS6\n", b"\nS6\nM" + b"0" * 40 + b"\n"),
    (b"\nS6\n", b"\nS6\nY" + b"0" * 40 + b"\n"),
    (b"\nS6\n", b"\nS6\nL" + b"0" * 40 + b"\n"),
    (b"\nS6\n", b"\nS6\nQ\n"),
]


@pytest.mark.parametrize(("old", "new"), MANIFEST_FIELDS, ids=range(len(MANIFEST_FIELDS)))
def test_no_field_of_a_manifest_can_be_forged(forge, old, new):
    manifest, whitelist, certificate = forge.documents()
    verify = forge.anchors().verify
    refused(trust.MANIFEST_SIGNATURE, verify, forged(manifest, old, new), whitelist, certificate, NOW)


WHITELIST_FIELDS = [
    (b"20261122070000", b"20261122070001"),
    (b"E2026", b"E2099"),
    (b"N" + FQRN.encode(), b"Nother.example.org"),
    (b".org\n", b".org\n" + b"0" * 40 + b"\n"),
    (b".org\n", b".org\n#\n"),
]


@pytest.mark.parametrize(("old", "new"), WHITELIST_FIELDS, ids=range(len(WHITELIST_FIELDS)))
def test_no_field_of_a_whitelist_can_be_forged(forge, old, new):
    manifest, whitelist, certificate = forge.documents()
    verify = forge.anchors().verify
    refused(trust.WHITELIST_SIGNATURE, verify, manifest, forged(whitelist, old, new), certificate, NOW)


def test_a_forged_certificate_field_is_caught_by_its_hash(forge):
    manifest, whitelist, certificate = forge.documents()
    own = str(forge.manifest.certificate).encode()
    document = forged(manifest, own, b"0" * 40)
    refused(trust.CERTIFICATE_HASH, forge.anchors().verify, document, whitelist, certificate, NOW)


@pytest.mark.parametrize("which", range(3))
def test_no_flipped_bit_is_accepted(forge, which):
    documents = list(forge.documents())
    original = documents[which]
    for bit in range(0, 8 * len(original), 5):
        damaged = bytearray(original)
        damaged[bit // 8] ^= 1 << bit % 8
        documents[which] = bytes(damaged)
        with pytest.raises(TrustError):
            forge.anchors().verify(*documents, NOW)


@pytest.mark.parametrize("which", range(3))
def test_no_truncation_is_accepted(forge, which):
    documents = list(forge.documents())
    original = documents[which]
    for length in range(0, len(original), 3):
        documents[which] = original[:length]
        with pytest.raises(TrustError):
            forge.anchors().verify(*documents, NOW)


def test_the_order_of_the_steps(forge):
    """With everything wrong at once each repair brings out the next step."""
    seen = Seen(9, 9999, "", "20261122090000")
    honest_key, forge.key = forge.key, forge.other_key
    forge.edit_whitelist(expires="20250101000000", fqrn="other.example.org", fingerprints=())
    forge.edit_manifest(fqrn="other.example.org", root_path_hash="0" * 32)
    blacklist = Blacklist(frozenset({forge.fingerprint()}), {FQRN: 20})
    anchors = forge.anchors(public_keys=(), seen=seen, blacklist=blacklist, limits=Limits(11, 3600))
    good_stored, forge.stored = forge.stored, b"another object"
    repairs = [
        (trust.MASTER_KEY, lambda: {"public_keys": (forge.other_key.public_key(),)}),
        (trust.WHITELIST_SIGNATURE, lambda: {"public_keys": (forge.master_key.public_key(),)}),
        (trust.WHITELIST_EXPIRY, lambda: forge.edit_whitelist(expires="20270101000000")),
        (trust.WHITELIST_NAME, lambda: forge.edit_whitelist(fqrn=FQRN)),
        (trust.WHITELIST_ROLLBACK, lambda: forge.edit_whitelist(issued="20261122090000")),
        (trust.CERTIFICATE_HASH, lambda: setattr(forge, "stored", good_stored)),
        (trust.CERTIFICATE_FINGERPRINT, lambda: forge.edit_whitelist(fingerprints=(forge.fingerprint(),))),
        (trust.CERTIFICATE_BLACKLIST, lambda: {"blacklist": Blacklist(floors={FQRN: 20})}),
        (trust.MANIFEST_SIGNATURE, lambda: setattr(forge, "key", honest_key)),
        (trust.MANIFEST_NAME, lambda: forge.edit_manifest(fqrn=FQRN)),
        (trust.MANIFEST_ROOT_PATH, lambda: forge.edit_manifest(root_path_hash=trust.ROOT_PATH_HASH)),
        (trust.REVISION_ROLLBACK, lambda: forge.edit_manifest(revision=10)),
        (trust.TIMESTAMP_ROLLBACK, lambda: forge.edit_manifest(timestamp=9999)),
        (trust.MINIMUM_REVISION, lambda: {"limits": Limits(age=3600)}),
        (trust.REVISION_BLACKLIST, lambda: {"blacklist": Blacklist()}),
        (trust.MANIFEST_AGE, lambda: forge.edit_manifest(timestamp=NOW - 3600)),
    ]
    for step, repair in repairs:
        refused(step, anchors.verify, *forge.documents(), NOW)
        change = repair()
        if isinstance(change, dict):
            anchors = replace(anchors, **change)
    assert anchors.verify(*forge.documents(), NOW).seen.revision == 10


# The record of what was seen.


SEEN = st.builds(Seen, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.text(max_size=50), st.text(max_size=14))


@given(SEEN)
def test_the_record_survives(seen):
    assert Seen.parse(seen.serialise()) == seen


GOOD = b'{"revision": 6, "timestamp": 1, "root_catalog": "x", "whitelist_issued": "y"}'
BAD = [
    b"",
    b"[]",
    b"null",
    b"{}",
    GOOD[:-1],
    GOOD.replace(b"6", b"-6"),
    GOOD.replace(b"6", b"6.0"),
    GOOD.replace(b"6", b"true"),
    GOOD.replace(b"6", b'"6"'),
    GOOD.replace(b"6", b"18446744073709551616"),
    GOOD.replace(b'"x"', b"null"),
    GOOD.replace(b"}", b', "more": 1}'),
    GOOD + b" " * 5000,
    b"\xff" + GOOD,
    b"[" * 4000,
]


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_a_damaged_record_is_refused(data):
    assert Seen.parse(GOOD) == Seen(6, 1, "x", "y")
    with pytest.raises(FormatError):
        Seen.parse(data)
