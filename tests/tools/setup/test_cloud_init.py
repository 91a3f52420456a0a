"""What a site wants of its machines, as a document that cloud-init understands: read back as cloud-init reads it."""

import base64
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cvfs.client.configuration_sources import Sources
from cvfs_tools.cvfs_command import main
from cvfs_tools.setup.cloud_config import CloudConfig
from cvfs_tools.setup.cloud_init import Contextualisation, Installation, hook
from cvfs_tools.setup.plan import File
from cvfs_tools.setup.site_files import Site

SITE = Site(
    ("sw.example.org", "data.example.org"),
    "http://squid:3128|http://squid2:3128;DIRECT",
    "http://a.example.org/cvmfs/@fqrn@;http://b.example.org/cvmfs/@fqrn@",
    4000,
)
ONE = Site(("sw.example.org",))


def read(text):
    """As cloud-init does: a first line that says what it is, then YAML."""
    assert text.startswith("#cloud-config\n")
    return yaml.safe_load(text)


def written(document):
    """The files by their places, with mode and content."""
    found = {}
    for file in document.get("write_files", []):
        content = file["content"]
        data = base64.b64decode(content, validate=True) if file.get("encoding") == "b64" else content.encode()
        found[file["path"]] = (int(file["permissions"], 8), data)
    return found


def test_a_document_for_people_to_read():
    assert (
        Contextualisation(Site(("sw.example.org",), "http://squid:3128;DIRECT")).document()
        == """\
#cloud-config
# sw.example.org below /cvmfs, by `cvfs setup --cloud-init --parent`
write_files:
  - path: "/etc/cvmfs/default.local"
    permissions: "0644"
    content: |
      CVMFS_REPOSITORIES=sw.example.org
      CVMFS_HTTP_PROXY='http://squid:3128;DIRECT'
packages:
  - "python3-venv"
runcmd:
  - "set -e"
  - ["python3", "-m", "venv", "/opt/cvfs"]
  - ["/opt/cvfs/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "cvfs"]
  - ["ln", "-sf", "/opt/cvfs/bin/cvfs", "/opt/cvfs/bin/cvfs-server", "/usr/local/bin/"]
  - ["cvfs", "setup", "--parent"]
  - ["cvfs", "probe"]
"""
    )


def test_the_configuration_is_what_the_client_reads(tmp_path):
    document = Contextualisation(SITE, parameters={"CVMFS_TIMEOUT": "3", "CVFS_X": "it's $HOME"}).document()
    for place, (_mode, content) in written(read(document)).items():
        path = tmp_path / Path(place).relative_to("/etc/cvmfs")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    configuration = Sources(etc=str(tmp_path)).configuration("sw.example.org")
    expected = {
        "CVMFS_REPOSITORIES": "sw.example.org,data.example.org",
        "CVMFS_SERVER_URL": "http://a.example.org/cvmfs/@fqrn@;http://b.example.org/cvmfs/@fqrn@",
        "CVMFS_HTTP_PROXY": SITE.proxy,
        "CVMFS_QUOTA_LIMIT": "4000",
        "CVMFS_TIMEOUT": "3",
        "CVFS_X": "it's $HOME",
    }
    assert {name: configuration.text(name) for name in expected} == expected


@pytest.mark.parametrize("style", ["parent", "systemd", "fstab", "autofs"])
def test_each_way_to_mount(style):
    document = read(Contextualisation(ONE, style=style).document())
    assert ["cvfs", "setup", f"--{style}"] in document["runcmd"]
    assert ("autofs" in document["packages"]) == (style == "autofs")


@pytest.mark.parametrize(
    ("installation", "pip", "packages"),
    [
        (Installation(), ["cvfs"], ["python3-venv"]),
        (Installation("cvfs[zstd]==1.2", python="python3.12"), ["cvfs[zstd]==1.2"], None),
        (
            Installation(wheels="http://mirror.example.org/w/"),
            ["--no-index", "--find-links", "http://mirror.example.org/w/", "cvfs"],
            ["python3-venv"],
        ),
        (Installation(None), None, None),
    ],
)
def test_how_the_program_comes_to_the_machine(installation, pip, packages):
    document = read(Contextualisation(ONE, installation=installation).document())
    installing = [command for command in document["runcmd"] if "pip" in command]
    assert [command[command.index("install") + 3 :] for command in installing] == ([pip] if pip else [])
    assert document.get("packages") == packages
    if installation.requirement:
        assert document["runcmd"][1] == [installation.python, "-m", "venv", "/opt/cvfs"]


def test_hooks_run_before_everything_and_after_everything(tmp_path):
    (tmp_path / "disk.sh").write_text("#!/bin/sh\nmkfs /dev/vdb\n")
    (tmp_path / "job.py").write_bytes(b"#!/usr/bin/python3\nprint('\xc3\xa9')\n")
    wanted = Contextualisation(
        ONE, prologs=(hook(str(tmp_path / "disk.sh")),), epilogs=(hook(str(tmp_path / "job.py")),)
    )
    document = read(wanted.document())
    before, after = "/var/lib/cvfs/context/prolog-01-disk.sh", "/var/lib/cvfs/context/epilog-01-job.py"
    assert document["runcmd"][:2] == ["set -e", [before]]
    assert document["runcmd"][-2:] == [["cvfs", "probe"], [after]]
    files = written(document)
    assert files[before] == (0o700, (tmp_path / "disk.sh").read_bytes())
    assert files[after] == (0o700, (tmp_path / "job.py").read_bytes())


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(main, ["setup", "--cloud-init", *map(str, words)], prog_name="cvfs")


def test_what_the_command_line_says_arrives(tmp_path, keychains, run):
    pem = keychains("sw.example.org", "")["pub"]
    (tmp_path / "sw.example.org.pub").write_bytes(pem)
    (tmp_path / "conf").write_text("CVMFS_QUOTA_LIMIT=1\n")
    (tmp_path / "hook").write_text("#!/bin/sh\n")
    place = "/etc/cvmfs/config.d/sw.example.org.conf"
    said = run("sw.example.org", "--fstab", "-k", tmp_path / "sw.example.org.pub", "--file", f"{place}={tmp_path}/conf",
               "-o", "CVMFS_TIMEOUT=3", "--prolog", tmp_path / "hook", "--epilog", tmp_path / "hook", "--package", "tcsh",
               "--wheels", "http://mirror/w/", "--install", "cvfs==1", "--mount-dir", "/sw", "--as-cvmfs")  # fmt: skip
    assert (said.exit_code, said.stderr) == (0, "")
    document = read(said.stdout)
    found = written(document)
    assert found["/etc/cvmfs/keys/sw.example.org.pub"] == (0o644, pem)
    assert found[place] == (0o644, b"CVMFS_QUOTA_LIMIT=1\n")
    assert found["/etc/cvmfs/default.local"][1].splitlines()[-1] == b"CVMFS_TIMEOUT=3"
    assert document["packages"] == ["python3-venv", "tcsh"]
    assert document["runcmd"][3][-3:] == ["--find-links", "http://mirror/w/", "cvfs==1"]
    assert ["cvfs", "setup", "--fstab", "--mount-dir", "/sw", "--as-cvmfs"] in document["runcmd"]


def test_the_program_may_be_in_the_image(run):
    document = read(run("sw.example.org", "--installed").stdout)
    assert document["runcmd"] == ["set -e", ["cvfs", "setup", "--parent"], ["cvfs", "probe"]]
    assert "packages" not in document


def test_what_a_cloud_would_refuse_is_warned_of(tmp_path, run):
    (tmp_path / "large").write_text("#!/bin/sh\n" + "#" * 16384)
    said = run("sw.example.org", "--prolog", tmp_path / "large")
    assert said.exit_code == 0
    assert read(said.stdout)
    assert "some clouds take 16384" in said.stderr


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ((), "servers (-w URL), keys (-k FILE), a proxy (-p URL, --single)"),
        (("-w", "http://s/cvmfs/@fqrn@", "--single"), "keys (-k FILE)"),
        (("-o", "CVMFS_PUBLIC_KEY=/etc/k.pub", "-o", "CVMFS_CLIENT_PROFILE=single"), "servers (-w URL)"),
        (("-o", "CVMFS_SERVER_URL=http://s", "-o", "CVMFS_ROOT_HASH=a1", "-p", "DIRECT"), None),
        (("--package", "site-configuration"), None),
        (("--installed",), None),
    ],
)
def test_what_the_image_must_say_itself_is_told(words, missing, run):
    said = run("sw.example.org", *words)
    assert read(said.stdout)
    assert (f"does not name {missing}: the image's own /etc/cvmfs" in said.stderr) if missing else not said.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no repository is named"),
        (["nodot"], "'nodot' is not a repository name"),
        (["a.b", "-o", "HOME=x"], "'HOME=x': not of the form CVMFS_NAME=value"),
        (["a.b", "-o", "CVMFS_X"], "'CVMFS_X': not of the form"),
        (["a.b", "-o", "CVMFS_X=a\nb"], "not of the form"),
        (["a.b", "--prolog", "/nowhere"], "/nowhere: No such file"),
        (["a.b", "--prolog", "{private}"], "does not begin with #!"),
        (["a.b", "--prolog", "{odd}"], "a hook's file name has letters"),
        (["a.b", "-k", "{private}"], "not a public key"),
        (["a.b", "--file", "/etc/x"], "not of the form PLACE=FILE"),
        (["a.b", "--file", "etc/x={private}"], "not of the form PLACE=FILE"),
        (["a.b", "--file", "/etc/../x={private}"], "not of the form PLACE=FILE"),
        (["a.b", "--file", "/etc/x=/dev/null"], "/dev/null: not a file"),
        (["a.b", "--file", "/x={private}", "--file", "/x={private}"], "/x is given twice"),
        (["a.b", "--installed", "--wheels", "http://x"], "--installed: nothing is installed then"),
        (["a.b", "--dry-run"], "leave out --dry-run"),
        (["a.b", "--bin", "/x"], "leave out --bin"),
    ],
)
def test_what_makes_no_sense_is_refused(words, message, tmp_path, keychains, run):
    (tmp_path / "private.pub").write_bytes(keychains("sw.example.org", "")["masterkey"])
    (tmp_path / "odd one").write_text("#!/bin/sh\n")
    places = {"private": tmp_path / "private.pub", "odd": tmp_path / "odd one"}
    said = run(*(word.format(**places) for word in words))
    assert said.exit_code != 0
    assert (said.stdout, said.stderr.count("\n")) == ("", 1)
    assert message in said.stderr


def test_what_only_a_document_says_is_not_passed_over():
    said = CliRunner().invoke(main, ["setup", "--dry-run", "a.b", "--epilog", "x"], prog_name="cvfs")
    assert "--epilog says what comes into a document for cloud-init" in said.stderr


@given(
    st.lists(st.binary() | st.text(" \n\tab#:-'\"|é").map(str.encode), max_size=4),
    st.lists(st.text(min_size=1) | st.lists(st.text(), min_size=1).map(tuple), max_size=3),
)
def test_any_bytes_and_any_words_arrive(contents, commands):
    files = tuple(File(f"/f{number}", content, 0o600) for number, content in enumerate(contents))
    document = read(CloudConfig("a title", files, ("a", "b-c"), tuple(commands)).serialise())
    assert written(document) == {file.place: (0o600, file.content) for file in files}
    assert document["packages"] == ["a", "b-c"]
    assert document.get("runcmd", []) == [list(one) if isinstance(one, tuple) else one for one in commands]
