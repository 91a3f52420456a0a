"""Every rule about catalogs is broken alone, in a repository that the original published: exactly that is found."""

import random
from pathlib import Path

import pytest

from cvfs.errors import NotFound, StoreFull
from cvfs.hashes import ObjectKind
from cvfs.store.local import LocalStore
from cvfs_server.check.check import CheckOptions, check

FIXTURES = ("tiny.example.org", "tiny-shake128.example.org")
TAGS = ("s1", "s2", "s3", "s4", "s5", "trunk", "trunk-previous")
HELLO, FIFO, LINK, BIG = "/files/hello.txt", "/specialfiles/fifo", "/symlinks/dot", "/chunked/random_1m"
V2 = "/versions/v2"
DIGEST = "x'" + "ab" * 20 + "'"
COLUMNS = ("hardlinks", "hash", "size", "mode", "mtime", "mtimens", "flags", "symlink", "uid", "gid", "xattr")


def at(path: str) -> str:
    return f"md5path_1 = h1('{path}') AND md5path_2 = h2('{path}')"


def update(path: str, change: str) -> str:
    return f"UPDATE catalog SET {change} WHERE {at(path)}"


def count(counter: str, more: int) -> str:
    return f"UPDATE statistics SET value = value + {more} WHERE counter = '{counter}'"


def insert(path: str, like: str, **columns: str) -> str:
    """A row as that of another path of the same catalog."""
    parent, _, name = path.rpartition("/")
    place = f"h1('{path}'), h2('{path}'), h1('{parent}'), h2('{parent}'), '{name}'"
    values = ", ".join(columns.get(column, column) for column in COLUMNS)
    names = f"md5path_1, md5path_2, parent_1, parent_2, name, {', '.join(COLUMNS)}"
    return f"INSERT INTO catalog ({names}) SELECT {place}, {values} FROM catalog WHERE {at(like)}"


NEW_FILE = (count("self_regular", 1), count("self_file_size", 36))
NEW_EMPTY_FILE = (count("self_regular", 1),)
BOUND = (
    insert("/bound", "/owners", flags="0x4001", hardlinks="2"),
    update("", "hardlinks = hardlinks + 1"),
    count("self_dir", 1),
)
COUNT_CHUNKS = "UPDATE statistics SET value = (SELECT COUNT(*) FROM chunks) WHERE counter = 'self_chunks'"

# Statements for the root catalog, where it is found, what; True for a warning.
ROWS = {
    "no hash": ([update(HELLO, "hash = NULL")], HELLO, "neither content hash nor chunks"),
    "short hash": ([update(HELLO, "hash = x'0102'")], HELLO, "its content hash has another length than 20 bytes"),
    "no links": ([update(HELLO, "hardlinks = 0")], HELLO, "link count 0"),
    "links, no group": ([update(HELLO, "hardlinks = 2")], HELLO, "link count 2, but no hard-link group"),
    "file as mountpoint": (
        [update(HELLO, "flags = 6")],
        HELLO,
        "flags 0x6 of a mountpoint, but it is no directory",
    ),
    "unknown type": (
        [
            update(HELLO, "mode = 420"),
            count("self_regular", -1),
            count("self_special", 1),
            count("self_file_size", -36),
        ],
        HELLO,
        "mode 644 is no known file type",
    ),
    "flags of a link": (
        [update(HELLO, "flags = 12")],
        HELLO,
        "flags 0xc belong to another file type than mode 100644",
    ),
    "fifo as file": ([update(FIFO, "flags = 4")], FIFO, "flags 0x4 belong to another file type than mode 10644"),
    "unknown algorithm": (
        [update(HELLO, "flags = 0x704")],
        HELLO,
        "flags 0x704 have an unknown code for hash or compression",
    ),
    "unknown compression": (
        [update(HELLO, "flags = 0x1804")],
        HELLO,
        "flags 0x1804 have an unknown code for hash or compression",
    ),
    "file with target": (
        [update(HELLO, "symlink = 'x'")],
        HELLO,
        "has the target of a symbolic link, but is none",
    ),
    "directory with target": (
        [update("/owners", "symlink = 'x'")],
        "/owners",
        "has the target of a symbolic link, but is none",
    ),
    "fifo with target": ([update(FIFO, "symlink = 'x'")], FIFO, "has the target of a symbolic link, but is none"),
    "link size": ([update(LINK, "size = 3")], LINK, "size 3 is not the length of its target"),
    "link with hash": ([update(LINK, f"hash = {DIGEST}")], LINK, "has a content hash, but no content"),
    "empty hash": (
        [update(LINK, "hash = x''")],
        LINK,
        "an empty content hash where there should be none (NULL)",
        True,
    ),
    "chunked link": ([update(LINK, "flags = 0x4c")], LINK, "marked chunked, but it is no regular file"),
    "external fifo": ([update(FIFO, "flags = 0x94")], FIFO, "marked external, but it is no regular file"),
    "direct I/O directory": (
        [update("/owners", "flags = 0x10001")],
        "/owners",
        "marked for direct I/O, but it is no regular file",
    ),
    "fifo with size": ([update(FIFO, "size = 1")], FIFO, "a fifo or socket of size 1, not 0"),
    "fifo with hash": ([update(FIFO, f"hash = {DIGEST}")], FIFO, "has a content hash, but no content"),
    "directory in a group": (
        [update("/owners", "hardlinks = hardlinks + (9 << 32)")],
        "/owners",
        "a directory in hard-link group 9",
    ),
    "directory links": (
        [update("/owners", "hardlinks = 9")],
        "/owners",
        "link count 9 of a directory with 1 subdirectories",
    ),
    "root links": ([update("", "hardlinks = 9")], "/", "link count 9 of a directory with 16 subdirectories"),
    "attributes": (
        [update("/xattrs/one", "xattr = x'0201'")],
        "/xattrs/one",
        "its extended attributes are no list that a client reads: it shows none",
        True,
    ),
    "nested root inside": (
        [update("/owners", "flags = 0x21")],
        "/owners",
        "has the flag of a nested catalog's root, but is none",
    ),
    "nested and bind": (
        [update(V2, "flags = 0x4003"), f"INSERT INTO bind_mountpoints VALUES ('{V2}', '{'ab' * 20}', 0)"],
        V2,
        "both nested and bind mountpoint",
    ),
    "wrong count in a group": (
        ["UPDATE catalog SET hardlinks = hardlinks + 1 WHERE hardlinks >> 32 = 3"],
        "/hlgroups/a1",
        "link count 4, but its hard-link group has 3 names here",
    ),
    "different names of one file": (
        [update("/hlgroups/a3", "mode = 33188")],
        "/hlgroups/a3",
        "differs from /hlgroups/a1 of the same hard-link group",
    ),
    "group in two directories": (
        [update(f"/hlgroups/xdir{number}/f", "hardlinks = (99 << 32) + 1") for number in (1, 2)],
        "/hlgroups/xdir1/f",
        "in hard-link group 99 of another directory: of /hlgroups/xdir2/f",
    ),
    "hash of another path": (
        [update(HELLO, "md5path_1 = 5")],
        HELLO,
        "its row has the hash of another path: no client finds it",
    ),
    "no parent": (
        [update(HELLO, "parent_1 = 5")],
        "/: hello.txt",
        "a row that no directory of its catalog leads to",
    ),
    "below a file": (
        [update("/owners/u0_g0", f"parent_1 = h1('{HELLO}'), parent_2 = h2('{HELLO}')")],
        "/: u0_g0",
        "a row that no directory of its catalog leads to",
    ),
    "below a mountpoint": (
        [insert(f"{V2}/x", HELLO), *NEW_FILE],
        f"{V2}/x",
        "lies below a mountpoint, but in the catalog above it",
    ),
    "marker": (
        [insert("/files/.cvmfscatalog", "/files/empty"), *NEW_EMPTY_FILE],
        "/files/.cvmfscatalog",
        "marks a nested catalog where none begins",
    ),
    "parent of the root": ([update("", "parent_1 = 1")], "/", "the root entry of its catalog names a wrong parent"),
    "root as nested root": (
        [update("", "flags = 0x21")],
        "/",
        "the root entry of its catalog has the flag of a nested catalog's root",
    ),
    "name of the root": ([update("", "name = 'x'")], "/", "the root entry has a name", True),
    "row of the root": (
        [update("", "rowid = 100000")],
        "/",
        "the root entry is not row 1 of its catalog: the original client confuses it",
    ),
    "no root": ([f"DELETE FROM catalog WHERE {at('')}", count("self_dir", -1)], "/", "its catalog has no root entry"),
    "root no directory": (
        [
            update("", f"mode = 33188, flags = 4, hardlinks = 1, hash = {DIGEST}, size = 0"),
            count("self_dir", -1),
            count("self_regular", 1),
        ],
        "/",
        "the root entry of its catalog is no directory",
    ),
    "not registered": (BOUND, "/bound", "the mountpoint of a bind mountpoint that is not registered"),
    "no bind mountpoint": (
        [f"INSERT INTO bind_mountpoints VALUES ('/nowhere', '{'ab' * 20}', 0)"],
        "/nowhere",
        "registered as bind mountpoint, but there is no such mountpoint",
    ),
    "no mountpoint": (
        [update(V2, "flags = 1, hardlinks = 2")],
        V2,
        "registered as nested catalog, but there is no such mountpoint",
    ),
    "no chunks": (
        [f"DELETE FROM chunks WHERE {at(BIG)}", COUNT_CHUNKS],
        BIG,
        "marked chunked, but has no chunks",
    ),
    "gap": (
        [f"UPDATE chunks SET offset = offset + 1 WHERE {at(BIG)} AND offset > 0"],
        BIG,
        "its chunks do not follow each other without gap or overlap from 0 on",
    ),
    "not from 0 on": (
        [f"UPDATE chunks SET offset = offset - 1 WHERE {at(BIG)}"],
        BIG,
        "its chunks do not follow each other without gap or overlap from 0 on",
    ),
    "sum of chunks": (
        [update(BIG, "size = size + 1"), count("self_file_size", 1), count("self_chunked_size", 1)],
        BIG,
        "its chunks have 1048576 bytes together, its size is 1048577",
    ),
    "hash of a chunk": (
        [f"UPDATE chunks SET hash = x'00' WHERE {at(BIG)} AND offset = 0"],
        BIG,
        "the hash of a chunk has another length than 20 bytes",
    ),
    "counter": ([count("self_regular", 1)], "/", "statistics: self_regular is 913, should be 912"),
    "sum": ([count("subtree_dir", -1)], "/", "statistics: subtree_dir is 10, should be 11"),
    "no counter": (
        ["DELETE FROM statistics WHERE counter = 'subtree_special'"],
        "/",
        "statistics: subtree_special is missing: no client mounts it",
    ),
    "counter as text": (
        ["UPDATE statistics SET value = 'many' WHERE counter = 'self_xattr'"],
        "/",
        "statistics: a catalog whose statistics are no numbers",
    ),
    "revision": (
        ["UPDATE properties SET value = '7' WHERE key = 'revision'"],
        "/",
        "the root catalog says revision 7, it was published as 6",
    ),
    "time": (
        ["UPDATE properties SET value = 'noon' WHERE key = 'last_modified'"],
        "/",
        "its catalog's properties: catalog property last_modified is not a number",
    ),
    "predecessor": (
        ["UPDATE properties SET value = 'x' WHERE key = 'previous_revision'"],
        "/",
        "its catalog's properties: not a content hash: 'x'",
    ),
    "size of a nested catalog": (
        [f"UPDATE nested_catalogs SET size = 5 WHERE path = '{V2}'"],
        V2,
        "its catalog has 16384 bytes, 5 are recorded",
    ),
    "place of a nested catalog": (
        [f"UPDATE nested_catalogs SET path = '/versions/../v2' WHERE path = '{V2}'"],
        "/",
        "its register of nested catalogs: nested catalog b'/versions/../v2' lies outside of its parent b''",
    ),
    "empty name": ([update(HELLO, "name = ''")], "/files/", "a row with an empty or impossible name"),
    "name of two parts": ([update(HELLO, "name = 'a/b'")], "/files/a/b", "a row with an empty or impossible name"),
    "name of the directory above": (
        [update(HELLO, "name = '..'")],
        "/files/..",
        "a row with an empty or impossible name",
    ),
    "bad name nowhere": (
        [update(HELLO, "name = '..', parent_1 = 5")],
        "/(unknown)/..",
        "a row with an empty or impossible name",
    ),
    "no target": (
        [update(HELLO, "symlink = NULL")],
        HELLO,
        "the column symlink holds no text: the original client crashes",
    ),
    "size as text": ([update(HELLO, "size = 'big'")], HELLO, "a column holds no number, or none that makes sense"),
    "negative size": ([update(HELLO, "size = -1")], HELLO, "a column holds no number, or none that makes sense"),
    "no flags": ([update(HELLO, "flags = NULL")], HELLO, "a column holds no number, or none that makes sense"),
    "huge mode": ([update(HELLO, "mode = 65536")], HELLO, "a column holds no number, or none that makes sense"),
    "attributes as text": (
        [update("/xattrs/one", "xattr = 'abc' || 7")],
        "/xattrs/one",
        "its extended attributes are no list that a client reads: it shows none",
        True,
    ),
    "owner": (
        [update(HELLO, "uid = -1")],
        "/",
        "not every row of its catalog can be read: a catalog row with a number that makes no sense",
    ),
    "computing": (
        ["CREATE VIEW v AS SELECT 1"],
        "/",
        "its catalog cannot be opened: a SQLite file that holds more than tables and indexes",
    ),
}


@pytest.mark.parametrize(("statements", "finding"), [(row[0], row[1:]) for row in ROWS.values()], ids=list(ROWS))
def test_a_broken_rule_of_the_root_catalog(editor, found, finding, statements):
    edited = editor()
    edited.catalog("", *statements)
    assert found(edited) == [(*finding, False)[:3]]


# Statements by mountpoint, what is found at /versions/v2.
NESTED = {
    "no flag": (
        [(V2, [update(V2, "flags = 1")])],
        "the root entry of its catalog lacks the flag of a nested catalog's root",
    ),
    "parent": ([(V2, [update(V2, "parent_1 = 5")])], "the root entry of its catalog names a wrong parent"),
    "other name": (
        [(V2, [update(V2, "name = 'v'")])],
        "its rows in the nested catalog and in the one above differ in: name",
    ),
    "other times": (
        [("", [update(V2, "mtime = 5, mtimens = 6")])],
        "its rows in the nested catalog and in the one above differ in: mtime, mtime_ns",
    ),
    "other mode and size": (
        [("", [update(V2, "mode = 16832, size = 5")])],
        "its rows in the nested catalog and in the one above differ in: mode, size",
    ),
    "attributes on one side": (
        [("", [update(V2, "xattr = x'010101017800'"), count("self_xattr", 1)])],
        "its rows in the nested catalog and in the one above differ in: presence of extended attributes",
    ),
    "no marker": (
        [
            (V2, [f"DELETE FROM catalog WHERE {at(f'{V2}/.cvmfscatalog')}", count("self_regular", -1)]),
            ("", [count("subtree_regular", -1)]),
        ],
        "a nested catalog without the file .cvmfscatalog",
    ),
    "links of its root": (
        [(V2, [update(V2, "hardlinks = 7")]), ("", [update(V2, "hardlinks = 7")])],
        "link count 7 of a directory with 1 subdirectories",
    ),
    "counter": ([(V2, [count("self_regular", 1)])], "statistics: self_regular is 4, should be 3"),
}


@pytest.mark.parametrize(("edits", "what"), list(NESTED.values()), ids=list(NESTED))
def test_a_broken_rule_of_a_nested_catalog(editor, found, edits, what):
    edited = editor()
    for mountpoint, statements in edits:
        edited.catalog(mountpoint, *statements)
    assert found(edited) == [(V2, what, False)]


@pytest.mark.parametrize("fqrn", FIXTURES)
@pytest.mark.parametrize("tag", [None, *TAGS])
def test_the_originals_repositories_are_sound(editor, found, trusted, fqrn, tag):
    sound = editor(fqrn)
    assert found(sound, tags=(tag,) if tag else (), integrity=True, **trusted(sound)) == []


def test_an_editor_that_breaks_no_rule_leaves_a_sound_repository(editor, found, trusted):
    edited = editor()
    before = edited.publication.manifest.root_catalog
    edited.catalog(V2, update(f"{V2}/README", "uid = 7"))
    edited.catalog("", insert("/.cvmfscatalog", "/files/empty"), *NEW_EMPTY_FILE)
    edited.catalog("", *BOUND, f"INSERT INTO bind_mountpoints VALUES ('/bound', '{'ab' * 20}', 0)")
    edited.catalog("", f"DELETE FROM catalog WHERE {at('/symlinks/dot')}", count("self_symlink", -1))
    edited.history("UPDATE tags SET description = 'another' WHERE name = 's5'")
    assert edited.publication.manifest.root_catalog != before
    assert found(edited, existence=True, **trusted(edited)) == []


def test_a_mountpoint_without_a_register_is_one_fault_and_its_sums_are_missed(editor, found):
    edited = editor()
    edited.catalog("", f"DELETE FROM nested_catalogs WHERE path = '{V2}'", count("self_nested", -1))
    first, *others = found(edited)
    assert first == (V2, "the mountpoint of a nested catalog that is not registered", False)
    assert {what.partition(" is ")[0] for _, what, _ in others} == {
        "statistics: subtree_regular",
        "statistics: subtree_dir",
        "statistics: subtree_file_size",
    }


def test_a_nested_catalog_belongs_to_one_place(editor, found):
    edited = editor()
    edited.catalog(V2, "UPDATE properties SET value = '/versions/v9' WHERE key = 'root_prefix'")
    what = "its catalog cannot be opened: a catalog for b'/versions/v9' was found at b'/versions/v2'"
    assert found(edited) == [(V2, what, False)]


def test_catalogs_that_name_each_others_nested_catalogs_are_not_followed_twice(editor, found):
    edited = editor()
    nested = edited.inflated(edited.publication.manifest.root_catalog)
    rows = edited.query(nested, "SELECT path, sha1, size FROM nested_catalogs WHERE path = '/hlgroups/nested'")
    edited.catalog("", "UPDATE nested_catalogs SET path = '/hlgroups' WHERE path = '/hlgroups/nested'")
    edited.catalog("", f"INSERT INTO nested_catalogs VALUES ('/hlgroups/nested', '{rows[0][1]}', {rows[0][2]})")
    faults = found(edited)
    assert ("/hlgroups", "registered as nested catalog, but there is no such mountpoint", False) in faults
    assert sum("cannot be opened" in what for _, what, _ in faults) == 1


def test_directories_in_a_circle_are_unreachable_and_end(editor, found):
    edited = editor()
    where = "/modes/d00111"
    edited.catalog(
        "",
        update(where, f"parent_1 = h1('{where}'), parent_2 = h2('{where}')"),
        update("/modes", "hardlinks = hardlinks - 1"),
    )
    what = "a row that no directory of its catalog leads to"
    assert sorted(found(edited)) == [("/: d00111", what, False), ("/: inside", what, False)]


def test_chunks_of_a_file_that_is_not_chunked(editor, found):
    edited = editor()
    edited.catalog("", f"INSERT INTO chunks SELECT h1('{HELLO}'), h2('{HELLO}'), 0, 36, hash FROM chunks LIMIT 1")
    (finding,) = found(edited)
    assert finding.where == "/"
    assert "which is no chunked file" in finding.what


@pytest.mark.parametrize("unusual", ["/names/new\nline", "/names/latin1"])
def test_what_is_found_is_one_printable_line(editor, found, unusual):
    edited = editor()
    name = unusual.rpartition("/")[2]
    edited.catalog("/names", f"UPDATE catalog SET symlink = 'x' WHERE name LIKE '{name}%'")
    (finding,) = found(edited)
    assert finding.where.isprintable()
    assert finding.where.startswith(unusual.encode("unicode_escape").decode())


def test_the_size_of_the_root_catalog(editor, found):
    edited = editor()
    edited.manifest(root_size=5)
    assert found(edited) == [("/", "its catalog has 178176 bytes, 5 are recorded", False)]


def test_a_tag_is_checked_against_what_it_says(editor, found):
    edited = editor()
    edited.history("UPDATE tags SET revision = 3, size = 5 WHERE name = 's1'")
    assert found(edited) == []
    assert found(edited, tags=("s1",)) == [
        ("/", "its catalog has 244736 bytes, 5 are recorded", False),
        ("/", "the root catalog says revision 2, it was published as 3", False),
    ]


def test_a_subtree_is_checked_alone(editor, found):
    edited = editor()
    edited.catalog("", count("self_regular", 1), update(V2, "size = 9"))
    edited.catalog("/names", count("self_regular", 1))
    what = "its rows in the nested catalog and in the one above differ in: size"
    assert found(edited, subtree=V2.encode()) == [(V2, what, False)]
    assert found(edited, subtree=b"/hlgroups/nested") == []
    assert [where for where, *_ in found(edited, subtree=b"/names")] == ["/names"]


def test_a_subtree_must_be_a_nested_catalog_and_a_tag_must_exist(editor, found):
    edited = editor()
    for wrong in (b"/files", b"/versions/v2/bin", b"/nothing", b"/versions/v2x"):
        with pytest.raises(NotFound, match="is no mountpoint of a nested catalog"):
            found(edited, subtree=wrong)
    with pytest.raises(NotFound, match="no tag 'nothing'"):
        found(edited, tags=("nothing",))


def test_a_catalog_that_is_missing_or_damaged_is_named_once(editor, found):
    edited = editor()
    root = edited.inflated(edited.publication.manifest.root_catalog)
    for path, damage in ((V2, edited.remove), ("/names", edited.publication.flip)):
        ((digest,),) = edited.query(root, f"SELECT sha1 FROM nested_catalogs WHERE path = '{path}'")
        damage(f"data/{digest[:2]}/{digest[2:]}C")
    (names, missing) = sorted(found(edited))
    assert (names.where, missing.where) == ("/names", V2)
    assert "do not have the hash" in names.what
    assert "no such file" in missing.what


def test_progress_counts_every_entry_once(editor, found):
    seen = []
    found(editor(), progress=seen.append)
    assert sum(seen) == 1081
    assert max(seen) <= 1000


def test_any_flipped_bit_of_a_catalog_gives_findings_or_none_but_no_failure(editor, found):
    edited = editor()
    sound = edited.inflated(edited.publication.manifest.root_catalog)
    before, manifest = Path(sound).read_bytes(), edited.publication.manifest
    chance = random.Random(7)
    noticed = 0
    for _ in range(40):
        data = bytearray(before)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        root = edited.store(bytes(data), ObjectKind.CATALOG)
        edited.manifest(root_catalog=root, root_size=manifest.root_size)
        faults = [finding for finding in found(edited) if finding.where != ".cvmfsreflog"]
        noticed += bool(faults)
    assert noticed > 10


OLDER = {
    "2.5 revision 4, which knew no special files": (
        "UPDATE properties SET value = '4' WHERE key = 'schema_revision'",
        "DELETE FROM statistics WHERE counter LIKE '%special'",
    ),
    "1.0, which counted nothing": (
        "UPDATE properties SET value = '1.0' WHERE key = 'schema'",
        "DELETE FROM statistics",
    ),
}


@pytest.mark.parametrize("statements", list(OLDER.values()), ids=list(OLDER))
def test_older_catalogs_are_held_to_the_rules_of_their_time(editor, found, statements):
    edited = editor()
    edited.catalog(V2, *statements)
    assert found(edited) == []


def test_special_files_of_older_catalogs_need_no_mark(editor, found):
    edited = editor()
    edited.catalog(
        "",
        "UPDATE properties SET value = '4' WHERE key = 'schema_revision'",
        "UPDATE catalog SET flags = 4 WHERE flags = 0x14",
    )
    assert found(edited) == []


def test_a_place_that_is_registered_twice(editor, found):
    edited = editor()
    edited.catalog(
        "",
        "CREATE TABLE kept (path TEXT, sha1 TEXT, size INTEGER)",
        "INSERT INTO kept SELECT * FROM nested_catalogs UNION ALL SELECT * FROM nested_catalogs WHERE path = '/names'",
        "DROP TABLE nested_catalogs",
        "ALTER TABLE kept RENAME TO nested_catalogs",
        count("self_nested", 1),
    )
    assert ("/names", "registered more than once as nested catalog", False) in found(edited)


def test_a_full_disk_is_an_error_not_a_finding(editor, tmp_path):
    edited = editor()
    with pytest.raises(StoreFull, match="cannot write"):
        list(
            check(
                LocalStore(str(edited.publication.storage)),
                edited.publication.manifest,
                CheckOptions(),
                str(tmp_path / "missing"),
            )
        )


def test_a_place_that_two_catalogs_register_is_followed_once(editor, found):
    edited = editor()
    statement = f"INSERT INTO nested_catalogs VALUES ('{V2}/bin', '{'ab' * 20}', 0)"
    edited.catalog(V2, statement)
    edited.catalog("", statement)
    what = [(where, what.partition(":")[0]) for where, what, _ in found(edited) if where == f"{V2}/bin"]
    assert sorted(what) == [
        (f"{V2}/bin", "its catalog cannot be had"),
        (f"{V2}/bin", "registered a second time as nested catalog"),
        (f"{V2}/bin", "registered as nested catalog, but there is no such mountpoint"),
        (f"{V2}/bin", "registered as nested catalog, but there is no such mountpoint"),
    ]
