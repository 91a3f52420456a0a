"""The way of trust, document by document: what is refused, at which step, and who is asked then."""

import dataclasses
import datetime as dt
import json
import logging
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from cvfs import trust
from cvfs.client.data_plane import connect
from cvfs.client.manifest_fetch import _seconds, fetch_revision, newest_revision
from cvfs.client.trust_state import TrustState
from cvfs.compression import ENCODERS
from cvfs.errors import FormatError, MissingObject, NotFound, TrustError, Unreachable, UsageError
from cvfs.format.signature import certificate_fingerprint
from cvfs.format.whitelist import stamp
from cvfs.hashes import Algorithm, ContentHash, ObjectKind

FQRN = "tiny.example.org"
# Between the signing of the fixtures' whitelists and their expiry.
NOW = 1_800_000_000.0
FAR = 3_000_000_000.0


@pytest.fixture(scope="session")
def other_key():
    """A key of somebody else's."""
    return generate_private_key(65537, 2048)


@pytest.fixture(scope="session")
def unlisted(other_key) -> bytes:
    """A certificate of that key, which nobody listed, in PEM form."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stranger")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, other_key.public_key(), 1, start, start + dt.timedelta(days=36500))
    return builder.sign(other_key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture
def fetch(local_settings):
    """The revision of a publication as a client finds it; several publications are its servers, in order."""

    def revision(*publications, now=NOW, **changes):
        servers = tuple(f"file://{publication.storage}" for publication in publications)
        settings = local_settings(publications[0], **{"servers": servers} | changes)
        plane = connect(settings)
        try:
            return fetch_revision(settings, plane, lambda: now)
        finally:
            plane.close()

    return revision


def replace_certificate(published, stored: bytes) -> ContentHash:
    content = ContentHash.of(stored, published.algorithm, ObjectKind.CERTIFICATE)
    published.write(content.path, stored)
    return content


@pytest.mark.parametrize("fqrn", ["tiny.example.org", "tiny-shake128.example.org"])
def test_what_the_original_signed_is_trusted(publication, fetch, fqrn):
    published = publication(fqrn)
    revision = fetch(published)
    assert revision.root_hash == published.manifest.root_catalog
    assert revision.root_size == published.manifest.root_size
    assert revision.whitelist_expires == published.whitelist.expires
    assert not revision.offline


def tamper_manifest(published, **_):
    published.flip(".cvmfspublished", 45)


def tamper_manifest_signature(published, **_):
    published.flip(".cvmfspublished")


def tamper_whitelist(published, **_):
    published.flip(".cvmfswhitelist", 3)


def tamper_whitelist_signature(published, **_):
    published.flip(".cvmfswhitelist")


def tamper_certificate(published, **_):
    published.flip(published.manifest.certificate.path, 30)


def cut_manifest(published, **_):
    published.write(".cvmfspublished", b"")


def sign_with_a_stranger_s_key(published, other_key, **_):
    published.publish("s4", key=other_key)


def vouch_with_a_stranger_s_key(published, other_key, **_):
    published.vouch(key=other_key)


def expire(published, **_):
    published.vouch(expires=stamp(NOW - 3600))


def expire_within_the_hour(published, **_):
    published.vouch(expires=stamp(NOW))


def name_another_in_the_whitelist(published, **_):
    published.vouch(fqrn="other.example.org")


def name_another_in_the_manifest(published, **_):
    published.publish("s4", fqrn="other.example.org")


def start_below_the_root(published, **_):
    published.publish("s4", root_path_hash="0" * 32)


def list_nobody(published, **_):
    published.vouch(fingerprints=())


def list_another(published, **_):
    published.vouch(fingerprints=(ContentHash(Algorithm.SHA1, bytes(20)),))


def bring_an_unlisted_certificate(published, other_key, unlisted, **_):
    stored = ENCODERS["zlib"].encode(unlisted)
    published.publish("s4", key=other_key, certificate=replace_certificate(published, stored))


def bring_a_certificate_that_is_none(published, **_):
    published.publish("s4", certificate=replace_certificate(published, ENCODERS["zlib"].encode(b"hello")))


def bring_a_certificate_that_does_not_inflate(published, **_):
    published.publish("s4", certificate=replace_certificate(published, b"hello"))


def name_no_certificate(published, **_):
    published.publish("s4", certificate=None)


def ask_for_a_ca(published, **_):
    published.vouch(pkcs7=True)


DAMAGES = [  # how, and the step that notices
    (tamper_manifest, trust.MANIFEST_FORMAT),
    (tamper_manifest_signature, trust.MANIFEST_SIGNATURE),
    (tamper_whitelist, trust.WHITELIST_FORMAT),
    (tamper_whitelist_signature, trust.WHITELIST_SIGNATURE),
    (tamper_certificate, trust.CERTIFICATE_HASH),
    (cut_manifest, trust.MANIFEST_FORMAT),
    (sign_with_a_stranger_s_key, trust.MANIFEST_SIGNATURE),
    (vouch_with_a_stranger_s_key, trust.WHITELIST_SIGNATURE),
    (expire, trust.WHITELIST_EXPIRY),
    (expire_within_the_hour, trust.WHITELIST_EXPIRY),
    (name_another_in_the_whitelist, trust.WHITELIST_NAME),
    (name_another_in_the_manifest, trust.MANIFEST_NAME),
    (start_below_the_root, trust.MANIFEST_ROOT_PATH),
    (list_nobody, trust.CERTIFICATE_FINGERPRINT),
    (list_another, trust.CERTIFICATE_FINGERPRINT),
    (bring_an_unlisted_certificate, trust.CERTIFICATE_FINGERPRINT),
    (bring_a_certificate_that_is_none, trust.CERTIFICATE_FORMAT),
    (bring_a_certificate_that_does_not_inflate, trust.CERTIFICATE_FORMAT),
    (name_no_certificate, trust.MANIFEST_FORMAT),
    (ask_for_a_ca, trust.WHITELIST_VARIANT),
]


@pytest.fixture(params=DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def damaged(request, publication, other_key, unlisted):
    """A publication that is not to be trusted, and the step that must notice."""
    published = publication(place="bad")
    damage, step = request.param
    damage(published, other_key=other_key, unlisted=unlisted)
    return published, step


def test_a_damaged_document_is_refused_and_the_next_server_asked(damaged, publication, fetch, tmp_path, caplog):
    (bad, step), good = damaged, publication(place="good")
    refusal = f"{step}: file://{bad.storage}: "
    with pytest.raises(TrustError) as caught:
        fetch(bad)
    assert caught.value.step == step
    # With the server that served it.
    assert str(caught.value).startswith(refusal)
    assert caplog.text == ""
    assert TrustState(str(tmp_path / "trust"), FQRN).seen() is None
    for _ in range(2):
        assert fetch(bad, good).root_hash == good.manifest.root_catalog
    assert caplog.text.count(f"passed over a server: {refusal}") == 1


def older_revision_published_later(published):
    published.publish("s4", revision=published.manifest.revision - 1)


def older_timestamp(published):
    published.publish("s4", timestamp=published.manifest.timestamp - 1)


def same_revision_other_root(published):
    published.publish("s4", revision=published.manifest.revision)


@pytest.mark.parametrize(
    ("go_back", "step"),
    [
        (older_revision_published_later, trust.REVISION_FORK),
        (older_timestamp, trust.TIMESTAMP_ROLLBACK),
        (same_revision_other_root, trust.REVISION_FORK),
    ],
)
def test_another_history_is_refused(publication, fetch, go_back, step):
    fetch(publication(place="newest"))
    old, good = publication(place="old"), publication(place="good")
    go_back(old)
    with pytest.raises(TrustError, match=f"cvfs trust reset {FQRN}") as caught:
        fetch(old)
    assert caught.value.step == step
    assert fetch(old, good).root_hash == good.manifest.root_catalog
    # Who has seen nothing, or keeps nothing, cannot tell.
    assert fetch(old, trust_state=None).verified is not None


# --- servers that lag ---------------------------------------------------------------------------------------------------


def older_revision(published):
    earlier = {"revision": published.manifest.revision - 1, "timestamp": published.manifest.timestamp - 1}
    published.publish("s4", **earlier)


def older_whitelist(published):
    published.vouch(issued="20200101000000")


LAGS = [(older_revision, trust.REVISION_ROLLBACK), (older_whitelist, trust.WHITELIST_ROLLBACK)]


@pytest.mark.parametrize(("lag", "step"), LAGS)
def test_a_server_that_lags_is_passed_over_quietly(publication, fetch, caplog, lag, step):
    newest = publication(place="newest")
    fetch(newest)
    behind = publication(place="behind")
    lag(behind)
    revision = fetch(behind, newest)
    assert (revision.root_hash, revision.trouble) == (newest.manifest.root_catalog, "")
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize(("lag", "step"), LAGS)
def test_if_all_servers_lag_what_was_seen_is_kept(publication, fetch, caplog, lag, step):
    newest = publication(place="newest")
    fetch(newest)
    behind = publication(place="behind")
    lag(behind)
    revision = fetch(behind)
    assert revision.root_hash == newest.manifest.root_catalog
    assert not revision.offline
    assert f"all servers lag, the last verified revision is shown: {step}: file://" in revision.trouble
    assert f"cvfs trust reset {FQRN}" in caplog.text
    # Who has seen nothing, or keeps nothing, cannot tell.
    assert fetch(behind, trust_state=None).root_hash == behind.manifest.root_catalog


def test_what_was_seen_is_no_use_if_its_catalog_is_nowhere(publication, fetch, tmp_path):
    fetch(publication(place="newest"))
    behind = publication(place="behind")
    older_revision(behind)
    root = publication(place="another").manifest.root_catalog.path
    behind.write(root, b"nothing of the kind")
    with pytest.raises(TrustError) as caught:
        fetch(behind, cache_dir=str(tmp_path / "empty"))
    assert caught.value.step == trust.REVISION_ROLLBACK


def test_the_newest_revision_is_not_what_was_kept(publication, local_settings):
    newest = publication(place="newest")
    settings = local_settings(newest)
    plane = connect(settings)
    newest_revision(settings, plane, lambda: NOW)
    older_revision(newest)
    with pytest.raises(TrustError) as caught:
        newest_revision(settings, plane, lambda: NOW)
    assert caught.value.step == trust.REVISION_ROLLBACK
    take_away(newest)
    with pytest.raises(MissingObject):
        newest_revision(settings, plane, lambda: NOW)
    plane.close()


def test_the_gravest_refusal_is_told(publication, fetch, other_key):
    fetch(publication(place="newest"))
    behind, bad = publication(place="behind"), publication(place="bad")
    older_revision(behind)
    tamper_whitelist_signature(bad)
    with pytest.raises(TrustError, match=f"{bad.storage}: not made with a master key") as caught:
        fetch(behind, bad, behind)
    assert caught.value.step == trust.WHITELIST_SIGNATURE


class Recorded:
    """A store that answers out of another one, and otherwise if it is not asked past the caches."""

    def __init__(self, store, stale) -> None:
        self._store = store
        self._stale = stale
        self.asked: list[tuple[str, bool]] = []

    def fetch(self, path, *, fresh=False, span=None):
        self.asked.append((path, fresh))
        if not fresh and path in self._stale:
            return iter([self._stale[path]])
        return self._store.fetch(path, fresh=fresh, span=span)


@pytest.fixture
def behind_a_proxy(local_settings, monkeypatch):
    """Asks for the newest revision through a proxy that holds stale documents; the revision and what was asked for."""

    def ask(published, stale):
        settings = local_settings(published)
        plane = connect(settings)
        proxy = Recorded(plane.store, stale)
        upstream = dataclasses.replace(plane.upstream, store=proxy)
        monkeypatch.setattr(type(upstream), "mirrors", lambda *_: (proxy,))
        behind = dataclasses.replace(plane, store=proxy, upstream=upstream)
        try:
            return newest_revision(settings, behind, lambda: NOW), proxy.asked
        finally:
            plane.close()

    return ask


def test_a_proxy_that_holds_an_old_manifest_is_asked_past_its_cache(publication, behind_a_proxy):
    published = publication()
    stale = (published.storage / ".cvmfspublished").read_bytes()
    published.publish("s4")
    behind_a_proxy(published, {})
    revision, asked = behind_a_proxy(published, {".cvmfspublished": stale})
    assert revision.root_hash == published.tag("s4")[0]
    documents = [".cvmfspublished", ".cvmfswhitelist"]
    assert asked == [(name, False) for name in documents] + [(name, True) for name in documents]


@pytest.mark.parametrize("which", [".cvmfspublished", ".cvmfswhitelist", "certificate"])
def test_what_a_proxy_has_damaged_is_asked_past_its_cache(publication, behind_a_proxy, which):
    published = publication()
    place = published.manifest.certificate.path if which == "certificate" else which
    damaged = bytearray((published.storage / place).read_bytes())
    damaged[20] ^= 1
    assert behind_a_proxy(published, {place: bytes(damaged)})[0].verified


def test_the_certificate_at_hand_is_not_fetched_again_but_whitelist_and_manifest_always(publication, behind_a_proxy):
    published = publication()
    certificate = published.manifest.certificate.path
    first = behind_a_proxy(published, {})[1]
    again = behind_a_proxy(published, {})[1]
    assert [path for path, _ in first] == [".cvmfspublished", certificate, ".cvmfswhitelist"]
    assert [path for path, _ in again] == [".cvmfspublished", ".cvmfswhitelist"]


@pytest.mark.parametrize("which", [".cvmfspublished", ".cvmfswhitelist", "certificate"])
def test_a_document_without_an_end_is_refused(publication, fetch, which):
    published, good = publication(place="bad"), publication(place="good")
    place = published.manifest.certificate.path if which == "certificate" else which
    published.write(place, (published.storage / place).read_bytes() + bytes(2**20))
    with pytest.raises(TrustError, match=str(published.storage)):
        fetch(published)
    assert fetch(published, good).verified


def test_a_newer_revision_is_taken_and_remembered(publication, fetch):
    published = publication()
    fetch(published)
    published.publish("s4")
    assert fetch(published).root_hash == published.tag("s4")[0]
    published.publish("s3", revision=published.manifest.revision - 1)
    with pytest.raises(TrustError):
        fetch(published)


@pytest.mark.parametrize("floor", ["<tiny.example.org 7", None])
def test_the_blacklist(publication, fetch, tmp_path, floor):
    published = publication()
    blacklist = tmp_path / "blacklist"
    pem = (published.repository.root / "keys" / f"{FQRN}.crt").read_bytes()
    fingerprint = certificate_fingerprint(x509.load_pem_x509_certificate(pem), Algorithm.SHA1)
    blacklist.write_text(f"# refused\n{floor or fingerprint}\n")
    with pytest.raises(TrustError) as caught:
        fetch(published, blacklists=(str(blacklist),))
    assert caught.value.step == (trust.REVISION_BLACKLIST if floor else trust.CERTIFICATE_BLACKLIST)
    assert fetch(published, blacklists=(str(tmp_path / "none"),)).verified


def test_a_blacklist_too_long_to_read_is_not_cut(publication, fetch, tmp_path):
    blacklist = tmp_path / "blacklist"
    blacklist.write_bytes(b"#" * 2**20 + b"\n<tiny.example.org 7\n")
    with pytest.raises(UsageError, match="blacklist: longer than"):
        fetch(publication(), blacklists=(str(blacklist),))


def test_keys(publication, fetch, tmp_path, other_key):
    published = publication()
    own = str(published.repository.public_key)
    wrong = tmp_path / "wrong.pub"
    wrong.write_bytes(other_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert fetch(published, public_keys=(str(wrong), own)).verified
    with pytest.raises(TrustError) as caught:
        fetch(published, public_keys=(str(wrong),))
    assert caught.value.step == trust.WHITELIST_SIGNATURE
    with pytest.raises(UsageError, match=r"none\.pub: No such file"):
        fetch(published, public_keys=(str(tmp_path / "none.pub"),))
    wrong.write_bytes(b"garbage")
    with pytest.raises(UsageError, match=r"wrong\.pub: not a public key"):
        fetch(published, public_keys=(str(wrong),))


def test_keys_of_the_domain_come_before_all_others(publication, fetch, tmp_path):
    published = publication()
    keys = {"public_keys": (), "keys_dir": str(tmp_path / "keys")}
    with pytest.raises(TrustError) as caught:
        fetch(published, **keys)
    assert caught.value.step == trust.MASTER_KEY
    key = published.repository.public_key.read_bytes()
    (tmp_path / "keys" / "example.org").mkdir(parents=True)
    (tmp_path / "keys" / "any.pub").write_bytes(key)
    assert fetch(published, **keys).verified
    (tmp_path / "keys" / "example.org" / "broken.pub").write_bytes(b"garbage")
    with pytest.raises(UsageError, match=r"broken\.pub"):
        fetch(published, **keys)
    (tmp_path / "keys" / "example.org" / "broken.pub").write_bytes(key)
    assert fetch(published, **keys).verified


# --- offline ----------------------------------------------------------------------------------------------------------


def take_away(published) -> None:
    (published.storage / ".cvmfspublished").unlink()


def test_offline_the_kept_documents_serve(publication, fetch, caplog):
    published = publication()
    first = fetch(published)
    take_away(published)
    with caplog.at_level(logging.WARNING):
        again = fetch(published)
    assert again.offline
    assert again.root_hash == first.root_hash
    assert "no server answers" in caplog.text


def test_offline_time_passes_but_the_last_good_revision_stays(publication, fetch):
    published = publication()
    published.vouch(expires=stamp(NOW + 7200))
    fetch(published)
    with pytest.raises(TrustError):
        fetch(published, now=FAR)
    take_away(published)
    assert fetch(published, now=FAR).offline


def test_offline_without_anything_kept(publication, fetch, tmp_path):
    published = publication()
    take_away(published)
    with pytest.raises(MissingObject, match="cvmfspublished"):
        fetch(published)
    with pytest.raises(Unreachable):
        fetch(published, servers=("http://127.0.0.1:9/x",))


def test_a_server_that_lies_is_not_the_same_as_none(publication, fetch):
    """Somebody who can forge answers must not bring back what was kept."""
    published, dead = publication(), publication(place="dead")
    fetch(published)
    tamper_manifest(published)
    take_away(dead)
    with pytest.raises(TrustError):
        fetch(published, dead)
    with pytest.raises(TrustError):
        fetch(dead, published)


@pytest.mark.parametrize(
    ("document", "step"),
    [
        ("manifest", trust.MANIFEST_SIGNATURE),
        ("whitelist", trust.WHITELIST_SIGNATURE),
        ("certificate", trust.CERTIFICATE_HASH),
    ],
)
def test_kept_documents_are_verified_anew(publication, fetch, tmp_path, document, step):
    published = publication()
    fetch(published)
    position = ["manifest", "whitelist", "certificate"].index(document) + 2
    file = tmp_path / "trust" / FQRN / "documents.json"
    kept = json.loads(file.read_bytes())
    kept[position] = kept[position][:-1] + chr(ord(kept[position][-1]) ^ 1)
    file.write_text(json.dumps(kept))
    take_away(published)
    with pytest.raises(TrustError) as caught:
        fetch(published)
    assert caught.value.step == step


def test_kept_documents_older_than_the_newest_seen_are_refused(publication, fetch, tmp_path):
    published = publication()
    fetch(published)
    seen = TrustState(str(tmp_path / "trust"), FQRN).seen()
    (tmp_path / "trust" / FQRN / "seen.json").write_bytes(dataclasses.replace(seen, revision=7).serialise())
    take_away(published)
    with pytest.raises(TrustError) as caught:
        fetch(published)
    assert caught.value.step == trust.REVISION_ROLLBACK


@pytest.mark.parametrize("name", ["seen.json", "documents.json"])
def test_damaged_state_is_refused_and_says_what_to_do(publication, fetch, tmp_path, name):
    published = publication()
    fetch(published)
    take_away(published)
    (tmp_path / "trust" / FQRN / name).write_bytes(b"{")
    with pytest.raises(FormatError, match=f"{name}: .*(remove it|cvfs trust reset {FQRN})"):
        fetch(published)


def test_a_state_that_cannot_be_written_costs_protection_only(publication, fetch, tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert fetch(publication(), trust_state=str(tmp_path / "file" / "trust")).verified
    assert "cannot be remembered" in caplog.text


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_a_pinned_root_hash_needs_no_documents(publication, fetch, tmp_path):
    published = publication()
    root, _ = published.tag("s2")
    take_away(published)
    revision = fetch(published, root_hash=root, public_keys=())
    assert (revision.root_hash, revision.verified, revision.whitelist_expires) == (root, None, "")
    assert not (tmp_path / "trust").exists()


@pytest.mark.parametrize("tag", ["s1", "s2", "s3", "s4", "s5", "trunk"])
def test_tags(publication, fetch, tag):
    published = publication()
    revision = fetch(published, tag=tag)
    assert (revision.root_hash, revision.root_size) == published.tag(tag)
    assert revision.tag == tag


def test_a_tag_that_is_not_there(publication, fetch):
    published = publication()
    with pytest.raises(NotFound, match="no tag 'v9'"):
        fetch(published, tag="v9")
    published.publish("s5", history=None)
    with pytest.raises(NotFound, match="no tags"):
        fetch(published, tag="s1")


def test_a_tampered_tag_database(publication, fetch):
    published = publication()
    published.flip(published.manifest.history.as_kind(ObjectKind.HISTORY).path, 100)
    with pytest.raises(Exception, match="do not have the hash"):
        fetch(published, tag="s1")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Europe/Berlin", "Asia/Tokyo"])
def test_dates_are_utc_wherever_we_are(publication, fetch, monkeypatch, zone):
    """In summer, too. The tags of this fixture are of 22 November; so is the moment between two of them."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        published = publication()
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1795333271))
        assert fetch(published, date=at).root_hash == published.tag("s3")[0]
        assert _seconds("2026-07-01T12:00:00Z") == 1782907200
        assert _seconds("2026-01-01T00:00:00Z") == 1767225600
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("date", ["2026-01-01", "yesterday", "2026-13-01T00:00:00Z"])
def test_dates_that_are_none(publication, fetch, date):
    with pytest.raises(UsageError, match="CVMFS_REPOSITORY_DATE="):
        fetch(publication(), date=date)


def test_a_date_before_the_first_tag(publication, fetch):
    with pytest.raises(NotFound):
        fetch(publication(), date="2001-01-01T00:00:00Z")
