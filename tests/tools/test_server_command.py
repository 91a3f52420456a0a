"""The command `cvfs-server`: arguments that make no sense, and a site of which a part is broken."""

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cvfs_tools.server_command import VERBS, main

FQRN = "sw.example.org"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a verb on a site of its own, in a working directory that holds a file."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "private").write_bytes(b"not to be published")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("CVFS_ROOT", str(tmp_path / "site"))
    return lambda *words: CliRunner().invoke(main, words, prog_name="cvfs-server")


@pytest.fixture
def made(run):
    assert run("mkfs", FQRN).exit_code == 0


def assert_refused(result, *words: str) -> None:
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stdout == ""
    assert all(word in result.stderr for word in words), result.stderr


def test_an_empty_name_is_not_the_working_directory(run, made):
    """What a script passes when its variable is not set."""
    assert_refused(run("publish", FQRN, "--from", ""), "--from ''", "name the directory tree")
    assert run("list").stdout == f"{FQRN} (stratum0 / local) - revision 1\n"
    assert "revision 2 published" in run("publish", FQRN, "--from", ".").stdout


WITHOUT_A_NAME = [
    ("publish", "--from", ".", ""),
    ("publish", "--from", ".", "--to", "", FQRN),
    ("publish", "--to", "", FQRN),
    ("publish", ""),
    ("ingest", "-d", "x", ""),
    ("enter", ""),
    ("rmfs", "-f", ""),
    ("tag", "-r", "x", "-f", ""),
    ("transaction", ""),
    ("transaction", "-T", "", FQRN),
    ("abort", "-f", ""),
]


def test_what_is_empty_does_not_mean_everything(run, made):
    """A variable that is not set names neither the only repository nor the whole of it."""
    for words in WITHOUT_A_NAME:
        assert_refused(run(*words))
    assert run("list").stdout == f"{FQRN} (stratum0 / local) - revision 1\n"


ODD_PATHS = {"../..": "'..'", "a/../b": "'..'", "..": "'..'", "n" * 256: "longer than", "d/" * 2100: "longer than"}


def test_paths_that_no_mount_can_show(run, made):
    for path, reason in ODD_PATHS.items():
        for words in (
            ("publish", "--from", ".", "--to", path, FQRN),
            ("ingest", "-t", "/dev/null", "-b", path, FQRN),
            ("transaction", f"{FQRN}/{path}"),
        ):
            refused = run(*words)
            assert_refused(refused, reason)
            assert refused.stderr.count("\n") == 1
    assert run("list").stdout == f"{FQRN} (stratum0 / local) - revision 1\n"


def test_descriptions_that_are_no_text(run, made):
    for words in (("publish", "--from", ".", "-m", "\udcff"), ("tag", "-a", "v1", "-m", "\udcff")):
        assert_refused(run(*words, FQRN), "is not UTF-8")
    assert run("list").stdout == f"{FQRN} (stratum0 / local) - revision 1\n"


@pytest.mark.parametrize("workers", ["0", "-3", "100000", "many"])
@pytest.mark.parametrize("verb", [("publish", "--from", "."), ("check",)])
def test_a_number_of_workers_that_is_none(run, made, verb, workers):
    assert_refused(run(verb[0], FQRN, *verb[1:], "-j", workers), workers)


def test_statistics_are_printed_where_that_is_wanted(run, made, tmp_path):
    configuration = tmp_path / f"site/etc/cvmfs/repositories.d/{FQRN}/server.conf"
    with configuration.open("a", encoding="ascii") as file:
        file.write("CVMFS_PRINT_STATISTICS=true\n")
    printed = run("publish", FQRN, "--from", ".").stdout.splitlines()
    assert "files_added|1" in printed
    assert "sz_bytes_added|19" in printed
    assert "revision 2 published" in printed[-1]
    collected = run("gc", "-f", FQRN).stdout.splitlines()
    assert "n_condemned_catalogs|0" in collected


def test_hashes_that_are_none(run, made):
    assert_refused(run("mkfs", "new.example.org", "-a", "md5"), "md5")
    assert_refused(run("tag", FQRN, "-a", "v1", "-h", "xyz"), "--root-hash xyz: not a content hash")
    assert run("list").stdout.count("\n") == 1


def test_a_broken_repository_does_not_hide_the_others(run, made, tmp_path):
    for name in ("a.example.org", "z.example.org"):
        assert run("mkfs", name).exit_code == 0
    os.unlink(tmp_path / "site" / "srv" / "cvmfs" / "a.example.org" / ".cvmfspublished")
    result = run("list")
    assert [line.split()[0] for line in result.stdout.splitlines()] == [FQRN, "z.example.org"]
    assert result.stderr.startswith("cvfs-server: a.example.org: .cvmfspublished")
    assert result.stderr.count("\n") == 1
    assert result.exit_code == 34


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_where_the_table_says(verb):
    command = main.get_command(click.Context(main, **main.context_settings), verb)
    assert command is not None
    assert command.name == verb
    assert command.get_short_help_str()


def test_an_unknown_verb(run):
    assert_refused(run("publsh"), "No such command 'publsh'")


def test_a_verb_loads_what_it_needs_only(tmp_path):
    """The others would take more time than a small publish."""
    script = (
        "import sys; from cvfs_tools.server_command import main; "
        "main(['publish', '--help'], standalone_mode=False); "
        "print(*{'cvfs_tools.checking', 'cvfs_server.web.server', 'multiprocessing', 'boto3'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == ""
