"""A line of shell that prints one number: how long it took, and whether the number is that of the tree."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.inside import clock
from benchmarks.trees.account import Account, read

_SHELL = ("bash", "-c")
_PIPES = "set -o pipefail\n"
_BLOCK = 512


def main(arguments: Sequence[str]) -> None:
    """Arguments: the tree as it was made, a name of EXPECTED, the line of shell; `$1` in it is the tree that is measured."""
    made, expected, line, top = arguments
    account = read(Path(made))
    # The programs come from this machine's disk, which is not what is measured: they are in memory before.
    with tempfile.TemporaryDirectory() as empty:
        _run(line, empty)
    with clock.timed():
        done = _run(line, top)
    if done.returncode:
        sys.exit(f"{line}: exit status {done.returncode}")
    found = int(done.stdout)
    print(f"counted={found}")
    at_least, at_most = EXPECTED[expected](account)
    if not at_least <= found <= at_most:
        sys.exit(f"{line}: counted {found}, expected {expected}: {at_least} to {at_most}")


def _run(line: str, top: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_SHELL, _PIPES + line, "bash", top], stdout=subprocess.PIPE, text=True, check=False)


def _entries(account: Account) -> tuple[int, int]:
    """And the uppermost directory."""
    count = 1 + len(account.paths)
    return count, count


def _larger(account: Account) -> tuple[int, int]:
    """How large a directory is, file systems tell as they like."""
    return account.larger, 1 + len(account.paths)


def _listed(account: Account) -> tuple[int, int]:
    """Lines of `ls -lR`: names and totals of directories, an empty line between them, entries; nothing that is hidden."""
    shown = [path for path in account.paths if not _hidden(path)]
    directories = 1 + sum(1 for path in account.directories if not _hidden(path))
    count = len(shown) + 3 * directories - 1
    return count, count


def _hidden(path: str) -> bool:
    return any(name.startswith(".") for name in path.split("/"))


def _archived(account: Account) -> tuple[int, int]:
    """Bytes of a tar archive: long names take headers of their own, the end is padded to a record."""
    bare = _BLOCK * (1 + len(account.paths)) + account.bytes
    return bare, bare + _BLOCK * (4 * len(account.paths) + 64)


def _some(account: Account) -> tuple[int, int]:
    return 1, len(account.files)


EXPECTED: Mapping[str, Callable[[Account], tuple[int, int]]] = {
    "entries": _entries,
    "larger": _larger,
    "listed": _listed,
    "archived": _archived,
    "some": _some,
}
"""From the account of a tree to the least and the largest number that is right."""


if __name__ == "__main__":
    main(sys.argv[1:])
