"""Whose requests are our own: threads of this process, clients, what clients start, and nobody else."""

import os
import subprocess
import sys
import threading

import pytest

from cvfs.client.parent.kin import Kin

CHILD_OF_A_CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import os; print(os.getpid(), flush=True); input()'])"


@pytest.fixture
def started():
    """A process, and one that it started, which last until their input ends."""
    process = subprocess.Popen([sys.executable, "-c", CHILD_OF_A_CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        yield process.pid, int(process.stdout.readline())
        process.stdin.close()


def test_threads_of_this_process():
    assert Kin().includes(os.getpid())
    assert Kin().includes(threading.get_native_id())


def test_nobody_is_no_kin():
    assert not Kin().includes(0)
    assert not Kin().includes(2**22 + 1)


def test_clients_and_what_they_start(started):
    kin = Kin()
    client, helper = started
    assert not kin.includes(client)
    kin.add(client)
    assert kin.includes(client)
    assert kin.includes(helper)
    kin.remove(client)
    assert not kin.includes(helper)


def test_who_started_us_is_no_kin():
    kin = Kin()
    kin.add(2**22 + 1)
    assert not kin.includes(os.getppid())
