"""The set-up for continuous integration: what it makes of inputs, what it refuses, and the whole of it on a machine."""

import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from processes import CVFS, ENVIRONMENT

from cvfs.client.configuration_sources import Sources
from cvfs.client.settings.known import Effect, known_parameter

PROJECT = Path(__file__).parents[2]
PROGRAM = PROJECT / "server" / "deploy" / "ci" / "setup_cvfs.py"
README = PROGRAM.parent / "README.md"
ACTION = yaml.safe_load((PROJECT / "action.yml").read_text(encoding="utf-8"))
FQRN = "tiny.example.org"


@pytest.fixture(scope="module")
def setup():
    specification = importlib.util.spec_from_file_location("setup_cvfs", PROGRAM)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


# --- the action -------------------------------------------------------------------------------------------------------


def test_every_input_means_something(setup):
    for name, said in ACTION["inputs"].items():
        assert said["description"].strip()
        if name.upper() in setup.OWN:
            continue
        known = known_parameter(name.upper())
        assert known, f"{name} is no parameter of a client"
        assert known.effect is Effect.OBEYED or name == "cvmfs_use_cdn"


def test_the_action_runs_the_program_with_all_inputs():
    (step,) = ACTION["runs"]["steps"]
    assert ACTION["runs"]["using"] == "composite"
    place = re.search(r"\$GITHUB_ACTION_PATH/(\S+?)\"", step["run"])[1]
    assert PROJECT / place == PROGRAM
    assert step["env"] == {"SETUP_INPUTS": "${{ toJSON(inputs) }}"}


def test_the_readme_has_every_input_of_the_programs_own(setup):
    text = README.read_text(encoding="utf-8")
    assert [name for name in setup.OWN if f"`{name}`" not in text] == []


# --- inputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {}),
        ({"CVMFS_REPOSITORIES": "a.b.c", "HOME": "/root"}, {"CVMFS_REPOSITORIES": "a.b.c"}),
        ({"CVMFS_HTTP_PROXY": "", "CVFS_LOG": " "}, {}),
        ({"CVFS_LOG": " /x "}, {"CVFS_LOG": "/x"}),
        ({"CVMFS_bad": "x", "XCVMFS_A": "x", "CVMFS_A B": "x"}, {}),
        ({"SETUP_INPUTS": '{"cvmfs_timeout": "3", "setup_mount": "no"}'}, {"CVMFS_TIMEOUT": "3", "SETUP_MOUNT": "no"}),
        ({"SETUP_INPUTS": '{"cvmfs-timeout": 3}', "CVMFS_TIMEOUT": "5"}, {"CVMFS_TIMEOUT": "3"}),
        ({"SETUP_INPUTS": '{"path": "/evil", "ld_preload": "x"}'}, {}),
        ({"SETUP_INPUTS": ""}, {}),
    ],
)
def test_inputs(setup, environment, expected):
    assert setup.inputs_of(environment) == expected


def test_parameters_are_what_clients_read(setup):
    given = {"CVMFS_B": "2", "CVFS_A": "1", "CVFS_ETC": "/e", "CVFS_ROOT": "/r", **setup.OWN}
    assert list(setup.parameters_of(given).items()) == [("CVFS_A", "1"), ("CVMFS_B", "2")]


def test_the_file_is_read_by_a_client_as_it_was_meant(setup, tmp_path):
    given = {"CVMFS_HTTP_PROXY": "http://a:1|http://b:2;DIRECT", "CVMFS_REPOSITORIES": "$HOME `x` \\ #"}
    (tmp_path / "default.local").write_text(setup.default_local(given))
    read = Sources(etc=str(tmp_path)).common()
    assert {name: read.text(name) for name in given} == given


@pytest.mark.parametrize("text", ["it's", "a\nCVMFS_SUID=yes", "\x1b[2J"])
def test_what_a_file_cannot_hold_is_refused(setup, text):
    with pytest.raises(setup.SetupError, match="CVMFS_A: no quotes"):
        setup.default_local({"CVMFS_A": text})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", []), (",", []), ("a.b", ["a.b"]), ("a.b,c.d", ["a.b", "c.d"]), (" a.b , c.d\ne.f ", ["a.b", "c.d", "e.f"])],
)
def test_repositories(setup, text, expected):
    assert setup.repositories_of({"CVMFS_REPOSITORIES": text}) == expected


# --- the machine ------------------------------------------------------------------------------------------------------


def test_a_user_without_sudo_has_a_tree_of_his_own(setup):
    alone = setup.Machine({"HOME": "/home/u"}, None)
    assert (alone.etc, alone.may_mount) == ("/home/u/.config/cvfs", False)
    assert setup.Machine({"HOME": "/home/u", "XDG_CONFIG_HOME": "/x"}, None).etc == "/x/cvfs"
    by_sudo = setup.Machine({"HOME": "/home/u"}, ("sudo", "-n"))
    assert (by_sudo.etc, by_sudo.may_mount) == ("/etc/cvmfs", True)
    assert setup.Machine({"CVFS_ETC": "/e"}, None).etc == "/e"


def test_a_file_of_somebody_else_is_kept_aside_once(setup, tmp_path):
    machine = setup.Machine({"CVFS_ETC": str(tmp_path / "etc")}, ())
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "default.local").write_text("CVMFS_OLD=1\n")
    machine.write("default.local", setup.default_local({"CVMFS_A": "1"}))
    machine.write("default.local", setup.default_local({"CVMFS_A": "2"}))
    assert (tmp_path / "etc" / "default.local.before").read_text() == "CVMFS_OLD=1\n"
    assert (tmp_path / "etc" / "default.local").read_text() == setup.MARK + "CVMFS_A='2'\n"


@pytest.fixture
def package(tmp_path):
    """Makes a Debian package with these files."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed")

    def make(**files):
        tree = tmp_path / "package"
        control = "Package: config\nVersion: 1\nArchitecture: all\nMaintainer: m\nDescription: d\n"
        for name, text in {"DEBIAN/control": control, "DEBIAN/postinst": "#!/bin/sh\ntouch /ran\n"}.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)
        (tree / "DEBIAN" / "postinst").chmod(0o755)
        for name, text in files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)
        subprocess.run(
            ["dpkg-deb", "--build", tree, tmp_path / "config.deb"], check=True, capture_output=True, timeout=60
        )
        return str(tmp_path / "config.deb")

    return make


def test_a_configuration_package_is_unpacked_and_not_run(setup, package, tmp_path):
    machine = setup.Machine({"CVFS_ETC": str(tmp_path / "etc")}, ())
    setup.unpack_configuration(package(**{"etc/cvmfs/keys/a.pub": "key", "usr/bin/evil": "x"}), machine)
    assert [str(path.relative_to(tmp_path / "etc")) for path in (tmp_path / "etc").rglob("*")] == ["keys", "keys/a.pub"]
    assert not Path("/ran").exists()


def test_what_is_no_configuration_package_is_refused(setup, package, tmp_path):
    machine = setup.Machine({"CVFS_ETC": str(tmp_path / "etc")}, ())
    (tmp_path / "text").write_text("no package")
    for what, complaint in (
        (package(**{"usr/bin/x": "x"}), "holds no etc/cvmfs"),
        (str(tmp_path / "text"), "ended with status"),
        ("cvmfs-config-default", "neither a Debian package on this machine nor the https URL"),
        ("http://example.org/config.deb", "https it must be"),
        ("file:///etc/passwd", "https it must be"),
    ):
        with pytest.raises(setup.SetupError, match=complaint):
            setup.unpack_configuration(what, machine)


def test_a_new_installation_goes_into_an_environment_of_its_own(setup, monkeypatch, tmp_path):
    commands = []
    monkeypatch.setattr(setup, "run", lambda command, **_: commands.append(command))
    monkeypatch.setattr(setup.shutil, "which", lambda _: None)
    there = setup.install({}, {"HOME": str(tmp_path)})
    assert there == f"{tmp_path}/.local/share/cvfs-venv/bin/cvfs"
    assert commands[0] == (sys.executable, "-m", "venv", f"{tmp_path}/.local/share/cvfs-venv")
    assert commands[1][1:] == ("-m", "pip", "install", "--quiet", f"{PROJECT}[zstd]")
    assert setup.install({"SETUP_VENV": "/v", "SETUP_SOURCE": "cvfs==1"}, {}) == "/v/bin/cvfs"
    assert commands[3][-1] == "cvfs==1[zstd]"
    assert setup.install({}, {"RUNNER_TOOL_CACHE": "/tools"}) == "/tools/cvfs-venv/bin/cvfs"


def test_an_old_python_is_named(setup, monkeypatch):
    monkeypatch.setattr(setup.sys, "version_info", (3, 10, 4))
    with pytest.raises(setup.SetupError, match=r"Python 3\.11 or newer is needed"):
        setup.set_up({})


# --- all of it --------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path, fixture_repository):
    """Runs the program in mounts of its own, with `cvfs` on the path, then a script."""
    command = tmp_path / "bin" / "cvfs"
    command.parent.mkdir()
    quoted = " ".join(f"'{word}'" if "'" not in word else f'"{word}"' for word in CVFS)
    command.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    published = fixture_repository(FQRN)
    inputs = {
        "cvmfs_repositories": FQRN,
        "cvmfs_server_url": f"file://{published.root}/@fqrn@",
        "cvmfs_public_key": str(published.public_key),
        "cvmfs_cache_base": str(tmp_path / "cache"),
        "cvmfs_mount_dir": str(tmp_path / "cvmfs"),
        "cvmfs_client_profile": "single",
        "cvmfs_timeout": "",
    }

    def run(script, **more):
        environment = ENVIRONMENT | {
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "CVFS_ETC": str(tmp_path / "etc"),
            "GITHUB_PATH": str(tmp_path / "path"),
            "SETUP_INPUTS": json.dumps(inputs | more),
        }
        # What tests beside this one have mounted is not of this machine.
        words = ["sh", "-c", f'umount -alt fuse.cvfs; "$0" "$1" || exit; {script}', sys.executable, PROGRAM]
        own = ["unshare", "--mount", "--propagation", "slave", *words]
        return subprocess.run(own, capture_output=True, text=True, timeout=90, env=environment)

    return run


@pytest.mark.system
def test_a_machine_is_set_up(machine, tmp_path):
    place = tmp_path / "cvmfs" / FQRN
    done = machine(f'cat {place}/files/hello.txt; "$0" "$1" && cvfs umount {FQRN}')
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "Hello" in done.stdout
    # The second time it was mounted already.
    assert done.stdout.count(f"Probing {place}... OK") == done.stdout.count(f"setup-cvfs: mounted: {FQRN}") == 2
    assert (tmp_path / "path").read_text() == f"{tmp_path}/bin\n" * 2
    assert "CVMFS_TIMEOUT" not in (tmp_path / "etc" / "default.local").read_text()


@pytest.mark.system
def test_what_cannot_be_mounted_fails_the_job(machine, tmp_path):
    done = machine("echo not reached", cvmfs_server_url=f"file://{tmp_path}/nothing/@fqrn@")
    assert done.returncode == 1
    assert "not reached" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith(
        f"setup-cvfs: failed: {tmp_path}/bin/cvfs --etc {tmp_path}/etc mount {FQRN}: ended"
    )
    assert "cvfs: " in done.stderr


@pytest.mark.system
def test_it_only_configures_if_it_is_told_so(machine, tmp_path):
    done = machine("test ! -e cvmfs", setup_mount="no")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert f"run what needs repositories with: {tmp_path}/bin/cvfs exec -r REPOSITORY -- COMMAND" in done.stdout
    assert f"CVMFS_REPOSITORIES='{FQRN}'" in (tmp_path / "etc" / "default.local").read_text()
