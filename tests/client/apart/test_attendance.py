"""Ending as another process ended; waiting for one is in the system tests."""

import os
import signal
import subprocess
import sys

import pytest
from processes import ENVIRONMENT

from cvfs.client.apart.attendance import end_as


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_an_exit_status(code):
    assert end_as(code << 8) == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGINT])
def test_a_signal(number, tmp_path):
    """Whatever is done about it here; and no core is left."""
    script = f"""
import signal
from cvfs.client.apart.attendance import end_as, hold_signals
hold_signals()
if {number:d} != signal.SIGKILL:
    signal.signal({number:d}, signal.SIG_IGN)
end_as({number:d} | 0x80)
"""
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, cwd=tmp_path, timeout=60)
    assert done.returncode == -number
    assert os.listdir(tmp_path) == []
