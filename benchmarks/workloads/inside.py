"""How programs of benchmarks/inside are started: by the running interpreter, never by one that is measured."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.workloads.base import Scene

_PROJECT = Path(__file__).resolve().parents[2]


def program(name: str, *words: str) -> Callable[[Scene], Sequence[str]]:
    """The command: a program, its own words, then the tree as it was made and the one that is measured."""
    return lambda scene: [*start(name), *words, str(scene.made), str(scene.top)]


def shell(line: str, expected: str) -> Callable[[Scene], Sequence[str]]:
    """The command: a line of bash that prints a number, and what that is to be (inside/piped.py); `$1` is what is measured."""
    return lambda scene: [*start("piped"), str(scene.made), expected, line, str(scene.top)]


def start(name: str) -> Sequence[str]:
    """The words that start a program."""
    return (sys.executable, "-S", "-s", "-P", "-m", f"benchmarks.inside.{name}")


def environment(_: Scene) -> Mapping[str, str]:
    """What programs need; numbers and order in what other programs print are those of the C locale."""
    return {"PYTHONPATH": str(_PROJECT), "LC_ALL": "C", "OPENBLAS_NUM_THREADS": "1"}
