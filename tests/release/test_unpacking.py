"""The modules of the single file, unpacked: once, whole, where nobody else can write, and removed when nobody needs them."""

import ast
import contextlib
import fcntl
import json
import multiprocessing
import os
import shutil
import stat
import sys
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

import pytest
import single_file
import unpacking
from rights import NOBODY, not_root

from cvfs import interpreter

PROJECT = Path(__file__).parents[2]
TREES = {
    name: {"package/__init__.py": b"# common\n", "package/deep/er.py": b"x = 1\n" * 99, f"{name}.so": name.encode()}
    for name in ("cpython-311-cpu", "cpython-312-cpu")
}
TARGET = "cpython-311-cpu"
LONG_AGO = time.time() - 30 * 86400


@pytest.fixture
def archive():
    """Where every user finds it, which pytest's own directories are not."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        path = Path(place) / "cvfs.pyz"
        path.write_bytes(b"#!/usr/bin/env python3\n" + single_file.archive(TREES))
        path.chmod(0o755)
        yield str(path)


@pytest.fixture(params=["root", "user"])
def user(request):
    """Whose process it is; rights that a test lacks are not tested by it."""
    if os.geteuid() == 0 and request.param == "user":
        with not_root():
            yield request.param
    elif os.geteuid() == 0 or request.param == "user":
        yield request.param
    else:
        pytest.skip("only root can be root")


@pytest.fixture
def home(user):
    """A directory of that user's alone."""
    place = tempfile.mkdtemp(prefix="home-")
    yield place
    shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def mask(value):
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def visible(place):
    """What is there beside the lock."""
    return [name for name in os.listdir(place) if name != ".lock"]


def contents(directory):
    found = (path for path in Path(directory).rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


def modes(directory):
    found = [Path(directory), *Path(directory).rglob("*")]
    return {(path.is_dir(), stat.S_IMODE(path.lstat().st_mode)) for path in found}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_unpacked(archive, home, user, umask):
    """Root's are for all to read, because its mounts may become another user; anybody else's are his own."""
    place = f"{home}/new/modules"
    with mask(umask):
        directory = unpacking.unpacked(archive, TARGET, [place])
    assert contents(directory) == TREES[TARGET]
    assert os.path.dirname(directory) == place
    assert modes(directory) == ({(True, 0o755), (False, 0o644)} if user == "root" else {(True, 0o700), (False, 0o600)})
    assert visible(place) == [os.path.basename(directory)]


def test_the_second_time_nothing_is_unpacked(archive, tmp_path, monkeypatch):
    first = unpacking.unpacked(archive, TARGET, [str(tmp_path / "m")])
    monkeypatch.delattr(unpacking, "_unpack")
    assert unpacking.unpacked(archive, TARGET, [str(tmp_path / "m")]) == first


def test_each_python_has_its_own(archive, tmp_path):
    places = {unpacking.unpacked(archive, target, [str(tmp_path / "m")]) for target in TREES}
    assert len(places) == 2
    assert [sorted(contents(place)) for place in sorted(places)] != []
    assert {name for place in places for name in contents(place) if name.endswith(".so")} == {f"{t}.so" for t in TREES}


def test_a_python_that_it_has_nothing_for(archive, tmp_path):
    with pytest.raises(
        ValueError, match="modules for cpython-311-cpu, cpython-312-cpu, and this Python is cpython-399"
    ):
        unpacking.unpacked(archive, "cpython-399-cpu", [str(tmp_path / "m")])


# --- places -----------------------------------------------------------------------------------------------------------


def test_the_first_place_that_will_do(archive, tmp_path):
    (tmp_path / "file").touch()
    places = [str(tmp_path / "file"), str(tmp_path / "file/below"), str(tmp_path / "good")]
    assert os.path.dirname(unpacking.unpacked(archive, TARGET, places)) == places[-1]


def test_no_place_at_all(archive, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        OSError, match=r"no directory to unpack into: set TMPDIR .*file: File exists; .*Not a directory"
    ):
        unpacking.unpacked(archive, TARGET, [str(tmp_path / "file"), str(tmp_path / "file/below")])


def test_a_place_from_which_nothing_can_be_loaded(archive, tmp_path, monkeypatch):
    class NoExec:
        f_flag = os.ST_NOEXEC

    monkeypatch.setattr(os, "statvfs", lambda _: NoExec)
    with pytest.raises(OSError, match="noexec"):
        unpacking.unpacked(archive, TARGET, [str(tmp_path / "m")])


@pytest.mark.parametrize(
    ("mode_above", "mode", "why"),
    [
        (0o777, 0o700, "others may write to"),
        (0o720, 0o700, "others may write to"),
        (0o755, 0o722, "mode 722 are not"),
        (0o755, 0o770, "mode 770 are not"),
    ],
)
def test_a_place_where_others_can_write(archive, tmp_path, mode_above, mode, why):
    above = tmp_path / "above"
    (above / "m").mkdir(parents=True)
    (above / "m").chmod(mode)
    above.chmod(mode_above)
    with pytest.raises(OSError, match=why):
        unpacking.unpacked(archive, TARGET, [str(above / "m")])
    assert os.listdir(above / "m") == []


def test_below_a_sticky_directory_it_is_safe(archive, tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    assert unpacking.unpacked(archive, TARGET, [str(tmp_path / "tmp/m")])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories away")
@pytest.mark.parametrize("given", ["above", "above/m"])
def test_a_place_of_somebody_else(archive, tmp_path, given):
    (tmp_path / "above/m").mkdir(parents=True)
    os.chown(tmp_path / given, NOBODY, NOBODY)
    with pytest.raises(OSError, match=r"others may write|owner 65534"):
        unpacking.unpacked(archive, TARGET, [str(tmp_path / "above/m")])


def test_a_link_is_followed_once(archive, tmp_path):
    """Whoever owns the link can change it afterwards."""
    (tmp_path / "real").mkdir(mode=0o755 if os.geteuid() == 0 else 0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    directory = unpacking.unpacked(archive, TARGET, [str(tmp_path / "link")])
    assert directory.startswith(f"{tmp_path}/real/")


def test_in_a_user_namespace_root_may_have_another_number(monkeypatch):
    monkeypatch.setattr("builtins.open", lambda path, **_: contextlib.closing(Numbers(path)))
    assert unpacking._unmapped_users() == {65534}


class Numbers:
    def __init__(self, path):
        self.path = path

    def read(self):
        return "65534\n" if self.path.endswith("overflowuid") else "         0       1000          1\n"

    def close(self):
        pass


CACHES = [
    ({}, 1000, ["/h/.cache/cvfs-modules", "/tmp/cvfs-modules-1000", "/var/tmp/cvfs-modules-1000"]),
    ({"HOME": "/x"}, 1000, ["/x/.cache/cvfs-modules", "/h/.cache/cvfs-modules", "/tmp/cvfs-modules-1000"]),
    (
        {"XDG_CACHE_HOME": "/c", "HOME": "/h"},
        1000,
        ["/c/cvfs-modules", "/h/.cache/cvfs-modules", "/tmp/cvfs-modules-1000"],
    ),
    ({"XDG_CACHE_HOME": "c", "HOME": "h"}, 1000, ["/h/.cache/cvfs-modules", "/tmp/cvfs-modules-1000"]),
    ({"XDG_RUNTIME_DIR": "/r"}, 1000, ["/h/.cache/cvfs-modules", "/r/cvfs-modules-1000", "/tmp/cvfs-modules-1000"]),
    ({"TMPDIR": "/t"}, 1000, ["/h/.cache/cvfs-modules", "/t/cvfs-modules-1000", "/tmp/cvfs-modules-1000"]),
    ({}, 0, ["/var/cache/cvfs-modules", "/h/.cache/cvfs-modules", "/tmp/cvfs-modules-0"]),
]


@pytest.mark.parametrize(("environment", "number", "first"), CACHES)
def test_candidates(monkeypatch, environment, number, first):
    class Entry:
        pw_dir = "/h"

    monkeypatch.setattr(os, "geteuid", lambda: number)
    monkeypatch.setattr(unpacking.pwd, "getpwuid", lambda _: Entry)
    assert unpacking.candidates(environment)[: len(first)] == first


def test_candidates_of_a_user_whom_nobody_knows(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(unpacking.pwd, "getpwuid", {}.__getitem__)
    assert unpacking.candidates({})[0] == "/tmp/cvfs-modules-4711"


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["package/__init__.py", "package/deep/er.py", ".index"])
@pytest.mark.parametrize("how", [os.unlink, lambda path: os.truncate(path, 0)])
def test_what_is_not_whole_any_more_is_unpacked_again(archive, tmp_path, name, how):
    """After a power cut files are empty; what cleans /tmp takes them one by one."""
    place = str(tmp_path / "m")
    directory = unpacking.unpacked(archive, TARGET, [place])
    how(f"{directory}/{name}")
    assert unpacking.unpacked(archive, TARGET, [place]) == directory
    assert contents(directory) == TREES[TARGET]
    assert visible(place) == [os.path.basename(directory)]
    assert sorted(os.listdir(directory)) == [".in-use", ".index", "cpython-311-cpu.so", "package"]


def test_what_others_could_have_written_to_is_unpacked_again(archive, tmp_path):
    directory = unpacking.unpacked(archive, TARGET, [str(tmp_path / "m")])
    os.chmod(directory, 0o777)
    unpacking.unpacked(archive, TARGET, [str(tmp_path / "m")])
    assert stat.S_IMODE(os.stat(directory).st_mode) == unpacking._mode()


@pytest.mark.parametrize("part", ["common.zip", f"{TARGET}.zip"])
def test_a_damaged_archive(archive, tmp_path, part):
    with zipfile.ZipFile(archive) as file:
        files = {name: file.read(name) for name in file.namelist()}
    changed = bytearray(files[part])
    changed[len(changed) // 2] ^= 1
    Path(archive).write_bytes(single_file._zip(files | {part: bytes(changed)}, zipfile.ZIP_STORED))
    with pytest.raises(ValueError, match=f"{part} is damaged: fetch the file again"):
        unpacking.unpacked(archive, TARGET, [str(tmp_path / "m")])
    assert visible(tmp_path / "m") == []


def test_a_flipped_bit_anywhere(archive, tmp_path):
    """Refused in one line, or without effect; never something else unpacked."""
    data = Path(archive).read_bytes()
    for at in range(24, len(data), 37):
        Path(archive).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        place = tmp_path / str(at)
        try:
            directory = unpacking.unpacked(archive, TARGET, [str(place)])
        except unpacking.REFUSED:
            continue
        assert contents(directory) == TREES[TARGET]


def test_many_at_once(archive, tmp_path):
    """All get the same directory, and nothing else is left."""
    place = str(tmp_path / "m")
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        results = [pool.apply_async(unpacking.unpacked, (archive, TARGET, [place])) for _ in range(12)]
        directories = {result.get(60) for result in results}
    assert len(directories) == 1
    assert visible(place) == [os.path.basename(directories.pop())]


# --- what nobody uses any more ----------------------------------------------------------------------------------------


def former(place, name, *, age=LONG_AGO, lock=True):
    directory = place / name
    (directory / "package").mkdir(parents=True)
    marked = directory / ".in-use" if lock else directory
    if lock:
        marked.touch()
    os.utime(marked, (age, age))
    return directory


def test_other_versions_go_after_a_week(archive, tmp_path):
    place = tmp_path / "m"
    old, young = former(place, "modules-old"), former(place, "modules-young", age=time.time() - 3600)
    held, foreign = former(place, "modules-held"), former(place, "something")
    killed = former(place, ".new-killed", lock=False, age=time.time() - 2 * 3600)
    unpacking_now = former(place, ".new-present", lock=False, age=time.time() - 60)
    place.chmod(unpacking._mode())
    with (held / ".in-use").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        directory = unpacking.unpacked(archive, TARGET, [str(place)])
    assert not old.exists()
    assert not killed.exists()
    kept = [young.name, held.name, foreign.name, unpacking_now.name, os.path.basename(directory)]
    assert sorted(visible(place)) == sorted(kept)


def test_who_runs_holds_what_it_runs_from(archive, tmp_path):
    """As long as the process, or one that it forks, runs."""
    directory = unpacking.unpacked(archive, TARGET, [str(tmp_path / "m")])
    with open(f"{directory}/.in-use", "rb") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("held", [".lock", "DIRECTORY/.in-use"])
def test_who_holds_a_lock_for_ever_is_not_waited_for(archive, tmp_path, monkeypatch, held):
    """A process that was stopped: the next place will do."""
    monkeypatch.setattr(unpacking, "_LOCKED_WITHIN", 0.1)
    directory = unpacking.unpacked(archive, TARGET, [str(tmp_path / "m")])
    if held == ".lock":
        shutil.rmtree(directory)
    release_own_locks(directory)
    descriptor = os.open(os.path.join(tmp_path / "m", held.replace("DIRECTORY", directory)), os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        places = [str(tmp_path / "m"), str(tmp_path / "other")]
        assert os.path.dirname(unpacking.unpacked(archive, TARGET, places)) == places[1]
        with pytest.raises(OSError, match=r"another process has held its lock for 0\.1 s"):
            unpacking.unpacked(archive, TARGET, places[:1])
    finally:
        os.close(descriptor)


def release_own_locks(directory):
    """Those that a process keeps until it ends."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith(directory):
                os.close(int(name))


def test_use_is_noted_once_a_day(archive, tmp_path):
    directory = unpacking.unpacked(archive, TARGET, [str(tmp_path / "m")])
    for age, noted in ((3600, False), (3 * 86400, True)):
        then = time.time() - age
        os.utime(f"{directory}/.in-use", (then, then))
        unpacking.unpacked(archive, TARGET, [str(tmp_path / "m")])
        assert (os.stat(f"{directory}/.in-use").st_mtime > time.time() - 1800) == noted


# --- what is started --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "program", "left"),
    [
        (["cvfs.pyz", "ls"], "cvfs", ["cvfs", "ls"]),
        (["/opt/cvfs", "mount"], "cvfs", ["cvfs", "mount"]),
        (["/opt/cvfs-0.2.pyz"], "cvfs", ["cvfs"]),
        (["cvfs.pyz", "cvfs-server", "mkfs"], "cvfs-server", ["cvfs-server", "mkfs"]),
        (["cvfs.pyz", "mount.cvfs", "sw", "/m"], "mount.cvfs", ["mount.cvfs", "sw", "/m"]),
        (["cvfs.pyz", "cvfs", "ls"], "cvfs", ["cvfs", "ls"]),
        (["/sbin/mount.cvfs", "cvfs", "/m"], "mount.cvfs", ["mount.cvfs", "cvfs", "/m"]),
        (["/usr/bin/cvfs-server", "cvfs"], "cvfs-server", ["cvfs-server", "cvfs"]),
        (["cvfs-server.pyz", "list"], "cvfs-server", ["cvfs-server", "list"]),
    ],
)
def test_the_program_is_chosen_by_name_or_by_word(arguments, program, left):
    assert unpacking.chosen_program(arguments) == program
    assert arguments == left


def test_it_knows_the_programs_that_are_installed():
    scripts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
    assert {name: f"{module}:main" for name, module in unpacking.PROGRAMS.items()} == scripts
    assert unpacking.PROGRAMS == interpreter._MODULES
    assert unpacking.IN_USE == interpreter.IN_USE


def test_this_python_has_a_target():
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert unpacking.target() == single_file.target(version, os.uname().machine)


def test_an_interrupt_while_it_unpacks_is_no_traceback(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(unpacking, "unpacked", interrupted)
    monkeypatch.setattr(sys, "argv", ["cvfs.pyz"])
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "kept", raising=False)
    with pytest.raises(SystemExit) as end:
        unpacking.main("/somewhere/cvfs.pyz/__main__.py")
    assert end.value.code == 130


def test_an_old_python_is_told():
    """By a file that it can read."""
    text = (PROJECT / "tools/release/start.py").read_text()
    ast.parse(text, feature_version=(3, 4))
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.JoinedStr)]
    version = type("Old", (tuple,), {})((3, 6, 8))
    names = {"sys": type("System", (), {"version_info": version, "exit": sys.exit})}
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer is needed, and this is Python 3\.6"):
        exec(compile(text.replace("import sys\n", ""), "start.py", "exec"), names)  # the module, in an old interpreter


# --- the build --------------------------------------------------------------------------------------------------------


def test_the_same_modules_make_the_same_file():
    turned = {name: dict(reversed(tree.items())) for name, tree in reversed(TREES.items())}
    assert single_file.archive(turned) == single_file.archive(TREES)


def test_what_all_pythons_share_is_in_it_once(archive):
    with zipfile.ZipFile(archive) as file:
        parts = {name: zipfile.ZipFile(file.open(name)).namelist() for name in file.namelist() if name.endswith(".zip")}
        targets = json.loads(file.read("targets.json"))
    assert parts["common.zip"] == ["package/__init__.py", "package/deep/er.py"]
    assert [parts[f"{name}.zip"] for name in TREES] == [[f"{name}.so"] for name in TREES]
    assert {name: set(needed) for name, needed in targets.items()} == {t: {"common.zip", f"{t}.zip"} for t in TREES}


def test_what_some_pythons_share_is_in_it_once(tmp_path):
    """A module for all Pythons on one processor."""
    trees = {
        f"cpython-{version}-{cpu}": {"all": b"", "abi3.so": cpu.encode(), "own.so": f"{version}{cpu}".encode()}
        for version in ("311", "312")
        for cpu in ("one", "other")
    }
    path = tmp_path / "cvfs.pyz"
    path.write_bytes(single_file.archive(trees))
    with zipfile.ZipFile(path) as file:
        parts = [zipfile.ZipFile(file.open(name)).namelist() for name in file.namelist() if name.endswith(".zip")]
    assert sorted(parts) == [["abi3.so"], ["abi3.so"], ["all"], *[["own.so"]] * 4]
    for name, tree in trees.items():
        assert contents(unpacking.unpacked(str(path), name, [str(tmp_path / "m")])) == tree


def test_what_pip_writes_about_itself_is_left_out(tmp_path):
    kept = ("a/__init__.py", "a-1.dist-info/METADATA", "a-1.dist-info/licenses/LICENSE", "zstandard/backend_c.so")
    dropped = (
        "bin/a",
        "a-1.dist-info/RECORD",
        "a-1.dist-info/direct_url.json",
        "share/man/man1/a.1",
        "zstandard/_cffi.x.so",
    )
    for name in (*kept, *dropped):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert sorted(single_file._modules(tmp_path)) == sorted(kept)
