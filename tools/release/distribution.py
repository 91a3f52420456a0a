"""Builds the source distribution and, out of it, the wheel: of a commit, not of what lies around in a checkout.

Neither the place, the user, the mask nor the time of the build is in them: dated they are by the commit.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
_UNDATED = "1577836800"
"""2020-01-01, where there is no commit: in an unpacked source distribution."""


def build(project: Path, destination: Path, commit: str = "HEAD") -> list[Path]:
    """The files that were made, the wheel first. Raises CalledProcessError."""
    destination = destination.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        epoch = export(project, tree, commit)
        _run(tree, epoch, "tools/release/pages.py", "generated")
        source = _hatchling(tree, epoch, "sdist", destination)
        with tarfile.open(source) as archive:
            # We made it. As an argument the filter is known from Python 3.11.4 on only, and later ones warn without it.
            archive.extraction_filter = lambda member, _path: member
            archive.extractall(scratch)  # noqa: S202
        unpacked = Path(scratch) / source.name.removesuffix(".tar.gz")
        return [_hatchling(unpacked, epoch, "wheel", destination), source]


def export(project: Path, tree: Path, commit: str) -> str:
    """Put the files of a commit into a new directory; the time of the commit, in seconds since 1970."""
    if not (project / ".git").exists():
        made = (project / ".gitignore").read_text(encoding="utf-8").split()
        shutil.copytree(
            project, tree, symlinks=True, ignore=shutil.ignore_patterns(*(name.strip("/") for name in made))
        )
        return os.environ.get("SOURCE_DATE_EPOCH", _UNDATED)
    tree.mkdir()
    git = ("git", "-c", "safe.directory=*", "-C", str(project))
    archive = subprocess.run([*git, "archive", "--format=tar", commit], check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", tree], input=archive, check=True)
    shown = subprocess.run([*git, "show", "-s", "--format=%ct", commit], check=True, stdout=subprocess.PIPE)
    return shown.stdout.decode().strip()


def _hatchling(tree: Path, epoch: str, target: str, destination: Path) -> Path:
    with tempfile.TemporaryDirectory(dir=tree.parent) as made:
        _run(tree, epoch, "-m", "hatchling", "build", "--target", target, "--directory", made)
        (built,) = Path(made).iterdir()
        destination.mkdir(parents=True, exist_ok=True)
        placed = destination / built.name
        placed.write_bytes(built.read_bytes())
    return placed


def _run(tree: Path, epoch: str, *words: str) -> None:
    """Python in the tree, with the modules of the tree."""
    modules = os.pathsep.join(str(tree / place) for place in (".", "server", "tools"))
    environment = os.environ | {
        "SOURCE_DATE_EPOCH": epoch,
        "PYTHONPATH": modules,
        "PYTHONDONTWRITEBYTECODE": "1",
        "HATCH_QUIET": "1",
    }
    subprocess.run([sys.executable, *words], cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """`distribution.py DIRECTORY`."""
    for path in build(PROJECT, Path(sys.argv[1])):
        print(path)


if __name__ == "__main__":
    main()
