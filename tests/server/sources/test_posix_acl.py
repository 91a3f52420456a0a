"""Access control lists from the text of archives: what the kernel would have stored."""

import os
import shutil
import subprocess

import pytest

from cvfs.errors import FormatError
from cvfs_server.sources.posix_acl import pack_acl

PLAIN = "0200000001000600ffffffff04000400ffffffff20000400ffffffff"
NAMED = "0200000001000600ffffffff0200070007000000" + "04000400ffffffff" + "10000700ffffffff" + "20000400ffffffff"


@pytest.mark.parametrize(
    "text",
    [
        b"user::rw-,user:7:rwx,group::r--,mask::rwx,other::r--",
        b"user::rw-\nuser:7:rwx\ngroup::r--\nmask::rwx\nother::r--\n",
        b"other::r--,mask:rwx,group::r--,user:7:rwx,user::rw-",
        b"u::rw-,u:unknown:rwx:7,g::r--,m::rwx,o::r--",
        b"user::rw-,user:7:rwx #effective:r--\n,group::r--,mask::rwx,other::r--",
    ],
)
def test_ways_to_write_the_same(text):
    assert pack_acl(text).hex() == NAMED


@pytest.mark.parametrize("text", [b"", b"user::rwx", b"user::rwx,group::r-x,other::---"])
def test_what_the_mode_says_already(text):
    assert pack_acl(text) is None


def test_names_of_this_machine():
    assert pack_acl(b"user::rw-,user:root:r--,group::r--,group:root:r--,mask::r--,other::---") == pack_acl(
        b"user::rw-,user:0:r--,group::r--,group:0:r--,mask::r--,other::---"
    )


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense",
        b"user",
        b"user::",
        b"user::rwz",
        b"user:nobody-knows-him:rwx",
        b"group:nobody-knows-it:rwx",
        b"user:7:rwx:7:7",
        b"friend::rwx",
        b"user:\xff:rwx",
    ],
)
def test_what_is_no_list(text):
    with pytest.raises(FormatError):
        pack_acl(text)


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="needs setfacl")
def test_the_kernel_agrees(tmp_path):
    path = tmp_path / "file"
    path.touch(0o640)
    made = subprocess.run(["setfacl", "-m", "u:7:rwx,g:9:r", path], check=False, capture_output=True, timeout=60)
    if made.returncode:
        pytest.skip("this file system has no access control lists")
    text = subprocess.run(["getfacl", "-cn", path], check=True, capture_output=True, timeout=60).stdout
    assert pack_acl(text) == os.getxattr(path, "system.posix_acl_access")
