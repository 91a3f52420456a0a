"""The control socket: what it answers, and whom it does not wait for."""

import contextlib
import errno
import os
import shutil
import socket
import stat
import threading
import time
import types

import pytest

from cvfs.client import control
from cvfs.client.control import Answer, ControlServer, ask, socket_path
from cvfs.errors import Unreachable, UsageError


def respond(line: str) -> Answer:
    """A few commands that behave well or badly."""
    first, _, rest = line.partition(" ")
    if first == "hello":
        return Answer(f"hello {rest}\n")
    if first == "two":
        return Answer("1\n2\n")
    if first == "data":
        return Answer("some text\n", data={"a": [1, 2]}, good=False)
    if first == "refuse":
        raise Unreachable("no server")
    if first == "long":
        return Answer("x" * 5_000_000)
    return Answer(f"unknown: {COMMANDS[first]}")


COMMANDS: dict[str, str] = {}


@pytest.fixture
def place(tmp_path) -> str:
    return socket_path(str(tmp_path / "run"), "sw.example.org")


@pytest.fixture
def server(place):
    running = ControlServer(place, respond)
    running.start()
    yield running
    running.stop()


def connect(place: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(place)
    return connection


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("hello a b", "hello a b\n"),
        ("  hello  a b ", "hello  a b\n"),
        ("refuse", "Failed (no server)\n"),
        ("long", "x" * 5_000_000),
        ("--json two", '{"ok": true, "answer": ["1", "2"]}\n'),
        ("--json data", '{"ok": false, "answer": {"a": [1, 2]}}\n'),
        ("--json refuse", '{"ok": false, "answer": ["Failed (no server)"]}\n'),
    ],
)
def test_answers(server, command, answer):
    assert ask(server.path, command) == answer


def test_only_the_owner_may_use_it(server):
    status = os.stat(server.path)
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


def test_a_command_in_pieces_is_one_command(server):
    with connect(server.path) as connection:
        for piece in (b"hel", b"lo ", b"you\nignored"):
            connection.sendall(piece)
        assert connection.recv(100) == b"hello you\n"


@pytest.mark.parametrize("end", [b"", b"\0"])
def test_the_original_ends_a_command_with_nothing(server, end):
    with connect(server.path) as connection:
        connection.sendall(b"hello you" + end)
        assert connection.recv(100) == b"hello you\n"


def test_a_command_may_end_with_the_stream(server):
    with connect(server.path) as connection:
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b"hello \n"


@pytest.mark.parametrize("garbage", [b"\0\xff\xfe\n", b"x" * 100_000, b"\n\n\n", b"hello " + b"y" * 4090])
def test_garbage_gets_an_answer_or_is_hung_up_on(server, garbage):
    with connect(server.path) as connection:
        try:
            connection.sendall(garbage)
            while connection.recv(65536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert ask(server.path, "hello") == "hello \n"


def test_a_client_that_says_nothing_is_given_up(server, monkeypatch):
    monkeypatch.setattr(control, "_PATIENCE", 0.05)
    with connect(server.path):
        assert ask(server.path, "hello") == "hello \n"


def test_a_client_that_dribbles_is_given_up(server, monkeypatch):
    monkeypatch.setattr(control, "_PATIENCE", 0.2)
    stopped = threading.Event()
    with connect(server.path) as slow:

        def dribble() -> None:
            try:
                while not stopped.wait(0.02):
                    slow.sendall(b"x")
            except OSError:
                stopped.set()

        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            assert ask(server.path, "hello", timeout=20) == "hello \n"
            assert stopped.wait(20), "the server went on listening to the slow client"
        finally:
            stopped.set()
            thread.join()


def test_a_client_that_hangs_up_harms_nobody(server):
    for _ in range(3):
        with connect(server.path) as connection:
            connection.sendall(b"long\n")
    assert ask(server.path, "hello") == "hello \n"


def test_a_command_that_crashes_harms_nobody(server):
    assert ask(server.path, "crash") == ""
    assert ask(server.path, "hello") == "hello \n"


def test_a_command_that_takes_its_time_holds_up_nobody(place):
    """And there is an end to how many there may be."""
    release, waiting = threading.Event(), threading.Semaphore(0)

    def slow(line: str) -> Answer:
        if line == "slow":
            waiting.release()
            release.wait(60)
        return Answer(f"{line}\n")

    server = ControlServer(place, slow)
    server.start()
    callers = []
    try:
        for _ in range(control.MAX_CONNECTIONS - 1):
            callers.append(connect(place))
            callers[-1].sendall(b"slow\n")
            assert waiting.acquire(timeout=20)
        assert ask(place, "quick") == "quick\n"
        # The answer is here a moment before its place is free again.
        deadline = time.monotonic() + 20
        while sum(thread.name == "command" for thread in threading.enumerate()) >= control.MAX_CONNECTIONS:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        callers.append(connect(place))
        callers[-1].sendall(b"slow\n")
        assert waiting.acquire(timeout=20)
        assert ask(place, "quick") == "Failed (too many commands at a time)\n"
        release.set()
        assert [caller.recv(100) for caller in callers] == [b"slow\n"] * control.MAX_CONNECTIONS
    finally:
        release.set()
        for caller in callers:
            caller.close()
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_socket_belongs_to_whom_it_is_given(place):
    server = ControlServer(place, respond, owner=12345)
    server.start()
    status = os.stat(place)
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (12345, 0o600)
    server.stop()


def test_the_socket_of_a_killed_mount_is_replaced(place):
    os.makedirs(os.path.dirname(place))
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(place)
    dead.close()
    server = ControlServer(place, respond)
    server.start()
    assert server.path == place
    assert ask(place, "hello") == "hello \n"
    server.stop()
    assert not os.path.exists(place)


def test_sockets_that_killed_mounts_left_beside_it_go(server, place):
    second, strange = f"{place}.123", f"{place}.txt"
    for path in (second, strange):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
    with open(f"{place}.77", "w") as file:
        file.write("no socket")
    with socket.create_server(f"{place}.55", family=socket.AF_UNIX):
        third = ControlServer(place, respond)
        third.start()
        third.stop()
        assert sorted(os.listdir(os.path.dirname(place))) == sorted(
            os.path.basename(path) for path in (place, strange, f"{place}.77", f"{place}.55")
        )
    assert ask(place, "hello") == "hello \n"


def test_a_mount_that_is_too_busy_to_take_connections_keeps_its_socket(place):
    os.makedirs(os.path.dirname(place))
    with contextlib.ExitStack() as open_ones:
        listener = open_ones.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(place)
        listener.listen(0)
        full = False
        while not full:
            caller = open_ones.enter_context(socket.socket(socket.AF_UNIX))
            caller.setblocking(False)
            full = caller.connect_ex(place) == errno.EAGAIN
        second = ControlServer(place, respond)
        second.start()
        assert second.path == f"{place}.{os.getpid()}"
        second.stop()


def test_the_socket_of_a_living_mount_is_not(server, place):
    second = ControlServer(place, lambda _: Answer("second\n"))
    second.start()
    assert second.path == f"{place}.{os.getpid()}"
    assert ask(second.path, "hello") == "second\n"
    second.stop()
    assert ask(place, "hello") == "hello \n"


def test_a_socket_that_somebody_removed_is_made_again(server, place):
    server.revive()
    assert ask(place, "hello") == "hello \n"
    shutil.rmtree(os.path.dirname(place))
    with pytest.raises(Unreachable):
        ask(place, "hello")
    server.revive()
    assert ask(place, "hello") == "hello \n"
    server.stop()
    server.revive()
    assert not os.path.exists(place)


def test_a_file_in_the_way_is_not_touched(place):
    os.makedirs(os.path.dirname(place))
    with open(place, "w") as file:
        file.write("precious")
    with pytest.raises(UsageError, match="no control socket possible"):
        ControlServer(place, respond).start()
    with open(place) as file:
        assert file.read() == "precious"


def test_a_directory_too_long_for_a_socket_s_address(tmp_path):
    place = socket_path(str(tmp_path / ("x" * 120)), "sw.example.org")
    server = ControlServer(place, respond)
    server.start()
    assert ask(place, "hello") == "hello \n"
    second = ControlServer(place, respond)
    second.start()
    assert second.path != place
    second.stop()
    server.stop()
    assert os.listdir(tmp_path / ("x" * 120)) == []
    with pytest.raises(Unreachable):
        ask(place, "hello")


def test_a_name_too_long_for_a_socket(tmp_path):
    with pytest.raises(UsageError, match="no control socket possible: AF_UNIX path too long"):
        ControlServer(str(tmp_path / ("x" * 120)), respond).start()


def test_a_workspace_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="no control socket possible"):
        ControlServer(str(tmp_path / "file" / "socket"), respond).start()


def test_nobody_answers(tmp_path):
    with pytest.raises(Unreachable, match="is the repository mounted"):
        ask(str(tmp_path / "none"), "stat")


def test_an_answer_that_never_comes(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(Unreachable):
            ask(str(tmp_path / "s"), "stat", timeout=0.05)


def test_stop_without_start_and_twice(place):
    server = ControlServer(place, respond)
    server.stop()
    server.start()
    server.stop()
    server.stop()


def test_a_shortage_of_descriptors_passes(place, monkeypatch, caplog):
    shortage, accept = [OSError(errno.EMFILE, "Too many open files")], socket.socket.accept

    def scarce(self):
        if shortage:
            raise shortage.pop()
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", scarce)
    running = ControlServer(place, respond)
    running.start()
    try:
        assert ask(place, "hello a") == "hello a\n"
    finally:
        running.stop()
    assert "no connection can be taken: Too many open files" in caplog.text


def test_without_a_thread_the_command_is_refused_and_the_next_one_served(server, place, monkeypatch):
    class Never:
        def __init__(self, **_):
            pass

        def start(self):
            raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("cvfs.client.control.threading", types.SimpleNamespace(Thread=Never))
        assert ask(place, "hello a") == "Failed (too many commands at a time)\n"
    assert ask(place, "hello a") == "hello a\n"
