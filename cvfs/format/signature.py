"""Signed documents: splitting, digests, RSA signatures, certificates; opens no file, decides nothing about trust.

Manifest and whitelist share the frame `payload --\\n digest \\n signature`, and both signatures are made over the printed
digest. The manifest's is PKCS#1 v1.5 with a SHA-1 DigestInfo, the whitelist's is the raw private-key operation over the
text padded by type 1. Source: FORMAT sections 2.1, 2.3, 3.2, 3.3.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cvfs.errors import FormatError
from cvfs.hashes import Algorithm, ContentHash

Certificate = x509.Certificate
PublicKey = RSAPublicKey
PrivateKey = RSAPrivateKey

# An announced length above this is refused by every client (section 1.5).
MAX_DOCUMENT = 2**20
# 47 and 49 characters: hex digits and the algorithm's tag.
_MD5_LENGTH = 32
_ALGORITHMS = {40: Algorithm.SHA1, 47: Algorithm.RMD160, 49: Algorithm.SHAKE128}
_SEPARATOR = b"\n--\n"
# Fixed for manifests, whatever the repository's algorithm (section 2.3).
_MANIFEST_HASH = SHA1()  # noqa: S303  # demanded by the format


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed document whose digest is right; nobody has looked at the signature yet."""

    payload: bytes
    digest_text: bytes
    signature: bytes


def split_signed(data: bytes) -> Signed:
    """The parts of a manifest or whitelist. Raises FormatError without a frame, or if the digest is not the payload's."""
    if len(data) > MAX_DOCUMENT:
        raise FormatError(f"a signed document of {len(data)} bytes: at most {MAX_DOCUMENT} are read")
    head, separator, rest = data.partition(_SEPARATOR)
    digest_text, newline, signature = rest.partition(b"\n")
    if not separator or not newline:
        raise FormatError("not a signed document: no line '--' followed by a digest")
    payload = head + b"\n"
    if digest_text != _expected_digest(payload, len(digest_text)):
        raise FormatError(f"the digest {digest_text[:64]!r} is not that of the document")
    return Signed(payload, digest_text, signature)


def verify_manifest_signature(certificate: Certificate, signed: Signed) -> bool:
    """Whether the certificate's key signed the manifest (section 2.3). Raises FormatError if it is not an RSA key."""
    try:
        _rsa_key(certificate).verify(signed.signature, signed.digest_text, PKCS1v15(), _MANIFEST_HASH)
    except InvalidSignature:
        return False
    return True


def verify_whitelist_signature(keys: Iterable[PublicKey], signed: Signed) -> bool:
    """Whether one of the master keys signed the whitelist (section 3.2)."""
    return any(_recover(key, signed.signature) == signed.digest_text for key in keys)


def sign_manifest(payload: bytes, algorithm: Algorithm, key: PrivateKey) -> bytes:
    """The whole manifest document; `algorithm` is that of the printed digest."""
    text = _printed_digest(payload, algorithm)
    return payload + b"--\n" + text + b"\n" + key.sign(text, PKCS1v15(), _MANIFEST_HASH)


def sign_whitelist(payload: bytes, algorithm: Algorithm, master_key: PrivateKey) -> bytes:
    """The whole whitelist document; `algorithm` is that of the printed digest."""
    text = _printed_digest(payload, algorithm)
    return payload + b"--\n" + text + b"\n" + _sign_raw(text, master_key)


def load_public_key(pem: bytes) -> PublicKey:
    """A master public key. Raises FormatError for anything but an RSA key in PEM form."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        # What the library says of it is about its own decoders.
        raise FormatError("not a public key in PEM form") from error
    if not isinstance(key, RSAPublicKey):
        raise FormatError("the public key is not an RSA key")
    return key


def load_certificate(pem: bytes) -> Certificate:
    """A certificate from its PEM text; dates, issuer and usage are not looked at. Raises FormatError, for DER too."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise FormatError(f"not a certificate in PEM form: {_first_line(error)}") from error


def certificate_fingerprint(certificate: Certificate, algorithm: Algorithm) -> ContentHash:
    """The hash of the certificate in DER form, as whitelists list it (section 3.1)."""
    return ContentHash.of(certificate.public_bytes(Encoding.DER), algorithm)


def key_fingerprint(key: PublicKey) -> str:
    """A master public key in a line for people to compare: the SHA-256 digest of its DER form (SubjectPublicKeyInfo)."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"SHA256:{hashlib.sha256(der).hexdigest()}"


def _printed_digest(payload: bytes, algorithm: Algorithm) -> bytes:
    if not payload.endswith(b"\n") or _SEPARATOR in payload:
        raise FormatError("a document to be signed ends with a newline and has no line '--'")
    return str(ContentHash.of(payload, algorithm)).encode()


def _expected_digest(payload: bytes, length: int) -> bytes:
    """The digest as it must be printed; the length of the printed one tells the algorithm."""
    if length == _MD5_LENGTH:
        return hashlib.md5(payload, usedforsecurity=False).hexdigest().encode()
    if length not in _ALGORITHMS:
        raise FormatError(f"a digest of {length} characters belongs to no known algorithm")
    return str(ContentHash.of(payload, _ALGORITHMS[length])).encode()


def _rsa_key(certificate: Certificate) -> PublicKey:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FormatError(f"the certificate's key is unusable: {_first_line(error)}") from error
    if not isinstance(key, RSAPublicKey):
        raise FormatError("the certificate's key is not an RSA key")
    return key


def _recover(key: PublicKey, signature: bytes) -> bytes | None:
    """What was signed, stripped of its type 1 padding."""
    try:
        return key.recover_data_from_signature(signature, PKCS1v15(), None)
    except InvalidSignature:
        return None


def _sign_raw(text: bytes, key: PrivateKey) -> bytes:
    # The library's way to sign without DigestInfo is younger than the versions that cvfs supports.
    numbers = key.private_numbers()
    modulus = numbers.public_numbers.n
    size = (modulus.bit_length() + 7) // 8
    padded = b"\x00\x01" + b"\xff" * (size - len(text) - 3) + b"\x00" + text
    return pow(int.from_bytes(padded, "big"), numbers.d, modulus).to_bytes(size, "big")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
