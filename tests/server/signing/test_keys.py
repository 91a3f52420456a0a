"""Keys of a repository: what they are, how they are kept, what is no key."""

import datetime as dt
import errno
import os
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from cvfs.errors import NotFound, StoreFull, UsageError
from cvfs.format.signature import load_certificate
from cvfs_server.signing.keys import check_keys, generate_keys, load_private_key, read_key_file, write_new_file
from cvfs_server.site import Site

NOW = dt.datetime(2030, 5, 6, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def keys():
    return generate_keys("sw.example.org", NOW)


def _load(tmp_path, text):
    (tmp_path / "key").write_bytes(text)
    return load_private_key(str(tmp_path / "key"))


def test_the_pairs_belong_together(keys, tmp_path):
    master, signing = _load(tmp_path, keys.master_key), _load(tmp_path, keys.key)
    assert master.public_key().public_numbers() == load_pem_public_key(keys.master_public).public_numbers()
    certificate = load_certificate(keys.certificate)
    assert certificate.public_key().public_numbers() == signing.public_key().public_numbers()
    assert master.private_numbers() != signing.private_numbers()
    assert (master.key_size, signing.key_size) == (2048, 2048)


def test_the_certificate_names_the_repository_and_lasts(keys):
    certificate = load_certificate(keys.certificate)
    assert "sw.example.org" in certificate.subject.rfc4514_string()
    assert certificate.subject == certificate.issuer
    assert certificate.not_valid_before_utc < NOW
    assert certificate.not_valid_after_utc > NOW + dt.timedelta(days=365 * 20)


def test_private_files_are_for_their_owner_only(keys):
    modes = {kind: mode for kind, _, mode in keys.files()}
    assert modes == {"masterkey": 0o600, "key": 0o600, "pub": 0o644, "crt": 0o644}
    assert all(b"PRIVATE" not in text for kind, text, _ in keys.files() if kind in ("pub", "crt"))


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_has_its_mode_from_the_start(tmp_path, monkeypatch, mode):
    seen = []
    plain_open = os.open

    def watched(*arguments, **keywords):
        descriptor = plain_open(*arguments, **keywords)
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", watched)
    before = os.umask(0)
    try:
        write_new_file(str(tmp_path / "key"), b"text", mode)
    finally:
        os.umask(before)
    # The directory is opened too, to be flushed.
    assert seen[0] == mode
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == mode
    assert (tmp_path / "key").read_bytes() == b"text"


def test_nothing_is_overwritten_or_followed(tmp_path):
    (tmp_path / "key").write_bytes(b"old")
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("key", "link"):
        with pytest.raises(UsageError, match="exists already"):
            write_new_file(str(tmp_path / name), b"new", 0o600)
    assert (tmp_path / "key").read_bytes() == b"old"
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(UsageError, match="No such file"):
        write_new_file(str(tmp_path / "missing" / "key"), b"new", 0o600)


def test_a_missing_key_is_named(tmp_path):
    with pytest.raises(NotFound, match="missing"):
        read_key_file(str(tmp_path / "missing"))


def _pem(key, *encryption):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, *encryption or (NoEncryption(),))


def _damaged(text):
    numbers = load_pem_private_key(text, None).private_numbers()
    changed = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, numbers.d ^ 4, numbers.dmp1 ^ 4, numbers.dmq1, numbers.iqmp, numbers.public_numbers
    )
    return _pem(changed.private_key(unsafe_skip_rsa_key_validation=True))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _: b"", "not a private key"),
        (lambda _: b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "not a private key"),
        (lambda keys: keys.master_public, "not a private key"),
        (lambda keys: keys.certificate, "not a private key"),
        (lambda _: _pem(rsa.generate_private_key(65537, 2048), BestAvailableEncryption(b"secret")), "passphrase"),
        (lambda keys: _damaged(keys.key), "damaged"),
        (lambda _: _pem(ec.generate_private_key(ec.SECP256R1())), "not an RSA key"),
    ],
    ids=["empty", "garbage", "public key", "certificate", "encrypted", "damaged", "elliptic"],
)
def test_what_is_no_key(keys, tmp_path, make, reason):
    text = make(keys)
    with pytest.raises(UsageError, match=reason) as caught:
        _load(tmp_path, text)
    assert "\n" not in str(caught.value)
    # Nothing of the file is told.
    assert not any(line.decode() in str(caught.value) for line in text.split(b"\n") if len(line) > 3)


@pytest.fixture
def site(tmp_path, keys):
    made = Site(str(tmp_path))
    os.makedirs(made.keys)
    for kind, text, mode in keys.files():
        write_new_file(made.key("sw.example.org", kind), text, mode)
    return made


def test_a_machine_that_can_sign(site):
    check_keys(site, "sw.example.org")


@pytest.mark.parametrize(
    ("kind", "text", "error"),
    [
        ("key", None, NotFound),
        ("crt", None, NotFound),
        ("key", b"nonsense", UsageError),
        ("crt", b"nonsense", UsageError),
        ("key", "masterkey", UsageError),
    ],
)
def test_a_machine_that_cannot_sign_says_why(site, kind, text, error):
    path = site.key("sw.example.org", kind)
    os.unlink(path)
    if text is not None:
        data = read_key_file(site.key("sw.example.org", text)) if isinstance(text, str) else text
        write_new_file(path, data, 0o600)
    with pytest.raises(error, match=r"sw\.example\.org\." + kind):
        check_keys(site, "sw.example.org")


def test_a_key_is_on_the_disk_and_a_file_that_is_no_key_is_not_left(tmp_path, monkeypatch):
    flushed, path = [], tmp_path / "k"
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    write_new_file(str(path), b"text", 0o600)
    assert flushed == [str(path), str(tmp_path)]

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreFull, match="No space left"):
        write_new_file(str(tmp_path / "other"), b"text", 0o600)
    assert os.listdir(tmp_path) == ["k"]
