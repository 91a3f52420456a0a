"""Tags, rollback and branches as commands: the words, columns and exit statuses that scripts of the original know."""

import json

import pytest

from cvfs.history import Branch, Tag
from cvfs_server.tags import tags
from cvfs_tools import tagging

FQRN = "sw.example.org"


@pytest.fixture
def made(run, tmp_path):
    """Two revisions after the first one, called v1 and v2."""
    tree = tmp_path / "tree"
    tree.mkdir()
    run("mkfs", "-g", FQRN)
    for name in ("v1", "v2"):
        (tree / "file").write_text(name)
        assert run("publish", FQRN, "--from", str(tree), "-a", name, "-m", f"text of {name}").exit_code == 0


def _machine(run):
    return [line.split(" ", 6) for line in run("tag", "-lx").stdout.splitlines()]


def test_the_table_of_the_original(fixture_repository, run, made, monkeypatch):
    """Its own listings of its own repository, to the letter."""
    repository = fixture_repository("tiny.example.org")
    with_tags = (repository.root / "tags.txt").read_text()
    lines = [line.split(" ", 6) for line in with_tags.splitlines() if line.count(" ") >= 6 and "(default)" in line]
    rows = [Tag(f[0], f[1], int(f[3]), int(f[4]), f[6], int(f[2])) for f in lines]
    monkeypatch.setattr(tags, "list_tags", lambda *_: rows)
    assert with_tags.startswith(run("tag").stdout)
    assert "\n".join(" ".join(line) for line in lines) + "\n" == run("tag", "-lx").stdout


def test_one_tag_is_inspected(run, made):
    entry = next(line for line in _machine(run) if line[0] == "v1")
    assert run("tag", "-x", "-i", "v1").stdout == " ".join(entry) + "\n"
    lines = run("tag", "-i", "v1", FQRN).stdout.splitlines()
    assert lines[:2] == ["Name:         v1", "Revision:     2"]
    assert lines[4] == f"Root Hash:    {entry[1]}"
    assert lines[6:] == ["text of v1"]
    refused = run("tag", "-i", "v9")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "'v9'" in refused.stderr


def test_a_description_of_several_lines_stays_in_its_line_for_programs(run, made):
    run("tag", "-a", "long", "-m", "two\nlines")
    assert len(run("tag", "-lx").stdout.splitlines()) == run("tag").stdout.count(" 202")
    assert run("tag", "-xi", "long").stdout.endswith(" two lines\n")
    assert run("tag", "-i", "long").stdout.endswith("\ntwo\nlines\n")


def test_tags_as_json(run, made):
    found = {entry["name"]: entry for entry in json.loads(run("tag", "--json").stdout)}
    assert found.keys() == {"trunk", "trunk-previous", "v1", "v2"}
    assert found["v1"]["revision"] == 2
    assert found["v1"]["description"] == "text of v1"


@pytest.mark.parametrize(
    ("size", "text"), [(7, "7 Byte"), (1024, "1024 Byte"), (1536, "1.500 kiB"), (3 * 2**20, "3.000 MiB")]
)
def test_sizes_as_the_original_prints_them(size, text):
    assert tagging._size(size) == text


@pytest.mark.parametrize(("when", "text"), [(0, "1 Jan 1970 00:00:00"), (1795333272, "22 Nov 2026 07:41:12")])
def test_times_as_the_original_prints_them(when, text):
    assert tagging._when(when) == text


def test_removing_asks(run, made):
    for answer in ("", "n\n", "yes\n"):
        refused = run("tag", "-r", "v1", say=answer)
        assert refused.exit_code == 1
        assert "* v1\n" in refused.stdout
        assert "(y/N)" in refused.stdout
    assert "deleting 'v1' (" in run("tag", "-r", "v1", say="y\n").stdout
    assert "v1" not in [line[0] for line in _machine(run)]


@pytest.mark.parametrize("words", [("-f", "-r", "v1", "-r", "v2"), ("-fr", "v1 v2")])
def test_several_are_removed_at_once(run, made, words):
    done = run("tag", *words, FQRN)
    assert (done.exit_code, done.stdout.count("deleting '")) == (0, 2)
    assert {line[0] for line in _machine(run)} == {"trunk", "trunk-previous"}


def test_a_tag_moves(run, made):
    roots = {line[0]: line[1] for line in _machine(run)}
    refused = run("tag", "-a", "v1")
    assert refused.exit_code == 2
    moved = run("tag", "-a", "v1", "-h", roots["v2"])
    assert moved.stdout == f"moving tag 'v1' from '{roots['v1']}' to '{roots['v2']}'\n"
    assert next(line[1] for line in _machine(run) if line[0] == "v1") == roots["v2"]


@pytest.mark.parametrize("words", [("-a", "x", "-l"), ("-r", "v1", "-i", "v1"), ("-l", "-b"), ("-a", "")])
def test_what_is_refused(run, made, words):
    assert run("tag", *words).exit_code == 2
    assert len(_machine(run)) == 4


def test_branches_are_drawn_as_a_tree(run, made, monkeypatch):
    levels = [(0, ""), (1, "a"), (2, "b"), (1, "c")]
    monkeypatch.setattr(tags, "list_branches", lambda *_: [(level, Branch(name, "", 7)) for level, name in levels])
    assert run("tag", "-b").stdout == "(default) @7\n├ a @7\n│ ├ b @7\n├ c @7\n"
    assert run("tag", "-bx").stdout == "[0] (default) @7\n[1]  a @7\n[2]   b @7\n[1]  c @7\n"


def test_a_rollback_asks(run, made):
    refused = run("rollback", say="n\n")
    assert refused.exit_code == 1
    assert "UNDO your last published revision" in refused.stdout
    left = next(line[1] for line in _machine(run) if line[0] == "trunk")
    done = run("rollback", "-t", "v1", say="y\n")
    assert "ROLLBACK to v1 AS THE LATEST REVISION" in done.stdout
    assert f"(leaving behind {left})\nremoved tag v2 ({left})\n" in done.stdout
    assert {line[0]: line[3] for line in _machine(run)} == {"trunk": "4", "v1": "4"}


def test_undone_once(run, made):
    assert run("rollback", "-f").exit_code == 0
    refused = run("rollback", "-f", FQRN)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "name a tag with -t" in refused.stderr


def test_checking_out(run, made):
    root = next(line[1] for line in _machine(run) if line[0] == "v1")
    assert run("checkout", "-b", "side", "-t", "v1").stdout == f"Checked out tag v1 ({root}) onto new branch side\n"
    assert run("tag", "-a", "v3").exit_code == 2
    assert run("checkout").stdout == "Reset to trunk on default branch\n"
    assert run("tag", "-a", "v3").exit_code == 0
    for words in (("-t", "v1"), ("-b", "side"), ("-b", "side", "-t", "v9")):
        assert run("checkout", *words).exit_code == 2
