"""Which words mean which command, and what is said to those that mean none."""

import pytest

from cvfs.client.control import Answer
from cvfs.client.talk.commands import Command, Commands, number
from cvfs.errors import UsageError

COMMANDS = Commands(
    [
        Command("pid", lambda rest: f"pid {rest}\n", help="gets the pid"),
        Command("pid cachemgr", lambda _: "cachemgr\n"),
        Command("cleanup", lambda rest: Answer(f"cleanup {rest}\n", data=rest), "<MB>"),
        Command("cleanup rate", lambda rest: f"rate {rest}\n", "<period>"),
        Command("remount", lambda rest: f"remount {rest}\n", "[sync]"),
        Command("pin", lambda rest: f"pin {rest}\n", "<path>"),
    ]
)


@pytest.mark.parametrize(
    ("line", "text", "good"),
    [
        ("pid", "pid \n", True),
        ("  pid  cachemgr ", "cachemgr\n", True),
        ("pid x", "unknown command\n", False),
        ("cleanup", "Usage: cleanup <MB>\n", False),
        ("cleanup 5", "cleanup 5\n", True),
        ("cleanup rate", "Usage: cleanup rate <period>\n", False),
        ("cleanup rate 5", "rate 5\n", True),
        ("remount", "remount \n", True),
        ("remount sync", "remount sync\n", True),
        ("pin  a  file ", "pin a  file\n", True),
        ("nonsense", "unknown command\n", False),
        ("PID", "unknown command\n", False),
        ("clean up", "unknown command\n", False),
    ],
)
def test_the_longest_words_that_fit_are_meant(line, text, good):
    answer = COMMANDS.respond(line)
    assert (answer.text, answer.good) == (text, good)


@pytest.mark.parametrize("line", ["", "  ", "help"])
def test_help_names_every_command(line):
    answer = COMMANDS.respond(line)
    assert answer.good
    assert answer.data == ["cleanup", "cleanup rate", "help", "pid", "pid cachemgr", "pin", "remount"]
    assert "  pid                                  gets the pid\n" in answer.text
    assert "  cleanup <MB>\n" in answer.text


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("12", 12), ("007", 7)])
def test_numbers(text, value):
    assert number(text, "MB") == value


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "1 2", "9" * 16, "²"])
def test_what_is_no_number(text):
    with pytest.raises(UsageError, match="a number of MB from 0 on is needed"):
        number(text, "MB")


def test_a_number_that_is_too_small():
    with pytest.raises(UsageError, match="from 1 on"):
        number("0", "MB", least=1)
