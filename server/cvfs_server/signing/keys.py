"""A repository's keys: made, written, loaded; never printed, never readable by others, not even for a moment.

Source: FORMAT sections 3.3, A.1.
"""

import datetime as dt
import os
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from cvfs.durable import sync_directory
from cvfs.errors import FormatError, NotFound, StoreFull, UsageError
from cvfs.format.signature import Certificate, PrivateKey, load_certificate
from cvfs_server.site import Site

_PUBLIC_EXPONENT = 65537
_KEY_BITS = 2048
# Nobody looks at the dates of a certificate; the whitelist is what expires (FORMAT section 3.3).
_VALIDITY = dt.timedelta(days=365 * 30)
_MAX_KEY_FILE = 2**16
_LONGEST_IN_CERTIFICATE = 30
_PROBE = b"a key that signs is whole"
PRIVATE, PUBLIC = 0o600, 0o644


@dataclass(frozen=True, slots=True)
class NewKeys:
    """PEM texts of a new repository: master key pair, signing key, certificate."""

    master_key: bytes
    master_public: bytes
    key: bytes
    certificate: bytes

    def files(self) -> Iterator[tuple[str, bytes, int]]:
        """Suffix of the file, text, mode."""
        yield "masterkey", self.master_key, PRIVATE
        yield "key", self.key, PRIVATE
        yield "pub", self.master_public, PUBLIC
        yield "crt", self.certificate, PUBLIC


def generate_keys(fqrn: str, now: dt.datetime) -> NewKeys:
    """A master key pair, and a signing key with its self-signed certificate, RSA 2048 each."""
    master = rsa.generate_private_key(_PUBLIC_EXPONENT, _KEY_BITS)
    public = master.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return NewKeys(_private_pem(master), public, *new_signing_key(fqrn, now))


def new_signing_key(fqrn: str, now: dt.datetime) -> tuple[bytes, bytes]:
    """A signing key and its self-signed certificate, in PEM form."""
    key = rsa.generate_private_key(_PUBLIC_EXPONENT, _KEY_BITS)
    return _private_pem(key), _certificate(fqrn, key, now)


def write_new_file(path: str, data: bytes, mode: int) -> None:
    """A file that did not exist, with its final mode from the start, and flushed: a key that is lost cannot be made again.

    Raises UsageError if it exists or cannot be made, StoreFull if it cannot be written; then it is not there.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise UsageError(f"{path} exists already: remove the old repository's keys, or choose another name") from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        os.unlink(path)
        raise StoreFull(f"cannot write {path}: {error.strerror}") from error


def read_key_file(path: str) -> bytes:
    """The text of a key or certificate. Raises NotFound."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_KEY_FILE)
    except OSError as error:
        raise NotFound(f"key file {path}: {error.strerror}") from error


def check_keys(site: Site, fqrn: str) -> None:
    """Raises NotFound or UsageError unless this machine can sign for the repository: better now than after the work."""
    key, certificate = site.key(fqrn, "key"), site.key(fqrn, "crt")
    if load_private_key(key).public_key() != read_certificate(certificate).public_key():
        raise UsageError(f"{key} is not the key of {certificate}: put the right pair in place")


def read_certificate(path: str) -> Certificate:
    """The certificate in a file. Raises NotFound or UsageError."""
    try:
        return load_certificate(read_key_file(path))
    except FormatError as error:
        raise UsageError(f"{path}: {error}") from error


def load_private_key(path: str) -> PrivateKey:
    """An RSA key from a PEM file without passphrase. Raises NotFound or UsageError; says nothing of its content."""
    return parse_private_key(read_key_file(path), path)


def parse_private_key(text: bytes, path: str) -> PrivateKey:
    """An RSA key from its PEM text, which was read from `path`. Raises UsageError; says nothing of the content."""
    try:
        # Looking whether its numbers are prime takes longer than all the rest of a small publish.
        key = load_pem_private_key(text, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path}: not a private key in PEM form without a passphrase") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise UsageError(f"{path}: not an RSA key")
    if not _signs(key):
        raise UsageError(f"{path}: a damaged key, what it signs cannot be verified")
    return key


def _signs(key: PrivateKey) -> bool:
    try:
        signature = key.sign(_PROBE, PKCS1v15(), SHA256())
        key.public_key().verify(signature, _PROBE, PKCS1v15(), SHA256())
    except (ValueError, InvalidSignature):
        return False
    return True


def _private_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def _certificate(fqrn: str, key: rsa.RSAPrivateKey, now: dt.datetime) -> bytes:
    # A common name has 64 characters at most.
    shortened = fqrn if len(fqrn) <= _LONGEST_IN_CERTIFICATE else f"{fqrn[:_LONGEST_IN_CERTIFICATE]}[...]"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{shortened} CernVM-FS Release Manager")])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - dt.timedelta(days=1),
        not_valid_after=now + _VALIDITY,
    )
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
