"""What `cvfs preload` says at its end."""

import pytest

from cvfs.client.preload import Preloaded
from cvfs_tools.preloading import _numbers


@pytest.mark.parametrize(
    ("files", "present", "said"),
    [
        (1, 1, "1 file, 1 object was there"),
        (0, 0, "0 files, 0 objects were there"),
        (2, 3, "2 files, 3 objects were there"),
    ],
)
def test_numbers_in_words(files, present, said):
    assert _numbers(Preloaded(files=files, present=present, fetched=1, size=2**21)) == f"{said}, 1 fetched (2 MB)"
