"""Signing as commands: several repositories, questions before risks, timers that are quiet, a key that is carried away."""

import os
import shutil
import time

import pytest
from click.testing import CliRunner

from cvfs.format.signature import split_signed
from cvfs.format.whitelist import parse
from cvfs_server.settings import load_settings
from cvfs_server.signing.resign import sign_new_whitelist
from cvfs_server.site import Site
from cvfs_tools.server_command import main

FIRST, SECOND = "a.example.org", "b.example.org"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A site with two repositories; each test gets a copy, because keys take long to make."""
    root = tmp_path_factory.mktemp("template")
    for name in (FIRST, SECOND):
        assert CliRunner().invoke(main, ["mkfs", "--root", str(root), name]).exit_code == 0
    return root


@pytest.fixture
def site(template, tmp_path, monkeypatch):
    root = tmp_path / "site"
    shutil.copytree(template, root)
    for name in (FIRST, SECOND):
        configuration = root / f"etc/cvmfs/repositories.d/{name}/server.conf"
        configuration.write_text(configuration.read_text().replace(str(template), str(root)))
    monkeypatch.setenv("CVFS_ROOT", str(root))
    return Site(str(root))


@pytest.fixture
def run(site):
    return lambda *words, say="": CliRunner().invoke(main, words, input=say, prog_name="cvfs-server")


def _expires(site, name):
    with open(f"{site.storage(name)}/.cvmfswhitelist", "rb") as file:
        return parse(split_signed(file.read()).payload).expires


def _age(site, name, days):
    """As if the whitelist had been signed so long ago, for thirty days."""
    sign_new_whitelist(site, load_settings(site, name), 30, int(time.time() - days * 86400))


def test_several_at_once(run, site):
    done = run("resign", "-d", "3", SECOND, FIRST)
    lines = [f"{name}: whitelist valid until {_expires(site, name)} UTC" for name in (SECOND, FIRST)]
    assert (done.stdout.splitlines(), done.exit_code) == (lines, 0)


def test_one_that_fails_does_not_keep_the_others(run, site):
    os.unlink(site.key(FIRST, "masterkey"))
    done = run("resign", FIRST, "no.example.org", SECOND)
    assert done.exit_code == 2
    assert done.stdout == f"{SECOND}: whitelist valid until {_expires(site, SECOND)} UTC\n"
    assert done.stderr.count("\n") == 2
    assert "masterkey" in done.stderr


def test_a_long_time_is_asked_for(run, site):
    before = _expires(site, FIRST)
    refused = run("resign", "-d", "31", FIRST, say="\n")
    assert (refused.exit_code, _expires(site, FIRST)) == (1, before)
    assert "more than 30 days" in refused.stdout
    assert run("resign", "-d", "31", FIRST, say="y\n").exit_code == 0
    assert _expires(site, FIRST) > before
    assert run("resign", "-fd", "60", FIRST).stdout.startswith(FIRST)


def test_hours(run, site):
    before = _expires(site, FIRST)
    assert run("resign", "--hours", "3", FIRST).exit_code == 0
    assert _expires(site, FIRST)[:8] < before[:8]


@pytest.mark.parametrize(
    "words",
    [
        ("-p", "-d", "3"),
        ("-p", "--auto"),
        ("-w", "x", "-p"),
        ("-d", "3", "--hours", "3"),
        ("-d", "0"),
        ("--hours", "0"),
        (),
    ],
)
def test_what_is_refused(run, site, words):
    """Without a name it must be clear which repository is meant."""
    before = _expires(site, FIRST)
    done = run("resign", *words, *((FIRST,) if words else ()))
    assert (done.exit_code, done.stdout, _expires(site, FIRST)) == (2, "", before)


def test_a_timer_is_quiet_while_there_is_time(run, site):
    before = {name: _expires(site, name) for name in (FIRST, SECOND)}
    done = run("resign", "--auto")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert {name: _expires(site, name) for name in (FIRST, SECOND)} == before


def test_a_timer_signs_what_is_due(run, site):
    _age(site, SECOND, 25)
    before = _expires(site, FIRST)
    done = run("resign", "--auto")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"{SECOND}: whitelist valid until {_expires(site, SECOND)} UTC\n"
    assert _expires(site, FIRST) == before


def test_a_timer_tells_what_it_cannot_sign(run, site):
    _age(site, FIRST, 25)
    _age(site, SECOND, 25)
    os.unlink(site.key(FIRST, "masterkey"))
    done = run("resign", "--auto")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"cvfs-server: {FIRST}: the whitelist expires in ")
    assert done.stdout.startswith(f"{SECOND}: whitelist valid until")


def test_the_manifest_is_signed(run, site):
    assert run("resign", "-p", FIRST).stdout == f"{FIRST}: manifest of revision 1 signed\n"


def test_the_master_key_elsewhere(run, site, tmp_path):
    key, carried = tmp_path / "stick.key", tmp_path / "request"
    shutil.move(site.key(FIRST, "masterkey"), key)
    exported = run("masterkey", "--export-request", str(carried), "-d", "9", FIRST)
    assert exported.exit_code == 0
    there = run("masterkey", "--sign", str(carried), "--key", str(key), say="n\n")
    assert there.exit_code == 1
    there = run("masterkey", "--sign", str(carried), "--key", str(key), "-o", str(tmp_path / "signed"), say="y\n")
    assert there.exit_code == 0
    # Two people can compare what was asked for and what is signed.
    assert exported.stdout.splitlines()[:3] == there.stdout.splitlines()[:3]
    home = run("masterkey", "--install", str(tmp_path / "signed"), FIRST)
    assert home.stdout == f"{FIRST}: whitelist valid until {_expires(site, FIRST)} UTC\n"
    assert run("masterkey", "--install", str(carried), FIRST).exit_code == 33


def test_a_file_is_signed_in_its_place(run, site, tmp_path):
    carried = tmp_path / "whitelist"
    shutil.copy(f"{site.storage(FIRST)}/.cvmfswhitelist", carried)
    done = run("resign", "-w", str(carried), "-d", "4", FIRST)
    assert done.exit_code == 0
    assert parse(split_signed(carried.read_bytes()).payload).expires in done.stdout
    assert run("resign", "-w", str(carried), SECOND).exit_code == 2


@pytest.mark.parametrize(
    "words", [(), ("--sign", "x"), ("--sign", "x", "--install", "y"), ("--export-request", "/x/y")]
)
def test_what_masterkey_refuses(run, site, words):
    done = run("masterkey", *words, FIRST)
    assert done.exit_code in {2, 34}
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("masterkey", "--install", "{file}", FIRST), "--install takes what --sign wrote"),
        (("masterkey", "--sign", "{file}", "--key", "{key}"), "--sign takes what --export-request wrote"),
        (("resign", "-w", "{file}", FIRST), "name the file of a whitelist"),
    ],
)
def test_a_file_that_is_something_else_is_named(run, site, tmp_path, words, advice):
    file = tmp_path / "file"
    file.write_text("something else\n")
    done = run(*(word.format(file=file, key=site.key(FIRST, "masterkey")) for word in words))
    assert str(file) in done.stderr
    assert done.stderr.endswith(f"; {advice}\n")
    assert (done.exit_code, file.read_text()) == (33 if "--install" in words else 32, "something else\n")


def test_nobody_is_asked_whether_to_sign_without_a_key(run, site, tmp_path):
    request = str(tmp_path / "request")
    run("masterkey", "--export-request", request, FIRST)
    done = run("masterkey", "--sign", request, "--key", str(tmp_path / "nowhere"))
    assert (done.stdout, done.exit_code) == ("", 2)
    assert "nowhere: No such file" in done.stderr
