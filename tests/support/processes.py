"""Processes that tests start: the commands as users start them, in the surroundings of this process."""

import os
import sys
import threading
import time
from collections.abc import Callable

from cvfs.kernel import processes

CVFS = (sys.executable, "-c", "import sys; from cvfs_tools.cvfs_command import main; main(prog_name='cvfs')")

# Modules are those of this process, wherever the other one works.
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}


def has_ended(pid: int, timeout: float = 30) -> bool:
    """Whether a process is gone within that many seconds."""
    return processes.has_ended(pid, timeout)


def wait_until(condition: Callable[[], object], within: float = 60) -> bool:
    """Wait for what other processes are about to do; False if it does not come true within that many seconds."""
    deadline, pause = time.monotonic() + within, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.01)
    return True
