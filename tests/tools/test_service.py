"""`cvfs service` without a mount: what it refuses, what it tries again, how it ends."""

import os
import signal
import subprocess

import pytest
from processes import CVFS, ENVIRONMENT

from cvfs_tools.service import Kept, Service

FQRN = "sw.example.org"
PLAIN = {name: text for name, text in ENVIRONMENT.items() if not name.startswith(("CVMFS_", "CVFS_"))}


def test_pauses_grow_and_begin_anew_after_a_good_while():
    kept, now, pauses = Kept(FQRN, f"/cvmfs/{FQRN}"), 1000.0, []
    for _ in range(8):
        kept.begun = now
        pauses.append(kept.ended(now + 0.1))
        now = kept.due
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    kept.begun = now
    assert kept.ended(now + 61) == 1
    assert (kept.pid, kept.due) == (0, now + 62)


def test_what_cannot_be_started_now_is_tried_again(capsys):
    service = Service({FQRN: f"/cvmfs/{FQRN}"}, 0, ["/none/cvfs"])
    service._start_due()
    (kept,) = service._kept
    assert (kept.pid, kept.due - kept.begun, kept.pause) == (0, 1, 2)
    assert f"{FQRN} cannot be started: No such file or directory, once more in 1 s" in capsys.readouterr().err


def test_a_deadline_may_pass_between_two_looks_at_the_clock(monkeypatch):
    service = Service({FQRN: f"/cvmfs/{FQRN}"}, 0, [])
    service._kept[0].pid = 1
    monkeypatch.setattr(Service, "_bury", lambda *_: None)
    monkeypatch.setattr("cvfs_tools.service.time.monotonic", iter([0.0, 0.9, 1.1, 1.2, 1.3]).__next__)
    service._wait_all(1.0)


@pytest.fixture
def start(tmp_path):
    """Starts the service in surroundings where nothing is configured but what is given."""
    started = []

    def service(**variables):
        environment = PLAIN | {"CVFS_ETC": str(tmp_path), "CVMFS_CACHE_BASE": str(tmp_path / "cache")} | variables
        environment["CVMFS_MOUNT_DIR"] = str(tmp_path / "mounts")
        command = [*CVFS, "service"]
        started.append(
            subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
        )
        return started[-1]

    yield service
    for process in started:
        process.kill()
        process.communicate(timeout=30)


def test_without_repositories_it_says_what_to_set(start):
    process = start()
    assert process.communicate(timeout=60)[1] == (
        "cvfs: no repository to mount: set CVMFS_REPOSITORIES, names with commas between\n"
    )
    assert process.returncode == 2


def test_what_nobody_can_mount_ends_it_with_the_status_of_the_mount(start):
    process = start(CVMFS_REPOSITORIES=FQRN)
    log = process.communicate(timeout=60)[1]
    assert f"cvfs: {FQRN}: no server known, set CVMFS_SERVER_URL" in log
    assert f"cvfs service: {FQRN} cannot be mounted here (exit status 2), the service ends\n" in log
    assert process.returncode == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_may_pass_is_tried_again_until_a_signal_comes(start, number, tmp_path, fixture_repository):
    published = fixture_repository("tiny.example.org")
    process = start(
        CVMFS_REPOSITORIES="tiny.example.org,tiny.example.org",
        CVMFS_SERVER_URL=f"file://{tmp_path}/nothing",
        CVMFS_PUBLIC_KEY=str(published.public_key),
    )
    lines = []
    while not lines or "once more in 1 s" not in lines[-1]:
        lines.append(process.stderr.readline())
        assert lines[-1], lines
    assert sum("mounting tiny.example.org" in line for line in lines) == 1
    assert "ended with exit status 34, once more in 1 s" in lines[-1]
    os.kill(process.pid, number)
    assert process.wait(60) == 0
