"""Lines of shell: how long they took. What they need of this machine's disk (compilers, shells) is in memory before."""

import subprocess
import sys

from benchmarks.inside import clock


def main(waking: str, lines: str, *words: str) -> None:
    """Arguments: lines that start each program once, the lines that are measured, the words that both are given."""
    _run(waking, words)
    with clock.timed():
        _run(lines, words)


def _run(lines: str, words: tuple[str, ...]) -> None:
    done = subprocess.run(["bash", "-c", lines, "bash", *words], check=False)
    if done.returncode:
        sys.exit(f"bash: exit status {done.returncode}: {lines.splitlines()[-1]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
