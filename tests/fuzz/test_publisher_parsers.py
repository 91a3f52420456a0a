"""Any bytes that a publisher is given parse, or raise the one named error."""

from hypothesis import example, given
from hypothesis import strategies as st

from cvfs.errors import FormatError
from cvfs_server.sources.grafts import Graft
from cvfs_server.sources.posix_acl import pack_acl
from cvfs_server.sources.tar_extensions import attributes_of, nanoseconds, parse_pax, sparse_of

HEX = b"17f94ffb095781211676ea726a848fad66192e25"
GRAFT = [b"size=", b"checksum=", b"compression=zlib", b"chunk_offsets=", b"chunk_checksums=", HEX, b"P", b",", b"\n"]
PAX = [
    b"30 ",
    b"12 ",
    b"path=",
    b"mtime=",
    b"GNU.sparse.map=",
    b"GNU.sparse.major=1",
    b"LIBARCHIVE.xattr.",
    b"\n",
    b"1,2",
]
ACL = [b"user:", b"group:", b"mask:", b"other:", b":", b"rwx", b"r--", b",", b"\n", b"7", b"root"]


def mixed(tokens):
    return st.lists(
        st.sampled_from([*tokens, b"=", b" ", b"0", b"\0", b"\xff"]) | st.binary(max_size=9), max_size=30
    ).map(b"".join)


@given(mixed(GRAFT))
@example(b"size=9\nchecksum=" + HEX + b"\nchunk_offsets=0,4\nchunk_checksums=" + HEX + b"," + HEX)
def test_graft_files(data):
    try:
        found = Graft.parse(data)
    except FormatError:
        return
    assert Graft.parse(found.serialise()) == found


@given(mixed(PAX), st.lists(st.binary(max_size=512), max_size=4))
def test_pax_headers(data, blocks):
    rest = iter(blocks)
    try:
        found = parse_pax(data)
        attributes_of(found.values)
        sparse_of(found, lambda _offset: next(rest, b""))
    except FormatError:
        return
    assert sum(len(value) for value in found.values.values()) <= len(data)


@given(mixed(ACL))
@example(b"user::rw-,user:7:rwx,group::r--,mask::rwx,other::r--")
def test_access_control_lists(data):
    try:
        found = pack_acl(data)
    except FormatError:
        return
    assert found is None or len(found) % 8 == 4


@given(st.text("0123456789.-+e", max_size=30))
def test_times(text):
    try:
        found = nanoseconds(text.encode())
    except FormatError:
        return
    assert abs(found) < 10**27
