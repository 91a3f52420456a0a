"""Signed documents: the original's files verify, byte-identical ones are made, and nothing else verifies."""

import base64
import hashlib
import zlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cvfs.errors import FormatError
from cvfs.format import manifest
from cvfs.format.signature import (
    MAX_DOCUMENT,
    Signed,
    certificate_fingerprint,
    key_fingerprint,
    load_certificate,
    load_public_key,
    sign_manifest,
    sign_whitelist,
    split_signed,
    verify_manifest_signature,
    verify_whitelist_signature,
)
from cvfs.hashes import Algorithm, ContentHash

NAMES = ("tiny.example.org", "tiny-shake128.example.org")


@pytest.fixture(params=NAMES)
def published(request, fixture_repository):
    return Published(fixture_repository(request.param))


@pytest.fixture(scope="module")
def tiny(fixture_repository):
    return Published(fixture_repository(NAMES[0]))


class Published:
    """The documents and keys of a fixture."""

    def __init__(self, repository):
        self.manifest = (repository.storage / ".cvmfspublished").read_bytes()
        self.whitelist = (repository.storage / ".cvmfswhitelist").read_bytes()
        self.public_key = load_public_key(repository.public_key.read_bytes())
        named = manifest.parse(split_signed(self.manifest).payload).certificate
        self.algorithm = named.algorithm
        self.pem = zlib.decompress((repository.storage / named.path).read_bytes())
        self.certificate = load_certificate(self.pem)
        self.key = load_pem_private_key((repository.private / f"{repository.fqrn}.key").read_bytes(), None)
        self.master_key = load_pem_private_key((repository.private / f"{repository.fqrn}.masterkey").read_bytes(), None)


def test_the_originals_signatures_verify(published):
    assert verify_manifest_signature(published.certificate, split_signed(published.manifest))
    assert verify_whitelist_signature([published.public_key], split_signed(published.whitelist))


def test_the_originals_documents_are_signed_byte_by_byte(published):
    payload = split_signed(published.manifest).payload
    assert sign_manifest(payload, published.algorithm, published.key) == published.manifest
    payload = split_signed(published.whitelist).payload
    assert sign_whitelist(payload, published.algorithm, published.master_key) == published.whitelist


@pytest.mark.parametrize("algorithm", Algorithm)
def test_own_documents_verify(tiny, algorithm):
    document = sign_manifest(b"S1\n", algorithm, tiny.key)
    assert verify_manifest_signature(tiny.certificate, split_signed(document))
    document = sign_whitelist(b"S1\n", algorithm, tiny.master_key)
    assert verify_whitelist_signature([tiny.public_key], split_signed(document))


@pytest.mark.parametrize(
    ("algorithm", "filling"), [(Algorithm.SHA1, 213), (Algorithm.RMD160, 206), (Algorithm.SHAKE128, 204)]
)
def test_the_padding_of_a_whitelist(tiny, algorithm, filling):
    """FORMAT appendix C."""
    signed = split_signed(sign_whitelist(b"payload\n", algorithm, tiny.master_key))
    assert raw(tiny.public_key, signed.signature) == b"\0\1" + b"\xff" * filling + b"\0" + signed.digest_text


def test_the_digest_info_of_a_manifest(tiny):
    signed = split_signed(tiny.manifest)
    block = raw(tiny.certificate.public_key(), signed.signature)
    assert block.endswith(bytes.fromhex("3021300906052b0e03021a05000414") + hashlib.sha1(signed.digest_text).digest())


def raw(key, signature: bytes) -> bytes:
    numbers = key.public_numbers()
    return pow(int.from_bytes(signature, "big"), numbers.e, numbers.n).to_bytes(len(signature), "big")


def test_the_two_schemes_are_not_interchangeable(tiny):
    assert not verify_manifest_signature(
        tiny.certificate, split_signed(sign_whitelist(b"S1\n", Algorithm.SHA1, tiny.key))
    )
    assert not verify_whitelist_signature(
        [tiny.public_key], split_signed(sign_manifest(b"S1\n", Algorithm.SHA1, tiny.master_key))
    )


def test_only_sha1_signs_a_manifest(tiny):
    signed = split_signed(tiny.manifest)
    stronger = tiny.key.sign(signed.digest_text, padding.PKCS1v15(), SHA256())
    assert not verify_manifest_signature(tiny.certificate, Signed(signed.payload, signed.digest_text, stronger))


def test_any_of_the_master_keys_may_have_signed(tiny):
    signed = split_signed(tiny.whitelist)
    other = generate_private_key(65537, 2048).public_key()
    assert verify_whitelist_signature([other, tiny.public_key], signed)
    assert not verify_whitelist_signature([other], signed)
    assert not verify_whitelist_signature([], signed)


@pytest.mark.parametrize("document", ["manifest", "whitelist"])
def test_every_flipped_bit_of_the_signature_is_found(tiny, document):
    signed = split_signed(getattr(tiny, document))
    for bit in range(0, 8 * len(signed.signature), 7):
        damaged = bytearray(signed.signature)
        damaged[bit // 8] ^= 1 << bit % 8
        assert not verify(tiny, document, Signed(signed.payload, signed.digest_text, bytes(damaged)))


@pytest.mark.parametrize("document", ["manifest", "whitelist"])
@pytest.mark.parametrize(
    "change",
    [
        lambda s: b"",
        lambda s: s[:-1],
        lambda s: s + b"\n",
        lambda s: b"\0" + s,
        lambda s: bytes(256),
        lambda s: b"\xff" * 256,
    ],
)
def test_signatures_of_other_lengths_and_numbers(tiny, document, change):
    signed = split_signed(getattr(tiny, document))
    assert not verify(tiny, document, Signed(signed.payload, signed.digest_text, change(signed.signature)))


def verify(published: Published, document: str, signed: Signed) -> bool:
    if document == "manifest":
        return verify_manifest_signature(published.certificate, signed)
    return verify_whitelist_signature([published.public_key], signed)


PADDINGS = [
    ("no filling", lambda text: b"\0\1\0" + text),
    ("seven bytes of filling", lambda text: b"\0\1" + b"\xff" * 7 + b"\0" + text),
    ("type 2", lambda text: b"\0\2" + b"\xff" * (253 - len(text)) + b"\0" + text),
    ("a hole in the filling", lambda text: b"\0\1\xff\xfe" + b"\xff" * (251 - len(text)) + b"\0" + text),
    ("bytes behind the text", lambda text: b"\0\1" + b"\xff" * 100 + b"\0" + text + bytes(153 - len(text))),
    ("no zero before the text", lambda text: b"\0\1" + b"\xff" * (254 - len(text)) + text),
]


@pytest.mark.parametrize(("name", "pad"), PADDINGS, ids=[name for name, _ in PADDINGS])
def test_wrong_paddings_of_a_whitelist(tiny, name, pad):
    text = split_signed(tiny.whitelist).digest_text
    numbers = tiny.master_key.private_numbers()
    block = pad(text).ljust(256, b"\0")
    signature = pow(int.from_bytes(block, "big"), numbers.d, numbers.public_numbers.n).to_bytes(256, "big")
    assert not verify_whitelist_signature([tiny.public_key], Signed(b"", text, signature))


@pytest.mark.skipif(
    not hasattr(utils, "NoDigestInfo"), reason="this version of the library cannot sign without DigestInfo"
)
def test_the_library_as_a_witness_for_raw_signatures(tiny):
    signed = split_signed(sign_whitelist(b"payload\n", Algorithm.SHA1, tiny.master_key))
    witness = tiny.master_key.sign(signed.digest_text, padding.PKCS1v15(), utils.NoDigestInfo())
    assert signed.signature == witness


PAYLOAD = b"S1\nN\xff\n"
DIGESTS = [
    hashlib.md5(PAYLOAD).hexdigest(),
    hashlib.sha1(PAYLOAD).hexdigest(),
    str(ContentHash.of(PAYLOAD, Algorithm.RMD160)),
    hashlib.shake_128(PAYLOAD).hexdigest(20) + "-shake128",
]


@pytest.mark.parametrize("digest", DIGESTS)
def test_the_four_digests(digest):
    signed = split_signed(PAYLOAD + b"--\n" + digest.encode() + b"\nsig\n\n--\nnature")
    assert signed == Signed(PAYLOAD, digest.encode(), b"sig\n\n--\nnature")


@pytest.mark.parametrize("digest", DIGESTS)
def test_every_flipped_bit_of_payload_and_digest_is_found(digest):
    document = PAYLOAD + b"--\n" + digest.encode() + b"\n"
    for bit in range(8 * len(document)):
        damaged = bytearray(document)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            split_signed(bytes(damaged))


SHA1_LINE = DIGESTS[1].encode()
BAD = [
    b"",
    b"--\n",
    b"\n--\n",
    PAYLOAD,
    PAYLOAD + b"--\n" + SHA1_LINE,
    PAYLOAD + b"--\r\n" + SHA1_LINE + b"\n",
    PAYLOAD + b"-- \n" + SHA1_LINE + b"\n",
    PAYLOAD + b"--\n" + SHA1_LINE.upper() + b"\n",
    PAYLOAD + b"--\n" + SHA1_LINE + b" \n",
    PAYLOAD + b"--\n" + SHA1_LINE + b"-sha256\n",
    PAYLOAD + b"--\n" + SHA1_LINE + b"-md5xxx\n",
    PAYLOAD + b"--\n" + b"\xff" * 40 + b"\n",
    PAYLOAD + b"--\n\n",
    PAYLOAD[:-1] + b"--\n" + SHA1_LINE + b"\n",
]


@pytest.mark.parametrize("document", BAD, ids=range(len(BAD)))
def test_what_is_no_signed_document(document):
    with pytest.raises(FormatError) as refused:
        split_signed(document)
    assert "\n" not in str(refused.value)


def test_a_document_is_bounded():
    frame = b"--\n" + b"0" * 40 + b"\n"
    with pytest.raises(FormatError, match="at most 1048576"):
        split_signed(b"\n" * MAX_DOCUMENT + frame)


@pytest.mark.parametrize("payload", [b"", b"S1", b"S1\n--\nS2\n", b"\n--\n"])
@pytest.mark.parametrize("sign", [sign_manifest, sign_whitelist])
def test_what_cannot_be_signed(tiny, payload, sign):
    with pytest.raises(FormatError, match="to be signed"):
        sign(payload, Algorithm.SHA1, tiny.master_key)


def test_fingerprints_of_keys_are_those_of_openssl(fixture_repository):
    """What `openssl pkey -pubin -outform DER | sha256sum` prints."""
    pem = fixture_repository(NAMES[0]).public_key.read_bytes()
    der = base64.b64decode(b"".join(pem.split(b"\n")[1:-2]))
    assert key_fingerprint(load_public_key(pem)) == f"SHA256:{hashlib.sha256(der).hexdigest()}"


def test_fingerprints_are_over_der(tiny):
    der = tiny.certificate.public_bytes(Encoding.DER)
    assert str(certificate_fingerprint(tiny.certificate, Algorithm.SHA1)) == hashlib.sha1(der).hexdigest()
    assert certificate_fingerprint(tiny.certificate, Algorithm.SHAKE128).algorithm is Algorithm.SHAKE128


def test_text_before_the_certificate_is_allowed(tiny):
    assert load_certificate(b"Certificate:\n    Data:\n" + tiny.pem) == tiny.certificate


def test_what_is_no_certificate(tiny):
    damaged = tiny.pem.replace(b"MII", b"MIX", 1)
    for data in (b"", b"x", tiny.certificate.public_bytes(Encoding.DER), tiny.pem[:-100], damaged):
        with pytest.raises(FormatError, match="PEM") as refused:
            load_certificate(data)
        assert "\n" not in str(refused.value)


def test_what_is_no_public_key(tiny):
    der = tiny.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for data in (b"", b"x", der, tiny.pem):
        with pytest.raises(FormatError, match="PEM"):
            load_public_key(data)


def test_other_kinds_of_keys_are_refused():
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(FormatError, match="not an RSA key"):
        load_public_key(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def test_a_certificate_with_another_kind_of_key(tiny):
    key = ec.generate_private_key(ec.SECP256R1())
    name = tiny.certificate.subject
    dates = tiny.certificate.not_valid_before_utc, tiny.certificate.not_valid_after_utc
    certificate = x509.CertificateBuilder(name, name, key.public_key(), 1, *dates).sign(key, SHA256())
    with pytest.raises(FormatError, match="not an RSA key"):
        verify_manifest_signature(certificate, split_signed(tiny.manifest))
