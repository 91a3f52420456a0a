"""A published repository whose documents tests change, and which is then published again as if nothing had happened."""

import calendar
import itertools
import sqlite3
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cvfs.format.signature import load_public_key
from cvfs.hashes import ContentHash, ObjectKind, path_hash
from cvfs.reflog import digest as reflog_digest
from cvfs.store.local import LocalStore
from cvfs_server.check.check import CheckOptions, check
from cvfs_server.check.findings import Finding
from cvfs_server.storage.local import LocalStorage


@pytest.fixture
def storage(tmp_path) -> LocalStorage:
    """The storage of an empty repository."""
    made = LocalStorage(str(tmp_path / "repository"))
    made.create()
    return made


class Editor:
    """Edits databases of a fixture with plain SQL. Hashes, sizes, reflog and signatures are right again afterwards.

    SQL has `h1(path)` and `h2(path)`, the halves of a path's hash.
    """

    def __init__(self, publication: Any, scratch: Path) -> None:
        self.publication = publication
        self._scratch = scratch

    def catalog(self, mountpoint: str, *statements: str) -> ContentHash:
        """Change the catalog mounted there; the catalogs above name the new one. Returns the new root hash."""
        way = self._way(mountpoint)
        content, size = self._changed(way[-1][1], statements)
        for (_, holder), (path, _) in zip(way[-2::-1], way[:0:-1], strict=True):
            update = f"UPDATE nested_catalogs SET sha1 = '{content}', size = {size} WHERE path = '{path}'"
            content, size = self._changed(holder, (update,))
        self._publish(root_catalog=content, root_size=size)
        return content

    def history(self, *statements: str) -> None:
        """Change the tag database."""
        self._publish(history=self._changed(self.publication.manifest.history, statements)[0])

    def reflog(self, *statements: str, sign: bool = True) -> None:
        """Change the reflog; without `sign` the manifest keeps the digest of the old one."""
        file = self._scratch / "reflog"
        file.write_bytes((self.publication.storage / ".cvmfsreflog").read_bytes())
        self._run(file, statements)
        self.publication.write(".cvmfsreflog", file.read_bytes())
        if sign:
            self._sign(reflog=reflog_digest(str(file), self.publication.algorithm))

    def manifest(self, **changes: Any) -> None:
        """Change the manifest and nothing that depends on it."""
        self._sign(**changes)

    def store(self, data: bytes, kind: ObjectKind) -> ContentHash:
        """A new object, compressed."""
        stored = zlib.compress(data)
        content = ContentHash.of(stored, self.publication.algorithm, kind)
        self.publication.write(content.path, stored)
        return content

    def refer(self, content: ContentHash) -> str:
        """SQL that makes the reflog list an object."""
        number = (ObjectKind.CATALOG, ObjectKind.CERTIFICATE, ObjectKind.HISTORY, ObjectKind.METAINFO).index(
            content.kind
        )
        return f"INSERT INTO refs VALUES ('{content}', {number}, 1)"

    def inflated(self, content: ContentHash) -> Path:
        """The file of a catalog or tag database."""
        file = self._scratch / content.name
        file.write_bytes(zlib.decompress((self.publication.storage / content.path).read_bytes()))
        return file

    def remove(self, place: str) -> None:
        """Delete a file of the storage."""
        self.publication.write(place, b"")
        (self.publication.storage / place).unlink()

    def query(self, file: Path, statement: str) -> list[Any]:
        """Rows of a database file."""
        connection = sqlite3.connect(file)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def _way(self, mountpoint: str) -> list[tuple[str, ContentHash]]:
        """The catalogs from the root to the one mounted there."""
        way = [("", self.publication.manifest.root_catalog)]
        while way[-1][0] != mountpoint:
            rows = self.query(self.inflated(way[-1][1]), "SELECT path, sha1 FROM nested_catalogs")
            way += [
                (p, ContentHash.parse(h, ObjectKind.CATALOG)) for p, h in rows if f"{mountpoint}/".startswith(f"{p}/")
            ]
        return way

    def _changed(self, content: ContentHash, statements: tuple[str, ...]) -> tuple[ContentHash, int]:
        file = self.inflated(content)
        self._run(file, statements)
        return self.store(file.read_bytes(), content.kind), file.stat().st_size

    def _run(self, file: Path, statements: tuple[str, ...]) -> None:
        connection = sqlite3.connect(file, isolation_level=None)
        connection.create_function("h1", 1, lambda path: path_hash(path.encode())[0])
        connection.create_function("h2", 1, lambda path: path_hash(path.encode())[1])
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, f"{statement} changes nothing"
        connection.close()

    def _publish(self, **changes: ContentHash | int) -> None:
        self.reflog(
            *(self.refer(content) for content in changes.values() if isinstance(content, ContentHash)), sign=False
        )
        digest = reflog_digest(str(self.publication.storage / ".cvmfsreflog"), self.publication.algorithm)
        self._sign(reflog=digest, **changes)

    def _sign(self, **changes: Any) -> None:
        manifest = self.publication.manifest
        self.publication.publish(**{"revision": manifest.revision, "timestamp": manifest.timestamp, **changes})


@pytest.fixture
def editor(publication, tmp_path) -> Callable[..., Editor]:
    """An editor over a private copy of a fixture."""

    def make(fqrn: str = "tiny.example.org") -> Editor:
        scratch = tmp_path / "edited"
        scratch.mkdir()
        return Editor(publication(fqrn), scratch)

    return make


@pytest.fixture
def found(tmp_path) -> Callable[..., list[Finding]]:
    """Checks the repository of an editor; without options only its catalogs and documents, in this process."""
    numbers = itertools.count()

    def run(editor: Editor, store: Any = None, progress: Any = None, **options: Any) -> list[Finding]:
        scratch = tmp_path / f"check{next(numbers)}"
        scratch.mkdir()
        publication = editor.publication
        chosen = CheckOptions(**{"existence": False, "workers": 1, **options})
        store = store or LocalStore(str(publication.storage))
        faults = list(check(store, publication.manifest, chosen, str(scratch), progress))
        assert [path.name for path in scratch.iterdir() if path.is_file()] == []
        return faults

    return run


@pytest.fixture
def trusted() -> Callable[[Editor], dict[str, Any]]:
    """The options that ask for the chain of trust, at the time when the whitelist was issued."""

    def options(editor: Editor) -> dict[str, Any]:
        issued = calendar.timegm(time.strptime(editor.publication.whitelist.issued, "%Y%m%d%H%M%S"))
        key = load_public_key(editor.publication.repository.public_key.read_bytes())
        return {"public_keys": (key,), "now": issued}

    return options
