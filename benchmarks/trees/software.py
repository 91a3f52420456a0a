"""Software as an experiment lays it out: a Python interpreter, its library, packages; only what this machine can have of it."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.model import Unavailable

LIBRARY = Path("lib", f"python{sys.version_info[0]}.{sys.version_info[1]}")
PACKAGES = LIBRARY / "site-packages"
_PATIENCE = 1200.0
# Others' packages, tests of the interpreter, a static library for those who embed it.
_LEFT_OUT = ("site-packages", "dist-packages", "test", "config-*")
_CATALOG = ".cvmfscatalog"


def with_packages(*names: str) -> Callable[[Path], None]:
    """What makes a tree with these packages and what they need, as they are in the index today."""

    def make(tree: Path) -> None:
        lay_interpreter(tree)
        install(tree, names)
        finish(tree)

    return make


def with_installed(name: str) -> Callable[[Path], None]:
    """What makes a tree with one package: a copy of that which is installed beside this program, if it is."""

    def make(tree: Path) -> None:
        lay_interpreter(tree)
        if not _copied(tree, name):
            install(tree, [name])
        finish(tree)

    return make


def lay_interpreter(tree: Path) -> None:
    """The running interpreter as bin/python3, its library, and libpython if it needs one."""
    shutil.copytree(
        sysconfig.get_path("stdlib"), tree / LIBRARY, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT)
    )
    (tree / "bin").mkdir()
    shutil.copy2(os.path.realpath(sys.executable), tree / "bin" / "python3")
    shared = Path(sysconfig.get_config_var("LIBDIR") or "/", sysconfig.get_config_var("LDLIBRARY") or "none")
    if shared.suffix == ".so" and shared.exists():
        shutil.copy2(shared.resolve(), tree / "lib" / shared.resolve().name)


def install(tree: Path, names: Sequence[str]) -> None:
    """Packages by pip, only as wheels: nothing is built. Raises Unavailable with what pip says."""
    words = ["install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--target"]
    command = [sys.executable, "-m", "pip", *words, str(tree / PACKAGES), *names]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"pip install {' '.join(names)}: not done in {_PATIENCE:.0f} s") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise Unavailable(f"pip install {' '.join(names)}: {said[-1]}")


def finish(tree: Path) -> None:
    """Bytecode for all that has none: nobody can write it to a mount. Each package a catalog of its own, as sites do it.

    The files that say so are in the tree, so that it is the same wherever it is read.
    """
    command = [sys.executable, "-m", "compileall", "-q", "-j", "0", str(tree / LIBRARY)]
    # What is no Python of this version is not imported either, so that compileall's exit status says nothing.
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_PATIENCE, check=False)
    packages = (path for path in (tree / PACKAGES).iterdir() if path.is_dir() and path.suffix != ".dist-info")
    for directory in (tree / LIBRARY, *packages):
        (directory / _CATALOG).touch()


def command(top: Path, *words: str) -> Sequence[str]:
    """The tree's own interpreter, with nothing of this machine's Python, nor of its user's."""
    return (str(top / "bin" / "python3"), "-S", "-s", "-P", *words)


def environment(top: Path) -> Mapping[str, str]:
    """What makes that interpreter find its libraries and packages below `top`, and numerical libraries start no threads."""
    return {
        "PYTHONHOME": str(top),
        "PYTHONPATH": str(top / PACKAGES),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LD_LIBRARY_PATH": str(top / "lib"),
        "OPENBLAS_NUM_THREADS": "1",
    }


def _copied(tree: Path, name: str) -> bool:
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        return False
    # Programs of a package lie beside its modules, outside: `../../../bin/...`
    inside = [file for file in files if ".." not in file.parts and os.path.isfile(file.locate())]
    for file in inside:
        target = tree / PACKAGES / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file.locate(), target)
    return bool(inside)
