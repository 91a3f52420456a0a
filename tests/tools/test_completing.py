"""What a shell offers on the way through a command line, and what it asks for it."""

import os
import shlex
import subprocess
import sys

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner
from processes import ENVIRONMENT

import cvfs_server.settings
from cvfs_server.tags.tags import list_tags
from cvfs_tools import completing, cvfs_command, server_command
from cvfs_tools.mounts import Running

MOUNTS = [Running("sw.example.org", "/cvmfs/sw.example.org"), Running("atlas.cern.ch", "/mnt/atlas")]


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Two mounts, and a configuration that names two repositories."""
    for name in [name for name in os.environ if name.startswith(("CVMFS_", "CVFS_"))]:
        monkeypatch.delenv(name)
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "default.local").write_text(
        "CVMFS_REPOSITORIES=cms.cern.ch,atlas.cern.ch\nCVMFS_CONFIG_REPOSITORY=c.cern.ch\n"
    )
    monkeypatch.setenv("CVFS_ETC", str(etc))
    monkeypatch.setattr("cvfs_tools.mounts.running_mounts", lambda: MOUNTS)
    return etc


def offered(line: str, program="cvfs") -> list[str]:
    """What is offered for the last word of a line, which may be empty; paths as `file` or `dir`."""
    command = {"cvfs": cvfs_command.main, "cvfs-server": server_command.main}[program]
    words = line.split(" ")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMP_WORDS", f"{program} {line}")
        patch.setenv("COMP_CWORD", str(len(words)))
        complete = BashComplete(command, {}, program, "_X")
        found = complete.get_completions(*complete.get_completion_args())
    return [item.value if item.type == "plain" else item.type for item in found]


ALL = ["atlas.cern.ch", "cms.cern.ch", "sw.example.org"]
MOUNTED = ["/cvmfs/sw.example.org", "/mnt/atlas", "atlas.cern.ch", "sw.example.org"]
LINES = [
    ("mo", ["mount"]),
    ("mount ", ALL),
    ("mount c", ["cms.cern.ch"]),
    ("ls at", ["atlas.cern.ch"]),
    ("ls -l at", ["atlas.cern.ch"]),
    ("mount -k ", ["file"]),
    ("mount -k /et", ["file"]),
    ("mount --public-key=", ["file"]),
    ("mount -c ", ["dir"]),
    ("--etc ", ["dir"]),
    ("mount cms.cern.ch ", ["dir"]),
    ("mount -o ", []),
    ("mount -q ", []),
    ("mount --pub", ["--public-key"]),
    ("mount -- c", ["cms.cern.ch"]),
    ("umount ", MOUNTED),
    ("umount /m", ["/mnt/atlas"]),
    ("umount sw.example.org /", ["/cvmfs/sw.example.org", "/mnt/atlas"]),
    ("umount /tm", ["dir"]),
    ("stat ", MOUNTED),
    ("talk -i a", ["atlas.cern.ch"]),
    ("trust ", ["reset", "show"]),
    ("trust show c", ["cms.cern.ch"]),
    ("showconfig cms.cern.ch a", ["atlas.cern.ch"]),
    ("completion ", ["bash", "zsh", "fish"]),
    ("completion z", ["zsh"]),
    ("nothing-like-it ", None),
]


@pytest.mark.parametrize(("line", "words"), LINES)
def test_offered(line, words):
    if words is None:
        words = sorted(cvfs_command.VERBS)
    assert offered(line) == words


def test_verbs():
    assert offered("") == sorted(cvfs_command.VERBS)
    assert offered("", "cvfs-server") == sorted(server_command.VERBS)
    assert "--etc" in offered("--")


def test_names_of_verbs_cost_no_import():
    """Each key is a process that somebody waits for."""
    script = """
import sys
from cvfs_tools.cvfs_command import main
try:
    main(prog_name="cvfs")
except SystemExit:
    print(sorted(name for name in sys.modules if name.startswith("cvfs.") or name in ("urllib3", "sqlite3")))
"""
    environment = ENVIRONMENT | {"_CVFS_COMPLETE": "bash_complete", "COMP_WORDS": "cvfs mo", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["plain,mount", "['cvfs.errors']"], done


def test_the_tree_may_be_named_on_the_line(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "default.local").write_text("CVMFS_REPOSITORIES=lhcb.cern.ch\n")
    assert offered(f"mount --etc {other} l") == ["lhcb.cern.ch"]
    assert offered(f"--etc {other} mount l") == ["lhcb.cern.ch"]


@pytest.mark.parametrize("text", ["CVMFS_REPOSITORIES=no*name\n", "if\n", "\xff"])
def test_a_broken_configuration_is_silent(machine, text):
    """The command says what is wrong, not the key."""
    (machine / "default.local").write_text(text, encoding="latin-1")
    assert "lhcb.cern.ch" not in offered("mount l")


def test_a_configuration_that_is_not_there(machine, monkeypatch):
    monkeypatch.setenv("CVFS_ETC", str(machine / "gone"))
    assert offered("mount a") == []


# --- the publisher ----------------------------------------------------------------------------------------------------


@pytest.fixture
def own(new_repository, monkeypatch):
    repository = new_repository("own.example.org")
    repository.publish(tag="v1")
    repository.publish(tag="v2")
    monkeypatch.setenv("CVFS_ROOT", repository.site.root)
    return repository


def test_of_the_publisher(own):
    """Its repositories, not those that are mounted; and the tags of the one that is meant."""

    def words(line):
        return offered(line, "cvfs-server")

    assert words("publish ") == ["own.example.org"]
    assert words("mount o") == ["own.example.org"]
    assert words("publish --from ") == ["dir"]
    assert words("ingest -t ") == ["file"]
    for line in ("rollback -t v", "rollback own.example.org -t v", "diff -s v", "diff -d v", "tag -r v", "tag -i v"):
        assert words(line) == ["v1", "v2"], line


def test_of_several_it_is_the_one_that_is_named(own, new_repository, monkeypatch):
    other = new_repository("other.example.org", "other")
    other.publish(tag="w1")
    sites = {own.fqrn: own.site, other.fqrn: other.site}
    monkeypatch.setattr("cvfs_server.settings.configured_repositories", lambda _: sorted(sites))
    load = cvfs_server.settings.load_settings
    monkeypatch.setattr("cvfs_server.settings.load_settings", lambda _, fqrn: load(sites[fqrn], fqrn))
    monkeypatch.setattr("cvfs_server.tags.tags.list_tags", lambda _, fqrn, tags=list_tags: tags(sites[fqrn], fqrn))
    assert offered("rollback other.example.org -t w", "cvfs-server") == ["w1"]
    assert offered("rollback own.example.org -t v", "cvfs-server") == ["v1", "v2"]
    assert offered("rollback -t ", "cvfs-server") == []


def test_of_another_site(own, monkeypatch):
    monkeypatch.delenv("CVFS_ROOT")
    monkeypatch.setattr(completing, "_mounts", list)
    assert offered(f"check --root {own.site.root} ", "cvfs-server") == ["own.example.org"]


def test_in_a_bucket_nobody_is_asked(own, monkeypatch):
    settings = type("Settings", (), {"s3": object()})
    monkeypatch.setattr("cvfs_server.settings.load_settings", lambda *_: settings)
    assert offered("rollback -t ", "cvfs-server") == []


# --- scripts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", completing.SHELLS)
@pytest.mark.parametrize("program", ["cvfs", "cvfs-server"])
def test_the_verb_prints_what_is_installed(program, shell):
    command = {"cvfs": cvfs_command.main, "cvfs-server": server_command.main}[program]
    result = CliRunner().invoke(command, ["completion", shell], prog_name=program)
    assert result.exit_code == 0
    assert result.output == completing.script(command, program, shell)
    assert f"{shell}_complete" in result.output


def test_another_shell_is_refused():
    result = CliRunner().invoke(cvfs_command.main, ["completion", "csh"], prog_name="cvfs")
    assert (result.exit_code, result.stdout) == (2, "")
    with pytest.raises(KeyError):
        completing.script(click.Command("x"), "x", "csh")


def test_in_bash(tmp_path):
    """The real shell, as its user presses the key."""
    program = "import sys; from cvfs_tools.cvfs_command import main; main(prog_name='cvfs')"
    command = tmp_path / "cvfs"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{program}" "$@"\n')
    command.chmod(0o755)
    script = f"""
source {shlex.quote(str(tmp_path / "completion"))}
COMP_WORDS=(cvfs trust re) COMP_CWORD=2
complete -p cvfs | grep -o -- '-F [^ ]*'
_cvfs_completion cvfs
echo "${{COMPREPLY[@]}}"
"""
    (tmp_path / "completion").write_text(completing.script(cvfs_command.main, "cvfs", "bash"))
    environment = ENVIRONMENT | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("-F _cvfs_completion\nreset\n", "")
