"""Objects that are missing, damaged or of another length than a catalog says are found by the path that needs them."""

import os
from collections import Counter

import pytest

from cvfs.errors import StoreError, StoreFull, Unreachable
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.store.local import LocalStore
from cvfs_server.check import tree as check_tree
from cvfs_server.check.references import References

HELLO, BIG = "/files/hello.txt", "/chunked/random_1m"
CHUNKS = "SELECT lower(hex(chunks.hash)) FROM chunks JOIN catalog USING (md5path_1, md5path_2) WHERE name = 'random_1m'"


class Counting(LocalStore):
    """A local store that counts what is read and what is asked for."""

    def __init__(self, base: str) -> None:
        super().__init__(base)
        self.read: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    def fetch(self, path, *, fresh=False, span=None):
        self.read[path] += 1
        return super().fetch(path, fresh=fresh, span=span)

    def has(self, path):
        self.asked[path] += 1
        return super().has(path)


class Broken(LocalStore):
    """A local store on a disk that fails for one object."""

    place = ""

    def fetch(self, path, *, fresh=False, span=None):
        if path == self.place:
            raise Unreachable(f"{path}: Input/output error")
        return super().fetch(path, fresh=fresh, span=span)

    def has(self, path):
        if path == self.place:
            raise Unreachable(f"{path}: Input/output error")
        return super().has(path)


class Killing(LocalStore):
    """A local store that ends every process but the one that made it."""

    def __init__(self, base: str) -> None:
        super().__init__(base)
        self.home = os.getpid()

    def fetch(self, path, *, fresh=False, span=None):
        if os.getpid() != self.home:
            os._exit(1)
        return super().fetch(path, fresh=fresh, span=span)


def place(edited, path: str, column: str = "hash") -> str:
    """Where the object of a file of the root catalog lies."""
    root = edited.inflated(edited.publication.manifest.root_catalog)
    name = path.rpartition("/")[2]
    ((digest,),) = edited.query(root, f"SELECT lower(hex({column})) FROM catalog WHERE name = '{name}'")
    return ContentHash(edited.publication.algorithm, bytes.fromhex(digest)).path


def chunk_place(edited) -> str:
    root = edited.inflated(edited.publication.manifest.root_catalog)
    digest = bytes.fromhex(edited.query(root, CHUNKS)[0][0])
    return ContentHash(edited.publication.algorithm, digest, ObjectKind.CHUNK).path


@pytest.mark.parametrize("integrity", [True, False])
def test_a_missing_object_is_found_by_the_path_that_needs_it(editor, found, integrity):
    edited = editor()
    missing = place(edited, HELLO)
    edited.remove(missing)
    options = {"existence": not integrity, "integrity": integrity}
    assert found(edited, **options) == [(HELLO, f"its object {missing} is missing", False)]
    assert found(edited) == []


@pytest.mark.parametrize("integrity", [True, False])
def test_a_missing_chunk_is_found_by_the_path_that_needs_it(editor, found, integrity):
    edited = editor()
    missing = chunk_place(edited)
    assert missing.endswith("P")
    edited.remove(missing)
    faults = found(edited, existence=True, integrity=integrity)
    assert faults == [(BIG, f"its object {missing} is missing", False)]


@pytest.mark.parametrize("fqrn", ["tiny.example.org", "tiny-shake128.example.org"])
@pytest.mark.parametrize("kind", ["file", "chunk"])
@pytest.mark.parametrize("at", [0, -1, 7])
def test_a_flipped_bit_is_found_by_integrity_alone(editor, found, fqrn, kind, at):
    edited = editor(fqrn)
    damaged = place(edited, HELLO) if kind == "file" else chunk_place(edited)
    edited.publication.flip(damaged, at)
    assert found(edited, existence=True) == []
    (finding,) = found(edited, integrity=True)
    assert finding.where == (HELLO if kind == "file" else BIG)
    assert finding.what.startswith(f"its object: {damaged}: its ")
    assert "do not have the hash" in finding.what


def test_a_flipped_bit_of_a_bulk_object(editor, found):
    edited = editor("tiny-shake128.example.org")
    edited.publication.flip(place(edited, BIG), 1000)
    assert [where for where, *_ in found(edited, integrity=True)] == [BIG]


def test_a_truncated_and_a_longer_object(editor, found):
    edited = editor()
    for path, change in ((HELLO, lambda data: data[:-1]), ("/files/random_4097", lambda data: data + b"\0")):
        where = place(edited, path)
        edited.publication.write(where, change((edited.publication.storage / where).read_bytes()))
    assert sorted(where for where, *_ in found(edited, integrity=True)) == [HELLO, "/files/random_4097"]


def update(path: str, change: str) -> str:
    return f"UPDATE catalog SET {change} WHERE md5path_1 = h1('{path}') AND md5path_2 = h2('{path}')"


def count(counter: str, more: int) -> str:
    return f"UPDATE statistics SET value = value + {more} WHERE counter = '{counter}'"


@pytest.mark.parametrize(("more", "what"), [(1, "has 36 bytes of content, the catalog says 37"), (-1, "more than 35")])
def test_a_size_that_is_not_the_contents(editor, found, more, what):
    edited = editor()
    edited.catalog("", update(HELLO, f"size = size + {more}"), count("self_file_size", more))
    assert found(edited, existence=True) == []
    (finding,) = found(edited, integrity=True)
    assert finding.where == HELLO
    assert what in finding.what


def test_a_compression_that_is_not_the_contents(editor, found):
    edited = editor()
    edited.catalog("", update(HELLO, "flags = 0x804"))
    (finding,) = found(edited, integrity=True)
    assert finding.where == HELLO
    assert finding.what.endswith("longer than the 36 bytes it may have")


def test_every_claim_about_an_object_is_held_against_it(editor, found):
    edited = editor()
    same = "hash = (SELECT hash FROM catalog WHERE name = 'hello.txt'), size = 35, hardlinks = 1"
    edited.catalog("", update("/files/one_byte", same), count("self_file_size", 34))
    ((where, *_),) = found(edited, integrity=True)
    assert where == "/files/one_byte"


def test_external_files_have_no_objects(editor, found):
    edited = editor()
    digest = "x'" + "ab" * 20 + "'"
    edited.catalog(
        "",
        update(HELLO, f"flags = 0x84, hash = {digest}"),
        count("self_external", 1),
        count("self_external_file_size", 36),
    )
    assert found(edited, existence=True, integrity=True) == []


def test_the_content_hash_of_a_directory_names_an_object_of_its_own_kind(editor, found):
    edited = editor()
    edited.catalog("", update("/owners", f"hash = x'{'ab' * 20}'"))
    missing = f"data/ab/{'ab' * 19}L"
    assert found(edited, existence=True) == [("/owners", f"its object {missing} is missing", False)]


@pytest.mark.parametrize("fqrn", ["tiny.example.org", "tiny-shake128.example.org"])
def test_every_object_of_the_revision_is_read_once(editor, found, fqrn):
    edited = editor(fqrn)
    store = Counting(str(edited.publication.storage))
    assert found(edited, store, integrity=True) == []
    assert max(store.read.values()) == 1
    assert not any(path.startswith("data/") and not path.endswith("C") for path in store.asked)
    assert {path[-1] for path in store.read if path.startswith("data/")} >= set("CHXMP")
    assert place(edited, HELLO) in store.read


def test_without_integrity_every_object_is_asked_for_once_and_none_is_read(editor, found):
    edited = editor()
    reader, asker = (Counting(str(edited.publication.storage)) for _ in range(2))
    assert found(edited, reader, integrity=True) == []
    assert found(edited, asker, existence=True) == []
    contents = {path for path in reader.read if path.startswith("data/") and path[-1] not in "CHXM"}
    assert contents == {path for path in asker.asked if not path.endswith("C")}
    assert not contents & set(asker.read)
    assert max(asker.asked[path] for path in contents) == 1


def test_other_processes_find_the_same(editor, found, monkeypatch):
    edited = editor()
    edited.remove(place(edited, HELLO))
    edited.publication.flip(chunk_place(edited))
    alone, seen = [], []
    expected = found(edited, integrity=True, workers=1, progress=alone.append)
    monkeypatch.setattr(check_tree, "_INLINE_ENTRIES", 0)
    assert found(edited, integrity=True, workers=2, progress=seen.append) == expected
    assert {where for where, *_ in expected} == {HELLO, BIG}
    assert sum(seen) == sum(alone)


@pytest.mark.parametrize("integrity", [True, False])
def test_several_objects_at_a_time_are_found_as_one_after_the_other(editor, found, integrity):
    edited = editor()
    edited.remove(place(edited, HELLO))
    edited.publication.flip(chunk_place(edited))
    alone = found(edited, integrity=integrity, existence=True, workers=1)
    assert found(edited, integrity=integrity, existence=True, workers=1, parallel=4) == alone
    assert len(alone) == 1 + integrity


def test_a_process_that_dies_is_an_error_not_a_sound_repository(editor, found, monkeypatch):
    edited = editor()
    monkeypatch.setattr(check_tree, "_INLINE_ENTRIES", 0)
    with pytest.raises(StoreError, match="a process that looked at objects died"):
        found(edited, Killing(str(edited.publication.storage)), integrity=True, workers=2)


def test_a_disk_that_fails_is_a_finding(editor, found):
    edited = editor()
    store = Broken(str(edited.publication.storage))
    store.place = place(edited, HELLO)
    fault = (HELLO, f"its object: {store.place}: Input/output error", False)
    assert found(edited, store, integrity=True) == [fault]
    assert found(edited, store, existence=True) == [fault]


def test_progress_counts_rows_and_objects(editor, found):
    edited = editor()
    store, seen = Counting(str(edited.publication.storage)), []
    found(edited, store, integrity=True, progress=seen.append)
    contents = [path for path in store.read if path.startswith("data/") and path[-1] not in "CHXM"]
    assert sum(seen) == 1081 + len(contents)


def test_references_that_cannot_be_written_down(tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(StoreFull, match="cannot write the list of references"):
        References(str(tmp_path / "taken")).add(ObjectKind.FILE, b"x" * 20, 0, 1, b"/x")
