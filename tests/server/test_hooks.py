"""Hooks: found by name, told the repository; one that returns is a remark, one that exits ends the verb."""

import os

import pytest

from cvfs.errors import UsageError
from cvfs_server.hooks import run_hook
from cvfs_server.site import Site


@pytest.fixture
def site(tmp_path):
    (tmp_path / "etc/cvmfs").mkdir(parents=True)
    return Site(str(tmp_path))


def write(site, text):
    with open(f"{site.root}/etc/cvmfs/cvmfs_server_hooks.sh", "w", encoding="ascii") as file:
        file.write(text)


def test_a_site_without_hooks(site, capfd):
    run_hook(site, "publish", "before", "own.example.org")
    write(site, "abort_before_hook() { echo never; }\n")
    run_hook(site, "publish", "before", "own.example.org")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_a_hook_is_told(site, moment, capfd):
    write(site, f"publish_{moment}_hook() {{ echo told $1; return 0; }}\n")
    run_hook(site, "publish", moment, "own.example.org")
    assert capfd.readouterr() == ("told own.example.org\n", "")


def test_a_hook_that_returns_lets_the_verb_go_on(site, capfd):
    write(site, "publish_before_hook() { return 3; }\n")
    run_hook(site, "publish", "before", "own.example.org")
    assert "publish_before_hook returned 3" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("publish_before_hook() { exit 3; }", 3),
        ("publish_before_hook() { exit 0; }", 0),
        ("publish_before_hook() { set -e; false; }", 1),
        ("exit 4", 4),
        ("publish_before_hook() {", 2),
    ],
)
def test_a_hook_that_exits_ends_the_verb(site, text, status, capfd):
    write(site, text + "\n")
    with pytest.raises(
        UsageError, match=f"publish_before_hook of .* exited with status {status}: publish was not begun"
    ):
        run_hook(site, "publish", "before", "own.example.org")
    capfd.readouterr()


def test_what_is_done_is_not_undone_afterwards(site, caplog):
    write(site, "publish_after_hook() { exit 3; }\n")
    run_hook(site, "publish", "after", "own.example.org")
    assert "publish_after_hook" in caplog.text


def test_it_reads_the_terminal(site, tmp_path):
    """Standard input is the user's."""
    write(site, 'abort_before_hook() { [ -e /proc/self/fd/0 ] && echo "$PWD" > "$PWD/seen"; }\n')
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        run_hook(site, "abort", "before", "own.example.org")
    finally:
        os.chdir(here)
    assert (tmp_path / "seen").read_text().strip() == os.path.realpath(tmp_path)
