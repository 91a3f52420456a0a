"""The messages, both directions, against tables and against the system's own header."""

import shutil
import stat
import struct
import subprocess

import pytest

from cvfs.attributes import Attributes, FilesystemSize
from cvfs.fuse import abi
from cvfs.fuse.abi import Init, Notify, Opcode, Open, Validity

VALIDITY = Validity(10, 20, 5, 6)
FILE = Attributes(
    ino=77,
    mode=stat.S_IFREG | 0o644,
    nlink=2,
    uid=1000,
    gid=100,
    rdev=0,
    size=12345,
    blocks=25,
    mtime=1_700_000_000,
    mtime_ns=987_654_321,
)

# Name in the header: the layout here. The compiler is the independent witness of their sizes.
LAYOUTS = {
    "struct fuse_in_header": abi.IN_HEADER,
    "struct fuse_out_header": abi.OUT_HEADER,
    "struct fuse_init_out": abi.INIT_OUT,
    "struct fuse_attr": abi.ATTR,
    "struct fuse_entry_out": abi.ENTRY_OUT,
    "struct fuse_attr_out": abi.ATTR_OUT,
    "struct fuse_open_out": abi.OPEN_OUT,
    "struct fuse_read_in": abi.READ_IN,
    "struct fuse_forget_in": abi.FORGET_IN,
    "struct fuse_forget_one": abi.FORGET_ONE,
    "struct fuse_batch_forget_in": abi.BATCH_FORGET_IN,
    "struct fuse_getxattr_in": abi.GETXATTR_IN,
    "struct fuse_getxattr_out": abi.GETXATTR_OUT,
    "struct fuse_interrupt_in": abi.INTERRUPT_IN,
    "struct fuse_statfs_out": abi.STATFS_OUT,
    "struct fuse_notify_inval_inode_out": abi.INVAL_INODE_OUT,
    "struct fuse_notify_inval_entry_out": abi.INVAL_ENTRY_OUT,
}

# What one reply field is called in the header, and what it must be in the packed FILE.
FIELDS = [
    ("fuse_entry_out", "nodeid", 77),
    ("fuse_entry_out", "generation", 0),
    ("fuse_entry_out", "entry_valid", 10),
    ("fuse_entry_out", "attr_valid", 20),
    ("fuse_entry_out", "entry_valid_nsec", 5),
    ("fuse_entry_out", "attr_valid_nsec", 6),
    ("fuse_entry_out", "attr.ino", 77),
    ("fuse_entry_out", "attr.size", 12345),
    ("fuse_entry_out", "attr.blocks", 25),
    ("fuse_entry_out", "attr.atime", 1_700_000_000),
    ("fuse_entry_out", "attr.mtime", 1_700_000_000),
    ("fuse_entry_out", "attr.ctime", 1_700_000_000),
    ("fuse_entry_out", "attr.mtimensec", 987_654_321),
    ("fuse_entry_out", "attr.mode", stat.S_IFREG | 0o644),
    ("fuse_entry_out", "attr.nlink", 2),
    ("fuse_entry_out", "attr.uid", 1000),
    ("fuse_entry_out", "attr.gid", 100),
    ("fuse_entry_out", "attr.rdev", 0),
    ("fuse_entry_out", "attr.blksize", 4096),
    ("fuse_attr_out", "attr_valid", 20),
    ("fuse_attr_out", "attr_valid_nsec", 6),
    ("fuse_attr_out", "attr.ino", 77),
    ("fuse_attr_out", "attr.uid", 1000),
]


def compiled(directory, body: str) -> list[str]:
    """What a C program with the system's header prints, by line."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to witness the header")
    source, program = directory / "witness.c", directory / "witness"
    source.write_text(
        f"#include <stddef.h>\n#include <stdio.h>\n#include <linux/fuse.h>\nint main(void) {{\n{body}\nreturn 0; }}\n"
    )
    done = subprocess.run([compiler, str(source), "-o", str(program)], capture_output=True, text=True, timeout=60)
    if "linux/fuse.h" in done.stderr and done.returncode:
        pytest.skip("no linux/fuse.h to witness the layouts")
    assert done.returncode == 0, done.stderr
    return subprocess.run([str(program)], capture_output=True, text=True, timeout=60, check=True).stdout.split()


def test_layouts_have_the_sizes_of_the_header(tmp_path):
    body = "\n".join(f'printf("%zu\\n", sizeof({name}));' for name in LAYOUTS)
    sizes = [int(line) for line in compiled(tmp_path, body)]
    assert dict(zip(LAYOUTS, sizes, strict=True)) == {name: layout.size for name, layout in LAYOUTS.items()}


def test_fields_lie_where_the_header_says(tmp_path):
    """Offsets and sizes come from the compiler, the bytes from the packers."""
    body = "\n".join(
        f'printf("%zu %zu\\n", offsetof(struct {structure}, {field}), sizeof(((struct {structure} *)0)->{field}));'
        for structure, field, _ in FIELDS
    )
    numbers = [int(word) for word in compiled(tmp_path, body)]
    packed = {
        "fuse_entry_out": abi.pack_entry(FILE, VALIDITY),
        "fuse_attr_out": abi.pack_attributes(FILE, VALIDITY),
    }
    for (structure, field, expected), offset, size in zip(FIELDS, numbers[::2], numbers[1::2], strict=True):
        layout = {8: "=Q", 4: "=I"}[size]
        assert struct.unpack_from(layout, packed[structure], offset) == (expected,), f"{structure}.{field}"


def test_numbers_are_those_of_the_header(tmp_path):
    """Names that this header does not have yet are left out: it may be older than the newest kernel."""
    lines = compiled(tmp_path, 'printf("%d\\n", FUSE_KERNEL_MINOR_VERSION);')
    names = {f"FUSE_{opcode.name}": opcode.value for opcode in Opcode}
    names |= {f"FUSE_NOTIFY_{code.name}": code.value for code in Notify}
    names |= {f"FUSE_{flag.name}": flag.value for flag in Init}
    names |= {f"FOPEN_{flag.name}": flag.value for flag in Open}
    late = {"FUSE_STATX": 39, "FUSE_COPY_FILE_RANGE_64": 45, "FUSE_NOTIFY_PRUNE": 45, "FUSE_TMPFILE": 37}
    names = {name: value for name, value in names.items() if int(lines[0]) >= late.get(name, 0)}
    values = compiled(tmp_path, "\n".join(f'printf("%lld\\n", (long long){name});' for name in names))
    assert dict(zip(names, map(int, values), strict=True)) == names


# --- requests ---------------------------------------------------------------------------------------------------------


def request(opcode: int, node: int, body: bytes, unique: int = 9) -> bytes:
    return abi.IN_HEADER.pack(abi.IN_HEADER.size + len(body), opcode, unique, node, 1, 2, 3, 0, 0) + body


@pytest.mark.parametrize("opcode", list(Opcode))
def test_request_header(opcode):
    message = request(opcode, 2**40, b"abc", unique=2**60)
    assert abi.parse_request(message) == (43, opcode, 2**60, 2**40)


@pytest.mark.parametrize(
    ("body", "offer"),
    [
        (struct.pack("=IIII", 7, 27, 131072, 0x3FFFFF), (7, 27, 131072, 0x3FFFFF)),
        (struct.pack("=IIIII44x", 7, 45, 131072, 0xFFFFFFFF, 0xFF), (7, 45, 131072, 0xFFFFFFFF)),
    ],
)
def test_init_of_old_and_new_kernels(body, offer):
    assert abi.parse_init(request(Opcode.INIT, 0, body)) == offer


@pytest.mark.parametrize("name", [b"a", b"with blank", b"\xff\xfe not UTF-8", b"x" * 255])
def test_names(name):
    message = request(Opcode.LOOKUP, 1, name + b"\0")
    assert abi.parse_name(message, len(message)) == name
    asked = request(Opcode.GETXATTR, 1, abi.GETXATTR_IN.pack(64, 0) + name + b"\0")
    assert abi.parse_getxattr(asked, len(asked)) == (64, name)


@pytest.mark.parametrize(("offset", "size"), [(0, 4096), (2**40, 1 << 20), (2**63 - 1, 0)])
def test_read(offset, size):
    assert abi.parse_read(request(Opcode.READ, 5, abi.READ_IN.pack(3, offset, size, 0, 0, 0, 0))) == (offset, size)


def test_forgets():
    assert abi.parse_forget(request(Opcode.FORGET, 5, abi.FORGET_IN.pack(12))) == 12
    pairs = [(5, 1), (2**40, 3), (7, 2**33)]
    body = abi.BATCH_FORGET_IN.pack(3, 0) + b"".join(abi.FORGET_ONE.pack(*pair) for pair in pairs)
    # What an earlier request left in the buffer must not be taken for a node.
    assert list(abi.parse_batch_forget(bytearray(request(Opcode.BATCH_FORGET, 0, body) + bytes(64)))) == pairs


def test_interrupt():
    assert abi.parse_interrupt(request(Opcode.INTERRUPT, 0, abi.INTERRUPT_IN.pack(4711))) == 4711


@pytest.mark.parametrize(
    "parse", [abi.parse_request, abi.parse_init, abi.parse_read, abi.parse_forget, abi.parse_interrupt]
)
def test_short_messages_are_refused(parse):
    with pytest.raises(struct.error):
        parse(request(Opcode.READ, 1, b"")[:23])


# --- replies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [((1.5, 0.25), (1, 0, 500_000_000, 250_000_000)), ((0, 86400), (0, 86400, 0, 0))],
)
def test_validity(seconds, expected):
    assert Validity.of(*seconds) == expected


def test_init_reply():
    packed = abi.pack_init(
        31,
        Init.ASYNC_READ | Init.MAX_PAGES,
        max_readahead=1 << 20,
        max_background=64,
        congestion_threshold=48,
        max_write=4096,
        max_pages=256,
    )
    assert len(packed) == 64
    assert struct.unpack_from("=IIIIHHIIH", packed) == (7, 31, 1 << 20, (1 << 22) | 1, 64, 48, 4096, 1, 256)


def test_entries():
    packed = abi.pack_entry(FILE, VALIDITY)
    assert abi.entry_node(packed) == 77
    assert packed[40:] == abi.pack_attributes(FILE, VALIDITY)[16:]
    negative = abi.pack_negative_entry(VALIDITY)
    assert abi.entry_node(negative) == 0
    assert abi.ENTRY_OUT.unpack(negative)[:6] == (0, 0, 10, 20, 5, 6)


def test_times_before_1970_and_large_devices():
    old = FILE._replace(mtime=-5, rdev=(1 << 40) | 0x801)
    fields = abi.ATTR.unpack(abi.pack_attributes(old, VALIDITY)[16:])
    assert fields[3:6] == (-5, -5, -5)
    assert fields[13] == 0x801


def test_statfs():
    fields = abi.STATFS_OUT.unpack(abi.pack_statfs(FilesystemSize(4096, 100, 40, 7, 3, 254)))
    assert fields == (100, 40, 40, 7, 3, 4096, 254, 4096, 0)


def test_small_replies():
    assert abi.OPEN_OUT.unpack(abi.pack_open(Open.KEEP_CACHE)) == (0, 2, 0)
    assert abi.GETXATTR_OUT.unpack(abi.pack_xattr_size(17)) == (17, 0)


# --- directories ------------------------------------------------------------------------------------------------------


def unpack_dirents(payload: bytes) -> list[tuple[int, int, int, bytes]]:
    found, position = [], 0
    while position < len(payload):
        ino, offset, length, kind = abi.DIRENT.unpack_from(payload, position)
        start = position + abi.DIRENT.size
        found.append((ino, offset, kind, payload[start : start + length]))
        position = start + -(-length // 8) * 8
    return found


ENTRIES = [(b"n" * length, FILE._replace(ino=length + 100)) for length in (1, 7, 8, 9, 255)]


def test_dirents():
    buffer = bytearray(b"\xff" * 4096)
    used, taken = abi.pack_dirents(buffer, 0, ENTRIES, 2)
    assert taken == 5
    assert unpack_dirents(bytes(buffer[:used])) == [
        (attributes.ino, 3 + index, stat.S_IFREG >> 12, name) for index, (name, attributes) in enumerate(ENTRIES)
    ]


def test_direntplus():
    buffer = bytearray(b"\xff" * 4096)
    used, taken = abi.pack_direntplus(buffer, 0, ENTRIES, 2, VALIDITY)
    assert taken == 5
    assert list(abi.iter_direntplus(buffer[:used])) == [
        (attributes.ino, 3 + index, name) for index, (name, attributes) in enumerate(ENTRIES)
    ]
    name, attributes = ENTRIES[0]
    assert bytes(buffer[:128]) == abi.pack_entry(attributes, VALIDITY)
    assert bytes(buffer[128:160]) == abi.DIRENT.pack(101, 3, 1, stat.S_IFREG >> 12) + name + bytes(7)


@pytest.mark.parametrize("room", range(0, 400, 8))
def test_no_entry_is_cut(room):
    """A record that does not fit wholly is left for the next reply, and nothing is written past the end."""
    entries = ENTRIES[:2]
    sizes = [160, 160]
    expected = sum(sum(sizes[: count + 1]) <= room for count in range(2))
    used, taken = abi.pack_direntplus(bytearray(room), 0, entries, 2, VALIDITY)
    assert (used, taken) == (160 * expected, expected)
    used, taken = abi.pack_dirents(bytearray(room), 0, entries, 2)
    assert (used, taken) == (32 * min(room // 32, 2), min(room // 32, 2))


@pytest.mark.parametrize(("offset", "names"), [(0, [b".", b".."]), (1, [b".."]), (2, []), (50, [])])
def test_dots(offset, names):
    buffer = bytearray(1024)
    used = abi.pack_dots(buffer, 42, offset, plus=False)
    plain = unpack_dirents(bytes(buffer[:used]))
    assert [(ino, kind, name) for ino, _, kind, name in plain] == [(42, stat.S_IFDIR >> 12, name) for name in names]
    buffer = bytearray(1024)
    used = abi.pack_dots(buffer, 42, offset, plus=True)
    assert [(entry.node, entry.name) for entry in abi.iter_direntplus(buffer[:used])] == [(0, name) for name in names]


# --- notifications ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code", "body"),
    [
        (abi.pack_inval_inode(5, data=True), 2, struct.pack("=Qqq", 5, 0, 0)),
        (abi.pack_inval_inode(5, data=False), 2, struct.pack("=Qqq", 5, -1, 0)),
        (abi.pack_inval_entry(7, b"n\xff"), 3, struct.pack("=QII", 7, 2, 0) + b"n\xff\0"),
        (abi.pack_prune([3, 2**40]), 9, struct.pack("=IIQQQ", 2, 0, 0, 3, 2**40)),
    ],
)
def test_notifications(message, code, body):
    assert abi.OUT_HEADER.unpack_from(message) == (len(message), code, 0)
    assert message[16:] == body
