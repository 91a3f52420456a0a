"""One command, measured from outside: clock, processors, its own word, and its end."""

import os
import sys

import pytest

from benchmarks.measuring.running import figures, run
from benchmarks.model import Failed

SURROUNDINGS = {"PATH": os.environ["PATH"]}
PATIENCE = 60


def python(text):
    return [sys.executable, "-S", "-c", text]


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("", {}),
        ("seconds=1.5\n", {"seconds": 1.5}),
        ("files=12\nbytes=3e6\n", {"files": 12, "bytes": 3e6}),
        ("seconds=1\nseconds=2\n", {"seconds": 2}),
        ("/path/with=5\nseconds=\nseconds=fast\nSECONDS=1\n seconds=1\nseconds=1 s\n", {}),
        ("a=-1\n", {}),
        ("words around\nevents=200\nmore words", {"events": 200}),
    ],
)
def test_figures_are_lines_that_are_nothing_else(printed, expected):
    assert figures(printed) == expected


def test_a_known_delay_is_in_the_clock_and_not_in_the_processors(tmp_path):
    ran = run(["sleep", "0.3"], SURROUNDINGS, PATIENCE, tmp_path)
    assert ran.seconds >= 0.3
    assert ran.cpu_seconds < 0.3
    assert ran.figures == {}


def test_work_is_in_the_processors_that_of_children_too(tmp_path):
    busy = "import time\nwhile time.process_time() < 0.2: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {busy!r}])"
    for command in (busy, child):
        ran = run(python(command), SURROUNDINGS, PATIENCE, tmp_path)
        assert ran.cpu_seconds >= 0.2
        assert ran.seconds >= 0.2


def test_the_word_of_the_work_counts_before_the_clock(tmp_path):
    told = "print('seconds=0.125'); print('cpu_seconds=7'); print('files=3')"
    ran = run(python(told), SURROUNDINGS, PATIENCE, tmp_path)
    assert (ran.seconds, ran.cpu_seconds, ran.figures) == (0.125, 7, {"files": 3})


def test_what_is_said_after_much_else_is_heard(tmp_path):
    ran = run(python("print('x' * 10**6); print('seconds=2')"), SURROUNDINGS, PATIENCE, tmp_path)
    assert ran.seconds == 2


def test_output_is_a_file_that_tar_and_grep_do_not_take_for_the_null_device(tmp_path):
    told = "import os; print(f'regular={os.path.isfile(\"/proc/self/fd/1\"):d}')"
    assert run(python(told), SURROUNDINGS, PATIENCE, tmp_path).figures == {"regular": 1}


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["false"], "false: exit status 1"),
        (["sh", "-c", "echo first >&2; echo last >&2; exit 3"], "sh: exit status 3: last"),
        (["/nowhere/program"], "/nowhere/program: No such file or directory"),
        (["sh", "-c", "kill -SEGV $$"], "sh: exit status -11"),
    ],
)
def test_failures_are_told_in_one_line(command, complaint, tmp_path):
    with pytest.raises(Failed, match=f"^{complaint}$"):
        run(command, SURROUNDINGS, PATIENCE, tmp_path)


def test_who_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    command = ["sh", "-c", "sleep 1000 & echo $! > child; wait"]
    with pytest.raises(Failed, match=r"^sh: not done after 1 seconds$"):
        run(command, SURROUNDINGS, 1, tmp_path)
    assert is_gone(int((tmp_path / "child").read_text()))


def test_what_is_left_behind_is_ended(tmp_path):
    run(["sh", "-c", "sleep 1000 & echo $! > child"], SURROUNDINGS, PATIENCE, tmp_path)
    assert is_gone(int((tmp_path / "child").read_text()))


def is_gone(pid):
    from cvfs.kernel.processes import has_ended

    return has_ended(pid, 30)
