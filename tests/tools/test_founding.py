"""Repositories made, taken over and removed by commands: the original's flags, questions before what cannot be undone."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from cvfs_server.founding.ownership import current_owner
from cvfs_server.settings import load_settings
from cvfs_server.signing.keychain import new_keychain
from cvfs_server.site import Site
from cvfs_tools.server_command import main

FQRN = "sw.example.org"


@pytest.fixture(scope="module")
def keychain():
    return new_keychain(FQRN)


@pytest.fixture
def site(tmp_path, monkeypatch, keychain):
    """Its keys are there already: making new ones takes long."""
    made = Site(str(tmp_path / "site"))
    os.makedirs(made.keys)
    for kind, text in keychain.items():
        Path(made.key(FQRN, kind)).write_bytes(text)
    monkeypatch.setenv("CVFS_ROOT", made.root)
    return made


@pytest.fixture
def run(site):
    return lambda *words, say="": CliRunner().invoke(main, words, input=say, prog_name="cvfs-server")


def test_the_flags_that_scripts_of_the_original_use(run, site):
    done = run("mkfs", "-o", current_owner().name, "-a", "shake128", "-mzgp", "-G", "4 weeks ago", FQRN)
    assert done.exit_code == 0, done.output
    settings = load_settings(site, FQRN)
    assert (settings.algorithm.name, settings.auto_gc, settings.auto_tag) == ("SHAKE128", True, False)
    assert settings.auto_tag_timespan == "4 weeks ago"
    assert run("check").exit_code == 0


def test_everything_else_that_can_be_said(run, site, tmp_path):
    words = (
        "-w",
        "http://s0/cvmfs/x",
        "-u",
        f"local,/tmp,{tmp_path}/files",
        "-Z",
        "default",
        "-vX",
        "-x",
        "http://p:3128",
    )
    done = run("mkfs", *words, "-f", "overlayfs", "-k", site.keys, "--ttl", "60", "--chunk-sizes", "100:200:400", FQRN)
    assert done.exit_code == 0, done.output
    settings = load_settings(site, FQRN)
    assert (settings.url, settings.storage, settings.compression) == ("http://s0/cvmfs/x", f"{tmp_path}/files", "zlib")
    assert (settings.external, settings.server_proxy, settings.ttl) == (True, "http://p:3128", 60)
    assert (tmp_path / "files" / ".cvmfspublished").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("-f", "aufs"),
        ("-V", "cms:/cms"),
        ("-R",),
        ("-o", "no-such-user"),
        ("-G", "4 weeks"),
        ("-u", "nonsense"),
        ("-u", "S3,/tmp,x@/conf"),
        ("-s", "/conf"),
        ("-s", "/conf", "-u", "local,,/x", "-w", "http://x"),
        ("-k", "/nowhere"),
        ("--chunk-sizes", "1:2"),
    ],
)
def test_what_cannot_be_is_refused_by_name(run, site, words):
    done = run("mkfs", *words, FQRN)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.output
    assert not os.path.exists(site.configuration(FQRN))
    assert not os.path.exists(site.storage(FQRN))


def test_the_configuration_is_a_file_for_the_shell(run, site):
    """Scripts source it, and append to it."""
    run("mkfs", "-G", "4 weeks ago", FQRN)
    with open(site.configuration(FQRN), "a") as file:
        file.write("CVMFS_AUTO_TAG=false\n")
    names = (
        "CVMFS_REPOSITORY_NAME",
        "CVMFS_SPOOL_DIR",
        "CVMFS_UNION_FS_TYPE",
        "CVMFS_AUTO_TAG_TIMESPAN",
        "CVMFS_AUTO_TAG",
    )
    script = f". {site.configuration(FQRN)}; " + "; ".join(f'echo "${name}"' for name in names)
    said = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, timeout=60, check=True).stdout
    assert said.splitlines() == [FQRN, site.spool(FQRN), "overlayfs", "4 weeks ago", "false"]
    assert load_settings(site, FQRN).auto_tag is False


def test_notes_about_what_may_surprise(run, site):
    assert "automatic tag" in run("mkfs", "-z", FQRN).stdout
    run("rmfs", "-fp", FQRN)
    shutil.rmtree(site.storage(FQRN))
    os.unlink(site.key(FQRN, "masterkey"))
    done = run("mkfs", FQRN)
    assert (done.exit_code, "masterkey --export-request" in done.stdout) == (0, True)


def test_removing_asks(run, site):
    run("mkfs", FQRN)
    for answer in ("", "n\n"):
        refused = run("rmfs", FQRN, say=answer)
        assert refused.exit_code == 1
        assert f"WIPE OUT THE CERNVM-FS REPOSITORY {FQRN} INCLUDING SIGNING KEYS!" in refused.stdout
    assert os.path.exists(site.configuration(FQRN))
    assert "INFRASTRUCTURE" in run("rmfs", "-p", FQRN, say="n\n").stdout
    done = run("rmfs", FQRN, say="y\n")
    assert done.stdout.endswith(f"CernVM-FS repository {FQRN} wiped out!\n")
    assert run("rmfs", "-f", FQRN).exit_code == 2
    assert os.listdir(site.keys) == []


def test_moved_to_another_machine(run, site, tmp_path, monkeypatch):
    run("mkfs", FQRN)
    other = tmp_path / "other"
    shutil.copytree(site.storage(FQRN), other / "files")
    monkeypatch.setenv("CVFS_ROOT", str(other / "site"))
    words = ("import", "-u", f"local,,{other}/files", "-k", site.keys, "-w", "http://there/x")
    for refused in (("-l",), ("-f", "aufs"), ("-R",), ("-t",)):
        assert run(*words, *refused, FQRN).exit_code == 2
    done = run(*words, "-gmp", FQRN)
    assert f"Repository {FQRN} imported at revision 1" in done.stdout
    assert load_settings(Site(str(other / "site")), FQRN).url == "http://there/x"
    assert run("check", "-i").exit_code == 0


def test_migrating(run, site):
    run("mkfs", FQRN)
    assert run("migrate").stdout == f"Repository '{FQRN}' is already up-to-date.\n"
    path = Path(site.configuration(FQRN))
    path.write_text(path.read_text().replace("CVMFS_CREATOR_VERSION=143", "CVMFS_CREATOR_VERSION=2.3.0-1"))
    done = run("migrate", "no.example.org", FQRN)
    assert done.stdout == f"{FQRN}: migrated from 2.3.0-1\n"
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)


def test_a_skeleton(run, tmp_path):
    assert run("skeleton", str(tmp_path / "new")).exit_code == 0
    assert len(os.listdir(tmp_path / "new" / "data")) == 257
    assert run("skeleton", "-o", "no-such-user", str(tmp_path / "more")).exit_code == 2
    assert not (tmp_path / "more").exists()


def test_what_is_missing_says_what_to_do(run, site):
    run("mkfs", FQRN)
    manifest = Path(site.storage(FQRN), ".cvmfspublished")
    for damage in (manifest.unlink, lambda: manifest.write_bytes(b"")):
        damage()
        for words in (("tag",), ("rollback", "-f"), ("publish", "--from", "."), ("info",)):
            done = run(*words)
            assert done.exit_code != 0
            assert ".cvmfspublished" in done.stderr, (words, done.stderr)
            assert "put back" in done.stderr, (words, done.stderr)


def test_the_list_of_what_is_offered_follows(run, site):
    offered = Path(site.web_root, "info/v1/repositories.json")
    run("mkfs", FQRN)
    assert [entry["name"] for entry in json.loads(offered.read_text())["repositories"]] == [FQRN]
    run("rmfs", "-f", FQRN)
    assert json.loads(offered.read_text())["repositories"] == []


def test_a_list_that_cannot_be_written_fails_nothing(run, site):
    os.makedirs(site.web_root)
    Path(site.web_root, "info").write_text("in the way")
    done = run("mkfs", FQRN)
    assert (done.exit_code, done.stderr.count("\n")) == (0, 1)
    assert "was not updated" in done.stderr
