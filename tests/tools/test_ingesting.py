"""ingest and graft as commands: flags that scripts of the original use, owners, refusals, what is printed."""

import gzip
import io
import json
import os
import pwd
import tarfile

import pytest

from cvfs.client.repository import Repository

FQRN = "sw.example.org"


@pytest.fixture
def archive(tmp_path):
    """An archive with a file of somebody's."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("dir/file")
        info.size, info.uid, info.gid = 7, 4711, 4712
        tar.addfile(info, io.BytesIO(b"content"))
    (tmp_path / "a.tar").write_bytes(data.getvalue())
    return str(tmp_path / "a.tar")


@pytest.fixture
def made(run):
    assert run("mkfs", "-o", "root", FQRN).exit_code == 0


@pytest.fixture
def look(tmp_path):
    """The owner and group of a path, or None."""

    def owners(path):
        site = tmp_path / "site"
        with Repository.open(
            f"file://{site}/srv/cvmfs/{FQRN}", f"{site}/etc/cvmfs/keys/{FQRN}.pub", fqrn=FQRN
        ) as opened:
            entry = opened.lookup(path)
            return entry.uid, entry.gid

    return owners


@pytest.mark.parametrize(
    "words",
    [
        ("--tar_file", "{}", "--base_dir", "sw/x", FQRN),
        ("-t", "{}", "-b", "/sw/x/", FQRN),
        ("-b", "sw//x", FQRN, "-t", "{}"),
        ("-t", "{}", "-b", f"/cvmfs/{FQRN}/sw/x"),
        ("-t", "{}", "-b", "sw/x"),
        ("-t", "{}", "-b", "sw/x", "--catalog", f"{FQRN}/whatever"),
        ("-ct", "{}", "-b", "sw/x", FQRN),
    ],
)
def test_ways_to_say_the_same(run, made, archive, look, words):
    done = run("ingest", *(word.format(archive) for word in words))
    assert (done.exit_code, done.stdout.count("\n")) == (0, 1)
    assert done.stdout.startswith(f"{FQRN}: revision 2 published in ")
    assert look("/sw/x/dir/file") == (0, 0)


def test_from_standard_input(run, made, archive, look):
    with open(archive, "rb") as file:
        data = file.read()
    assert run("ingest", "-t", "-", "-b", "/", FQRN, say=gzip.compress(data)).exit_code == 0
    assert look("/dir/file") == (0, 0)


def test_lines_for_each_change(run, made, archive):
    done = run("ingest", "-t", archive, "-b", "sw", "-c", "-v", FQRN)
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert {"[x-catalog-add] /sw", "[add] /sw/dir/file", "[add] /sw/.cvmfscatalog", "[add] /sw"} <= set(lines)
    done = run("ingest", "-d", "sw/dir", "-v", FQRN)
    assert "[rem] /sw/dir/file" in done.stdout.splitlines()


def test_tags_and_a_report_for_programs(run, made, archive):
    done = run("ingest", "-t", archive, "-b", "sw", "-a", "v1", "-m", "text", "--json", "-j", "1", FQRN)
    report = json.loads(done.stdout)
    assert (report["revision"], report["added"], report["bytes_in"]) == (2, 3, 7)
    assert run("tag", "-i", "v1", FQRN).exit_code == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), (0, 0)),
        (("-k",), (4711, 4712)),
        (("-u", "daemon"), (pwd.getpwnam("daemon").pw_uid, pwd.getpwnam("daemon").pw_gid)),
        (("-u", "daemon", "-g", "root"), (pwd.getpwnam("daemon").pw_uid, 0)),
        (("-u", "12345", "-g", "54321"), (12345, 54321)),
        (("--user", "12345"), (12345, 12345)),
        (("-u", "0"), (0, 0)),
    ],
)
def test_owners(run, made, archive, look, words, expected):  # noqa: PLR0917
    assert run("ingest", "-t", archive, "-b", "sw", *words, FQRN).exit_code == 0
    assert look("/sw/dir/file") == expected


REFUSED = {
    "nothing to do": ((), "nothing to do"),
    "no base": (("-t", "{}"), "-b PATH is missing"),
    "no archive": (("-b", "sw"), "-t FILE is missing"),
    "no path to remove": (("-d", ""), "name the path"),
    "dots": (("-t", "{}", "-b", "a/../b"), "has no '..'"),
    "group alone": (("-t", "{}", "-b", "sw", "-g", "root"), "-u USER is missing"),
    "keep and change": (("-t", "{}", "-b", "sw", "-k", "-u", "root"), "either -k"),
    "unknown user": (("-t", "{}", "-b", "sw", "-u", "nobody-knows"), "no user nobody-knows"),
    "unknown group": (("-t", "{}", "-b", "sw", "-u", "root", "-g", "nobody-knows"), "no group nobody-knows"),
    "external and native": (("-t", "{}", "-b", "sw", "-X", "-N"), "contradict"),
    "two repositories": (("-t", "{}", "-b", "/cvmfs/other.example.org/sw"), "several repositories are named"),
    "no such archive": (("-t", "/nowhere.tar", "-b", "sw"), "cannot open the archive /nowhere.tar"),
    "root removed": (("-d", "/"), ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_one_line(run, made, archive, case):
    words, text = REFUSED[case]
    done = run("ingest", *(word.format(archive) for word in words), FQRN)
    if case == "root removed":
        assert (done.exit_code, "cannot be removed" in done.stderr) == (0, True)
        return
    assert (done.exit_code, done.stdout) == (2, "")
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_below_cvmfs_is_told(run, made, archive):
    done = run("ingest", "-t", archive, "-b", f"/cvmfs/{FQRN}/sw")
    assert f"/cvmfs/{FQRN}/sw is taken as /sw of {FQRN}" in done.stderr


# --- graft -------------------------------------------------------------------------------------------------------------


def test_a_graft_on_standard_output(run, tmp_path):
    (tmp_path / "file").write_bytes(b"hello\n")
    done = run("graft", "-i", str(tmp_path / "file"))
    assert done.stdout == "size=6\nchecksum=f572d396fae9206628714fb2ce00f72e94f2258f\ncompression=none\n"
    assert run("graft", "-i", "-", say=b"hello\n").stdout == done.stdout
    other = run("graft", "-i", str(tmp_path / "file"), "-Z", "zlib", "-a", "shake128").stdout
    assert other.splitlines()[1].endswith("-shake128")
    assert other.splitlines()[2] == "compression=zlib"


def test_a_tree_of_grafts(run, tmp_path):
    for name in ("a", "d/b"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x" * 2_500_000)
    (tmp_path / "out").mkdir()
    done = run("graft", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-c", "1", "-v")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.count("Grafting ") == 2
    assert (tmp_path / "out/d/b").read_bytes() == b""
    assert b"chunk_offsets=0,1048576,2097152\n" in (tmp_path / "out/d/.cvmfsgraft-b").read_bytes()
    assert run("graft", "-i", str(tmp_path / "in/a"), "-o", str(tmp_path / "out"), "-b").exit_code == 0
    assert b"chunk" not in (tmp_path / "out/.cvmfsgraft-a").read_bytes()


def test_a_graft_keeps_the_mode(run, tmp_path):
    (tmp_path / "tool").write_bytes(b"x")
    os.chmod(tmp_path / "tool", 0o755)
    assert run("graft", "-i", str(tmp_path / "tool"), "-o", str(tmp_path / "new/tool")).exit_code == 0
    assert os.stat(tmp_path / "new/tool").st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-i", "-", "-o", "/tmp/x"), "neither name nor mode"),
        (("-i", "/nowhere"), "No such file"),
        (("-i", "/usr", "-o", "/etc/passwd"), "/usr is a directory, but /etc/passwd is none"),
        (("-i", "/etc/passwd", "-Z", "lzma"), "unknown compression"),
        (("-i", "/etc/passwd", "-a", "md5"), "unknown hash algorithm"),
    ],
)
def test_refused_grafts(run, words, text):
    done = run("graft", *words)
    assert done.exit_code != 0
    assert text in done.stderr
