"""Reports as JSON, both ways; and documents that are none."""

import contextlib
import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.model import ClientCosts, Key, Link, Report, Result, Sample, State
from benchmarks.report.results import FORMAT, load, read, save, written
from cvfs.errors import UsageError

COSTS = ClientCosts(0.25, 50_000_000, 60_000_000, 1234, 17, 4_000_000, {"LOOKUP": 12, "READ": 40})
REPORT = Report(
    command="python -m benchmarks run find --repeat 2",
    started=1_790_000_000.5,
    seconds=61.25,
    setting={"machine": "a machine", "kernel": "Linux 6.18"},
    results=(
        Result(
            Key("find", State.COLD, Link(20.0, 100.0)),
            {"local": (Sample(0.5, 0.25), Sample(0.625, 0.25)), "cvfs": (Sample(1.5, 0.5, COSTS, {"files": 10.0}),)},
            {"cvmfs2": "no such program"},
        ),
        Result(Key("publish"), {"cp -a": (Sample(5.0, 1.0),)}),
    ),
)


def changed(**fields):
    return json.dumps(json.loads(written(REPORT)) | fields)


def changed_result(**fields):
    document = json.loads(written(REPORT))
    document["results"][0] |= fields
    return json.dumps(document)


def test_what_is_written_is_read():
    assert read(written(REPORT)) == REPORT


def test_a_saved_report_is_loaded_and_replaces_the_one_before(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("what an earlier run left")
    save(REPORT, path)
    assert load(path) == REPORT
    assert [each.name for each in tmp_path.iterdir()] == ["results.json"]


def test_what_later_versions_add_is_passed_over():
    assert read(changed(weather="fine")) == REPORT
    assert read(changed_result(colour="blue")) == REPORT


REFUSED = [
    ("", "no JSON"),
    ("{", "no JSON"),
    (b"\xff\xfe\xfd", "no JSON"),
    ("[" * 100_000, "no JSON"),
    ("[]", "the document is not an object"),
    ("{}", "the document, format is no number"),
    (changed(format=FORMAT + 1), f"format {FORMAT + 1}, this program reads {FORMAT}"),
    (changed(started="yesterday"), "started is no number"),
    (changed(seconds=float("nan")), "seconds is no number"),
    (changed(seconds=10**400), "seconds is no number"),
    (changed(started=1e400), "started is no number"),
    (changed(command="\ud800"), "command is not text"),
    (changed(setting={"\ud800": "x"}), "setting is not text"),
    (changed(seconds=True), "seconds is no number"),
    (changed(seconds=-1), "less than nothing"),
    (changed(setting={"kernel": 6}), "setting, kernel is not text"),
    (changed(results={}), "results is not a list"),
    (changed(results=[7]), "result 1 is not an object"),
    (changed_result(workload=None), "result 1, workload is not text"),
    (changed_result(state="lukewarm"), "lukewarm"),
    (changed_result(samples={"local": [{}]}), "result 1, samples, local, repetition 1, seconds is no number"),
    (
        changed_result(samples={"local": [{"seconds": 1, "cpu_seconds": 1, "client": [], "figures": {}}]}),
        "client is not",
    ),
]


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_what_is_no_report_is_refused_with_its_place(content, message):
    with pytest.raises(UsageError, match=message) as refused:
        read(content)
    assert "\n" not in str(refused.value)


def test_a_count_that_went_down_costs_nobody_a_run():
    """Counters of processes are differences, and kernels forget: nothing that was measured becomes unreadable by it."""
    costs = dataclasses.replace(COSTS, switches=-3, fuse={"READ": -1})
    down = dataclasses.replace(
        REPORT, results=(Result(Key("find"), {"cvfs": (Sample(1.0, 1.0, costs, {"left": -2.0}),)}),)
    )
    assert read(written(down)) == down


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["hot", "-", "local"])
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def places(document, way=()):
    """Where anything is in a document."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [way] + [place for key, value in inner for place in places(value, (*way, key))]


@given(st.data(), DOCUMENTS)
@settings(max_examples=150, deadline=None)
def test_whatever_stands_anywhere_in_a_document_is_read_or_refused(data, value):
    document = json.loads(written(REPORT))
    *way, last = data.draw(st.sampled_from(places(document)[1:]))
    holder = document
    for step in way:
        holder = holder[step]
    holder[last] = value
    with contextlib.suppress(UsageError):
        report = read(json.dumps(document))
        assert read(written(report)) == report


def test_a_name_that_cannot_be_shown_is_told_in_one_line():
    with pytest.raises(UsageError, match=r"samples, 'a\\nb' is not a list") as refused:
        read(changed_result(samples={"a\nb": 7}))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.json cannot be read"):
        load(tmp_path / "none.json")


def test_a_file_that_is_no_report_is_named(tmp_path):
    path = tmp_path / "some.json"
    path.write_text("{}")
    with pytest.raises(UsageError, match=r"some\.json: the document, format"):
        load(path)
