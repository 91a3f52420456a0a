"""How commands write and fail: on closed, full and broken outputs, and on terminals."""

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from processes import ENVIRONMENT

from cvfs_tools import caching, cvfs_command, server_command, trusting
from cvfs_tools.running import write_line

# Buffered, as users run it: what is written late fails late.
BUFFERED = ENVIRONMENT | {"PYTHONUNBUFFERED": ""}
WRITER = """
from cvfs_tools.running import plain_errors, write_line
with plain_errors("writer"):
    for number in range({lines}):
        write_line(str(number))
"""


def written(redirection: str, lines: int = 3) -> subprocess.CompletedProcess:
    words = [sys.executable, "-c", WRITER.format(lines=lines)]
    shell = ["bash", "-c", f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}', "bash", *words]
    return subprocess.run(shell, capture_output=True, text=True, env=BUFFERED, timeout=60)


@pytest.mark.parametrize(
    ("redirection", "status", "message"),
    [
        ("", 0, ""),
        (">&-", 1, "writer: Bad file descriptor\n"),
        ("<&- >&-", 1, "writer: Bad file descriptor\n"),
        (">/dev/full", 1, "writer: No space left on device\n"),
        ("<&- 2>&-", 0, ""),
        (">&- 2>&-", 1, ""),
    ],
)
def test_an_output_that_takes_nothing_is_one_line_and_a_status(redirection, status, message):
    done = written(redirection)
    assert (done.returncode, done.stderr) == (status, message)
    assert done.stdout == ("" if status else "0\n1\n2\n")


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_went_away(lines):
    """The last line counts like the others: nothing is left to fail at the interpreter's end."""
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-c", WRITER.format(lines=lines)]
    with open(writer, "wb") as out:
        done = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, env=BUFFERED, timeout=60)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_terminal_gets_no_control_characters(monkeypatch):
    controller, terminal = os.openpty()
    with open(terminal, "w") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        write_line("a\x1b[31mb\nc\udcff")
        screen.flush()
        assert os.read(controller, 1000) == b"a\\x1b[31mb\\x0ac\\xdcff\r\n"
    os.close(controller)


def test_a_pipe_gets_every_byte(capfdbinary):
    write_line("a\x1b[31mb\nc\udcff")
    assert capfdbinary.readouterr().out == b"a\x1b[31mb\nc\xff\n"


@pytest.mark.parametrize("program", [cvfs_command.main, server_command.main, caching.cache, trusting.trust])
def test_a_list_of_verbs_has_whole_sentences(program):
    shown = CliRunner().invoke(program, ["--help"], terminal_width=60).stdout
    listed = " ".join(shown.partition("Commands:")[2].split())
    with click.Context(program) as context:
        for name in program.list_commands(context):
            sentence = " ".join(program.get_command(context, name).help.split("\n\n")[0].split()).partition(". ")[0]
            assert f"{name} {sentence.rstrip('.')}." in listed
