"""Workloads that run programs from the tree: imports, a generation of events, processes by the dozen."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.trees import software
from benchmarks.trees.base import Tree
from benchmarks.trees.named import EXPERIMENTS, PYTHON, SOFTWARE
from benchmarks.workloads import inside
from benchmarks.workloads.base import Scene, Workload

PROCESSES = 64
EVENTS = 50
ANALYSIS = Path(__file__).resolve().parents[2] / "tools" / "demo_analysis.py"
# A module that came from elsewhere would be measured as one of the tree.
_CHECKED = "import sys, {modules}; sys.exit(sum(not m.__file__.startswith(sys.argv[1]) for m in ({modules},)))"
_BY_EACH = "json, email.message, http.client, sqlite3, decimal"


def importing(name: str, tree: Tree, modules: str, *, quick: bool = False, over_links: bool = False) -> Workload:
    """The interpreter of the tree starts, imports modules, and ends."""
    return Workload(
        f"import-{name}",
        f"the interpreter of the tree starts and imports {modules}",
        tree,
        lambda scene: software.command(scene.top, "-c", _CHECKED.format(modules=modules), str(scene.top)),
        lambda scene: software.environment(scene.top),
        quick=quick,
        over_links=over_links,
    )


def _generating(scene: Scene) -> Sequence[str]:
    return software.command(scene.top, str(ANALYSIS), str(EVENTS), str(scene.scratch))


def _starting(scene: Scene) -> Sequence[str]:
    """The program that starts them is not of the tree, nor its environment theirs."""
    settings = [f"{name}={value}" for name, value in software.environment(scene.top).items()]
    words = software.command(scene.top, "-c", _CHECKED.format(modules=_BY_EACH), str(scene.top))
    return [*inside.start("many"), str(PROCESSES), "env", *settings, *words]


WORKLOADS = (
    importing("numpy", PYTHON, "numpy", quick=True, over_links=True),
    importing("scientific", SOFTWARE, "scipy.stats, sympy, networkx", over_links=True),
    importing("pandas", SOFTWARE, "pandas"),
    importing("sklearn", SOFTWARE, "sklearn.ensemble"),
    importing("hep", EXPERIMENTS, "awkward, uproot"),
    Workload(
        "pythia",
        f"{EVENTS} collisions generated, jets found, a ROOT file written: interpreter, packages and data from the tree",
        EXPERIMENTS,
        _generating,
        lambda scene: software.environment(scene.top),
        over_links=True,
    ),
    Workload(
        "dlopen",
        "all shared libraries of its packages mapped and linked into one process",
        SOFTWARE,
        inside.program("shared_libraries"),
        inside.environment,
    ),
    Workload(
        "many-starts",
        f"{PROCESSES} interpreters of the tree start at once, each imports {_BY_EACH}",
        PYTHON,
        _starting,
        inside.environment,
        needs=("env",),
    ),
)
