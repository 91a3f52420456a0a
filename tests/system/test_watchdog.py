"""A mount whose process dies: the watchdog leaves a clean mount point and a stack trace, and nothing of itself."""

import os
import signal
import subprocess

import pytest
from processes import wait_until

pytestmark = pytest.mark.system


@pytest.fixture
def mounted(client, fixture_repository):
    published = fixture_repository("tiny.example.org")
    one = client(published, f"file://{published.root}")
    one.mount()
    return one


def is_mounted(place) -> bool:
    with open("/proc/self/mountinfo") as table:
        return any(f" {place} " in line for line in table)


def trace_of(client) -> str:
    path = client.cache / f"stacktrace.{client.fqrn}"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGKILL])
def test_a_crash_leaves_a_clean_mount_point(mounted, number):
    state = mounted.state()
    watchdog = int(mounted.command("pid watchdog"))
    assert watchdog not in (0, state["pid"])
    busy = os.open(mounted.path("chunked/random_1m"), os.O_RDONLY)
    os.kill(state["pid"], number)
    assert mounted.wait_gone(state["pid"])
    assert mounted.wait_gone(watchdog)
    with pytest.raises(OSError):
        os.close(busy)
    assert not is_mounted(mounted.mountpoint)
    assert os.listdir(mounted.mountpoint) == []
    trace = trace_of(mounted)
    assert f"process {state['pid']} of {mounted.fqrn} ended without a goodbye" in trace
    if number != signal.SIGKILL:
        assert "Fatal Python error: " in trace
        assert "in serve" in trace
    assert mounted.mount()["pid"] != state["pid"]
    assert mounted.read("chunked/random_1m")


@pytest.mark.both_bindings
@pytest.mark.parametrize("how", ["umount", "signal"])
def test_after_an_unmount_the_watchdog_goes_without_a_trace(mounted, how):
    pid, watchdog = mounted.state()["pid"], int(mounted.command("pid watchdog"))
    if how == "umount":
        subprocess.run(["umount", mounted.mountpoint], check=True)
    else:
        os.kill(pid, signal.SIGTERM)
    assert mounted.wait_gone(pid)
    assert mounted.wait_gone(watchdog)
    assert trace_of(mounted) == ""


def test_a_mount_that_fails_leaves_no_watchdog(client, fixture_repository):
    published = fixture_repository("tiny.example.org")
    one = client(published, f"file://{published.root}")
    assert one.try_mount(mountpoint=one.directory / "none").returncode == 2
    assert trace_of(one) == ""


def test_the_watchdog_goes_first(mounted):
    """The mount does without; nobody cleans up after it then."""
    watchdog = int(mounted.command("pid watchdog"))
    os.kill(watchdog, signal.SIGKILL)
    assert wait_until(lambda: mounted.command("pid watchdog") == "0\n")
    assert mounted.read("chunked/random_1m")
    pid = mounted.state()["pid"]
    os.kill(pid, signal.SIGUSR2)
    assert mounted.read("chunked/random_500k")
    subprocess.run(["umount", mounted.mountpoint], check=True)
    assert mounted.wait_gone(pid)


@pytest.mark.both_bindings
def test_a_signal_shows_what_the_threads_are_doing(mounted):
    os.kill(mounted.state()["pid"], signal.SIGUSR2)
    assert wait_until(lambda: "in serve" in trace_of(mounted))
    assert "in serve" in mounted.command("stack traces")
    assert mounted.read("chunked/random_1m")


@pytest.mark.parametrize("option", ["CVFS_WATCHDOG=no", "CVFS_WATCHDOG=off"])
def test_no_watchdog(client, fixture_repository, option):
    published = fixture_repository("tiny.example.org")
    one = client(published, f"file://{published.root}")
    one.mount("-o", option)
    assert one.command("pid watchdog") == "0\n"
