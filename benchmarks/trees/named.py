"""The trees that workloads read, by name; makes none."""

from pathlib import Path

from benchmarks.trees import c_project, commands, large, recorded, software
from benchmarks.trees.base import Tree

EXPERIMENT = ("pythia8mc", "fastjet", "uproot", "awkward", "boost-histogram", "numpy")
"""What `make demo` runs, too."""


def _python(tree: Path) -> None:
    software.with_installed("numpy")(tree)
    recorded.record(tree, software.command(tree, "-vv", "-c", "import numpy"), software.environment(tree))


PYTHON = Tree("python", "an interpreter, its library, and numpy", _python, version=2)
SOFTWARE = Tree(
    "software",
    "an interpreter, its library, scipy, sympy, networkx, pandas and scikit-learn",
    software.with_packages("scipy", "sympy", "networkx", "pandas", "scikit-learn"),
    version=2,
)
EXPERIMENTS = Tree(
    "experiment",
    f"an interpreter, its library, {', '.join(EXPERIMENT)}",
    software.with_packages(*EXPERIMENT),
    version=2,
)
LARGE = Tree("large", "one file of 512 MiB", large.of_megabytes(512))
LARGE_SMALL = Tree("large-small", "one file of 128 MiB", large.of_megabytes(128))
C_PROJECT = Tree("c-project", "200 headers in 20 directories, 41 sources", c_project.make)
COMMANDS = Tree("commands", "400 commands in 40 directories", commands.make)

TREES = {tree.name: tree for tree in (PYTHON, SOFTWARE, EXPERIMENTS, LARGE, LARGE_SMALL, C_PROJECT, COMMANDS)}
