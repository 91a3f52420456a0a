"""What a storage holds and what its revisions need, found with nothing but SQL: what the project says is not asked."""

import os
import sqlite3
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from cvfs.hashes import ContentHash, ObjectKind

_EXTERNAL = 0x80
_ALGORITHM_SHIFT = 8
_TAGS = ("", "-rmd160", "-shake128")


def objects(storage: Path) -> set[str]:
    """The places of all objects, below `data/`."""
    parts = [part for part in os.listdir(storage / "data") if part != "txn"]
    return {f"data/{part}/{name}" for part in parts for name in os.listdir(storage / "data" / part)}


def closure(storage: Path, roots: Iterable[ContentHash]) -> set[str]:
    """The places of everything that root catalogs need, themselves included."""
    found: set[str] = set()
    pending = list(roots)
    while pending:
        content = pending.pop()
        if content.path not in found:
            found.add(content.path)
            pending += _take(zlib.decompress((storage / content.path).read_bytes()), found)
    return found


def _take(catalog: bytes, found: set[str]) -> list[ContentHash]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(catalog)
        file.flush()
        connection = sqlite3.connect(file.name)
        _note(connection.execute("SELECT hash, flags FROM catalog WHERE length(hash) > 0"), "", found)
        chunks = "SELECT c.hash, f.flags FROM chunks c JOIN catalog f USING (md5path_1, md5path_2)"
        _note(connection.execute(chunks), "P", found)
        nested = [row[0] for row in connection.execute("SELECT sha1 FROM nested_catalogs")]
        connection.close()
    return [ContentHash.parse(text, ObjectKind.CATALOG) for text in nested]


def _note(rows: Iterable[tuple[bytes, int]], letter: str, found: set[str]) -> None:
    for digest, flags in rows:
        if not flags & _EXTERNAL:
            text = digest.hex() + _TAGS[flags >> _ALGORITHM_SHIFT & 7] + letter
            found.add(f"data/{text[:2]}/{text[2:]}")
