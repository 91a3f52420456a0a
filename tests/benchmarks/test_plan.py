"""Which works, states and links meet in a run."""

from pathlib import Path

import pytest

from benchmarks.model import Link, State
from benchmarks.plan import FULL_RTTS, Wishes, names, planned
from benchmarks.workloads import replay
from benchmarks.workloads.named import WORKLOADS
from cvfs.errors import UsageError

WORK = Path("/nowhere")


def plan(**wishes):
    """Keys in the order of the run; of what reads only."""
    return [contest.key for contest in planned(Wishes(**wishes), [], WORK) if contest.key.state is not State.NONE]


def named_in(keys):
    return {key.workload for key in keys} & set(WORKLOADS)


def test_nothing_named_is_the_quick_set():
    assert named_in(plan()) == {name for name, workload in WORKLOADS.items() if workload.quick}


def test_full_is_the_full_set():
    assert named_in(plan(full=True)) == {name for name, workload in WORKLOADS.items() if workload.full}


def test_what_is_named_is_all_there_is():
    found = [(key.workload, key.state) for key in plan(workloads=["find"])]
    assert found == [("find", State.COLD), ("find", State.WARM), ("find", State.HOT)]


def test_only_what_is_cold_is_run_behind_every_link():
    links = [Link(), Link(20.0)]
    keys = plan(workloads=["find"], links=links)
    assert [key.link for key in keys if key.state is State.COLD] == links
    assert [key.link for key in keys if key.state is not State.COLD] == [Link(), Link()]


def test_of_a_set_only_some_are_run_behind_links():
    behind = {key.workload for key in plan(full=True) if key.link.rtt}
    assert behind & set(WORKLOADS) == {
        name for name, workload in WORKLOADS.items() if workload.over_links and workload.full
    }


def test_what_is_named_of_the_full_set_has_its_links():
    keys = plan(full=True, workloads=["import-scientific", "find"])
    assert {key.link.rtt for key in keys if key.workload == "find"} == {0.0}
    assert {key.link.rtt for key in keys if key.workload == "import-scientific"} == {0.0, *FULL_RTTS}


def test_a_trace_is_replayed_alone_or_beside_what_is_named():
    recorded = replay.of(Path("my.csv"))
    assert {key.workload for key in plan(replays=[recorded])} == {"replay-my"}
    assert {key.workload for key in plan(replays=[recorded], workloads=["find"])} == {"replay-my", "find"}


def test_names_that_mean_nothing_are_refused():
    with pytest.raises(UsageError, match="nonsense: no such workload"):
        planned(Wishes(["find", "nonsense"]), [], WORK)


def test_every_name_says_what_it_is():
    assert all(names().values())
