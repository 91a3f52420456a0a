"""Clients as processes: ready when they say so, failed with their last words, never waited for longer than allowed."""

import errno
import os
import sys
import time

import pytest

from cvfs.client.parent.clients import Client
from cvfs.errors import MountError

READY = """
import os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as news:
    news.sendto(b"STATUS=x\\nREADY=1", "\\0" + os.environ["NOTIFY_SOCKET"][1:])
"""


def client_of(program):
    return Client("sw.example.org", [sys.executable, "-c", program])


def wait(client, seconds=30.0):
    with client.start() as news:
        client.wait_ready(news, time.monotonic() + seconds)


def test_ready_when_it_says_so():
    client = client_of(READY + "\nsys.stdin.read()")
    wait(client)
    assert client.has_ended(30)
    assert "exit status 0" in client.bury()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('cvfs: sw.example.org: no server answers')", "sw.example.org: no server answers"),
        ("import sys; print('one', file=sys.stderr); sys.exit('two')", "two"),
        ("import sys; sys.exit(35)", "sw.example.org: its process ended with exit status 35"),
        ("import os; os.kill(os.getpid(), 9)", "sw.example.org: its process ended with signal 9"),
        ("import sys; sys.stderr.buffer.write(b'\\xff' * 5000)", "\ufffd" * 904),
    ],
)
def test_failed_with_its_last_words(program, words):
    with pytest.raises(MountError) as failure:
        wait(client_of(program))
    assert str(failure.value) == words


def test_not_ready_in_time():
    client = client_of("import time; time.sleep(600)")
    with pytest.raises(MountError, match="not mounted in time"):
        wait(client, seconds=0.01)
    assert not os.path.exists(f"/proc/{client.pid}")


def test_no_such_program():
    with pytest.raises(MountError, match="no process can be started"):
        wait(Client("sw.example.org", ["/nowhere/cvfs"]))


def test_a_process_whose_end_nobody_could_tell_is_not_left(monkeypatch):
    def refuse(_pid):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    client = client_of("import time; time.sleep(600)")
    with pytest.raises(MountError, match="no process can be started: Function not implemented"):
        wait(client)
    assert not os.path.exists(f"/proc/{client.pid}")
