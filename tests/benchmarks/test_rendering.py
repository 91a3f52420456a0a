"""Reports as files, and the verbs that make them."""

import json
import sys

import pytest
from reports import SMALL, report, taken

from benchmarks.__main__ import main
from benchmarks.model import Key, Result, State
from benchmarks.report.rendering import BEGIN, END, render, render_into
from benchmarks.report.results import load, save
from cvfs.errors import UsageError

FIND = Key("find", State.HOT)


def finding(ours):
    return report(Result(FIND, {"local": taken(1.0, 1.0, 1.0), "cvfs": taken(ours, ours, ours)}))


@pytest.fixture
def saved(tmp_path):
    def at(name, found):
        save(found, tmp_path / name)
        return str(tmp_path / name)

    return at


def test_a_page_in_a_directory(tmp_path):
    path = render(SMALL, tmp_path / "out")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Benchmarks of cvfs\n\n## This run\n")
    assert "](overhead.svg)" in text
    assert (tmp_path / "out" / "overhead.svg").exists()


PUBLISHING = report(Result(Key("publish"), {"cp -a": taken(5.0), "cvfs zlib": taken(10.0)}))


def test_a_part_of_a_page_is_replaced_and_what_people_wrote_stays(tmp_path):
    page = tmp_path / "measured.md"
    page.write_text(f"# Title\n\nby hand\n\n{BEGIN}\nthe run before\n{END}\n\nwhat holds it back\n", encoding="utf-8")
    render_into(PUBLISHING, page)
    once = page.read_text(encoding="utf-8")
    render_into(PUBLISHING, page)
    assert page.read_text(encoding="utf-8") == once
    assert once.startswith(f"# Title\n\nby hand\n\n{BEGIN}\n\n### This run\n")
    assert once.endswith(f"\n{END}\n\nwhat holds it back\n")
    assert "the run before" not in once
    assert "](measured/publishing.svg)" in once
    assert (tmp_path / "measured" / "publishing.png").exists()
    assert load(tmp_path / "measured" / "results.json") == PUBLISHING


@pytest.mark.parametrize("text", ["nothing", BEGIN, END, f"{END}\n{BEGIN}"])
def test_a_page_without_marks_stays_as_it_is(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"page\.md has no place for a report"):
        render_into(SMALL, page)
    assert page.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [page]


def test_without_matplotlib_there_are_tables_and_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "benchmarks.report.plots", raising=False)
    monkeypatch.delattr(sys.modules["benchmarks.report"], "plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = render(SMALL, tmp_path).read_text(encoding="utf-8")
    assert "No plots" in text
    assert "pip install" in text
    assert "## Times" in text


def test_the_verb_report(saved, tmp_path, capsys):
    assert main(["report", saved("results.json", PUBLISHING), "--out", str(tmp_path / "again")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'again' / 'report.md'}\n"
    assert (tmp_path / "again" / "publishing.svg").exists()


COMPARED = [
    (1.0, 0, "same: 1\n"),
    (0.5, 0, "better: find, hot, cvfs: time"),
    (2.0, 1, "worse: find, hot, cvfs: time"),
]


@pytest.mark.parametrize(("after", "status", "words"), COMPARED)
def test_the_verb_compare(saved, capsys, after, status, words):
    assert main(["compare", saved("a.json", finding(1.0)), saved("b.json", finding(after))]) == status
    assert capsys.readouterr().out.startswith(words)


def test_what_are_no_results_is_one_line_and_status_2(tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps({"format": 99}))
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err == (
        f"benchmarks: {tmp_path / 'a.json'}: results of format 99, this program reads 1: take the version that wrote them\n"
    )
