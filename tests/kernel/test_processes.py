"""Processes that end by themselves, that have to be ended, and that end with their parent."""

import errno
import os
import signal
import subprocess
import sys

import pytest
from processes import ENVIRONMENT

from cvfs.kernel.processes import has_ended, see_off

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
NO_PROCESS = 2**22 + 1


@pytest.fixture(params=["descriptors", "none"], autouse=True)
def descriptors(request, monkeypatch):
    """Older kernels, and some sandboxes, have no descriptors of processes."""

    def refuse(_pid):
        raise OSError(errno.ENOSYS, "Function not implemented")

    if request.param == "none":
        monkeypatch.setattr(os, "pidfd_open", refuse)


@pytest.fixture
def stubborn():
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


def test_one_that_lives(stubborn):
    assert not has_ended(stubborn.pid, 0)
    stubborn.kill()
    assert has_ended(stubborn.pid, 60)
    assert has_ended(NO_PROCESS, 0)


def test_one_that_has_to_be_ended(stubborn):
    stubborn.terminate()
    see_off(stubborn.pid, 0.01)
    assert stubborn.wait(60) == -signal.SIGKILL


def test_one_that_ends_by_itself_is_not_killed():
    with subprocess.Popen(["true"]) as process:
        see_off(process.pid, 60)
        assert process.wait(60) == 0
    see_off(NO_PROCESS, 0)


WITH_PARENT = """
import os, signal
from cvfs.kernel.processes import end_with_parent
parent, (reader, writer) = os.getpid(), os.pipe()
child = os.fork()
if not child:
    end_with_parent(parent, signal.SIGTERM)
    os.write(writer, b"x")
    signal.pause()
os.read(reader, 1)
print(child, flush=True)
"""


def test_one_that_ends_with_its_parent():
    done = subprocess.run([sys.executable, "-c", WITH_PARENT], env=ENVIRONMENT, capture_output=True, timeout=60)
    assert has_ended(int(done.stdout), 60)


def test_one_whose_parent_has_ended_already():
    script = f"from cvfs.kernel.processes import end_with_parent; end_with_parent({os.getpid()}, 15)"
    done = subprocess.run(["sh", "-c", f'"{sys.executable}" -c "{script}"; exit $?'], env=ENVIRONMENT, timeout=60)
    assert done.returncode == 128 + signal.SIGTERM
