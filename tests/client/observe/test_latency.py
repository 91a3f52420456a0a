"""Histograms of durations: bins by powers of two, quantiles between their bounds, the original's table."""

import csv

import pytest

from cvfs.client.observe.latency import BINS, QUANTILES, Histogram, Latencies


@pytest.mark.parametrize(
    ("duration", "bin_number"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (1023, 9), (1024, 10), (2**60, BINS - 1)]
)
def test_bins(duration, bin_number):
    histogram = Histogram()
    histogram.add(duration)
    assert histogram.bins.index(1) == bin_number
    assert histogram.count == 1


def test_quantiles():
    histogram = Histogram()
    assert histogram.quantile(0.5) == 0
    for duration in [1] * 50 + [1000] * 50:
        histogram.add(duration)
    assert histogram.quantile(0.1) <= 2
    assert histogram.quantile(0.5) == 2
    assert histogram.quantile(0.75) == 512 + 256
    assert histogram.quantile(1.0) == 1024
    values = [histogram.quantile(part) for part in QUANTILES]
    assert values == sorted(values)


def test_stars():
    histogram = Histogram()
    for duration in (5, 5, 5, 100):
        histogram.add(duration)
    lines = histogram.text().splitlines()
    assert [line.count("*") for line in lines[1:3]] == [28, 10]
    assert lines[-1] == "total: 4"


class Tree:
    def lookup(self, parent, name, wait):
        if not wait:
            raise BlockingIOError
        return name

    def forget(self, ino, count):
        raise KeyError(ino)

    def getattr(self, ino, wait):
        return ino

    def readlink(self, ino):
        return b""

    def listing(self, ino, wait):
        return []

    def opened(self, ino, wait):
        return None

    def released(self, ino):
        return None

    def read(self, ino, offset, size, wait):
        return b""

    def statfs(self):
        return "not timed"


def test_calls_are_counted_once_they_have_an_outcome():
    latencies = Latencies()
    tree = latencies.watch(Tree())
    with pytest.raises(BlockingIOError):
        tree.lookup(1, b"a", False)
    assert tree.lookup(1, b"a", True) == b"a"
    with pytest.raises(KeyError):
        tree.forget(1, 1)
    assert tree.getattr(7, wait=False) == 7
    assert tree.statfs() == "not timed"
    counts = {action: histogram.count for action, histogram in latencies.histograms.items() if histogram.count}
    assert counts == {"lookup": 1, "forget": 1, "getattr": 1}


def test_the_table():
    latencies = Latencies()
    latencies.watch(Tree()).readlink(1)
    head, *table = csv.reader(latencies.table("sw.example.org").splitlines())
    assert head[:4] == ["repository", "action", "total_count", "time_unit"]
    assert head[4:6] == ["0.10000", "0.20000"]
    assert [row[1] for row in table][:4] == ["lookup", "forget", "forget_multi", "getattr"]
    assert {(row[0], row[3]) for row in table} == {("sw.example.org", "nanoseconds")}
    assert {row[1]: row[2] for row in table if row[2] != "0"} == {"readlink": "1"}
    assert len({len(row) for row in table} | {len(head)}) == 1
    assert "Readlink\n" in latencies.text()
