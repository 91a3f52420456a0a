"""cvfs-server gc: flags, words, files and exit behaviour of the original."""

import os
import re

import pytest
from click.testing import CliRunner

from cvfs_server.publishers import registered
from cvfs_server.settings import load_settings
from cvfs_server.site import Site
from cvfs_tools.server_command import main

FQRN = "sw.example.org"
OBJECT = re.compile(r"[0-9a-f]{40}[CHXMP]?")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "site"


@pytest.fixture
def run(root, monkeypatch):
    monkeypatch.setenv("CVFS_ROOT", str(root))
    return lambda *words, answer="": CliRunner().invoke(main, words, prog_name="cvfs-server", input=answer)


@pytest.fixture
def published(run, tmp_path):
    """Four revisions of one file, three of them without a name."""
    tree = tmp_path / "tree"
    tree.mkdir()
    assert run("mkfs", "-g", FQRN).exit_code == 0
    for number in range(4):
        (tree / "file").write_text(f"content {number}")
        assert run("publish", "--from", str(tree), FQRN).exit_code == 0


@pytest.fixture
def count(root):
    """How many objects there are."""

    def objects():
        data = root / "srv/cvmfs" / FQRN / "data"
        return sum(len(os.listdir(data / f"{number:02x}")) for number in range(256))

    return objects


@pytest.mark.parametrize("flags", [("-f", "-r", "0"), ("-fr0",), ("-r0", "-f", "-@"), ("-l", "-f", "-r0")])
def test_forced(run, published, count, flags):
    before = count()
    result = run("gc", *flags, FQRN)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"Affected Repositories:         {FQRN}\nDry Run (no actual deletion):  no\n")
    assert "Preserved Legacy Revisions:    0\n" in result.stdout
    assert "Running Garbage Collection\n" in result.stdout
    gone = before - count()
    assert result.stdout.endswith(f"catalogs are kept, {gone} objects deleted\n")
    assert gone >= 4
    assert result.stdout.count("\nSweep: ") == (gone if "-l" in flags else 0)


def test_it_asks_first(run, published, count):
    before = count()
    for answer in ("", "n\n", "yes\n"):
        refused = run("gc", "-r0", FQRN, answer=answer)
        assert refused.exit_code == 1
        assert refused.stdout.startswith("YOU ARE ABOUT TO DELETE DATA! Are you sure")
        assert refused.stdout.endswith("Please confirm this action (y/N)? ")
    assert count() == before
    assert run("gc", "-r0", FQRN, answer="y\n").exit_code == 0
    assert count() < before


def test_three_days_by_default(run, published, count):
    before = count()
    result = run("gc", "-f", FQRN)
    assert "Preserve Revisions newer than: " in result.stdout
    assert count() == before


def test_a_dry_run_asks_nothing_and_deletes_nothing(run, published, count):
    before = count()
    result = run("gc", "-d", "-l", "-r0", FQRN)
    assert result.exit_code == 0
    shown = re.findall("Sweep: (.*)", result.stdout)
    assert count() == before
    assert all(OBJECT.fullmatch(name) for name in shown)
    assert {name[40:] for name in shown} >= {"", "C"}
    assert f"{len(shown)} objects would be deleted" in result.stdout


@pytest.mark.parametrize("configured", [False, True])
def test_a_deletion_log(run, root, published, tmp_path, configured):
    log = tmp_path / "deleted"
    words = ("-L", str(log))
    if configured:
        words = ()
        with (root / "etc/cvmfs/repositories.d" / FQRN / "server.conf").open("a") as file:
            file.write(f"CVMFS_GC_DELETION_LOG={log}\n")
    for _ in range(2):
        assert run("gc", "-f", "-r0", *words, FQRN).exit_code == 0
    lines = log.read_text().splitlines()
    assert lines[0].startswith("# Garbage Collection started at ")
    assert [line for line in lines if line.startswith("# Garbage Collection finished at ")] == [lines[-5], lines[-2]]
    assert all(OBJECT.fullmatch(line) for line in lines[1:-5])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("-r1", "-t", "yesterday"), "mutual exclusive"),
        (("-t", "the other day"), "is no date"),
        (("-t", "3 days"), "'ago' is missing"),
        (("-r", "-1"), "-1 is not in the range"),
        (("--orphans", "tomorrow"), "lies in the future"),
    ],
)
def test_what_makes_no_sense(run, published, count, words, complaint):
    before = count()
    result = run("gc", "-f", *words, FQRN)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert count() == before


def test_names(run, published):
    assert run("mkfs", "other.example.org").exit_code == 0
    result = run("gc", "-f", "none.example.org")
    assert (result.exit_code, "The repository none.example.org does not exist" in result.stderr) == (2, True)
    result = run("gc", "-d", "*.example.org")
    assert result.stdout.startswith(f"Affected Repositories:         other.example.org {FQRN}\n")
    assert run("gc", "-d").exit_code == 2
    assert run("gc", "-d", FQRN, "other.example.org").stdout.count("Running Garbage Collection") == 2


def test_all_of_them_quietly(run, root, published, count):
    """As cron calls it: success, nothing printed; those that forbid it are left out, what fails is in the log."""
    before = count()
    for name in ("a.example.org", "forbidden.example.org"):
        assert run("mkfs", name).exit_code == 0
    with (root / "etc/cvmfs/repositories.d/forbidden.example.org/server.conf").open("a") as file:
        file.write("CVMFS_GARBAGE_COLLECTION=false\n")
    (root / "srv/cvmfs/a.example.org/.cvmfsreflog").unlink()
    result = run("gc", "-af", "-r0")
    assert (result.exit_code, result.output) == (0, "")
    assert count() < before
    log = (root / "var/log/cvmfs/gc.log").read_text()
    assert log.count("Starting ") == log.count("Finished ") == 2
    assert "a.example.org: .cvmfsreflog is missing" in log
    assert log.count("ERROR from cvfs-server gc!") == 1
    assert "forbidden" not in log


def test_all_of_none(run, published, root):
    with (root / "etc/cvmfs/repositories.d" / FQRN / "server.conf").open("a") as file:
        file.write("CVMFS_GARBAGE_COLLECTION=false\n")
    result = run("gc", "-af")
    assert (result.exit_code, "no active garbage-collectable" in result.stderr) == (2, True)
    result = run("gc", "-f", FQRN)
    assert (result.exit_code, "Garbage Collection is not enabled for" in result.stderr) == (2, True)


def test_publishers_at_work_are_named(run, root, published, count):
    before = count()
    with registered(load_settings(Site(str(root)), FQRN), "publish"):
        result = run("gc", "-fr0", "--wait", "0", FQRN)
    assert result.exit_code == 0
    assert f"process {os.getpid()}; run gc again" in result.stdout
    assert count() == before
    assert run("gc", "-fr0", FQRN).exit_code == 0
    assert count() < before


def test_orphans(run, root, published, count):
    run("gc", "-fr0", FQRN)
    before = count()
    orphan = root / "srv/cvmfs" / FQRN / "data/00" / ("0" * 38)
    orphan.write_bytes(b"")
    assert run("gc", "-fr0", "--orphans", "1 hour ago", FQRN).exit_code == 0
    assert count() == before + 1
    os.utime(orphan, (1000, 1000))
    result = run("gc", "-fr0", "--orphans", "1 hour ago", FQRN)
    assert "1 objects deleted" in result.stdout
    assert count() == before
