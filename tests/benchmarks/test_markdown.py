"""The page of a small report, to the letter; and single cells."""

from pathlib import Path

import pytest
from reports import SMALL, report, taken

from benchmarks.model import Key, Result, State
from benchmarks.report.markdown import page
from benchmarks.report.statistics import Spread
from benchmarks.report.tables import NOTHING, TIMES, figure, interval, table

EXPECTED = Path(__file__).parents[1] / "data" / "benchmarks" / "small_report.md"
TO = "\N{EN DASH}"


def test_page():
    """But for the goals, which are tested by themselves."""
    before, _, rest = page(SMALL, ["![a picture](a.svg)"]).partition("## Goals")
    after = rest[rest.index("## Plots") :]
    assert f"{before}(goals)\n\n{after}" == EXPECTED.read_text(encoding="utf-8")


def test_goals_in_a_page():
    lines = page(SMALL).splitlines()
    (zlib,) = (line for line in lines if line.startswith("| publish 100,050 files with zlib |"))
    assert (
        zlib
        == f"| publish 100,050 files with zlib | 2.20 {TIMES} cp -a | 2.10 (2.00{TO}2.20) | met, within noise of it |"
    )
    (replicate,) = (line for line in lines if line.startswith("| replicate"))
    assert replicate.endswith(f"| {NOTHING} | not measured: no such verb |")


def test_a_report_without_results_is_a_page_that_says_so():
    found = page(report(), level=3)
    assert "### Goals" in found
    assert "0 met, 0 not met" in found
    assert "Overhead" not in found


def test_a_reason_that_many_contests_share_is_told_once():
    many = report(*(Result(Key(f"work{at}"), {}, {"cvmfs2": "not installed"}) for at in range(40)))
    assert "- `cvmfs2`: not installed (work0 and 39 other contests)\n" in page(many)


def test_figures_that_all_share_are_said_once():
    alike = report(
        *(
            Result(Key("find", state), {"local": taken(1.0, files=9.0), "cvfs": taken(1.0, files=9.0)})
            for state in State
        )
    )
    assert "\n| find | all | files 9 |\n" in page(alike)
    other = report(Result(Key("find"), {"local": taken(1.0, files=9.0), "cvfs": taken(1.0, files=8.0)}))
    assert "\n| find | local | files 9 |\n| find | cvfs | files 8 |\n" in page(other)


FIGURES = [
    (0, "0"),
    (0.00001234, "1.2e-05"),
    (0.0123, "0.0123"),
    (0.5, "0.5"),
    (0.9994, "0.999"),
    (0.9997, "1.00"),
    (1, "1.00"),
    (1.234, "1.23"),
    (12.34, "12.3"),
    (123.4, "123"),
    (12345.6, "12,346"),
]


@pytest.mark.parametrize(("value", "text"), FIGURES)
def test_figure(value, text):
    assert figure(value) == text


INTERVALS = [
    (None, NOTHING),
    (Spread(1.5, 1.5, 1.5, 1), "1.50"),
    (Spread(1.5, 1.0, 20.0, 3), f"1.50 (1.00{TO}20.0)"),
]


@pytest.mark.parametrize(("value", "text"), INTERVALS)
def test_interval(value, text):
    assert interval(value) == text


def test_nothing_ends_a_cell_before_its_end():
    assert table(("a", "b"), [("x | y\nz", "1")]) == "| a | b |\n| --- | ---: |\n| x \\| y z | 1 |\n"
    assert table(("a",), []) == ""
