"""Where messages go: the ring, syslog, files that turn over; hostile names cannot forge lines, and nobody is held up."""

import logging
import os
import re
import socket

import pytest

from cvfs.client.observe import logs as logs_module
from cvfs.client.observe.log_ring import LogRing, plain
from cvfs.client.observe.logs import LogFile, Logs
from cvfs.client.observe.syslog import Syslog
from cvfs.client.settings.mount import LogSettings
from cvfs.errors import UsageError


def record(message: str, level: int = logging.INFO, *arguments, error=None) -> logging.LogRecord:
    return logging.LogRecord("cvfs.test", level, __file__, 1, message, arguments, error)


def failure() -> tuple:
    try:
        int("bad\nthing")
    except ValueError as error:
        return (type(error), error, error.__traceback__)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (record("hello %s", logging.INFO, "you"), "hello you"),
        (record("two\nlines\x1b[31m"), "two\\x0alines\\x1b[31m"),
        (
            record("failed", logging.ERROR, error=failure()),
            "failed: ValueError: invalid literal for int() with base 10: 'bad\\nthing'",
        ),
        (record("%d", logging.INFO, "no number"), "%d ('no number',)"),
    ],
)
def test_a_message_is_one_line(given, text):
    assert plain(given) == text


def test_the_ring_keeps_the_last_newest_first():
    ring = LogRing(messages=3)
    for number in range(5):
        ring.handle(record(f"message {number}"))
    lines = ring.text().splitlines()
    assert [line.split("] ")[1] for line in lines] == ["message 4", "message 3", "message 2"]
    assert re.fullmatch(r"\[\w{3} \w{3} \d\d \d\d:\d\d:\d\d \d{4}\] message 4", lines[0])
    ring.handle(record("x" * 5000))
    assert len(ring.text().splitlines()[0]) < 1100


@pytest.fixture
def daemon(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "log"))
        listener.settimeout(20)
        yield listener


@pytest.mark.parametrize(
    ("level", "setting", "priority"),
    [
        (logging.INFO, 3, 5),
        (logging.INFO, 2, 6),
        (logging.INFO, 1, 7),
        (logging.WARNING, 3, 4),
        (logging.ERROR, 1, 3),
        (logging.DEBUG, 3, 7),
    ],
)
def test_syslog_priorities(daemon, tmp_path, level, setting, priority):
    syslog = Syslog("sw.example.org", setting, 5, str(tmp_path / "log"))
    syslog.emit(record("hello", level))
    expected = f"<{(16 + 5) * 8 + priority}>cvfs[{os.getpid()}]: (sw.example.org) hello"
    assert daemon.recv(9000).decode() == expected
    syslog.close()


def test_a_syslog_that_takes_nothing_holds_up_nobody(daemon, tmp_path):
    syslog = Syslog("sw", address=str(tmp_path / "log"))
    for _ in range(5000):
        syslog.emit(record("x" * 1000))
    assert syslog.dropped > 0
    syslog.close()


def test_a_syslog_daemon_that_was_started_anew(tmp_path):
    address = str(tmp_path / "log")
    syslog = Syslog("sw", address=address)
    syslog.emit(record("nobody is there"))
    assert syslog.dropped == 1
    for _ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(address)
            listener.settimeout(20)
            syslog.emit(record("again"))
            assert listener.recv(9000).endswith(b"again")
        os.unlink(address)
    syslog.close()


def test_a_file_turns_over(tmp_path):
    path = tmp_path / "log"
    file = LogFile(str(path), logging.INFO, limit=500)
    file.open()
    for number in range(20):
        file.handle(record(f"message {number:03d}"))
    file.close()
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1"]
    assert all(entry.stat().st_size <= 500 for entry in os.scandir(tmp_path))
    assert "message 019" in path.read_text()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO cvfs\.test \[\d+\]: message ", path.read_text())


def test_a_file_has_tracebacks_and_survives_a_full_disk(tmp_path):
    path = tmp_path / "log"
    file = LogFile(str(path), logging.DEBUG, limit=10**6)
    file.handle(record("failed", logging.ERROR, error=failure()))
    assert "Traceback (most recent call last)" in path.read_text()
    full = LogFile("/dev/full", logging.DEBUG, limit=10**6)
    full.handle(record("lost"))
    file.close()
    full.close()


@pytest.fixture
def root_logger():
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    yield root
    root.setLevel(before[0])
    assert [handler for handler in root.handlers if handler not in before[1]] == []


def test_logs_go_where_the_settings_say(tmp_path, monkeypatch, root_logger):
    monkeypatch.setattr(logs_module, "SYSLOG", str(tmp_path / "none"))
    settings = LogSettings(
        micro_syslog=str(tmp_path / "micro"), debug=str(tmp_path / "debug"), file=str(tmp_path / "f")
    )
    logs = Logs("sw.example.org", settings)
    logs.start()
    logging.getLogger("cvfs.x").info("one")
    logging.getLogger("cvfs.x").debug("two")
    assert [word for word in ("one", "two") if word in (tmp_path / "micro").read_text()] == ["one"]
    assert [word for word in ("one", "two") if word in (tmp_path / "f").read_text()] == ["one"]
    assert [word for word in ("one", "two") if word in (tmp_path / "debug").read_text()] == ["one", "two"]
    assert "one" in logs.ring.text()
    logs.apply(LogSettings(micro_syslog=str(tmp_path / "other")))
    logging.getLogger("cvfs.x").debug("three")
    logging.getLogger("cvfs.x").info("four")
    assert "four" in (tmp_path / "other").read_text()
    assert not any(word in (tmp_path / "debug").read_text() for word in ("three", "four"))
    logs.stop()


def test_a_log_that_cannot_be_written_is_refused_and_nothing_changes(tmp_path, monkeypatch, root_logger):
    monkeypatch.setattr(logs_module, "SYSLOG", str(tmp_path / "none"))
    logs = Logs("sw.example.org", LogSettings(micro_syslog=str(tmp_path / "micro")))
    logs.start()
    with pytest.raises(UsageError, match="none/log: no log can be written there: No such file"):
        logs.apply(LogSettings(debug=str(tmp_path / "none" / "log")))
    logging.getLogger("cvfs.x").info("still")
    assert "still" in (tmp_path / "micro").read_text()
    logs.stop()


def test_a_log_that_is_a_pipe_without_a_reader_is_refused_at_once(tmp_path, monkeypatch, root_logger):
    monkeypatch.setattr(logs_module, "SYSLOG", str(tmp_path / "none"))
    os.mkfifo(tmp_path / "pipe")
    logs = Logs("sw.example.org", LogSettings(debug=str(tmp_path / "pipe")))
    with pytest.raises(UsageError, match="pipe: no log can be written there: No such device or address"):
        logs.start()
    logs.stop()
