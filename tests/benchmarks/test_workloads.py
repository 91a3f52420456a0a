"""Each workload that reads, run for real on a tiny tree of this disk; and what it says of a tree that lacks something."""

import csv
import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.inside.shared_libraries import libraries
from benchmarks.trees import c_project, commands, recorded, software
from benchmarks.trees.base import Tree, made
from benchmarks.trees.named import TREES
from benchmarks.workloads import files, metadata, programs, replay
from benchmarks.workloads.base import Scene
from benchmarks.workloads.named import WORKLOADS

PATIENCE = 60
MODULE = software.PACKAGES / "thing"


def make_small(tree):
    """Hidden names, links, empty files and directories, a name that is no UTF-8."""
    (tree / MODULE / "deep" / "deeper").mkdir(parents=True)
    (tree / MODULE / "__init__.py").write_text("from multiprocessing.managers import SharedMemoryManager\n")
    (tree / MODULE / "deep" / "numbers.txt").write_text("1 2 3\n" * 5000)
    (tree / MODULE / "empty").touch()
    (tree / ".hidden").write_text("x")
    (tree / "link").symlink_to("lib")
    with open(os.fsencode(tree) + b"/name-\xff", "wb") as file:
        file.write(b"\x00" * 70_000)


def make_file(tree):
    (tree / "file").write_bytes(bytes(range(256)) * 4096)


SMALL = Tree("small", "", make_small)
FILE = Tree("file", "", make_file)
ON_SMALL = (
    metadata.FIND,
    metadata.FIND_SIZE,
    metadata.LS,
    metadata.STAT,
    metadata.MISSING,
    files.READ_ALL,
    files.TAR,
    files.GREP,
)
ON_FILE = (files.LARGE_SEQUENTIAL, files.LARGE_RANDOM)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    return tmp_path_factory.mktemp("trees")


@pytest.fixture
def run(trees, tmp_path):
    """Runs a workload on a tree as it was made, or on what `damage` makes of a copy of it."""

    def ran(workload, tree, damage=None):
        original = top = made(tree, trees)
        if damage:
            top = tmp_path / "damaged"
            shutil.copytree(original, top, symlinks=True)
            damage(top)
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        scene = Scene(top, original, scratch)
        environment = {"PATH": os.environ["PATH"], **workload.environment(scene)}
        command = [str(word) for word in workload.command(scene)]
        return subprocess.run(
            command, env=environment, cwd=scratch, capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    return ran


def told(done):
    assert done.returncode == 0, done.stderr
    return {name: float(value) for name, value in re.findall(r"^([a-z_]+)=([0-9.]+)$", done.stdout, re.MULTILINE)}


def named(workloads):
    return [pytest.param(workload, id=workload.name) for workload in workloads]


@pytest.mark.parametrize("workload", named(ON_SMALL))
def test_a_small_tree_is_read(run, workload):
    figures = told(run(workload, SMALL))
    assert 0 < figures["seconds"] < PATIENCE
    assert figures["cpu_seconds"] > 0


@pytest.mark.parametrize("workload", named(ON_FILE))
def test_a_large_file_is_read(run, workload):
    assert told(run(workload, FILE))["bytes"] >= 1 << 18


def test_what_is_counted_is_what_is_there(run):
    assert told(run(metadata.FIND, SMALL))["counted"] == 1 + 6 + 6
    assert told(run(files.READ_ALL, SMALL)) | {"seconds": 0, "cpu_seconds": 0} == {
        "seconds": 0,
        "cpu_seconds": 0,
        "files": 5,
        "bytes": 57 + 30_000 + 1 + 70_000,
    }


def lose_file(tree):
    (tree / MODULE / "deep" / "numbers.txt").unlink()


def lose_package(tree):
    """How many directories are larger than a byte is the file system's affair: one file less would not be seen."""
    shutil.rmtree(tree / "lib")
    (tree / "link").unlink()


def lose_word(tree):
    (tree / MODULE / "__init__.py").write_text("nothing\n")


def flip_bit(tree):
    (tree / MODULE / "deep" / "numbers.txt").write_text("1 2 4\n" * 5000)


def shorten(tree):
    os.truncate(tree / "file", (1 << 20) - 1)


def flip_byte(tree):
    (tree / "file").write_bytes(bytes(1) + bytes(range(256)) * 4095 + bytes(255))


def add_missing(tree):
    (tree / "libmissing0.so").touch()


@pytest.mark.parametrize(
    ("workload", "tree", "damage"),
    [
        pytest.param(workload, tree, damage, id=f"{workload.name}-{damage.__name__}")
        for workload, tree, damage in (
            (metadata.FIND, SMALL, lose_file),
            (metadata.FIND_SIZE, SMALL, lose_package),
            (metadata.LS, SMALL, lose_file),
            (metadata.STAT, SMALL, lose_file),
            (metadata.MISSING, SMALL, add_missing),
            (files.READ_ALL, SMALL, lose_file),
            (files.READ_ALL, SMALL, flip_bit),
            (files.TAR, SMALL, lose_file),
            (files.GREP, SMALL, lose_word),
            (files.LARGE_SEQUENTIAL, FILE, shorten),
            (files.LARGE_SEQUENTIAL, FILE, flip_byte),
        )
    ],
)
def test_less_than_all_of_it_is_a_failure(run, workload, tree, damage):
    done = run(workload, tree, damage)
    assert done.returncode != 0
    assert done.stderr.strip()


COMMANDS = Tree("commands", "", commands.make)
PROJECT = Tree("project", "", c_project.make)


def of_one_shell(workload):
    """Twenty of them do the same again."""
    return dataclasses.replace(
        workload, command=lambda scene: [word.replace("seq 20", "seq 1") for word in workload.command(scene)]
    )


@pytest.fixture
def shell_path():
    return of_one_shell(WORKLOADS["shell-path"])


def test_commands_are_found(run, shell_path):
    assert told(run(shell_path, COMMANDS))["seconds"] > 0


def test_a_command_that_is_not_there_is_a_failure(run, shell_path):
    assert run(shell_path, COMMANDS, lambda tree: (tree / "packages/00/bin/command_000").unlink()).returncode != 0


@pytest.fixture
def small_project(monkeypatch):
    monkeypatch.setattr(c_project, "SOURCES", 2)
    monkeypatch.setattr(c_project, "HEADERS", 24)
    return Tree("small-project", "", c_project.make)


@pytest.fixture
def needs_compiler():
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")


@pytest.mark.usefixtures("needs_compiler")
def test_a_project_is_compiled(run, small_project):
    assert told(run(WORKLOADS["compile"], small_project))["seconds"] > 0


@pytest.mark.usefixtures("needs_compiler")
def test_a_header_with_another_number_is_a_failure(run, small_project):
    def change(tree):
        for path in tree.glob("include/*/*.h"):
            path.write_text(path.read_text().replace("return (x + ", "return (x + 1 + "))

    assert run(WORKLOADS["compile"], small_project, change).returncode != 0


def make_interpreter(tree):
    """The running one, with one module more; nothing is copied."""
    (tree / MODULE).mkdir(parents=True)
    (tree / MODULE / "__init__.py").write_text("ANSWER = 42\n")
    (tree / "bin").mkdir()
    program = tree / "bin" / "python3"
    program.write_text(f'#!/bin/sh\nunset PYTHONHOME LD_LIBRARY_PATH\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)


INTERPRETER = Tree("interpreter", "", make_interpreter)


def elsewhere(tree):
    """What is imported then lies in another tree."""
    shutil.rmtree(tree / MODULE)
    (tree / MODULE.parent / "thing.py").write_text("__file__ = '/somewhere/else'\n")


@pytest.mark.parametrize(
    ("damage", "status"), [(None, 0), (elsewhere, 1), (lambda tree: shutil.rmtree(tree / MODULE), 1)]
)
def test_what_is_imported_comes_from_the_tree(run, damage, status):
    workload = programs.importing("thing", INTERPRETER, "thing")
    assert run(workload, INTERPRETER, damage).returncode == status


@pytest.mark.parametrize(("module", "status"), [("thing", 0), ("nothing", 1)])
def test_many_processes_are_started(run, monkeypatch, module, status):
    monkeypatch.setattr(programs, "PROCESSES", 3)
    monkeypatch.setattr(programs, "_BY_EACH", module)
    assert run(WORKLOADS["many-starts"], INTERPRETER).returncode == status


def test_accesses_are_recorded_and_replayed(run):
    done = run(replay.RECORDED, RECORDED)
    assert told(done)["accesses"] > 3


def record_thing(tree):
    make_interpreter(tree)
    recorded.record(tree, software.command(tree, "-vv", "-c", "import thing"), software.environment(tree))


RECORDED = Tree("recorded", "", record_thing)


def test_the_record_has_what_was_looked_at(trees):
    tree = made(RECORDED, trees)
    lines = list(csv.reader((tree / recorded.TRACE).open(newline="")))
    assert {len(line) for line in lines} == {4}
    accesses = [(line[1], line[2]) for line in lines]
    assert ("2", f"/{software.PACKAGES}") in accesses
    assert any(code == "4" and path.endswith(".py") for code, path in accesses)
    assert ("1", f"/{MODULE}/__init__.py") in accesses


TRACE = """\
"1700000000.000","-1","Tracer","Trace buffer created"\r
"1700000000.001","5","","statfs()"\r
"1700000000.002","2","","opendir()"\r
"1700000000.003","4","/nowhere","lookup()"\r
"1700000000.004","4","/.hidden/below-a-file","lookup()"\r
"1700000000.005","3","/link","readlink()"\r
"1700000000.006","8","/lib","getxattr()"\r
"1700000000.007","6","?","getattr()"\r
"1700000000.008","1","/%s","open()"\r
"1700000000.009","1",
"""


@pytest.mark.parametrize(("opened", "status"), [(".hidden", 0), ("absent", 1)])
def test_a_trace_of_a_mount_is_replayed(run, tmp_path, opened, status):
    trace = tmp_path / "trace.csv"
    trace.write_text(TRACE % opened, newline="")
    done = run(replay.of(trace), SMALL)
    assert done.returncode == status
    if not status:
        assert told(done)["accesses"] == 7


def test_the_tree_that_was_recorded_is_copied(tmp_path):
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack" / "file").write_text("1")
    tree = replay.of(tmp_path / "trace.csv", tmp_path / "stack").tree
    assert tree.name == "given-stack"
    assert (made(tree, tmp_path / "trees") / "file").read_text() == "1"


def test_a_trace_without_accesses_is_a_failure(run, tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text('"1700000000.000","-1","Tracer","Trace buffer created"\r\n')
    assert "no accesses" in run(replay.of(trace), SMALL).stderr


def test_shared_libraries_are_mapped(run, trees):
    library = importlib.util.find_spec("_cffi_backend").origin

    def make(tree):
        (tree / MODULE).mkdir(parents=True)
        shutil.copy(library, tree / MODULE / "extension.so")

    workload = WORKLOADS["dlopen"]
    assert told(run(workload, Tree("libraries", "", make)))["libraries"] == 1


def test_only_libraries_that_can_be_linked_alone_are_mapped():
    packages = "lib/python3.11/site-packages"
    wanted = f"{packages}/numpy/core.cpython-311.so"
    others = ["lib/libpython3.11.so", f"{packages}/numpy.libs/libblas.so", f"{packages}/numpy/core.py", "lib/other.so"]
    assert libraries([*others, wanted]) == [wanted]


# --- the table --------------------------------------------------------------------------------------------------------

ASKED_FOR = {
    "find", "find-size", "ls-lR", "stat", "missing", "tar", "grep", "read-all", "large-sequential", "large-random", "dlopen",
    "import-numpy", "import-scientific", "import-hep", "import-pandas", "pythia", "compile", "shell-path", "many-starts",
    "replay",
}  # fmt: skip


def test_the_full_set_has_all_that_was_asked_for():
    assert {workload.name for workload in WORKLOADS.values() if workload.full} >= ASKED_FOR


def test_the_quick_set_takes_no_tree_that_is_large():
    quick = [workload for workload in WORKLOADS.values() if workload.quick]
    assert 6 <= len(quick) <= 10
    assert {workload.tree.name for workload in quick} <= {"python", "large-small", "c-project", "commands"}
    assert any(workload.over_links for workload in quick)


@pytest.mark.parametrize("workload", named(WORKLOADS.values()))
def test_it_is_in_some_set_and_says_what_it_does(workload):
    assert workload.quick or workload.full
    assert workload.about
    assert workload.tree.name in TREES


def test_programs_that_are_started_exist():
    scene = Scene(Path("/top"), Path("/made"), Path("/scratch"))
    for workload in WORKLOADS.values():
        words = list(workload.command(scene))
        if "-m" in words:
            assert importlib.util.find_spec(words[words.index("-m") + 1])


def test_the_program_of_the_demonstration_is_there():
    assert programs.ANALYSIS.is_file()
