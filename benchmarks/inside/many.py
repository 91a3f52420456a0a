"""Many processes started at once, each of them a command with the tree's own interpreter; waits for all."""

import subprocess
import sys
from collections.abc import Sequence

from benchmarks.inside import clock

_PATIENCE = 500.0


def main(count: int, command: Sequence[str]) -> None:
    """Arguments: how many, the command."""
    with clock.timed():
        started = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(count)]
        ended = [process.wait(timeout=_PATIENCE) for process in started]
    clock.demand(ended, [0] * count, "exit statuses")
    print(f"processes={count}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
