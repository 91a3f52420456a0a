"""The file accesses of a Python program as its interpreter tells them, in the form of CVMFS_TRACEFILE; needs no mount."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.model import Unavailable

TRACE = "share/accesses.csv"
"""Where it is kept, relative to the tree."""

_PATIENCE = 120.0
_OPEN, _LOOK_UP, _ATTRIBUTES = 1, 4, 6
# What `python -vv` says, and which accesses that stands for, by the group of the path.
_SAID: Sequence[tuple[re.Pattern[str], Sequence[tuple[int, int]]]] = (
    (re.compile(r"# trying (\S+)$"), [(1, _LOOK_UP)]),
    (re.compile(r"# (\S+) matches (\S+)$"), [(2, _ATTRIBUTES), (1, _OPEN)]),
    (re.compile(r"# code object from ([^' ]+)$"), [(1, _OPEN)]),
    (re.compile(r"# extension module \S+ loaded from '(\S+)'$"), [(1, _OPEN)]),
)


def record(tree: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run the command, the tree's interpreter with -vv, and keep what it looked at in the tree. Raises Unavailable."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: exit status {done.returncode}")
    lines = [f'"0.000","{code}","{path}","recorded"\r\n' for code, path in _accesses(str(tree), done.stderr)]
    (tree / TRACE).parent.mkdir(exist_ok=True)
    (tree / TRACE).write_text("".join(lines), newline="")


def _accesses(tree: str, said: str) -> Iterator[tuple[int, str]]:
    """Codes and paths. A directory is read before the first look into it."""
    listed: set[str] = set()
    for code, path in _told(said):
        if not path.startswith(tree + "/"):
            continue
        directory = os.path.dirname(path)
        if directory not in listed and os.path.isdir(directory):
            listed.add(directory)
            yield 2, directory.removeprefix(tree)
        yield code, path.removeprefix(tree)


def _told(said: str) -> Iterator[tuple[int, str]]:
    for line in said.splitlines():
        for pattern, accesses in _SAID:
            if found := pattern.match(line):
                yield from ((code, found.group(group)) for group, code in accesses)
