"""Python started anew: with the modules of this process, whatever surrounds it; and how others start the program."""

import fcntl
import json
import os
import subprocess
import sys
import zipfile

import pytest

from cvfs import interpreter
from cvfs.interpreter import IN_USE, command, package_root, python, single_file

TELL = """
import json, sys
def main():
    import cvfs
    print(json.dumps([cvfs.__file__, sys.argv, sys.path, "site" in sys.modules]))
    return 3
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A directory of modules that this process knows, with one to be run."""
    place = tmp_path / "mod'ules \udcff"
    place.mkdir()
    (place / "telling.py").write_text(TELL)
    monkeypatch.syspath_prepend(str(place))
    return place


def run(words, **surroundings):
    done = subprocess.run(words, capture_output=True, timeout=60, check=False, **surroundings)
    assert done.returncode == 3, done.stderr.decode()
    return json.loads(done.stdout)


def test_a_new_interpreter_has_the_modules_of_this_one(modules, tmp_path):
    """Neither the working directory nor the environment gets in the way."""
    hostile = tmp_path / "cwd"
    (hostile / "cvfs").mkdir(parents=True)
    (hostile / "cvfs/__init__.py").write_text("raise SystemExit(9)")
    (hostile / "telling.py").write_text("raise SystemExit(9)")
    file, arguments, path, _ = run(
        [*python("telling", program="me"), "a", "-b"], cwd=hostile, env={"PYTHONPATH": str(hostile)}
    )
    assert os.path.dirname(os.path.dirname(file)) == package_root()
    assert arguments == ["me", "a", "-b"]
    assert path == [os.path.abspath(place) for place in sys.path if place]


def test_a_bare_one_has_only_this_package(modules, monkeypatch, tmp_path):
    (tmp_path / "cvfs").mkdir()
    (tmp_path / "cvfs/__init__.py").write_text("")
    (tmp_path / "cvfs/telling.py").write_text(TELL)
    monkeypatch.setattr(interpreter, "package_root", lambda: str(tmp_path))
    file, _, path, site = run(python("cvfs.telling", bare=True), env={"PYTHONPATH": str(modules)})
    assert (file, path[0], site) == (str(tmp_path / "cvfs/__init__.py"), str(tmp_path), False)
    assert str(modules) not in path


def test_who_runs_from_unpacked_modules_holds_them(modules, monkeypatch, tmp_path):
    """Until it ends: they are not removed meanwhile."""
    held = tmp_path / IN_USE
    held.touch()
    monkeypatch.setattr(interpreter, "package_root", lambda: str(tmp_path))
    (modules / "waiting.py").write_text("import sys\ndef main():\n    print('held', flush=True)\n    sys.stdin.read()")
    for bare in (False, True):
        if bare:
            (tmp_path / "waiting.py").write_bytes((modules / "waiting.py").read_bytes())
        with subprocess.Popen(python("waiting", bare=bare), stdin=-1, stdout=-1) as process, held.open("rb") as file:
            assert process.stdout.readline() == b"held\n"
            with pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            process.communicate(timeout=60)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_installed_script_is_what_others_start(monkeypatch, tmp_path):
    script = tmp_path / "mount.cvfs"
    script.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    assert command("mount.cvfs") == [str(script)]
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python3"))
    monkeypatch.setenv("PATH", f"relative:{tmp_path}")
    assert command("mount.cvfs") == [str(script)]


def test_without_a_script_it_is_an_interpreter(monkeypatch):
    """As in a checkout that is not installed."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    for program in ("cvfs", "cvfs-server"):
        done = subprocess.run([*command(program), "--version"], capture_output=True, text=True, timeout=60)
        assert done.stdout.startswith(f"{program}, version "), done.stderr


def test_from_the_single_file_it_is_the_file(tmp_path):
    archive = tmp_path / "cvfs.pyz"
    with zipfile.ZipFile(archive, "w") as file:
        paths = [os.path.abspath(place) for place in sys.path if place]
        file.writestr(
            "__main__.py",
            f"import sys; sys.path += {paths!r}\nfrom cvfs.interpreter import command\nprint(command('cvfs-server'))",
        )
    done = subprocess.run([sys.executable, "cvfs.pyz"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{[sys.executable, str(archive), 'cvfs-server']}\n", done.stderr
    assert single_file() is None
