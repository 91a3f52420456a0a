"""The tag database: the original's files, every schema revision, the conventions of publishing, hostile files."""

import sqlite3
import zlib
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfs.errors import FormatError, NotFound, UsageError
from cvfs.format import manifest
from cvfs.format.signature import split_signed
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.history import Branch, History, Tag, advance, put_on_branch, roll_back

FQRN = "tiny.example.org"
NAMES = (FQRN, "tiny-shake128.example.org")
NOON = 1795348800  # 2026-11-22T12:00:00Z


def root(text: str, algorithm: Algorithm = Algorithm.SHA1) -> ContentHash:
    return ContentHash.of(text.encode(), algorithm, ObjectKind.CATALOG)


def tag(name: str, revision: int, timestamp: int = NOON, **others) -> Tag:
    return Tag(name, root(str(revision)), revision, timestamp, **others)


def names(history: History) -> set[str]:
    return {tag.name for tag in history.tags}


@pytest.fixture(params=NAMES)
def published(request, fixture_repository):
    """The content of a fixture's tag database, and the fixture."""
    repository = fixture_repository(request.param)
    payload = split_signed((repository.storage / ".cvmfspublished").read_bytes()).payload
    content = manifest.parse(payload).history
    return repository, zlib.decompress((repository.storage / content.path).read_bytes())


def test_the_originals_tags(published):
    repository, data = published
    history = History.parse(data)
    assert history.fqrn == repository.fqrn
    assert [(tag.name, tag.revision) for tag in history.newest_first()][:-1] == [
        ("s5", 6),
        ("trunk", 6),
        ("s4", 5),
        ("trunk-previous", 5),
        ("s3", 4),
        ("s2", 3),
        ("s1", 2),
    ]
    assert history.newest_first()[-1].is_automatic
    assert history.find("s5").description == "special-stage-5"
    assert history.find("trunk-previous").description == "default undo target"
    assert history.branches == (Branch("", None, 0),)
    assert (repository.storage / history.find("s1").root_catalog.path).is_file()


def test_the_chain_of_tag_databases_leads_to_the_first(published):
    repository, data = published
    revisions = []
    history = History.parse(data)
    while history.predecessor:
        revisions.append(history.head().revision)
        history = History.parse(zlib.decompress((repository.storage / history.predecessor.path).read_bytes()))
    assert revisions == [6, 5, 4, 3, 2]
    assert history.head().revision == 1


def dump(data: bytes) -> dict[str, list[tuple]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(data)
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: [
                tuple((column[0], value, type(value)) for column, value in zip(cursor.description, row, strict=True))
                for row in cursor
            ]
            for table in tables
            for cursor in [connection.execute(f"SELECT * FROM {table}")]
        }


def test_the_originals_file_is_written_row_by_row(published):
    _, data = published
    written = History.parse(data).serialise()
    assert dump(written) == dump(data)
    assert written[:20] == data[:20]


HASHES = st.builds(
    lambda algorithm, digest: ContentHash(algorithm, digest, ObjectKind.CATALOG),
    st.sampled_from(Algorithm),
    st.binary(min_size=20, max_size=20).filter(any),
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
NUMBERS = st.integers(0, 2**63 - 1)
TAGS = st.builds(Tag, TEXTS, HASHES, NUMBERS, NUMBERS, TEXTS, NUMBERS)
HISTORIES = st.builds(
    History,
    st.just(FQRN),
    st.lists(TAGS, max_size=5, unique_by=lambda tag: tag.name).map(tuple),
    st.just((Branch("", None, 0), Branch("side", "", 4))),
    st.none() | HASHES.map(lambda content: content.as_kind(ObjectKind.HISTORY)),
)


@given(HISTORIES)
def test_every_history_survives(history):
    assert History.parse(history.serialise()) == history


# Older schema revisions, as FORMAT section 6 tells them apart.


def made(*statements: str) -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        return connection.serialize()


PROPERTIES = "CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key))"
COLUMNS = "name TEXT PRIMARY KEY, hash TEXT, revision INTEGER, timestamp INTEGER, channel INTEGER, description TEXT"
ROW = f"'one', '{root('1')}', 1, {NOON}, 0, 'first'"


def revision_file(number: int, columns: str, row: str, *others: str) -> bytes:
    return made(
        PROPERTIES,
        f"INSERT INTO properties VALUES ('schema', '1.0'), ('schema_revision', '{number}'), ('fqrn', '{FQRN}')",
        f"CREATE TABLE tags ({columns})",
        f"INSERT INTO tags VALUES ({row})",
        *others,
    )


BIN = "CREATE TABLE recycle_bin (hash TEXT, flags INTEGER, CONSTRAINT pk_hash PRIMARY KEY (hash))"
REVISIONS = [
    (0, revision_file(0, COLUMNS, ROW), 0),
    (1, revision_file(1, COLUMNS + ", size INTEGER", ROW + ", 77"), 77),
    (2, revision_file(2, COLUMNS + ", size INTEGER", ROW + ", 77", BIN, "INSERT INTO recycle_bin VALUES ('x', 1)"), 77),
]


@pytest.mark.parametrize(("number", "data", "size"), REVISIONS)
def test_every_older_schema_is_read_and_written_as_the_newest(number, data, size):
    history = History.parse(data)
    assert history == History(FQRN, (tag("one", 1, description="first", size=size),))
    assert ("value", "3", str) in dump(history.serialise())["properties"][1]
    assert History.parse(history.serialise()) == history


def test_a_file_without_revision_and_with_nulls_is_read():
    data = made(
        PROPERTIES,
        "INSERT INTO properties VALUES ('schema', 1.0)",
        f"CREATE TABLE tags ({COLUMNS})",
        f"INSERT INTO tags VALUES ('one', '{root('1')}', 1, {NOON}, NULL, NULL)",
    )
    assert History.parse(data) == History("", (tag("one", 1),))


BAD_ROWS = [
    ROW.replace(str(root("1")), "nonsense"),
    ROW.replace(str(root("1")), f"{root('1')}C"),
    ROW.replace(", 1,", ", -1,"),
    ROW.replace(", 1,", ", 'x',"),
    ROW.replace(str(NOON), "1.5"),
    ROW.replace(str(NOON), "x'00'"),
]


@pytest.mark.parametrize("row", BAD_ROWS)
def test_bad_rows_are_refused(row):
    with pytest.raises(FormatError):
        History.parse(revision_file(0, COLUMNS, row))


@pytest.mark.parametrize("schema", ["2.0", "0.9", "", "x"])
def test_other_schemas_are_refused(schema):
    data = made(PROPERTIES, f"INSERT INTO properties VALUES ('schema', '{schema}')", f"CREATE TABLE tags ({COLUMNS})")
    with pytest.raises(FormatError, match="not supported"):
        History.parse(data)


@pytest.mark.parametrize(
    "statements",
    [
        (PROPERTIES,),
        (PROPERTIES, "INSERT INTO properties VALUES ('schema', '1.0')"),
        (PROPERTIES, "CREATE VIEW tags AS SELECT 1 AS name"),
    ],
)
def test_files_without_tags_are_refused(statements):
    with pytest.raises(FormatError):
        History.parse(made(*statements))


@pytest.mark.parametrize("data", [b"", b"x" * 200, b"SQLite format 3\0" + bytes(200)])
def test_what_is_no_database_is_refused(data):
    with pytest.raises(FormatError):
        History.parse(data)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FormatError):
        History.read(str(tmp_path / "none"))


def test_a_first_tag_database_may_name_a_predecessor_of_zeros():
    data = made(
        PROPERTIES,
        f"INSERT INTO properties VALUES ('schema', '1.0'), ('previous_revision', '{'0' * 40}')",
        f"CREATE TABLE tags ({COLUMNS})",
    )
    assert History.parse(data).predecessor is None


# Questions.


BRANCHED = History(
    FQRN,
    (
        tag("one", 1, 100),
        tag("two", 2, 200),
        tag("two again", 2, 150),
        tag("three", 3, 180),
        tag("aside", 9, 120, branch="side"),
    ),
    (Branch("", None, 0), Branch("side", "", 2), Branch("bare", "side", 9)),
)


def test_find():
    assert BRANCHED.find("two").revision == 2
    assert BRANCHED.has("two")
    assert not BRANCHED.has("four")
    with pytest.raises(NotFound, match="'four'"):
        BRANCHED.find("four")


@pytest.mark.parametrize(
    ("timestamp", "name"), [(100, "one"), (149, "one"), (150, "two again"), (180, "three"), (10**9, "three")]
)
def test_by_date_the_highest_revision_of_the_default_branch_counts(timestamp, name):
    assert BRANCHED.at(timestamp).name == name


def test_a_date_before_everything():
    with pytest.raises(NotFound, match="1970-01-01T00:01:39Z"):
        BRANCHED.at(99)


def test_heads_of_branches():
    assert BRANCHED.head().name == "three"
    assert BRANCHED.head("side").name == "aside"
    with pytest.raises(NotFound, match="'bare'"):
        BRANCHED.head("bare")


def test_newest_first():
    assert [tag.name for tag in BRANCHED.newest_first()] == ["aside", "three", "two", "two again", "one"]


# Changes.


def test_adding_and_removing():
    more = BRANCHED.with_tag(tag("v1.0/x86_64:a-b", 4))
    assert more.find("v1.0/x86_64:a-b").revision == 4
    assert more.without("v1.0/x86_64:a-b") == BRANCHED
    with pytest.raises(NotFound):
        BRANCHED.without("four")


@pytest.mark.parametrize("name", ["", "a b", "a\n", "a@b", "\N{LATIN SMALL LETTER E WITH ACUTE}", "a'"])
def test_bad_tag_names(name):
    with pytest.raises(UsageError, match="tag name"):
        BRANCHED.with_tag(tag(name, 4))


def test_names_that_are_taken():
    with pytest.raises(UsageError, match="already"):
        BRANCHED.with_tag(tag("one", 4))
    with pytest.raises(UsageError, match="already"):
        BRANCHED.with_branch(Branch("side", "", 1))


def test_branches():
    more = BRANCHED.with_branch(Branch("a@b/c", "side", 9))
    assert more.branches[-1].parent == "side"
    for name in ("", "a b"):
        with pytest.raises(UsageError, match="branch name"):
            BRANCHED.with_branch(Branch(name, "", 1))
    for parent in ("nowhere", None):
        with pytest.raises(UsageError, match="no branch"):
            BRANCHED.with_branch(Branch("new", parent, 1))
    with pytest.raises(UsageError, match="no branch"):
        BRANCHED.with_tag(tag("new", 4, branch="nowhere"))


# The conventions of publishing.


BEFORE = ContentHash(Algorithm.SHA1, bytes(range(20)), ObjectKind.HISTORY)


def test_the_first_publish_makes_trunk_and_an_automatic_tag():
    history = advance(History(FQRN), tag("", 1), None)
    assert history.predecessor is None
    assert set(history.tags) == {
        tag("trunk", 1, description="current HEAD"),
        tag("generic-2026-11-22T12:00:00Z", 1),
    }


def test_trunk_moves_and_leaves_a_target_for_undo():
    first = advance(History(FQRN), tag("v1", 1, description="the first"), None)
    second = advance(first, tag("", 2), BEFORE, automatic=False)
    assert second.predecessor == BEFORE
    assert set(second.tags) == {
        tag("v1", 1, description="the first"),
        tag("trunk-previous", 1, description="default undo target"),
        tag("trunk", 2, description="current HEAD"),
    }
    third = advance(second, tag("", 3), BEFORE, automatic=False)
    assert third.find("trunk-previous").revision == 2
    assert names(third) == {"v1", "trunk", "trunk-previous"}


def test_a_users_tag_takes_the_place_of_an_automatic_one():
    assert names(advance(History(FQRN), tag("v1", 1), None)) == {"v1", "trunk"}


def test_automatic_names_that_are_taken():
    history = History(FQRN)
    for revision in (1, 2, 3):
        history = advance(history, tag("", revision), None)
    automatic = {tag.name for tag in history.tags if tag.is_automatic}
    assert automatic == {f"generic{count}-2026-11-22T12:00:00Z" for count in ("", "_1", "_2")}


def test_old_automatic_tags_expire():
    history = History(FQRN, (tag("v1", 1, 5), tag("generic-by-hand", 1, 5)))
    for revision, timestamp in ((1, 100), (2, 200), (3, 300)):
        history = advance(history, tag("", revision, timestamp), None)
    history = replace(history, tags=(*history.tags, tag("generic-2026-11-22T12:00:00.123Z", 1, 199)))
    kept = advance(history, tag("", 4, 400), None, keep_automatic_since=200)
    assert names(kept) - {tag.name for tag in kept.tags if tag.is_automatic} == {
        "v1",
        "generic-by-hand",
        "trunk",
        "trunk-previous",
    }
    assert sorted(tag.timestamp for tag in kept.tags if tag.is_automatic) == [200, 300, 400]


@pytest.mark.parametrize("name", ["v1", "trunk", "trunk-previous"])
def test_a_taken_name_stops_the_publish(name):
    history = advance(advance(History(FQRN), tag("v1", 1), None), tag("v2", 2), None)
    with pytest.raises(UsageError, match="already"):
        advance(history, tag(name, 3), None)


def test_the_conventions_give_what_the_original_gave(published):
    """Each tag database of the fixture follows from the one before it."""
    repository, data = published
    after = History.parse(data)
    while after.predecessor:
        before = History.parse(zlib.decompress((repository.storage / after.predecessor.path).read_bytes()))
        users = next(tag for tag in after.newest_first() if tag.name not in ("trunk", "trunk-previous"))
        again = advance(before, users, after.predecessor)
        assert set(again.tags) == set(after.tags)
        assert replace(again, tags=after.tags) == after
        after = before


def test_rolling_back():
    history = History(FQRN, branches=BRANCHED.branches)
    for name, revision in (("v1", 1), ("v2", 2), ("v3", 3)):
        history = advance(history, tag(name, revision, description=name), None)
    history = history.with_tag(tag("aside", 7, branch="side"))
    head = Tag("", root("1"), 4, NOON + 60, size=7)
    rolled = roll_back(history, "v1", head, BEFORE)
    assert rolled.predecessor == BEFORE
    assert set(rolled.tags) == {
        replace(head, name="v1", description="v1"),
        replace(head, name="trunk", description="current HEAD"),
        tag("aside", 7, branch="side"),
    }
    assert History.parse(rolled.serialise()) == rolled
    with pytest.raises(NotFound):
        roll_back(history, "v9", head, None)


def test_rolling_back_to_trunk_itself():
    history = advance(History(FQRN), tag("v1", 1), None)
    rolled = roll_back(history, "trunk", tag("", 2), None)
    assert {(tag.name, tag.revision) for tag in rolled.tags} == {("v1", 1), ("trunk", 2)}


def test_the_last_publish_is_undone_once():
    """By the default target, which is gone afterwards as the original removes it."""
    history = advance(advance(History(FQRN), tag("v1", 1), None), tag("v2", 2), None)
    rolled = roll_back(history, "trunk-previous", tag("", 3), None)
    assert {(tag.name, tag.revision) for tag in rolled.tags} == {("v1", 1), ("trunk", 3)}
    again = advance(rolled, tag("v3", 4), None)
    assert {(tag.name, tag.revision) for tag in again.tags} == {
        ("v1", 1),
        ("trunk-previous", 3),
        ("trunk", 4),
        ("v3", 4),
    }


def test_a_target_as_old_as_the_undo_target_leaves_no_undo_target():
    history = advance(advance(History(FQRN), tag("v1", 1), None), tag("v2", 2), None)
    rolled = roll_back(history, "v1", tag("", 3), None)
    assert {(tag.name, tag.revision) for tag in rolled.tags} == {("v1", 3), ("trunk", 3)}


def test_a_tag_on_a_branch():
    history = advance(History(FQRN), tag("v1", 5), None)
    side = put_on_branch(history, tag("s1", 6, branch="side"), "", BEFORE)
    assert side.branches == (*history.branches, Branch("side", "", 6))
    assert side.tags == (*history.tags, tag("s1", 6, branch="side"))
    assert side.predecessor == BEFORE
    further = put_on_branch(side, tag("s2", 7, branch="side"), "side", None)
    assert further.branches == side.branches
    assert further.head("side").name == "s2"
    assert History.parse(further.serialise()) == further
    for refused in (tag("s1", 8, branch="side"), tag("s3", 8, branch="a b"), tag("a b", 8, branch="side")):
        with pytest.raises(UsageError):
            put_on_branch(side, refused, "side", None)
    with pytest.raises(UsageError, match="nowhere"):
        put_on_branch(history, tag("s1", 6, branch="side"), "nowhere", None)


def test_branches_without_tags_vanish():
    chain = (Branch("", None, 0), Branch("a", "", 1), Branch("b", "a", 2), Branch("c", "b", 3), Branch("d", "", 4))
    history = History(FQRN, (tag("one", 1), tag("three", 3, branch="c")), chain)
    pruned = history.without_idle_branches()
    assert pruned.branches == (Branch("", None, 0), Branch("c", "", 3))
    assert pruned.without_idle_branches() == pruned
    assert replace(history, tags=()).without_idle_branches().branches == chain[:1]


def test_branches_in_a_circle_do_not_hold_up():
    circle = (Branch("", None, 0), Branch("a", "b", 1), Branch("b", "a", 1), Branch("c", "a", 2))
    history = History(FQRN, (tag("one", 1), tag("two", 2, branch="c")), circle)
    assert history.without_idle_branches().branches == (Branch("", None, 0), Branch("c", "", 2))


def test_a_process_that_is_killed_while_it_reads_leaves_no_file(published, monkeypatch, tmp_path):
    _, data = published
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    read, left = History.read, []
    monkeypatch.setattr(History, "read", lambda path: (left.extend(tmp_path.iterdir()), read(path))[1])
    assert History.parse(data).tags
    assert left == []
