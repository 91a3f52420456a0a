"""The control socket: what it answers, and whom it does not wait for."""

import os
import socket
import stat
import threading

import pytest

from cvfs.client import control
from cvfs.client.control import ControlServer, ask, socket_path
from cvfs.errors import Unreachable, UsageError

COMMANDS = {
    "hello": lambda words: f"hello {' '.join(words)}\n",
    "refuse": lambda _: (_ for _ in ()).throw(Unreachable("no server")),
    "crash": lambda _: {}["bug"],
    "long": lambda _: "x" * 5_000_000,
}


@pytest.fixture
def place(tmp_path) -> str:
    return socket_path(str(tmp_path / "run"), "sw.example.org")


@pytest.fixture
def server(place):
    running = ControlServer(place, COMMANDS)
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
        ("refuse", "failed: no server\n"),
        ("what", "unknown command, known are: crash hello long refuse\n"),
        ("", "unknown command, known are: crash hello long refuse\n"),
        ("long", "x" * 5_000_000),
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


def test_the_socket_of_a_killed_mount_is_replaced(place):
    os.makedirs(os.path.dirname(place))
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(place)
    dead.close()
    server = ControlServer(place, COMMANDS)
    server.start()
    assert server.path == place
    assert ask(place, "hello") == "hello \n"
    server.stop()
    assert not os.path.exists(place)


def test_the_socket_of_a_living_mount_is_not(server, place):
    second = ControlServer(place, {"hello": lambda _: "second\n"})
    second.start()
    assert second.path == f"{place}.{os.getpid()}"
    assert ask(second.path, "hello") == "second\n"
    second.stop()
    assert ask(place, "hello") == "hello \n"


def test_a_file_in_the_way_is_not_touched(place):
    os.makedirs(os.path.dirname(place))
    with open(place, "w") as file:
        file.write("precious")
    with pytest.raises(UsageError, match="no control socket possible"):
        ControlServer(place, COMMANDS).start()
    with open(place) as file:
        assert file.read() == "precious"


def test_a_directory_too_long_for_a_socket_s_address(tmp_path):
    place = socket_path(str(tmp_path / ("x" * 120)), "sw.example.org")
    server = ControlServer(place, COMMANDS)
    server.start()
    assert ask(place, "hello") == "hello \n"
    second = ControlServer(place, COMMANDS)
    second.start()
    assert second.path != place
    second.stop()
    server.stop()
    assert os.listdir(tmp_path / ("x" * 120)) == []
    with pytest.raises(Unreachable):
        ask(place, "hello")


def test_a_name_too_long_for_a_socket(tmp_path):
    with pytest.raises(UsageError, match="no control socket possible: AF_UNIX path too long"):
        ControlServer(str(tmp_path / ("x" * 120)), COMMANDS).start()


def test_a_workspace_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="no control socket possible"):
        ControlServer(str(tmp_path / "file" / "socket"), COMMANDS).start()


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
    server = ControlServer(place, COMMANDS)
    server.stop()
    server.start()
    server.stop()
    server.stop()
