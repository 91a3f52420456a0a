"""Builds the single file `cvfs.pyz` for machines with nothing but Python; what it does there is in `unpacking.py`.

Archives inside hold the modules that are the same for every Python, those for one processor, those for one Python on one
processor: pip fetches them for each in turn. Neither user, time nor order of the build is in the file.
"""

import argparse
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

HERE = Path(__file__).parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
COMMON = "common.zip"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_SHEBANG = b"#!/usr/bin/env python3\n"
# What pip writes about its own work, and what only other interpreters than CPython load.
_NEEDLESS = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
_OTHER_BACKENDS = ("zstandard/_cffi.",)

Files = Mapping[str, bytes]


def build(wheel: Path, destination: Path, pythons: Iterable[str], architectures: Iterable[str]) -> None:
    """Write the file; every Python and processor needs wheels of all dependencies."""
    trees = {}
    for python in pythons:
        for architecture in architectures:
            with tempfile.TemporaryDirectory() as scratch:
                _install(wheel, Path(scratch), python, architecture)
                trees[target(python, architecture)] = _modules(Path(scratch))
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_bytes(_SHEBANG + archive(trees))
    destination.chmod(0o755)


def target(python: str, architecture: str) -> str:
    """The name that `unpacking.target` finds."""
    return f"cpython-{python.replace('.', '')}-{architecture}-linux-gnu"


def archive(trees: Mapping[str, Files]) -> bytes:
    """The outer archive, of modules by target."""
    shared = _shared(trees)
    parts = {_part_name(targets, trees): _zip(shared[targets], zipfile.ZIP_DEFLATED) for targets in sorted(shared)}
    needed = {
        name: {
            part: hashlib.sha256(parts[part]).hexdigest()
            for part in (_part_name(targets, trees) for targets in sorted(shared) if name in targets)
        }
        for name in sorted(trees)
    }
    start = {"__main__.py": (HERE / "start.py").read_bytes(), "unpacking.py": (HERE / "unpacking.py").read_bytes()}
    return _zip({**start, "targets.json": json.dumps(needed, indent=1).encode(), **parts}, zipfile.ZIP_STORED)


def _shared(trees: Mapping[str, Files]) -> Mapping[tuple[str, ...], Files]:
    """Each file once, by the targets that have it so."""
    owners: dict[tuple[str, bytes], list[str]] = {}
    for target_name in sorted(trees):
        for file in trees[target_name].items():
            owners.setdefault(file, []).append(target_name)
    found: dict[tuple[str, ...], dict[str, bytes]] = {}
    for (name, data), targets in owners.items():
        found.setdefault(tuple(targets), {})[name] = data
    return found


def _part_name(targets: tuple[str, ...], trees: Mapping[str, Files]) -> str:
    """For people who look into the file; a name says no more than the table of targets does."""
    if len(targets) == len(trees):
        return COMMON
    if len(targets) == 1:
        return f"{targets[0]}.zip"
    return f"{hashlib.sha256(' '.join(targets).encode()).hexdigest()[:8]}.zip"


def _install(wheel: Path, directory: Path, python: str, architecture: str) -> None:
    platforms = [f"--platform={kind}_{architecture}" for kind in ("manylinux2014", "manylinux_2_17", "manylinux_2_28")]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"),
            *("--target", str(directory), "--python-version", python, "--implementation=cp", *platforms),
            f"{wheel}[zstd]",
        ],
        check=True,
        # Who builds as root, or without a directory for scripts on the path, knows it.
        env=os.environ | {"PIP_ROOT_USER_ACTION": "ignore", "PIP_NO_WARN_SCRIPT_LOCATION": "1"},
    )


def _modules(directory: Path) -> Files:
    """Every file by its path, but for scripts and what is not needed to run."""
    found = (path for path in sorted(directory.rglob("*")) if path.is_file())
    named = {path.relative_to(directory).as_posix(): path for path in found}
    return {name: path.read_bytes() for name, path in named.items() if _is_needed(name)}


def _is_needed(name: str) -> bool:
    top, _, last = name.partition("/")
    return top not in ("bin", "share") and last not in _NEEDLESS and not name.startswith(_OTHER_BACKENDS)


def _zip(files: Files, method: int) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as file:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = method
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            file.writestr(entry, files[name])
    return written.getvalue()


def main() -> None:
    """`single_file.py WHEEL DESTINATION`."""
    parser = argparse.ArgumentParser(description="Build cvfs.pyz out of the wheel of cvfs.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--python", nargs="+", default=PYTHONS, metavar="VERSION")
    parser.add_argument("--architecture", nargs="+", default=[os.uname().machine], metavar="NAME")
    given = parser.parse_args()
    build(given.wheel.resolve(), given.destination, given.python, given.architecture)
    print(f"{given.destination}: {given.destination.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
