"""catalog-chown, eliminate-hardlinks and eliminate-bulk-hashes as users type them."""

import os

import pytest

FQRN = "sw.example.org"


@pytest.fixture
def tree(run, tmp_path):
    """Published; nothing of it belongs to 4711."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("text")
    os.link(tree / "file", tree / "same")
    run("mkfs", "-g", FQRN)
    assert run("publish", FQRN, "--from", str(tree)).exit_code == 0
    return tree


def maps(tmp_path, users, groups):
    (tmp_path / "users").write_text(users)
    (tmp_path / "groups").write_text(groups)
    return "-u", str(tmp_path / "users"), "-g", str(tmp_path / "groups")


def test_catalog_chown(run, tree, tmp_path):
    done = run("catalog-chown", *maps(tmp_path, "* 4711\n", "# all\n* 4712\n"), FQRN)
    assert (done.exit_code, done.stdout.split(" published")[0]) == (0, f"{FQRN}: revision 3")
    assert done.stdout.endswith(": 2 entries changed\n")
    listed = run("diff", "-s", "trunk", "-d", "trunk", FQRN)
    assert listed.exit_code == 0


@pytest.mark.parametrize(
    ("users", "message"), [("1 2 3\n", "users:1: expected"), ("\n", "UID map is empty"), ("a 1", "users:1: expected")]
)
def test_maps_that_make_no_sense(run, tree, tmp_path, users, message):
    done = run("catalog-chown", *maps(tmp_path, users, "* 1\n"), FQRN)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_map_that_is_not_there(run, tree, tmp_path):
    done = run("catalog-chown", "-u", str(tmp_path / "none"), "-g", str(tmp_path / "none"), FQRN)
    assert done.exit_code == 2
    assert "UID map file" in done.stderr


@pytest.mark.parametrize("say", ["n\n", "", "yes please\n"])
def test_it_asks_before_hard_links_go(run, tree, say):
    done = run("eliminate-hardlinks", FQRN, say=say)
    assert done.exit_code == 1
    assert f"present in '{FQRN}'" in done.stdout
    assert "revision" not in done.stdout


@pytest.mark.parametrize(("words", "say"), [(("-f",), ""), ((), "y\n")])
def test_hard_links_go(run, tree, words, say):
    done = run("eliminate-hardlinks", *words, FQRN, say=say)
    assert (done.exit_code, done.stdout.endswith(": 2 entries changed\n")) == (0, True)


def test_bulk_hashes_go(run, tree):
    done = run("eliminate-bulk-hashes", "-f")
    assert (done.exit_code, done.stdout.endswith(": 0 entries changed\n")) == (0, True)
