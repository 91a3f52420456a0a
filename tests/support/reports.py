"""Made-up reports of benchmarks."""

from benchmarks.model import ClientCosts, Key, Link, Report, Result, Sample, State

COSTS = ClientCosts(0.25, 40_000_000, 45_500_000, 1234, 17, 4_200_000, {"LOOKUP": 12, "READ": 400})


def taken(*seconds, client=None, **figures):
    """Samples of so many seconds, half of them of processors."""
    return tuple(Sample(each, each / 2, client, figures) for each in seconds)


def report(*results, **setting):
    return Report("python -m benchmarks run", 1_790_000_000.0, 90.0, setting or {"machine": "a machine"}, results)


SMALL = report(
    Result(
        Key("find", State.HOT),
        {"local": taken(1.0, 1.1, 1.2), "cvfs": taken(0.5, 0.55, 0.9, client=COSTS)},
        {"cvmfs2": "not installed | here"},
    ),
    Result(
        Key("find", State.COLD, Link(20.0)),
        {"cvfs": taken(11.0, client=COSTS)},
        {"local": "only root can empty\nthe kernel's caches", "cvmfs2": "not installed | here"},
    ),
    Result(Key("publish"), {"cp -a": taken(5.0, 5.0), "cvfs zlib": taken(10.0, 11.0, entries=102_151.0)}),
    Result(Key("replicate"), {}, {"-": "no such verb"}),
)
