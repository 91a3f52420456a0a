"""The command `cvfs` without mounts: what it prints, how it fails."""

import hashlib
import json
import os
import stat
import subprocess
import sys

import pytest
from click.testing import CliRunner
from processes import ENVIRONMENT

from cvfs import __version__
from cvfs.client.repository import Repository
from cvfs_tools.cvfs_command import main
from cvfs_tools.running import one_line

FQRN = "tiny.example.org"


@pytest.fixture
def run(tiny, tmp_path, monkeypatch):
    """Runs a verb on the fixture with key and cache given; exit status, output and errors as bytes and text."""
    for name in list(os.environ):
        if name.startswith(("CVMFS_", "CVFS_")):
            monkeypatch.delenv(name)

    def cvfs(verb, *words, url=None, key=None, options=()):
        given = ["-k", str(key or tiny.public_key), "-c", str(tmp_path / "cache")]
        state = ["-o", f"CVFS_TRUST_STATE_DIR={tmp_path}/trust"]
        arguments = [verb, *given, *state, *options, url or f"file://{tiny.storage}", "--", *words]
        return CliRunner().invoke(main, [os.fsdecode(word) for word in arguments], prog_name="cvfs")

    return cvfs


def entries(published, tag="s5") -> dict[bytes, dict]:
    return {entry["path"].encode("utf-8", "surrogateescape"): entry for entry in published.manifests[tag]["entries"]}


def children(published, path: bytes, tag="s5") -> list[bytes]:
    return sorted(p[len(path) + 1 :] for p in entries(published, tag) if p.rpartition(b"/")[0] == path and p)


def assert_refused(result, status: int, *words: str) -> None:
    assert result.exit_code == status, (result.output, result.exception)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("cvfs: ")
    assert all(word in result.stderr for word in words), result.stderr


# --- ls ---------------------------------------------------------------------------------------------------------------


def test_ls(run, tiny):
    result = run("ls")
    assert (result.exit_code, result.stderr) == (0, "")
    visible = [name for name in children(tiny, b"") if not name.startswith(b".")]
    assert result.stdout_bytes.splitlines() == visible
    assert run("ls", "/").stdout == run("ls", "//.").stdout == result.stdout


def test_ls_of_everything(run, tiny):
    assert run("ls", options=["-a"]).stdout_bytes.splitlines() == children(tiny, b"")
    below = run("ls", "/chunked", options=["-R"]).stdout_bytes.splitlines()
    assert below == [b"/chunked/" + name for name in children(tiny, b"/chunked")]
    everything = run("ls", options=["-R", "-a", "--json"]).stdout.splitlines()
    assert {os.fsencode(json.loads(line)["name"]) for line in everything} == entries(tiny).keys() - {b""}


def test_ls_of_odd_names(run, tiny):
    """Bytes come out as they are; --json keeps every name on its line."""
    plain = run("ls", "/names", options=["-a"]).stdout_bytes
    assert plain == b"".join(name + b"\n" for name in children(tiny, b"/names"))
    lines = run("ls", "/names", options=["-a", "--json"]).stdout.splitlines()
    assert [os.fsencode(json.loads(line)["name"]) for line in lines] == children(tiny, b"/names")
    name = b"/names/latin1-\xe4\xf6"
    assert run("ls", name).stdout_bytes == name + b"\n"


def test_ls_of_single_entries(run):
    assert run("ls", "/chunked/random_1m", "symlinks/dot").stdout == "/chunked/random_1m\n/symlinks/dot\n"
    assert run("ls", "/", options=["-d"]).stdout == "/\n"
    assert run("ls", "chunked/", options=["-d"]).stdout == "/chunked\n"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/hlgroups/a1", ["-rw-r-----", "3", "1000", "1000", "8", "/hlgroups/a1"]),
        ("/symlinks/dotdot", ["lrwxrwxrwx", "1", "0", "0", "2", "/symlinks/dotdot", "->", ".."]),
        ("/modes/f04711", ["-rws--x--x", "1", "0", "0", "11", "/modes/f04711"]),
    ],
)
def test_ls_long(run, path, words):
    line = run("ls", path, options=["-l"]).stdout.split()
    assert [*line[:5], *line[7:]] == words


def test_ls_json(run, tiny):
    (line,) = run("ls", "/chunked/random_1m", options=["--json"]).stdout.splitlines()
    found = json.loads(line)
    expected = entries(tiny)[b"/chunked/random_1m"]
    assert found["mode"] == f"10{expected['mode']}"
    assert (found["size"], found["mtime"], found["uid"]) == (expected["size"], expected["mtime"], expected["uid"])
    assert found["chunked"] is True
    assert found["target"] is None


@pytest.mark.parametrize("tag", ["s1", "s3"])
def test_ls_of_a_tag(run, tiny, tag):
    assert run("ls", options=["-a", "-t", tag]).stdout_bytes.splitlines() == children(tiny, b"", tag)


# --- cat --------------------------------------------------------------------------------------------------------------


def test_cat(run, tiny):
    data = run("cat", "/chunked/random_1m").stdout_bytes
    assert hashlib.sha256(data).hexdigest() == entries(tiny)[b"/chunked/random_1m"]["sha256"]
    pair = run("cat", "files/hello.txt", "/chunked/random_16383").stdout_bytes
    assert pair == run("cat", "/files/hello.txt").stdout_bytes + run("cat", "/chunked/random_16383").stdout_bytes
    assert run("cat", "/files/empty").stdout_bytes == b""
    odd = run("cat", b"/names/latin1-\xe4\xf6")
    assert hashlib.sha256(odd.stdout_bytes).hexdigest() == entries(tiny)[b"/names/latin1-\xe4\xf6"]["sha256"]


def test_cat_follows_links_inside_the_repository(run):
    through = run("cat", "/symlinks/relative_dir/hello.txt")
    assert through.exit_code == 0
    assert (
        through.stdout == run("cat", "/symlinks/../files/./hello.txt").stdout == run("cat", "/files/hello.txt").stdout
    )


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/none", ["/none", "no such file"]),
        ("/chunked", ["/chunked", "is a directory"]),
        ("/specialfiles/fifo", ["not a regular file"]),
        ("/symlinks/absolute", ["leads out of the repository, to /etc/hostname"]),
        ("/symlinks/self", ["too many levels of symbolic links"]),
        ("/symlinks/dangling", ["no such file"]),
        ("/files/hello.txt/x", ["/files/hello.txt: not a directory"]),
        (b"/none\n\x1b[2J", ["\\x0a\\x1b[2J"]),
    ],
)
def test_cat_of_what_is_no_file(run, path, words):
    assert_refused(run("cat", path), 2, *words)


def test_a_reader_that_goes_away_is_no_error(tiny, tmp_path):
    command = [sys.executable, "-c", "from cvfs_tools.cvfs_command import main; main(prog_name='cvfs')", "cat"]
    arguments = [f"file://{tiny.storage}", *["/chunked/random_1m"] * 20, "-k", str(tiny.public_key)]
    arguments += ["-c", str(tmp_path / "c"), "-o", f"CVFS_TRUST_STATE_DIR={tmp_path}/trust"]
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as cat:
        cat.stdout.read(1)
        cat.stdout.close()
        assert cat.stderr.read() == b""
        assert cat.wait(60) == 141


# --- cp ---------------------------------------------------------------------------------------------------------------


def test_cp_of_a_file(run, tiny, tmp_path):
    target = tmp_path / "copy"
    assert run("cp", "/chunked/random_500k", str(target)).exit_code == 0
    expected = entries(tiny)[b"/chunked/random_500k"]
    assert hashlib.sha256(target.read_bytes()).hexdigest() == expected["sha256"]
    assert (stat.S_IMODE(target.stat().st_mode), target.stat().st_mtime) == (0o644, expected["mtime"])
    (tmp_path / "dir").mkdir()
    assert run("cp", "/chunked/random_500k", str(tmp_path / "dir")).exit_code == 0
    assert (tmp_path / "dir" / "random_500k").read_bytes() == target.read_bytes()


@pytest.mark.parametrize("top", ["/names", "/modes", "/symlinks", "/versions", "/deep"])
def test_cp_of_a_tree(run, tiny, tmp_path, top):
    target = os.fsencode(tmp_path / "copy")
    assert run("cp", top, target, options=["-r"]).exit_code == 0
    expected = {path: e for path, e in entries(tiny).items() if (path + b"/").startswith(top.encode() + b"/")}
    found = {top.encode()}
    for where, directories, files in os.walk(target):
        found |= {top.encode() + os.path.join(where, name)[len(target) :] for name in directories + files}
    assert found == expected.keys()
    with Repository.open(f"file://{tiny.storage}", tiny.public_key) as repository:
        for path, entry in expected.items():
            place = target + path[len(top) :]
            status = os.lstat(place)
            assert status.st_mtime_ns == entry["mtime"] * 10**9 + entry["mtime_ns"], path
            if entry["type"] == "symlink":
                assert os.readlink(place) == repository.readlink(path)
                continue
            assert stat.S_IMODE(status.st_mode) == int(entry["mode"], 8) & 0o777, path
            if entry["type"] == "file":
                with open(place, "rb") as file:
                    assert hashlib.sha256(file.read()).hexdigest() == entry["sha256"], path


def test_cp_refuses(run, tmp_path):
    target = str(tmp_path / "copy")
    assert_refused(run("cp", "/chunked", target), 2, "/chunked: is a directory, use -r")
    assert_refused(run("cp", "/none", target), 2, "no such file")
    assert_refused(run("cp", "/specialfiles", target, options=["-r"]), 2, "a special file")
    assert_refused(run("cp", "/files/hello.txt", str(tmp_path / "none" / "x")), 1, "none/x: No such file or directory")
    os.symlink("there", tmp_path / "link")
    assert_refused(run("cp", "/symlinks/dot", str(tmp_path / "link")), 1, "File exists")
    assert_refused(run("cp", "/files/hello.txt", str(tmp_path / "link")), 2, "link: is a symbolic link")


def test_cp_into_what_is_no_regular_file_leaves_its_mode_and_times(run, tmp_path):
    """As root a copy to /dev/null would close it to everybody else."""
    os.mkfifo(tmp_path / "pipe", 0o622)
    os.chmod(tmp_path / "pipe", 0o622)
    before = (tmp_path / "pipe").stat()
    with open(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        result = run("cp", "/files/hello.txt", str(tmp_path / "pipe"))
        assert (result.exit_code, result.output) == (0, "")
        assert reader.read() == run("cat", "/files/hello.txt").stdout_bytes
    after = (tmp_path / "pipe").stat()
    assert stat.S_IMODE(after.st_mode) == 0o622
    assert after.st_mtime_ns >= before.st_mtime_ns


@pytest.mark.parametrize("kind", [0o100644, 0o040755])
def test_cp_writes_through_no_link_that_a_catalog_planted(run, tiny, tmp_path, monkeypatch, kind):
    """Two rows of one name: a link that leads out, then a file or directory to be written there."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    (tmp_path / "copy").mkdir()
    listing = Repository.listing

    def hostile(self, path):
        if path == b"/deep":
            (real,) = [entry for entry in listing(self, b"/files") if entry.name == b"hello.txt"]
            target = outside if kind == 0o040755 else outside / "file"
            link = real._replace(name=b"trap", mode=0o120777, symlink=os.fsencode(target))
            return [link, real._replace(name=b"trap", mode=kind)]
        return listing(self, b"/files" if path.endswith(b"/trap") else path)

    monkeypatch.setattr(Repository, "listing", hostile)
    result = run("cp", "/deep", str(tmp_path / "copy"), options=["-r"])
    assert result.exit_code != 0
    assert "trap" in result.stderr
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_bytes() == b"precious"


# --- info -------------------------------------------------------------------------------------------------------------


def test_info(run, tiny):
    facts = json.loads(run("info", options=["--json"]).stdout)
    assert facts["Repository name"] == FQRN
    assert (facts["Revision"], facts["TTL"], facts["Nested catalogs"]) == (6, 240, 5)
    assert facts["Root hash"] == "7c1e472dbf8287e6fe620ab0a30f08a505896d76"
    assert facts["Whitelist expires"] == "20461117074109"
    kinds = [entry["type"] for entry in entries(tiny).values()]
    assert (facts["Regular files"], facts["Symbolic links"]) == (kinds.count("file"), kinds.count("symlink"))
    text = dict(line.split(":", 1) for line in run("info").stdout.splitlines())
    assert {name: value.strip() for name, value in text.items()} == {name: str(value) for name, value in facts.items()}


def test_info_of_a_pinned_root(run):
    options = ["--root-hash", "2ef3721db24981ae75d06fefbfa9e43a2f1f66b3", "--json"]
    facts = json.loads(run("info", options=options).stdout)
    assert facts["Revision"] == 5
    assert facts["Whitelist expires"].startswith("not checked")


# --- options ----------------------------------------------------------------------------------------------------------


def revision(*arguments: str) -> int:
    result = CliRunner().invoke(main, ["info", "--json", *arguments], prog_name="cvfs")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["Revision"]


def test_what_is_said_nearer_counts_more(configuration, tmp_path, monkeypatch):
    file = f"config={configuration}"
    assert revision(FQRN, "-o", file) == 2
    second = tmp_path / "second.conf"
    second.write_text("CVMFS_REPOSITORY_TAG=s2\n")
    assert revision(FQRN, "-o", f"{file}:{second}") == 3
    monkeypatch.setenv("CVMFS_REPOSITORY_TAG", "s3")
    assert revision(FQRN, "-o", file) == 4
    assert revision(FQRN, "-o", f"{file},CVMFS_REPOSITORY_TAG=s4") == 5
    assert revision(FQRN, "-o", file, "-o", "CVMFS_REPOSITORY_TAG=s4", "-t", "s5") == 6
    assert os.listdir(tmp_path / "base") == ["shared", "trust"] or sorted(os.listdir(tmp_path / "base"))


@pytest.mark.parametrize(
    "words", ["ro,_netdev,noauto", "nosuid,nodev,x-systemd.automount", "defaults,nofail", "noatime,async"]
)
def test_the_words_of_fstab_are_taken(configuration, words):
    assert revision(FQRN, "-o", f"config={configuration},{words}") == 2


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["-o", "loop"], 2, ["-o loop: unknown option"]),
        (["-o", "LAB_X=1"], 2, ["-o LAB_X=1: unknown option"]),
        (["-o", "CVMFS_TIMEOUT=soon"], 2, ["CVMFS_TIMEOUT=soon: a number is needed"]),
        (["-o", "CVMFS_AUTO_UPDATE=perhaps"], 2, ["CVMFS_AUTO_UPDATE=perhaps"]),
        (["-o", "config=/none.conf"], 2, ["/none.conf: no such configuration file"]),
        (["-q", "-5"], 2, ["CVMFS_QUOTA_LIMIT=-5"]),
        (["--root-hash", "xyz"], 2, ["CVMFS_ROOT_HASH=xyz"]),
        (["-t", "v9"], 2, ["no tag 'v9'"]),
        (["-o", "CVMFS_REPOSITORY_DATE=now"], 2, ["CVMFS_REPOSITORY_DATE=now"]),
    ],
)
def test_options_that_make_no_sense(run, options, status, words):
    assert_refused(run("ls", options=options), status, *words)


def test_a_configuration_that_is_none(run, tmp_path):
    (tmp_path / "bad.conf").write_text("CVMFS_TIMEOUT=5\nif true\n")
    assert_refused(run("ls", options=["-o", f"config={tmp_path}/bad.conf"]), 2, "bad.conf:3: the file ends too early")


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("ftp://x/tiny.example.org", 2, ["ftp://x/tiny.example.org: not a server URL"]),
        ("http://127.0.0.1:9/tiny.example.org", 34, ["http://127.0.0.1:9/tiny.example.org/.cvmfspublished"]),
        ("file:///none/tiny.example.org", 34, [".cvmfspublished"]),
        ("tiny.example.org", 2, ["no server known, set CVMFS_SERVER_URL"]),
        ("file:///srv/no name", 2, ["'no name' is not a repository name"]),
    ],
)
def test_repositories_that_are_none(run, url, status, words):
    assert_refused(run("ls", url=url), status, *words)


def test_a_wrong_key(run, fixture_repository):
    other = fixture_repository("tiny-shake128.example.org").public_key
    assert_refused(run("info", key=other), 33, "whitelist signature")


def test_help_and_version():
    runner = CliRunner()
    assert runner.invoke(main, ["--version"], prog_name="cvfs").stdout.strip().endswith(__version__)
    helped = runner.invoke(main, ["-h"], prog_name="cvfs")
    told = (helped.output, helped.exception)
    assert all(verb in helped.stdout for verb in ("mount", "umount", "stat", "ls", "cat", "cp", "info")), told
    for verb in ("mount", "umount", "stat", "ls", "cat", "cp", "info"):
        assert runner.invoke(main, [verb, "-h"], prog_name="cvfs").exit_code == 0
    assert runner.invoke(main, ["frobnicate"], prog_name="cvfs").exit_code == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain é 日", "plain é 日"), ("a\nb\tc", "a\\x0ab\\x09c"), ("\x1b[31m", "\\x1b[31m"), ("\udcff", "\\xdcff")],
)
def test_messages_are_one_line(text, shown):
    assert one_line(text) == shown
