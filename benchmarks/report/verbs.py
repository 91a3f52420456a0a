"""The verbs that look at results: their options, and what does them; nothing is measured by them."""

import argparse
from pathlib import Path

from benchmarks.report import compare, results
from benchmarks.report.rendering import render, render_into


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """`compare` and `report`."""
    comparing = verbs.add_parser("compare", help="say what got faster or slower beyond noise", epilog=_STATUS)
    for name, about in (("before", "results of one run"), ("after", "results of another")):
        comparing.add_argument(name, type=Path, metavar=f"{name.upper()}.json", help=about)
    comparing.set_defaults(verb=_compare)
    reporting = verbs.add_parser("report", help="make page and plots of results again")
    reporting.add_argument("results", type=Path, metavar="RESULTS.json")
    where = reporting.add_mutually_exclusive_group()
    where.add_argument("--out", type=Path, metavar="DIR", help="report.md and plots [where the results are]")
    where.add_argument("--into", type=Path, metavar="PAGE.md", help="replace what is between the marks in a page")
    reporting.set_defaults(verb=_report)


_STATUS = "Exit status: 0, 1 if anything of cvfs got slower or larger beyond noise, 2 for what are no results."


def _compare(chosen: argparse.Namespace) -> int:
    before, after = results.load(chosen.before), results.load(chosen.after)
    print(compare.told(before, after), end="")
    return 1 if compare.got_worse(compare.compared(before, after)) else 0


def _report(chosen: argparse.Namespace) -> int:
    report = results.load(chosen.results)
    if chosen.into:
        render_into(report, chosen.into)
        print(chosen.into)
    else:
        print(render(report, chosen.out or chosen.results.parent))
    return 0
