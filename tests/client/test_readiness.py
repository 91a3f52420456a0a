"""Processes that say that they are ready: whose word counts, how long it is waited for, to whom it is said."""

import errno
import os
import socket
import subprocess
import sys
import time

import pytest
from processes import ENVIRONMENT

from cvfs.client.readiness import VARIABLE, Readiness, tell_ready

TELL = "import os; from cvfs.client.readiness import tell_ready; tell_ready(os.environ)"
WAIT = "; import sys; sys.stdin.read()"


def wait(news, process, seconds=60.0):
    return news.wait(process.pid, time.monotonic() + seconds)


@pytest.fixture(params=["descriptors", "none"], autouse=True)
def descriptors(request, monkeypatch):
    """Older kernels, and some sandboxes, have no descriptors of processes."""

    def refuse(_pid):
        raise OSError(errno.ENOSYS, "Function not implemented")

    if request.param == "none":
        monkeypatch.setattr(os, "pidfd_open", refuse)


@pytest.fixture
def news():
    with Readiness.listen() as one:
        yield one


@pytest.fixture
def start(news):
    """Starts programs that can say something."""
    started = []

    def program(text):
        words = [sys.executable, "-c", text]
        environment = ENVIRONMENT | {VARIABLE: news.address}
        started.append(subprocess.Popen(words, env=environment, stdin=subprocess.PIPE))
        return started[-1]

    yield program
    for process in started:
        process.kill()
        process.communicate()


def test_it_is_heard(news, start):
    assert wait(news, start(TELL + WAIT))


def test_who_ends_without_a_word_is_not_waited_for(news, start):
    assert not wait(news, start("pass"))


def test_who_never_says_it_is_waited_for_no_longer(news, start):
    assert not wait(news, start("pass" + WAIT), 0.01)


@pytest.mark.parametrize("message", [b"STATUS=READY=1", b"READY=0", b"", b"x" * 10000])
def test_other_words_are_not_it(news, start, message):
    process = start("pass" + WAIT)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message, "\0" + news.address[1:])
        assert not wait(news, process, 0.1)
        sender.sendto(b"STATUS=good\nREADY=1", "\0" + news.address[1:])
    assert wait(news, process)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_what_others_say_does_not_count(news, start):
    """Anybody may send to an address without a file."""
    other = start(TELL.replace("tell_ready(os", "os.setresuid(65534, 65534, 65534); tell_ready(os"))
    assert other.wait(60) == 0
    process = start("pass" + WAIT)
    assert not wait(news, process, 0.1)


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/socket", "@nobody-listens"])
def test_nobody_who_wants_to_hear_it(address):
    tell_ready({VARIABLE: address} if address else {})


def test_a_socket_with_a_file(tmp_path):
    """As systemd has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        tell_ready({VARIABLE: f"{tmp_path}/socket"})
        assert listener.recv(100) == b"READY=1"
