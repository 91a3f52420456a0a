"""Content hashes: the published vectors, and the forms in which a hash is written."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfs import hashes
from cvfs.errors import FormatError
from cvfs.hashes import Algorithm, ContentHash, ObjectKind, parent_path, path_hash

HELLO = bytes.fromhex("789ccb48cdc9c95728cf2fca49e102001e720467")
EMPTY = bytes.fromhex("789c030000000001")
DIGEST = bytes(range(20))

# FORMAT sections 1.2 and 4.2.
VECTORS = [
    (HELLO, Algorithm.SHA1, "data/ff/049c626904064d641feca0e9936e5b211807c6"),
    (HELLO, Algorithm.RMD160, "data/10/0b60cb4cda089e58ccc0544cf55f7f3a543a87-rmd160"),
    (HELLO, Algorithm.SHAKE128, "data/ff/338ab3cdd35a16eaf746dbbf97ca8b715f478a-shake128"),
    (EMPTY, Algorithm.SHA1, "data/e8/ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78"),
    (EMPTY, Algorithm.RMD160, "data/fc/db20b894f31f1306d56294c049ca7293dde0fc-rmd160"),
    (EMPTY, Algorithm.SHAKE128, "data/28/d94b83b7229b331fc601362b8e272e02665122-shake128"),
    (b"", Algorithm.SHA1, "data/da/39a3ee5e6b4b0d3255bfef95601890afd80709"),
]


@pytest.mark.parametrize(("stored", "algorithm", "path"), VECTORS)
def test_vectors(stored, algorithm, path):
    assert ContentHash.of(stored, algorithm).path == path


@pytest.mark.parametrize(("stored", "algorithm", "path"), VECTORS)
def test_a_running_hash_equals_the_whole(stored, algorithm, path):
    hasher = hashes.new_hasher(algorithm)
    for byte in stored:
        hasher.update(bytes([byte]))
    assert ContentHash(algorithm, hasher.digest()).path == path


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("kind", ObjectKind)
def test_text_and_file_name(algorithm, kind):
    content = ContentHash(algorithm, DIGEST, kind)
    text = DIGEST.hex() + ("", "-rmd160", "-shake128")[algorithm]
    assert str(content) == text
    assert content.name == text + kind.value
    assert content.path == f"data/00/{text[2:]}{kind.value}"
    assert ContentHash.parse(text, kind) == content


def test_the_letters_of_the_kinds():
    letters = {kind.name: kind.value for kind in ObjectKind}
    assert letters == {
        "FILE": "",
        "CHUNK": "P",
        "CATALOG": "C",
        "HISTORY": "H",
        "CERTIFICATE": "X",
        "METAINFO": "M",
        "MICRO_CATALOG": "L",
    }


def test_as_kind_changes_the_letter_only():
    chunk = ContentHash(Algorithm.SHAKE128, DIGEST).as_kind(ObjectKind.CHUNK)
    assert chunk == ContentHash(Algorithm.SHAKE128, DIGEST, ObjectKind.CHUNK)


HEX = DIGEST.hex()
BAD_TEXTS = [
    "",
    HEX[:-1],
    HEX + "0",
    HEX.upper(),
    HEX + "C",
    HEX + "-rmd160C",
    HEX + "-sha1",
    HEX + "\n",
    "g" + HEX[1:],
]


@pytest.mark.parametrize("text", [*BAD_TEXTS, "\N{ARABIC-INDIC DIGIT ONE}" * 40, "../" + HEX[3:]])
def test_anything_else_is_no_hash(text):
    with pytest.raises(FormatError, match="not a content hash"):
        ContentHash.parse(text)


@pytest.mark.parametrize("length", [0, 16, 19, 21])
def test_a_digest_has_twenty_bytes(length):
    with pytest.raises(FormatError, match="20 bytes"):
        ContentHash(Algorithm.SHA1, bytes(length))


@pytest.mark.parametrize("algorithm", Algorithm)
def test_names_of_algorithms(algorithm):
    assert Algorithm.named(algorithm.name.lower()) is algorithm


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(FormatError, match="sha1, rmd160 or shake128"):
        Algorithm.named("md5")


def test_a_machine_without_ripemd(monkeypatch):
    def refuse(name, **_):
        raise ValueError(f"unsupported hash type {name}")

    monkeypatch.setattr(hashlib, "new", refuse)
    with pytest.raises(FormatError, match="RIPEMD-160"):
        ContentHash.of(b"", Algorithm.RMD160)


# FORMAT section 5.3.
@pytest.mark.parametrize(
    ("path", "first", "second"),
    [
        (b"", 338333539836370388, 9098107892288553193),
        (b"/foo", 5745132282796244766, -5819618580357280866),
        (b"/foo/bar", -2822516800166431715, 9048809318629099454),
        (b"/nest/deep", 4670974658830909724, -5618909562552861055),
    ],
)
def test_path_hashes(path, first, second):
    assert path_hash(path) == (first, second)


@pytest.mark.parametrize(
    ("path", "parent"), [(b"", b""), (b"/foo", b""), (b"/foo/bar", b"/foo"), (b"/\xff/ ", b"/\xff")]
)
def test_parent_paths(path, parent):
    assert parent_path(path) == parent


@given(st.binary(min_size=20, max_size=20), st.sampled_from(Algorithm), st.sampled_from(ObjectKind))
def test_every_hash_survives_its_text(digest, algorithm, kind):
    content = ContentHash(algorithm, digest, kind)
    assert ContentHash.parse(str(content), kind) == content
