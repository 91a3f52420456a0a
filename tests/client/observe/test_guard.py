"""The watchdog's own process, without a crash: goodbyes, deaths, traces that have no end. Crashes are among the system tests."""

import os
import signal
import subprocess
import sys

import pytest

from cvfs.client.observe.guard import GOODBYE, Guard
from cvfs.client.observe.watchdog import trace_path


@pytest.fixture
def victim():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def guarded(tmp_path, victim, monkeypatch):
    """A guard of a process, with its pipe; what it does after a crash is noted."""
    reader, writer = os.pipe()
    watched = os.pidfd_open(victim.pid)
    task = {"trace": str(tmp_path / "trace"), "mount": str(victim.pid), "fqrn": "sw", "mountpoint": str(tmp_path)}
    guard = Guard(watched, reader, task)
    told = []
    monkeypatch.setattr(guard, "_tell", told.append)
    yield guard, writer, told, tmp_path / "trace"
    for descriptor in (reader, watched):
        os.close(descriptor)


def test_a_goodbye_ends_it(guarded):
    guard, writer, told, trace = guarded
    os.write(writer, GOODBYE)
    os.close(writer)
    guard.work()
    assert told == []
    assert not trace.exists()


def test_a_trace_before_the_goodbye_is_dropped_with_it(guarded):
    """Whoever says goodbye has nothing to complain about."""
    guard, writer, told, _ = guarded
    os.write(writer, b"thread" + GOODBYE)
    os.close(writer)
    guard.work()
    assert told == []


@pytest.mark.parametrize("closes", [True, False])
def test_a_death_is_told(guarded, victim, closes):
    """With the pipe closed, or held open by a child of the dead."""
    guard, writer, told, trace = guarded
    os.write(writer, b"Fatal Python error: Segmentation fault\n")
    if closes:
        os.close(writer)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    guard.work()
    if not closes:
        os.close(writer)
    assert "Fatal Python error: Segmentation fault\n" in trace.read_text()
    assert f"process {victim.pid} of sw ended without a goodbye" in trace.read_text()
    assert len(told) == 1
    assert "its mount point was clean already" in told[0]


def test_a_workspace_that_is_gone_changes_nothing(guarded, victim):
    guard, writer, told, _ = guarded
    guard._task["trace"] = "/none/trace"
    os.close(writer)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    guard.work()
    assert len(told) == 1


def test_traces_do_not_fill_the_disk(guarded, monkeypatch):
    guard, writer, _, trace = guarded
    monkeypatch.setattr("cvfs.client.observe.guard._LONGEST_TRACE", 100)
    for _ in range(50):
        guard._keep(b"x" * 60)
    os.close(writer)
    assert trace.stat().st_size == 120


def test_the_line_goes_to_the_log_files_too(tmp_path):
    log, pipe = tmp_path / "log", tmp_path / "pipe"
    log.write_text("before\n")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    logs = ["/none/log", str(tmp_path), str(pipe), str(log), str(tmp_path / "new")]
    Guard(-1, reader, {"prefix": "sw", "facility": 5, "logs": logs})._tell("it died")
    assert os.read(reader, 100) == b""
    os.close(reader)
    first, second = log.read_text().splitlines()
    assert first == "before"
    assert second.endswith(f" ERROR cvfs.client.observe.guard [{os.getpid()}]: it died")
    assert (tmp_path / "new").read_text().endswith("it died\n")


def test_where_traces_are():
    assert trace_path("/w", "sw.example.org") == "/w/stacktrace.sw.example.org"
