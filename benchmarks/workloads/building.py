"""Workloads of shells and compilers: many directories are searched for each name."""

from collections.abc import Mapping, Sequence

from benchmarks.trees import c_project, commands
from benchmarks.trees.named import C_PROJECT, COMMANDS
from benchmarks.workloads import inside
from benchmarks.workloads.base import Scene, Workload

SHELLS = 20
_MISSING = 50
_COMPILE = """\
set -e
for source in "$1"/src/*.c; do
    name=${source##*/}
    gcc -O1 $INCLUDED -c "$source" -o "$2/${name%.c}.o"
done
gcc -o "$2/program" "$2"/*.o
"$2/program"
"""
# The compiler and the headers of this machine.
_WAKE_COMPILER = """\
set -e
printf '#include <stdio.h>\\n#include <string.h>\\n#include <stdint.h>\\nint main(void) { return 0; }\\n' >"$2/wake.c"
gcc -O1 -o "$2/wake" "$2/wake.c"
rm "$2/wake" "$2/wake.c"
"""
# hash looks a name up in PATH without running it; it says no if one name of many is nowhere.
_WAKE_SHELL = "bash -c 'seq 1' >/dev/null"
_SHELL = f"""\
for number in $(seq {SHELLS}); do
    PATH=$SEARCHED:$PATH bash -c 'hash $FOUND && ! hash $MISSING 2>/dev/null && $RUN' || exit 1
done
"""


def _compiling(scene: Scene) -> Sequence[str]:
    return (*inside.start("script"), _WAKE_COMPILER, _COMPILE, str(scene.top), str(scene.scratch))


def _include_path(scene: Scene) -> Mapping[str, str]:
    directories = (scene.top / "include" / f"{number:02}" for number in range(c_project.COMPONENTS))
    return {"INCLUDED": " ".join(f"-I{directory}" for directory in directories), **inside.environment(scene)}


def _search_path(scene: Scene) -> Mapping[str, str]:
    directories = (scene.top / commands.directory(number) for number in range(commands.DIRECTORIES))
    return {
        **inside.environment(scene),
        "SEARCHED": ":".join(map(str, directories)),
        "FOUND": " ".join(commands.name(2 * number) for number in range(commands.LOOKED_UP)),
        "MISSING": " ".join(f"missing_{number:03}" for number in range(_MISSING)),
        "RUN": commands.name(commands.COMMANDS - 1),
    }


WORKLOADS = (
    Workload(
        "compile",
        f"{c_project.SOURCES + 1} C files compiled and linked, with {c_project.HEADERS} headers in"
        f" {c_project.COMPONENTS} directories of the tree; the program is run",
        C_PROJECT,
        _compiling,
        _include_path,
        quick=True,
        over_links=True,
        needs=("bash", "gcc"),
    ),
    Workload(
        "shell-path",
        f"{SHELLS} shells, each looks {commands.LOOKED_UP + _MISSING} commands up in a PATH of {commands.DIRECTORIES}"
        " directories of the tree and runs one",
        COMMANDS,
        lambda _: (*inside.start("script"), _WAKE_SHELL, _SHELL),
        _search_path,
        quick=True,
        over_links=True,
        needs=("bash", "seq"),
    ),
)
