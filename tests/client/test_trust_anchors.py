"""Keys out of files: what is wrong with one is said in a line that names the file and what to do."""

import pytest

from cvfs.client.trust_anchors import read_key
from cvfs.errors import UsageError


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing",
        b"-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    ],
)
def test_a_damaged_key_file_is_named(content, tmp_path):
    place = tmp_path / "sw.example.org.pub"
    place.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_key(str(place))
    assert str(caught.value) == f"{place}: not a public key in PEM form, put the repository's public key there"
