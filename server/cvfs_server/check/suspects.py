"""Which rows of a catalog a reader refuses, by path: asked with SQL after the reader refused the whole catalog.

It only finds what is to be named; what is refused is decided by `cvfs.catalog.reader`. Source: FORMAT sections 5.2, 5.3.
"""

from collections.abc import Iterator
from typing import Any

from cvfs.catalog.database import ForeignDatabase
from cvfs.hashes import path_hash
from cvfs_server.check.findings import Finding, fault

_NO_BYTES = "typeof({0}) NOT IN ('text', 'blob') OR instr(CAST({0} AS BLOB), X'00')"
_NO_NUMBER = "typeof({0}) <> 'integer' OR {0} < 0"
_SUSPECTS = (
    (
        "a row with an empty or impossible name",
        f"NOT is_root AND ({_NO_BYTES.format('name')} OR name IN ('', '.', '..') OR "
        "length(CAST(name AS BLOB)) > 1024 OR instr(CAST(name AS BLOB), X'2F'))",
    ),
    (
        "the column symlink holds no text: the original client crashes",
        _NO_BYTES.format("symlink"),
    ),
    (
        "a column holds no number, or none that makes sense",
        f"typeof(mtime) <> 'integer' OR mode > 65535 OR {_NO_NUMBER.format('mode')} OR {_NO_NUMBER.format('size')} OR "
        + _NO_NUMBER.format("flags"),
    ),
)
_MOST = 20
_DEEPEST = 1000


def suspect_rows(database: ForeignDatabase, mountpoint: bytes) -> Iterator[Finding]:
    """The first rows of each kind that no reader accepts. Raises FormatError if the file cannot be asked."""
    columns = "name, parent_1, parent_2, md5path_1 IS ? AND md5path_2 IS ? AS is_root"
    for what, condition in _SUSPECTS:
        query = f"SELECT {columns} FROM catalog WHERE {condition} LIMIT {_MOST}"
        for name, *parent, is_root in database.query(query, path_hash(mountpoint)):
            path = mountpoint if is_root else _directory(database, mountpoint, parent) + _part(name)
            yield fault(path, what)


def _directory(database: ForeignDatabase, mountpoint: bytes, key: list[Any]) -> bytes:
    """The path of a directory, as far as its parents are known."""
    path, root = b"", path_hash(mountpoint)
    for _ in range(_DEEPEST):
        if tuple(key) == root:
            return mountpoint + path
        if {type(half) for half in key} != {int}:
            break
        rows = database.query(
            "SELECT name, parent_1, parent_2 FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?", (key[0], key[1])
        )
        if not rows:
            break
        path = _part(rows[0][0]) + path
        key = rows[0][1:]
    return mountpoint + b"/(unknown)" + path


def _part(name: object) -> bytes:
    return b"/" + (name if isinstance(name, bytes) else str(name).encode())
