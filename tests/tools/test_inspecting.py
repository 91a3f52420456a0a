"""cvfs-server's verbs that look: their words and columns, which scripts read, and what they do not change."""

import json
import os
import sqlite3
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from cvfs.format.signature import split_signed
from cvfs.format.whitelist import parse as parse_whitelist
from cvfs_server.signing.resign import resign_whitelist
from cvfs_server.statistics import PublishNumbers, record_publish
from cvfs_server.status import read_status
from cvfs_server.storage.choice import storage_of
from cvfs_tools.server_command import main

FQRN = "own.example.org"


@pytest.fixture
def own(new_repository):
    made = new_repository()
    (made.tree / "sub" / "deep").mkdir(parents=True)
    for name in ("sub", "sub/deep"):
        (made.tree / name / ".cvmfscatalog").touch()
    (made.tree / "sub" / "file").write_bytes(b"one")
    (made.tree / "kept").write_bytes(b"kept")
    os.symlink("kept", made.tree / "link")
    made.publish(tag="first")
    return made


@pytest.fixture
def run(own, monkeypatch):
    monkeypatch.setenv("CVFS_ROOT", own.site.root)

    def invoke(*words, status=0, **options):
        result = CliRunner().invoke(main, words, prog_name="cvfs-server", **options)
        assert result.exit_code == status, (result.output, result.stderr, result.exception)
        return result

    return invoke


def lines(result):
    return result.stdout.splitlines()


def second(own):
    """Another revision: something added, removed, changed, of another type, and touched."""
    (own.tree / "new").write_bytes(b"12345")
    os.unlink(own.tree / "link")
    (own.tree / "link").mkdir()
    (own.tree / "sub" / "file").write_bytes(b"three")
    os.utime(own.tree / "kept", (5, 5))
    own.publish(tag="second")


def test_list_is_a_line_each_that_begins_with_the_name(own, run, monkeypatch):
    assert lines(run("list")) == [f"{FQRN} (stratum0 / local) - revision 2"]
    resign_whitelist(own.site, FQRN, 1)
    now = time.time() + 3 * 86400
    monkeypatch.setattr("cvfs_tools.inspecting.time.time", lambda: now)
    assert lines(run("list")) == [f"{FQRN} (stratum0 / local - whitelist expired) - revision 2"]
    assert "Whitelist is expired" in lines(run("info"))
    (own.storage / ".cvmfswhitelist").unlink()
    assert lines(run("list")) == [f"{FQRN} (stratum0 / local - whitelist unreachable) - revision 2"]


def test_info_in_the_words_of_the_original_and_more(own, run):
    found = lines(run("info", FQRN))
    expires = parse_whitelist(split_signed((own.storage / ".cvmfswhitelist").read_bytes()).payload).expires
    facts = dict(line.split(":", 1) for line in found[: found.index("")] if ":" in line)
    facts = {name: value.strip() for name, value in facts.items()}
    assert facts["Repository name"] == FQRN
    assert facts["Stratum1 Replication Allowed"] == "yes"
    assert facts["Whitelist expires"] == expires
    assert facts["Root hash"] == str(own.manifest().root_catalog)
    assert (facts["Entries"], facts["Nested catalogs"]) == ("10", "2")
    assert "Whitelist is valid for another 29 days" in found
    assert "Client configuration:" in found
    assert f"  CVMFS_SERVER_URL={own.settings.url}" in found


def test_list_catalogs_bare_and_as_a_tree(own, run):
    assert lines(run("list-catalogs", "-x")) == ["/", "/sub", "/sub/deep"]
    assert lines(run("list-catalogs")) == ["/", "\u251c\u2500 /sub", "\u2502  \u251c\u2500 /sub/deep"]
    columns = [line.split(" ") for line in lines(run("list-catalogs", "-sehx"))]
    assert [column[-1] for column in columns] == ["/", "/sub", "/sub/deep"]
    assert columns[0][0] == str(own.manifest().root_catalog)
    assert columns[0][1] == f"{own.manifest().root_size}B"
    assert [column[2] for column in columns] == ["4", "4", "2"]


def test_diff_for_people(own, run):
    second(own)
    found = lines(run("diff", "-h"))
    assert found[0].startswith("DELTA: trunk-previous/r2 (")
    assert ") --> trunk/r3 (" in found[0]
    assert found[1:5] == ["d(# regular files): 1", "d(# symlinks): -1", "d(# directories): 1", "d(# catalogs): 0"]
    changed = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in found[5:]}
    assert changed["/new"] == "add file +5 bytes"
    assert changed["/kept"] == "modify file [timestamp]"
    assert changed["/sub/file"] == "modify file [size, timestamp, content]"
    assert changed["/link"].startswith("modify symlink->directory [")
    assert not lines(run("diff", "-s", "second", "-d", "trunk"))[4:]


def test_diff_for_programs_backwards_and_without_times(own, run):
    second(own)
    old, new = own.manifest().root_catalog, "first"
    found = lines(run("diff", FQRN, "-mi", "-s", str(old), "-d", new))
    assert found[:4] == ["S F -1", "S S 1", "S D -1", "S N 0"]
    assert "R F /new -5" in found
    assert "M[SC] F /sub/file" in found
    assert not [line for line in found if line.endswith(" /kept")]
    assert lines(run("diff", "-m", "-s", "2", "-d", "3"))[0] == "S F 1"
    assert lines(run("diff", "-mh"))[0].startswith("# line descriptor: A - add")


@pytest.mark.parametrize("wrong", ["nothing", "99", "ab" * 20])
def test_diff_with_a_revision_that_there_is_not(own, run, wrong):
    result = run("diff", "-s", wrong, status=2)
    assert f"no tag, revision of a tag, or root hash '{wrong}'" in result.stderr


def test_diff_of_a_transaction_needs_one(own, run):
    result = run("diff", "--worktree", status=2)
    assert FQRN in result.stderr
    assert result.stderr.count("\n") == 1


def test_statistics_are_printed_and_merged(own, run, tmp_path):
    Path(own.settings.spool, "stats.db").unlink(missing_ok=True)
    assert lines(run("print-stats")) == [f"No statistics database file for {FQRN} repository."]
    record_publish(own.settings, PublishNumbers(revision=7, files_added=3), 1_800_000_000)
    head, row = lines(run("print-stats", "-s", ","))
    assert head.startswith("publish_id,start_time,finish_time,revision,files_added,")
    assert row.startswith("1,2027-01-15 08:00:00,")
    assert row.split(",")[3:5] == ["7", "3"]
    assert lines(run("print-stats", "-t", "properties"))[0] == "key|value"
    run("print-stats", "-o", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text().startswith("publish_id|")
    database = f"{own.settings.spool}/stats.db"
    merged = run("merge-stats", "-o", str(tmp_path / "both.db"), database, database)
    assert lines(merged)[0].startswith(f"Success: {database} and {database} publish_statistics tables")
    with sqlite3.connect(tmp_path / "both.db") as connection:
        assert connection.execute("SELECT count(*) FROM publish_statistics").fetchall() == [(2,)]


def test_meta_info_is_published_under_the_same_revision(own, run, tmp_path):
    file, before = tmp_path / "meta.json", own.manifest()
    file.write_text('{"administrator": "me", "custom": {"a": 1}}')
    run("update-repoinfo", "-f", str(file), FQRN)
    after = own.manifest()
    assert (after.revision, after.root_catalog) == (before.revision, before.root_catalog)
    assert json.loads(run("info", "--meta-info").stdout) == {"administrator": "me", "custom": {"a": 1}}
    assert own.check() == []
    file.write_text("{broken")
    assert f"{file}: meta info is no JSON" in run("update-repoinfo", "-f", str(file), status=2).stderr
    assert "No such file" in run("update-repoinfo", "-f", str(tmp_path / "none"), status=2).stderr
    assert own.manifest() == after


def test_meta_info_from_an_editor(own, run, tmp_path, monkeypatch):
    editor = tmp_path / "editor"
    editor.write_text(
        "#!/bin/sh\nsed -i 's/Your Name/Somebody/' \"$1\"\n# the time stamp of the file tells what was saved\ntouch -d '+10 seconds' \"$1\"\n"
    )
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    run("update-repoinfo")
    assert json.loads(run("info", "-m").stdout)["administrator"] == "Somebody"


def test_the_sites_own_documents(own, run, tmp_path):
    place = Path(own.site.web_root) / "info" / "v1"
    assert lines(run("update-info", "-e")) == [str(place / "repositories.json"), str(place / "meta.json")]
    assert json.loads((place / "repositories.json").read_text()) == {
        "schema": 1,
        "repositories": [{"name": FQRN, "url": f"/cvmfs/{FQRN}"}],
        "replicas": [],
    }
    (tmp_path / "meta").write_text('{"email": "x@y"}')
    run("update-info", "-p", "-f", str(tmp_path / "meta"))
    assert json.loads((place / "meta.json").read_text()) == {"email": "x@y"}
    assert lines(run("update-info", "-e")) == [str(place / "repositories.json")]
    assert json.loads((place / "meta.json").read_text()) == {"email": "x@y"}


def remove_an_object(own):
    victim = next(path for path, _ in storage_of(own.settings).objects() if path[-1] not in "CHXM")
    os.unlink(own.storage / victim)
    return victim


def test_check_says_what_is_wrong_and_fails(own, run):
    assert lines(run("check", "-i", "-j", "1")) == [f"{FQRN}: revision 2: no problems found"]
    victim = remove_an_object(own)
    result = run("check", "-i", "-j", "1", "--json", status=1)
    assert [json.loads(line)["what"] for line in lines(result)] == [f"its object {victim} is missing"]
    assert result.stderr.endswith(f"{FQRN}: 1 errors found\n")
    assert lines(run("check", "-c"))[-1] == f"{FQRN}: revision 2: no problems found"
    assert lines(run("check", "-ct", "first"))[-1] == f"{FQRN}: tag first: no problems found"
    assert lines(run("check", "-c", "--all-tags"))[-1] == f"{FQRN}: revision 2 and every tag: no problems found"
    assert (
        lines(run("check", "-t", "first", "-t", "trunk-previous", status=1))[0].startswith("error: tag first: /")
        is False
    )


def test_check_compares_the_reflog_with_what_this_machine_recorded(own, run):
    place = Path(own.settings.spool, "reflog.chksum")
    place.write_text("0" * 40)
    assert lines(run("check", "-c"))[0].startswith("warning: .cvmfsreflog: does not have the digest 0000")
    assert len(lines(run("check", "-cr"))) == 2
    assert lines(run("check", "-c")) == [f"{FQRN}: revision 2: no problems found"]


def test_an_editor_that_fails_is_told_in_a_line(run, monkeypatch):
    monkeypatch.setenv("EDITOR", "false")
    done = run("update-info", status=2)
    assert "give a JSON file with -f" in done.stderr


def test_check_resumed_and_with_options_that_make_no_sense(own, run):
    assert "this one begins at the start" in run("check", "-i", "-j", "1", "--resume").stderr
    Path(own.settings.spool, "check", "began").write_text(str(int(time.time()) - 5))
    assert "--resume would go on with it" in run("check", "-i", "-j", "1").stderr
    run("check", "-i", "-j", "1", "--skip-verified", "1")
    for words in (("--resume",), ("--skip-verified", "3"), ("-t", "first", "--all-tags"), ("-a", FQRN)):
        assert run("check", *words, status=2).stdout == ""


def test_check_of_all_repositories_leaves_its_word_in_log_and_status(own, run):
    remove_an_object(own)
    assert run("check", "-ai", "-j", "1").stdout == ""
    log = Path(own.site.root, "var/log/cvmfs/checks.log")
    text = log.read_text()
    assert f"\nStarting {FQRN} at " in text
    assert "is missing\n" in text
    assert "ERROR from cvfs-server check!\n" in text
    status = read_status(storage_of(own.settings))
    assert status["check_status"] == "failed"
    assert status["last_check"].endswith(str(time.gmtime().tm_year))
    run("check", "-a")
    assert log.read_text() == text
    with open(own.site.configuration(FQRN), "a", encoding="utf-8") as configuration:
        configuration.write("CVMFS_CHECK_ALL_MIN_DAYS=0\n")
    run("check", "-ac")
    assert log.read_text().count("Starting ") == 2
    assert read_status(storage_of(own.settings))["check_status"] == "succeeded"
