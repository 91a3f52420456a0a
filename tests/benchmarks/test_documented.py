"""The page about the benchmarks: its commands are those that there are, its results are there."""

import re
import shlex
from pathlib import Path

import pytest

from benchmarks import __main__ as command_line
from benchmarks.plan import names
from benchmarks.report.goals import GOALS, NOT_RUN, Verdict, outcomes
from benchmarks.report.rendering import BEGIN, END
from benchmarks.report.results import load

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "benchmarks.md"
TEXT = PAGE.read_text(encoding="utf-8")
BY_HAND = " ".join(TEXT.partition("## What holds it back")[2].split())
WRITTEN = TEXT.partition(BEGIN)[0] + TEXT.partition(END)[2] + (PROJECT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"python -m benchmarks ((?:run|compare|report|list)[^`\n]*)", WRITTEN)))


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_are_understood_and_name_workloads_that_exist(words):
    chosen = command_line._parser().parse_args(shlex.split(words, comments=True))
    assert set(getattr(chosen, "workloads", ())) <= set(names())


def test_there_are_commands_of_every_verb():
    assert {words.split()[0] for words in COMMANDS} == {"run", "compare", "report", "list"}


def test_every_goal_is_shown_of_a_full_run_and_each_that_is_missed_has_its_paragraph():
    report = load(PAGE.parent / "benchmarks" / "results.json")
    assert "--full" in report.command
    assert [goal.work for goal in GOALS if goal.work not in TEXT] == []
    assert [found.goal.work for found in outcomes(report) if found.why == NOT_RUN] == []
    missed = [found.goal.work for found in outcomes(report) if found.verdict is Verdict.MISSED]
    assert [work for work in missed if work not in BY_HAND] == []


def test_plots_and_results_are_there():
    shown = re.findall(r"\]\((benchmarks/[^)]+)\)", TEXT)
    assert "benchmarks/overhead.svg" in shown
    assert [name for name in shown if not (PAGE.parent / name).exists()] == []
    assert load(PAGE.parent / "benchmarks" / "results.json").results
