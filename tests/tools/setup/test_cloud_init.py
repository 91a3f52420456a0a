"""What a site wants of its machines, as a document that cloud-init understands: read back as cloud-init reads it."""

import base64
import shlex

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cvfs.client.settings.files import read_files
from cvfs.errors import UsageError
from cvfs_tools.setup.cloud_config import CloudConfig
from cvfs_tools.setup.cloud_init import (
    STYLES,
    Contextualisation,
    Installation,
    hook,
    key_file,
    other_file,
)
from cvfs_tools.setup.plan import File

WANTED = Contextualisation(
    ("sw.example.org", "data.example.org"),
    {
        "CVMFS_SERVER_URL": "http://a.example.org/cvmfs/@fqrn@;http://b.example.org/cvmfs/@fqrn@",
        "CVMFS_HTTP_PROXY": "http://squid:3128|http://squid2:3128;DIRECT",
        "CVMFS_QUOTA_LIMIT": "4000",
    },
)


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
        Contextualisation(("sw.example.org",), {"CVMFS_HTTP_PROXY": "http://squid:3128;DIRECT"}).document()
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
  - ["ln", "-sf", "/opt/cvfs/bin/mount.cvfs", "/sbin/mount.cvfs"]
  - ["cvfs", "setup", "--parent"]
  - ["cvfs", "probe"]
"""
    )


def test_the_configuration_is_what_the_client_reads(tmp_path):
    mode, text = written(read(WANTED.document()))["/etc/cvmfs/default.local"]
    (tmp_path / "default.local").write_bytes(text)
    values = read_files((str(tmp_path / "default.local"),), {}, {})
    expected = {"CVMFS_REPOSITORIES": "sw.example.org,data.example.org", **WANTED.parameters}
    assert mode == 0o644
    assert {name: value.text for name, value in values.items()} == expected
    assert shlex.split(text.decode()) == [f"{name}={value}" for name, value in expected.items()]


@pytest.mark.parametrize("style", STYLES)
def test_each_way_to_mount(style):
    document = read(Contextualisation(("sw.example.org",), {}, style=style).document())
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
    document = read(Contextualisation(("sw.example.org",), {}, installation=installation).document())
    installing = [command for command in document["runcmd"] if "pip" in command]
    assert [command[command.index("install") + 3 :] for command in installing] == ([pip] if pip else [])
    assert document.get("packages") == packages
    if installation.requirement:
        assert document["runcmd"][1] == [installation.python, "-m", "venv", "/opt/cvfs"]


def test_hooks_run_before_everything_and_after_everything(tmp_path):
    (tmp_path / "disk.sh").write_text("#!/bin/sh\nmkfs /dev/vdb\n")
    (tmp_path / "job.py").write_bytes(b"#!/usr/bin/python3\nprint('\xc3\xa9')\n")
    wanted = Contextualisation(
        ("sw.example.org",), {}, prologs=(hook(str(tmp_path / "disk.sh")),), epilogs=(hook(str(tmp_path / "job.py")),)
    )
    document = read(wanted.document())
    before, after = "/var/lib/cvfs/context/prolog-01-disk.sh", "/var/lib/cvfs/context/epilog-01-job.py"
    assert document["runcmd"][:2] == ["set -e", [before]]
    assert document["runcmd"][-2:] == [["cvfs", "probe"], [after]]
    files = written(document)
    assert files[before] == (0o700, (tmp_path / "disk.sh").read_bytes())
    assert files[after] == (0o700, (tmp_path / "job.py").read_bytes())


def test_keys_and_other_files_go_to_their_places(tmp_path, keychains):
    pem = keychains("sw.example.org", "")["pub"]
    (tmp_path / "sw.example.org.pub").write_bytes(pem)
    (tmp_path / "conf").write_text("CVMFS_QUOTA_LIMIT=1\n")
    place = "/etc/cvmfs/config.d/sw.example.org.conf"
    files = (key_file(str(tmp_path / "sw.example.org.pub")), other_file(f"{place}={tmp_path}/conf"))
    found = written(read(Contextualisation(("sw.example.org",), {}, files).document()))
    assert found["/etc/cvmfs/keys/sw.example.org.pub"] == (0o644, pem)
    assert found[place] == (0o644, b"CVMFS_QUOTA_LIMIT=1\n")


def test_a_private_key_stays_where_it_is(tmp_path, keychains):
    (tmp_path / "sw.example.org.pub").write_bytes(keychains("sw.example.org", "")["masterkey"])
    with pytest.raises(UsageError, match="machines get the public key"):
        key_file(str(tmp_path / "sw.example.org.pub"))


def test_a_key_that_no_client_would_find(tmp_path, keychains):
    (tmp_path / "key.pem").write_bytes(keychains("sw.example.org", "")["pub"])
    with pytest.raises(UsageError, match=r"names end in \.pub"):
        key_file(str(tmp_path / "key.pem"))


@pytest.mark.parametrize(
    "placed", ["/etc/x", "etc/x=/dev/null", "/etc/../x=f", "/etc/x/=f", "/etc/x=/nowhere", "/etc/x=/dev/null"]
)
def test_files_that_cannot_be_placed(placed):
    with pytest.raises(UsageError):
        other_file(placed)


def test_a_hook_says_what_runs_it(tmp_path):
    (tmp_path / "hook").write_text("echo\n")
    with pytest.raises(UsageError, match="#!/bin/sh"):
        hook(str(tmp_path / "hook"))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Contextualisation((), {}), "no repository is named"),
        (Contextualisation(("nodot",), {}), "'nodot' is not a repository name"),
        (Contextualisation(("a.b",), {"HOME": "x"}), "HOME is no parameter"),
        (Contextualisation(("a.b",), {"CVMFS_X\n": "x"}), "is no parameter"),
        (Contextualisation(("a.b",), {"CVMFS_X": "it's"}), "CVMFS_X: the value"),
        (Contextualisation(("a.b",), {"CVMFS_X": "a\nb"}), "CVMFS_X: the value"),
        (Contextualisation(("a.b",), {}, prologs=(("a b", b"#!"),)), "a hook's file name"),
        (Contextualisation(("a.b",), {}, (File("/x", b""), File("/x", b"y"))), "/x is given twice"),
    ],
)
def test_what_makes_no_sense_is_refused(wanted, message):
    with pytest.raises(UsageError, match=message):
        wanted.document()


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
