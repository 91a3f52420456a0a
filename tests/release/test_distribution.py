"""What is built of a commit: the same bytes whoever builds it where and when, whole, and installed as it should be."""

import configparser
import os
import stat
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import distribution
import pytest

from cvfs import __version__

PROJECT = Path(__file__).parents[2]
DATA = f"cvfs-{__version__}.data/data/share"


def git(*words, directory=PROJECT):
    command = ["git", "-c", "safe.directory=*", "-C", str(directory), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.fixture(scope="module")
def commit():
    """The present one; somebody may commit while this runs."""
    return git("rev-parse", "HEAD").strip() if (PROJECT / ".git").exists() else ""


@pytest.fixture(scope="module")
def built(tmp_path_factory, commit):
    """Wheel and source distribution."""
    return distribution.build(PROJECT, tmp_path_factory.mktemp("dist"), commit)


@pytest.fixture(scope="module")
def wheel(built):
    with zipfile.ZipFile(built[0]) as archive:
        yield archive


@pytest.fixture(scope="module")
def source(built):
    with tarfile.open(built[1]) as archive:
        yield {name.partition("/")[2]: archive.getmember(name) for name in archive.getnames()}


@pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="no checkout: nothing to be cloned")
def test_the_same_bytes_elsewhere(built, commit, tmp_path, monkeypatch):
    """In another directory, time zone, language, umask; of another checkout, with other things lying around."""
    clone = tmp_path / "elsewhere"
    before = os.umask(0o077)
    try:
        git("clone", "--quiet", str(PROJECT), str(clone))
        (clone / "cvfs/leftover.py").write_text("")
        (clone / "README.md").write_text("edited")
        for name, value in (("TZ", "Asia/Tokyo"), ("LC_ALL", "C"), ("HOME", "/nowhere"), ("SOURCE_DATE_EPOCH", "1")):
            monkeypatch.setenv(name, value)
        again = distribution.build(clone, tmp_path / "dist", commit)
    finally:
        os.umask(before)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in built]


def test_the_source_is_whole(source, commit):
    """Tests, documents, site configuration: all that git knows, and what is made for those who install it."""
    if commit:
        tracked = set(git("ls-tree", "-r", "--name-only", commit).splitlines())
        assert tracked - set(source) == set()
        assert {name.split("/")[0] for name in set(source) - tracked} == {"generated", "PKG-INFO"}
    assert {"generated/man/man1/cvfs.1", "generated/man/man8/mount.cvfs.8", "PKG-INFO", "Makefile"} <= set(source)


def test_nobody_is_in_the_source(source):
    for member in source.values():
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert member.mode in (0o644, 0o755)
    assert len({member.mtime for member in source.values()}) == 1


def test_the_wheel_has_every_module_and_no_other(wheel, source):
    packages = {"cvfs": "cvfs", "cvfs_server": "server/cvfs_server", "cvfs_tools": "tools/cvfs_tools"}
    found = {name for name in wheel.namelist() if name.split("/")[0] in packages}
    places = {name: f"{packages[name.split('/')[0]]}/{name.partition('/')[2]}" for name in found}
    tops = tuple(f"{place}/" for place in packages.values())
    assert set(places.values()) == {name for name in source if name.startswith(tops)}
    assert {f"{name}/py.typed" for name in packages} <= found


@pytest.mark.parametrize(
    "name",
    [
        "man/man1/cvfs.1",
        "man/man1/cvfs-mount.1",
        "man/man1/cvfs-server-publish.1",
        "man/man8/mount.cvfs.8",
        "bash-completion/completions/cvfs",
        "bash-completion/completions/cvfs-server",
        "zsh/site-functions/_cvfs",
        "fish/vendor_completions.d/cvfs.fish",
        "cvfs/deploy/squid.conf",
        "cvfs/deploy/nginx.conf",
    ],
)
def test_files_for_other_programs_are_where_they_look(wheel, name):
    entry = wheel.getinfo(f"{DATA}/{name}")
    assert entry.file_size > 100
    assert stat.S_IMODE(entry.external_attr >> 16) == 0o644


def test_the_programs(wheel):
    entries = configparser.ConfigParser()
    entries.optionxform = str
    entries.read_string(wheel.read(f"cvfs-{__version__}.dist-info/entry_points.txt").decode())
    assert set(entries["console_scripts"]) == {"cvfs", "cvfs-server", "mount.cvfs"}


def test_installed_in_an_environment_of_its_own(built, tmp_path):
    """All programs work; what they need comes from this environment, so that nothing is fetched."""
    place = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True, timeout=120)
    python = place / "bin/python"
    install = (
        "-m",
        "pip",
        "--quiet",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        "--no-compile",
        built[0],
    )
    subprocess.run([sys.executable, *install], check=True, timeout=120, stderr=subprocess.PIPE)
    (modules,) = place.glob("lib/python*/site-packages")
    # After the new installation, and without the hooks of a checkout that is installed here.
    (modules / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n" + sysconfig.get_path("platlib") + "\n")
    for program, words in (("cvfs", "--version"), ("cvfs-server", "--version"), ("mount.cvfs", "--help")):
        command = [place / "bin" / program, words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={}, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), program
    where = "import cvfs, cvfs_server, cvfs_tools; print(*(m.__path__[0] for m in (cvfs, cvfs_server, cvfs_tools)))"
    told = subprocess.run([python, "-c", where], capture_output=True, text=True, cwd=tmp_path, env={}, timeout=60)
    assert told.stdout.split() == [str(modules / name) for name in ("cvfs", "cvfs_server", "cvfs_tools")]
    assert (place / "share/man/man1/cvfs.1").is_file()
