"""cvfs trust: what a machine remembers of repositories, and how it is made to forget."""

import json
import os
import re

import pytest
from click.testing import CliRunner

from cvfs_tools.cvfs_command import main

FQRN = "tiny.example.org"


@pytest.fixture
def run(configuration, tmp_path, monkeypatch):
    """Runs `cvfs` with the parameters of the fixture."""
    for name in list(os.environ):
        if name.startswith(("CVMFS_", "CVFS_")):
            monkeypatch.delenv(name)
    log = f"CVMFS_USYSLOG={tmp_path}/messages"

    def cvfs(*words, options=(), answer=None):
        given = [word for option in (f"config={configuration}", log, *options) for word in ("-o", option)]
        return CliRunner().invoke(main, [*words, *given], input=answer, prog_name="cvfs")

    return cvfs


@pytest.fixture
def seen(run):
    """The repository was looked at."""
    assert run("info", FQRN).exit_code == 0


@pytest.fixture
def manifest(tiny):
    lines = (tiny.storage / ".cvmfspublished").read_bytes().split(b"--\n")[0].decode().splitlines()
    return {line[0]: line[1:] for line in lines}


def fields(text: str) -> dict[str, str]:
    return dict(re.split(r":\s+", line, maxsplit=1) for line in text.splitlines())


@pytest.mark.usefixtures("seen")
def test_what_is_remembered(run, tiny, tmp_path, manifest):
    result = run("trust", "show", FQRN)
    assert (result.exit_code, result.stderr) == (0, "")
    shown = fields(result.stdout)
    assert shown["Repository name"] == FQRN
    assert shown["Newest revision seen"] == manifest["S"]
    assert shown["Root hash"] == manifest["C"]
    assert re.fullmatch(r"[0-9]{14} \([0-9]+ days left\)", shown["Whitelist expires"])
    assert re.fullmatch(rf"SHA256:[0-9a-f]{{64}} {tiny.public_key}", shown["Master key"])
    assert (shown["Minimum revision"], shown["Oldest manifest"]) == ("none", "any age")
    assert shown["Remembered in"] == f"{tmp_path}/base/trust/{FQRN}"


@pytest.mark.usefixtures("seen")
def test_for_programs(run, tiny, tmp_path, manifest):
    (tmp_path / "blacklist").write_text(f"<{FQRN} 4\n")
    limits = ("CVFS_MINIMUM_REVISION=3", "CVFS_MAX_MANIFEST_AGE=36", f"CVMFS_BLACKLIST={tmp_path}/blacklist")
    told = json.loads(run("trust", "show", "--json", FQRN, options=limits).stdout)
    assert (told["fqrn"], told["revision"], told["root_hash"]) == (FQRN, int(manifest["S"]), manifest["C"])
    assert told["published"] == int(manifest["T"])
    assert told["verified"] > told["published"]
    assert told["whitelist_days"] > 0
    assert [key["file"] for key in told["keys"]] == [str(tiny.public_key)]
    assert (told["minimum_revision"], told["blacklisted_below"], told["max_manifest_age"]) == (3, 4, 36)
    assert told["blacklists"] == [f"{tmp_path}/blacklist"]


def test_nothing_seen_yet(run, tmp_path):
    shown = fields(run("trust", "show", FQRN, options=(f"CVMFS_PUBLIC_KEY={tmp_path}/none.pub",)).stdout)
    assert shown["Newest revision seen"] == "none"
    assert shown["Master key"] == f"No such file or directory {tmp_path}/none.pub"
    told = json.loads(run("trust", "show", "--json", FQRN).stdout)
    assert (told["revision"], told["verified"], told["whitelist_days"]) == (None, None, None)
    assert run("trust", "show").stdout == ""


@pytest.mark.usefixtures("seen")
def test_all_repositories_that_were_seen(run, tmp_path):
    (tmp_path / "base" / "trust" / "other.example.org").mkdir()
    (tmp_path / "base" / "trust" / "no name").mkdir()
    told = run("trust", "show", "--json").stdout.splitlines()
    assert [json.loads(line)["fqrn"] for line in told] == ["other.example.org", FQRN]
    (tmp_path / "base" / "trust" / "other.example.org" / "seen.json").write_text("damaged")
    result = run("trust", "show")
    assert result.exit_code == 32
    assert "trust reset other.example.org" in result.stderr
    assert f"Repository name:       {FQRN}" in result.stdout


@pytest.mark.usefixtures("seen")
def test_forgetting_is_asked_for_done_told_and_logged(run, tmp_path, manifest):
    place = tmp_path / "base" / "trust" / FQRN
    refused = run("trust", "reset", FQRN, answer="n\n")
    assert refused.exit_code == 1
    assert (place / "seen.json").exists()
    done = run("trust", "reset", FQRN, answer="y\n")
    assert done.exit_code == 0
    assert f"{FQRN}: forgot revision {manifest['S']} of 2026-" in done.stdout
    assert f"root catalog {manifest['C']}" in done.stdout
    assert f"removed {place}/seen.json\nremoved {place}/documents.json\n" in done.stdout
    assert (
        f"user {os.getuid()} made this machine forget revision {manifest['S']}" in (tmp_path / "messages").read_text()
    )
    again = run("trust", "reset", "-f", FQRN)
    assert (again.exit_code, again.stdout) == (0, f"{FQRN}: there was nothing to forget\n")


@pytest.mark.usefixtures("seen")
@pytest.mark.parametrize("damage", ["seen.json", "documents.json"])
def test_a_damaged_memory_can_be_left_behind(run, tmp_path, damage):
    (tmp_path / "base" / "trust" / FQRN / damage).write_bytes(b"\0")
    assert run("trust", "show", FQRN).exit_code == 32
    assert run("trust", "reset", "-f", FQRN).exit_code == 0
    assert run("info", FQRN).exit_code == 0
    assert run("trust", "show", FQRN).exit_code == 0
