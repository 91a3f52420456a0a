"""Processes that tests start: the commands as users start them, in the surroundings of this process."""

import os
import select
import sys

CVFS = (sys.executable, "-c", "import sys; from cvfs_tools.cvfs_command import main; main(prog_name='cvfs')")

# Modules are those of this process, wherever the other one works.
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}


def has_ended(pid: int, timeout: float = 30) -> bool:
    """Whether a process is gone within that many seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout)[0])
    finally:
        os.close(descriptor)
