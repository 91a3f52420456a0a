"""The single file as an ordinary user of a machine with nothing but Python has it: no environment, a home that is read-only."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import single_file
import unpacking
from processes import has_ended
from rights import NOBODY

from cvfs.kernel.mount_table import find_mount

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

PROJECT = Path(__file__).parents[2]
PACKAGES = ("cvfs", "server/cvfs_server", "tools/cvfs_tools")
FQRN = "own.example.org"


def requirements(name: str, found: dict) -> dict:
    """A distribution and what it needs, as far as it is installed."""
    if name not in found:
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            return found
        for line in found[name].requires or ():
            if "extra ==" not in line:
                requirements(re.match(r"[\w.-]+", line)[0].lower(), found)
    return found


def installed_modules() -> dict[str, bytes]:
    """What pip would put into the file, without asking anybody: what this interpreter has."""
    files = {}
    for place in PACKAGES:
        top = PROJECT / place
        files |= {
            f"{top.name}/{p.relative_to(top)}": p.read_bytes() for p in top.rglob("*") if p.suffix in (".py", ".typed")
        }
    found = requirements("cvfs", {})
    del found["cvfs"]
    for name, needed in found.items():
        paths = {str(path): Path(path.locate()) for path in needed.files or () if path.suffix != ".pyc"}
        assert paths, name
        files |= {
            name: path.read_bytes() for name, path in paths.items() if single_file._is_needed(name) and path.exists()
        }
    return {name: data for name, data in files.items() if not name.startswith("..")}


def bare_python() -> str:
    """The distribution's, which every user may read; ours may be below somebody's home."""
    command = ["/usr/bin/python3", "-c", "from importlib.machinery import *; print(EXTENSION_SUFFIXES[0])"]
    if not os.path.exists(command[0]):
        return sys.executable
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    return command[0] if told == EXTENSION_SUFFIXES[0] else sys.executable


class Machine:
    """An ordinary user's view: where the file is, a home that is not his, a directory that is."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.own = place / "own"
        self.home = place / "home"
        self.archive = place / "cvfs.pyz"
        self._python = bare_python()

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        """What comes of the single file with these words."""
        return self.run_plain(self._python, self.archive, *words)

    def run_plain(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Any command, with nothing in the environment but the home and where temporary files go."""
        user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all")
        return subprocess.run(
            [*user, *map(str, words)],
            env={"HOME": str(self.home), "TMPDIR": str(self.own)},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
        )

    def do(self, *words: object) -> str:
        """What it prints."""
        done = self.run(*words)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        os.chmod("/dev/fuse", 0o666)  # as distributions have it
    place = Path(tempfile.mkdtemp(prefix="machine-"))
    place.chmod(0o755)
    made = Machine(place)
    made.home.mkdir(mode=0o555)
    made.own.mkdir()
    os.chown(made.own, NOBODY, NOBODY)
    made.archive.write_bytes(
        b"#!/usr/bin/env python3\n" + single_file.archive({unpacking.target(): installed_modules()})
    )
    made.archive.chmod(0o644)
    yield made
    shutil.rmtree(place)


@pytest.fixture
def repository(new_repository, web, machine, tmp_path):
    """Where a repository is served, with which key, and a cache of the test's own."""
    own = new_repository(FQRN)
    (own.tree / "run").write_text("#!/bin/sh\necho from $0\n")
    (own.tree / "run").chmod(0o755)
    own.publish()
    key = machine.place / "key.pub"
    shutil.copyfile(own.public_key, key)
    key.chmod(0o644)
    return web(own.storage.parent).url + f"/{FQRN}", "-k", key, "-c", machine.own / tmp_path.name


def test_its_modules_are_unpacked_where_there_is_room(machine):
    assert machine.do("--version").startswith("cvfs, version ")
    (modules,) = (machine.own / f"cvfs-modules-{NOBODY}").glob("modules-*")
    assert (modules / "cvfs/__init__.py").stat().st_uid == NOBODY
    assert machine.do("cvfs-server", "--version").startswith("cvfs-server, version ")
    assert list(machine.home.iterdir()) == []


def test_it_mounts(machine, repository):
    place = machine.own / "mnt"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    machine.do("mount", repository[0], place, *repository[1:])
    try:
        told = machine.do("talk", "-p", repository[-1] / f"cvmfs_io.{FQRN}", "pid")
        assert machine.run_plain(place / "run").stdout == f"from {place}/run\n"
        assert len(Path(f"/proc/{int(told)}/task/{int(told)}/children").read_text().split()) == 1  # its watchdog
    finally:
        machine.do("umount", place)
    assert find_mount(str(place)) is None
    assert has_ended(int(told))


def test_it_runs_a_command_with_repositories(machine, repository):
    script = f"/cvmfs/{FQRN}/run; id -u; exit 7"
    done = machine.run("exec", "-r", repository[0], *repository[1:], "--", "sh", "-c", script)
    assert (done.stdout, done.returncode) == (f"from /cvmfs/{FQRN}/run\n{NOBODY}\n", 7), done.stderr


def test_it_publishes(machine):
    """With processes of its own, which find their modules."""
    tree = machine.own / "tree"
    tree.mkdir()
    for number in range(40):
        (tree / str(number)).write_bytes(bytes([number]) * 100_000)
    root = ("--root", machine.own / "site")
    machine.do("cvfs-server", "mkfs", *root, FQRN)
    assert "40 added" in machine.do("cvfs-server", "publish", "--from", tree, "-j", "2", *root, FQRN)
