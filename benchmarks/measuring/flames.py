"""Where a client spends its time: a flame graph of a running process, taken from outside; times no work, for sampling slows it.

The sampler is py-spy (the extra `bench`): it reads the stacks of a Python process by ptrace, so that the process needs nothing.
"""

import contextlib
import select
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.model import Unavailable

_PROGRAM = "py-spy"
_RATE = 250
"""Samples in a second: requests take a tenth of a millisecond, and there are many."""
_READY = b"Sampling process"
_PATIENCE = 30.0
_MISSING = f"{_PROGRAM} is not installed: `pip install '.[bench]'` in a clone, or `pip install {_PROGRAM}`, has it"


@contextlib.contextmanager
def recorded(pid: int, path: Path) -> Iterator[None]:
    """Writes the flame graph (SVG) of what the process does as long as the context lasts. Raises Unavailable.

    Threads that wait are not in it. A process that did nothing at all gives no file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Stopped for each sample, threads that wait would wake up and look busy.
    how = ["--nonblocking", "--rate", str(_RATE), "--format", "flamegraph"]
    words = [program(), "record", "--pid", str(pid), "--output", str(path), *how]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as sampler:
        try:
            _wait_ready(sampler)
            yield
        finally:
            _end(sampler)


def program() -> str:
    """Beside the interpreter that runs this, or on the path. Raises Unavailable."""
    found = shutil.which(_PROGRAM, path=sysconfig.get_path("scripts")) or shutil.which(_PROGRAM)
    if found is None:
        raise Unavailable(_MISSING)
    return found


def _wait_ready(sampler: "subprocess.Popen[bytes]") -> None:
    """Raises Unavailable if it ends, or does not say within the deadline that it samples."""
    output, deadline, said = sampler.stdout, time.monotonic() + _PATIENCE, b""
    assert output is not None
    while _READY not in said:
        left = deadline - time.monotonic()
        more = output.read1(4096) if left > 0 and select.select([output], [], [], left)[0] else b""  # type: ignore[attr-defined]
        if not more:
            raise Unavailable(f"{_PROGRAM} does not sample: {_last_line(said)}")
        said += more


def _end(sampler: "subprocess.Popen[bytes]") -> None:
    """It writes its picture when it is interrupted, or when the process has ended."""
    sampler.send_signal(signal.SIGINT)
    try:
        sampler.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        sampler.kill()
        sampler.communicate(timeout=_PATIENCE)


def _last_line(said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
