"""Numbers as metrics and counters: formats, escapes, what there is none of."""

import pytest

from cvfs.client.observe.affairs import counters
from cvfs.client.observe.metrics import Metric, _lines, numeric_version
from cvfs.client.observe.state import hit_rate, open_descriptors, resident_memory


@pytest.mark.parametrize(
    ("version", "number"), [("0.1.0", 100), ("2.13.2", 21302), ("1.2", 10200), ("3.4.5.dev6", 30405)]
)
def test_versions_as_numbers(version, number):
    assert numeric_version(version) == number


@pytest.mark.parametrize(("opened", "missed", "rate"), [(0, 0, None), (0, 5, None), (4, 1, 75.0), (4, 9, 0.0)])
def test_hit_rates(opened, missed, rate):
    assert hit_rate(opened, missed) == rate


def test_the_text_format():
    metrics = [
        Metric("a_total", "counter", "A.", 3),
        Metric("b", "gauge", "B.", 1, (("url", 'x"y\\z\n'),)),
        Metric("b", "gauge", "B.", 0.5, (("url", "w"),)),
    ]
    assert "".join(_lines("sw.example.org", iter(metrics))) == (
        "# HELP a_total A.\n# TYPE a_total counter\n"
        'a_total{repo="sw.example.org"} 3\n'
        "# HELP b B.\n# TYPE b gauge\n"
        'b{repo="sw.example.org",url="x\\"y\\\\z\\n"} 1\n'
        'b{repo="sw.example.org",url="w"} 0.5\n'
    )


def test_counters_are_sorted_and_complete():
    keys = (
        "io_errors",
        "in_flight",
        "open_objects",
        "descriptors",
        "inodes",
        "catalogs_open",
        "objects_opened",
        "objects_missed",
        "fetched",
    )
    found = {**dict.fromkeys(keys, 7), "received": 8, "cache_used": 9, "memory": 10, "requests": {"READ": 3}}
    table = {counter.name: counter.value for counter in counters(found)}
    assert list(table) == sorted(table)
    assert (table["cvmfs.n_fs_read"], table["cvmfs.n_fs_lookup"], table["download.sz_transferred_bytes"]) == (3, 0, 8)


def test_this_process():
    assert resident_memory() > 2**20
    assert open_descriptors() >= 3
