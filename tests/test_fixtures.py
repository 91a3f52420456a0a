"""The fixtures themselves: unpacked once, whole, and described as tests/conftest.py says."""

import pytest

NAMES = ("tiny.example.org", "tiny-shake128.example.org")


@pytest.mark.parametrize("fqrn", NAMES)
def test_a_fixture_is_a_whole_repository(fixture_repository, fqrn):
    repository = fixture_repository(fqrn)
    assert repository is fixture_repository(fqrn)
    assert (repository.storage / ".cvmfspublished").is_file()
    assert repository.public_key.is_file()
    assert (repository.private / f"{fqrn}.masterkey").is_file()
    assert sorted(repository.manifests) == ["s1", "s2", "s3", "s4", "s5"]
    assert repository.manifests["s5"]["entries"][0]["path"] == ""
