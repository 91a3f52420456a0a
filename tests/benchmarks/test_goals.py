"""What a report shows of a goal; and that all goals speak of what can be measured."""

import pytest
from reports import COSTS, SMALL, report, taken

from benchmarks.model import Key, Result, State
from benchmarks.plan import FULL_RTTS, names
from benchmarks.publishing import named
from benchmarks.publishing.named import PUBLISHING
from benchmarks.report.goals import GOALS, Against, Goal, Measure, Verdict, outcomes
from benchmarks.report.statistics import Spread
from benchmarks.targets.named import NAMES
from benchmarks.workloads.named import WORKLOADS

FIND = Key("find", State.HOT)
LOCAL = Against(FIND, "local")
MEMORY = Measure(lambda sample: sample.client.resident if sample.client else None, "MB", 1e-6)

OUTCOMES = [
    ("met", Goal("", FIND, 0.7, against=LOCAL), Verdict.MET, Spread(0.5, 0.5, 0.75, 3), ""),
    ("not met", Goal("", FIND, 0.4, against=LOCAL), Verdict.MISSED, Spread(0.5, 0.5, 0.75, 3), ""),
    (
        "of a contest by another",
        Goal("", FIND, 1, against=Against(Key("publish"), "cp -a")),
        Verdict.MET,
        Spread(0.11, 0.1, 0.18, 2),
        "",
    ),
    ("without a standard", Goal("", FIND, 0.4), Verdict.MISSED, Spread(0.55, 0.5, 0.9, 3), ""),
    ("in a unit", Goal("", FIND, 70.0, measure=MEMORY), Verdict.MET, Spread(40.0, 40.0, 40.0, 3), ""),
    ("no such contest", Goal("", Key("tar"), 1.0), Verdict.UNKNOWN, None, "not in this run"),
    ("no such contestant", Goal("", FIND, 1.0, "nfs"), Verdict.UNKNOWN, None, "nfs took no part"),
    ("a contestant who could not", Goal("", FIND, 1.0, "cvmfs2"), Verdict.UNKNOWN, None, "not installed | here"),
    ("cannot be yet", Goal("", FIND, 1.0, lacking="not built"), Verdict.UNKNOWN, None, "not built"),
    ("nobody could", Goal("", Key("replicate"), 1.0), Verdict.UNKNOWN, None, "no such verb"),
    (
        "no such figure",
        Goal("", Key("publish"), 1.0, "cp -a", measure=MEMORY),
        Verdict.UNKNOWN,
        None,
        "the run has no such figure",
    ),
    (
        "no standard",
        Goal("", FIND, 1.0, against=Against(Key("tar"), "local")),
        Verdict.UNKNOWN,
        None,
        "local was not measured",
    ),
    (
        "large enough",
        Goal("", Key("publish"), 9, "cvfs zlib", entries=100_000),
        Verdict.MISSED,
        Spread(10.5, 10.0, 11.0, 2),
        "",
    ),
    (
        "too small",
        Goal("", Key("publish"), 9, "cvfs zlib", entries=200_000),
        Verdict.UNKNOWN,
        None,
        "the tree of this run has fewer than 200,000 entries",
    ),
]


@pytest.mark.parametrize(
    ("goal", "verdict", "figure", "why"), [row[1:] for row in OUTCOMES], ids=[row[0] for row in OUTCOMES]
)
def test_outcome(goal, verdict, figure, why):
    (found,) = outcomes(SMALL, [goal])
    assert (found.verdict, found.why) == (verdict, why)
    if figure is None:
        assert found.figure is None
    else:
        assert (found.figure.median, found.figure.low, found.figure.high) == pytest.approx(
            (figure.median, figure.low, figure.high), rel=0.03
        )


@pytest.mark.parametrize(("limit", "close"), [(0.4, False), (0.5, True), (0.7, True), (0.8, False)])
def test_a_limit_inside_of_the_interval_is_close(limit, close):
    (found,) = outcomes(SMALL, [Goal("", FIND, limit, against=LOCAL)])
    assert found.close is close


def test_processor_time_for_each_object():
    goal = next(each for each in GOALS if "processor time" in each.work)
    (found,) = outcomes(report(Result(goal.key, {"cvfs": taken(1.0, client=COSTS)})), [goal])
    assert found.figure.median == pytest.approx(1000 * 0.25 / 17)


def test_every_goal_is_of_a_workload_that_exists():
    assert {goal.key.workload for goal in GOALS} <= set(names())
    assert {goal.against.key.workload for goal in GOALS if goal.against} <= set(names())


def test_every_goal_is_measured_by_the_full_set_in_the_same_size():
    reading = [WORKLOADS[goal.key.workload] for goal in GOALS if goal.key.workload in WORKLOADS]
    assert reading
    assert all(workload.full for workload in reading)
    assert {goal.key.link.rtt for goal in GOALS} <= {0.0, *FULL_RTTS}


@pytest.mark.parametrize(
    "goal", [goal for goal in GOALS if goal.key.workload in PUBLISHING], ids=lambda goal: goal.work
)
def test_goals_of_publishers_name_contestants_as_the_contests_do(goal):
    """They are named in the table of the module that has the contests."""
    assert f"`{goal.contestant}`" in named.__doc__
    assert f"`{goal.against.contestant}`" in named.__doc__ or goal.key.workload == "replicate"


def test_other_goals_are_of_our_target():
    assert {goal.contestant for goal in GOALS if goal.key.workload not in PUBLISHING} == {"cvfs"}
    assert "cvfs" in NAMES
