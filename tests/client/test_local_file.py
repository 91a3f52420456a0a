"""Files that somebody named in the configuration, which may be anything."""

import os
import re

import pytest

from cvfs.client.local_file import read_local
from cvfs.errors import UsageError


def test_the_bytes_of_a_file_up_to_the_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"\xff\0" * 5)
    assert read_local(str(tmp_path / "file"), 10) == b"\xff\0" * 5
    with pytest.raises(UsageError, match="longer than 9 bytes"):
        read_local(str(tmp_path / "file"), 9)


@pytest.mark.parametrize(
    ("make", "trouble"),
    [
        (os.mkfifo, "not a file"),
        (os.mkdir, "directory|not a file"),
        (lambda path: os.symlink("/dev/zero", path), "not a file"),
        (lambda path: os.symlink(path, path), "symbolic links"),
        (lambda path: None, "No such file"),
    ],
    ids=["pipe", "directory", "device", "loop", "nothing"],
)
def test_anything_else_is_refused_at_once(tmp_path, make, trouble):
    path = str(tmp_path / "odd")
    make(path)
    with pytest.raises(UsageError, match=f"^{re.escape(path)}: .*({trouble})"):
        read_local(path, 100)
