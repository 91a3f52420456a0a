"""The timers of server/deploy: systemd accepts them, and what they and cron run is a command that there is."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from cvfs_tools.server_command import main

DEPLOY = Path(__file__).parents[2] / "server/deploy"
SERVICES = sorted(DEPLOY.glob("*.service"))
TIMERS = sorted(DEPLOY.glob("*.timer"))


def _unit(path: Path) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str
    unit.read_string(path.read_text())
    return unit


def _runs(command: str, tmp_path, monkeypatch) -> None:
    """It succeeds on a machine without repositories, and says nothing."""
    program, *words = command.split()
    assert program == "cvfs-server"
    monkeypatch.setenv("CVFS_ROOT", str(tmp_path))
    done = CliRunner().invoke(main, words, prog_name=program)
    assert (done.exit_code, done.output) == (0, "")


def test_there_are_some():
    assert SERVICES
    assert [timer.stem for timer in TIMERS] == [service.stem for service in SERVICES]


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_a_service_runs_a_command_that_there_is(service, tmp_path, monkeypatch):
    unit = _unit(service)
    assert unit["Service"]["Type"] == "oneshot"
    # Every wait has an end.
    assert "TimeoutStartSec" in unit["Service"]
    _runs(unit["Service"]["ExecStart"], tmp_path, monkeypatch)


@pytest.mark.parametrize("timer", TIMERS, ids=lambda path: path.name)
def test_a_timer_makes_up_for_what_it_missed(timer):
    unit = _unit(timer)
    assert unit["Timer"]["Persistent"] == "true"
    assert unit["Install"]["WantedBy"] == "timers.target"


@pytest.mark.parametrize("cron", sorted(DEPLOY.glob("*.cron")), ids=lambda path: path.name)
def test_a_line_of_cron_runs_a_command_that_there_is(cron, tmp_path, monkeypatch):
    lines = [line for line in cron.read_text().splitlines() if line and not line.startswith("#")]
    jobs = [line for line in lines if not re.match(r"[A-Z]+=", line)]
    assert any(line.startswith("PATH=") for line in lines)
    for job in jobs:
        *times, user, command = job.split(None, 6)
        assert (len(times), user) == (5, "root")
        assert all(re.fullmatch(r"\*|[0-9]{1,2}", time) for time in times)
        _runs(command, tmp_path, monkeypatch)
    assert jobs


def test_systemd_accepts_them(tmp_path):
    """With a program that is there in place of ours, which need not be installed."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in (*SERVICES, *TIMERS):
        text = unit.read_text().replace("ExecStart=cvfs-server", f"ExecStart={shutil.which('true')}")
        (tmp_path / unit.name).write_text(text)
    units = [str(tmp_path / unit.name) for unit in (*SERVICES, *TIMERS)]
    command = [analyze, "verify", "--man=no", *units]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    # Other units of the machine may be complained about.
    assert [line for line in done.stderr.splitlines() if str(tmp_path) in line or "cvfs-" in line] == []
