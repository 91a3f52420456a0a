"""A flame graph of a process that is busy; and what is said where there is no sampler, or nothing to be sampled."""

import os
import subprocess
import sys
import time

import pytest

from benchmarks.measuring import flames
from benchmarks.measuring.flames import recorded
from benchmarks.measuring.processes import processor_seconds
from benchmarks.model import Unavailable

BUSY = """
def baking_bread():
    while True:
        sum(range(1000))
print("busy", flush=True)
baking_bread()
"""


@pytest.fixture
def busy():
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"busy\n"
        yield process
        process.kill()


def sampler():
    try:
        return flames.program()
    except Unavailable as error:
        pytest.skip(str(error))


def test_it_shows_what_the_process_does(busy, tmp_path):
    sampler()
    path = tmp_path / "flames" / "bread.svg"
    try:
        with recorded(busy.pid, path):
            # Until it was busy for a while by its own clock, however little of the machine it gets.
            until = processor_seconds(busy.pid) + 0.2
            while processor_seconds(busy.pid) < until:
                time.sleep(0.01)
    except Unavailable as error:
        pytest.skip(f"no process may be looked into here: {error}")
    assert "baking_bread" in path.read_text()


def test_without_a_sampler_the_line_that_installs_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(flames.shutil, "which", lambda *_, **__: None)
    with pytest.raises(Unavailable, match="pip install"), recorded(os.getpid(), tmp_path / "none.svg"):
        pytest.fail("nothing samples")


def test_a_process_that_is_none_is_told_and_leaves_no_sampler(tmp_path):
    sampler()
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(Unavailable, match="does not sample"), recorded(process.pid, tmp_path / "none.svg"):
        pytest.fail("nothing samples")
    assert not (tmp_path / "none.svg").exists()
