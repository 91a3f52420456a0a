"""The contest of a workload that reads, with targets that are directories and clients that are made up."""

import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks import reading
from benchmarks.campaign import held
from benchmarks.model import ClientCosts, Key, Link, State, Unavailable
from benchmarks.reading import Caches, Reading, file_name
from benchmarks.targets import kernel_caches
from benchmarks.targets.local import Given, Local
from benchmarks.targets.surroundings import Surroundings
from benchmarks.trees.base import Tree, made
from benchmarks.workloads.base import Workload


def make(place):
    (place / "file").write_text("content")


TREE = Tree("small", "", make)
READ = Workload("read", "", TREE, lambda scene: ["cat", str(scene.top / "file")])
PYTHON = (sys.executable, "-S", "-c")


@pytest.fixture
def surroundings(tmp_path, monkeypatch):
    """A machine that may drop its caches, and keeps them."""
    monkeypatch.setattr(kernel_caches, "_DROP", tmp_path / "drop_caches")
    return Surroundings(tmp_path)


HERE = Link()


def hold(workload, state, *targets, link=HERE, caches=None, repetitions=2):
    work = targets[0].surroundings.work
    return held(Reading(workload, state, link, targets, work, caches or Caches()), repetitions)


@dataclass
class Place:
    """Asks its server so many times for each piece of work."""

    top: Path
    asked: int
    pid: None = None
    total: int = 0

    def costs(self):
        self.total += self.asked
        total = self.total
        return ClientCosts(0.25 * total, 1000 + total, 2000, 3 * total, total, 10 * total, {"READ": total, "INIT": 1})


@dataclass
class Client:
    """A target whose states are noted."""

    surroundings: Surroundings
    name: str = "client"
    asked: int = 1
    states: list = field(default_factory=list)
    open_places: int = 0

    def hold(self, tree):
        self.surroundings.tree(tree)

    @contextlib.contextmanager
    def place(self, tree, state, link):
        self.states.append((state, link))
        self.open_places += 1
        try:
            yield Place(self.surroundings.tree(tree), self.asked)
        finally:
            self.open_places -= 1


def test_a_known_delay_is_measured_and_the_way_to_it_is_not(surroundings, monkeypatch):
    """Half a second of setting up, a quarter of work: by the clock, and by the word of the work."""
    import time

    monkeypatch.setattr(Client, "hold", lambda self, tree: (time.sleep(0.5), self.surroundings.tree(tree)))
    slow = Workload("slow", "", TREE, lambda _scene: ["sleep", "0.25"])
    tell = Workload("tell", "", TREE, lambda _scene: [*PYTHON, "import time; time.sleep(0.5); print('seconds=0.25')"])
    waited = hold(slow, State.COLD, Client(surroundings)).samples["client"]
    assert all(sample.seconds >= 0.25 for sample in waited)
    said = hold(tell, State.COLD, Client(surroundings)).samples["client"]
    assert [sample.seconds for sample in said] == [0.25, 0.25]


def test_costs_are_those_of_the_work_alone(surroundings):
    sample = hold(READ, State.COLD, Client(surroundings, asked=4)).samples["client"][0]
    assert sample.client == ClientCosts(1.0, 1008, 2000, 12, 4, 40, {"READ": 4})


def test_cold_is_a_new_place_each_time(surroundings):
    client = Client(surroundings)
    hold(READ, State.COLD, client, link=Link(20))
    assert client.states == [(State.COLD, Link(20))] * 2


def test_warm_follows_a_complete_run_of_the_same_work(surroundings):
    client, caches = Client(surroundings, asked=0), Caches()
    hold(READ, State.WARM, client, caches=caches)
    assert [state for state, _ in client.states] == [State.COLD, State.WARM, State.WARM]
    other = Workload("other", "", TREE, READ.command)
    hold(other, State.COLD, client, caches=caches, repetitions=1)
    client.states.clear()
    hold(other, State.WARM, client, caches=caches, repetitions=1)
    assert [state for state, _ in client.states] == [State.WARM]
    client.states.clear()
    hold(READ, State.WARM, client, caches=caches, repetitions=1)
    assert [state for state, _ in client.states] == [State.COLD, State.WARM]


def test_hot_is_one_place_where_the_work_was_done_before(surroundings):
    client = Client(surroundings, asked=0)
    count = Workload("count", "", TREE, lambda _: ["sh", "-c", f"echo >> {surroundings.work}/runs"])
    result = hold(count, State.HOT, client, repetitions=3)
    assert client.states == [(State.HOT, Link())]
    assert len((surroundings.work / "runs").read_text()) == 4
    assert len(result.samples["client"]) == 3


@pytest.mark.parametrize("state", [State.WARM, State.HOT])
def test_a_full_cache_that_asks_the_server_is_a_failure_that_is_told(surroundings, state):
    result = hold(READ, state, Client(surroundings, asked=2), Local(surroundings))
    assert result.troubles == {"client": f"{state}, but the server was asked 2 times"}
    assert list(result.samples) == ["local"]


def test_a_cache_that_was_emptied_is_not_taken_for_full(surroundings, tmp_path, monkeypatch):
    """A flame graph begins with an empty cache; here nobody samples, and the work is not done."""

    def refuse(_pid, _path):
        raise Unavailable("nobody may look")

    monkeypatch.setattr(reading, "recorded", refuse)
    monkeypatch.setattr(Place.__init__, "__defaults__", (1, 0))
    client, caches = Client(surroundings, asked=0), Caches()
    pictured = Reading(READ, State.COLD, Link(), [client], surroundings.work, caches, tmp_path)
    assert held(pictured, 1).samples
    client.states.clear()
    hold(READ, State.WARM, client, caches=caches, repetitions=1)
    assert [state for state, _ in client.states] == [State.COLD, State.WARM]


def test_every_place_is_left(surroundings):
    good, bad = Client(surroundings, asked=0), Client(surroundings, "bad")
    for state in (State.COLD, State.WARM, State.HOT):
        hold(READ, state, good, bad)
    assert (good.open_places, bad.open_places) == (0, 0)


def test_work_that_fails_is_told_with_its_reason(surroundings):
    broken = Workload("broken", "", TREE, lambda _: ["sh", "-c", "echo too few files >&2; exit 1"])
    for state in (State.COLD, State.WARM, State.HOT):
        result = hold(broken, state, Client(surroundings))
        assert result.troubles == {"client": "sh: exit status 1: too few files"}


def test_what_the_work_needs_has_to_be_there(surroundings):
    missing = Workload("missing", "", TREE, READ.command, needs=("sh", "no-such-program"))
    assert hold(missing, State.COLD, Client(surroundings)).troubles == {"client": "not installed here: no-such-program"}


def test_a_tree_that_cannot_be_made_is_a_reason(surroundings):
    def refuse(_place):
        raise Unavailable("no network")

    workload = Workload("read", "", Tree("refused", "", refuse), READ.command)
    assert hold(workload, State.COLD, Local(surroundings)).troubles == {"local": "no network"}


def test_work_writes_to_a_place_that_is_empty_and_gone_afterwards(surroundings):
    script = 'test -z "$(ls)" && touch written && pwd > ../where'
    hold(Workload("write", "", TREE, lambda _: ["sh", "-c", script]), State.COLD, Local(surroundings))
    place = Path((surroundings.work / "where").read_text().strip())
    assert place.parent == surroundings.work
    assert not place.exists()


def test_surroundings_are_the_same_whoever_runs_it(surroundings, monkeypatch):
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    script = "import os; print(f'mine={\"PYTHONPATH\" in os.environ:d}'); print(f'extra={os.environ[\"EXTRA\"]}')"
    workload = Workload("look", "", TREE, lambda _: [*PYTHON, script], environment=lambda scene: {"EXTRA": "5"})
    assert hold(workload, State.COLD, Local(surroundings)).samples["local"][0].figures == {"mine": 0, "extra": 5}


# --- directories ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "drops"), [(State.COLD, 2), (State.WARM, 3), (State.HOT, 0)])
def test_local_is_cold_when_the_kernel_has_dropped_what_it_knew(surroundings, monkeypatch, state, drops):
    dropped = []
    monkeypatch.setattr(kernel_caches, "drop", lambda: dropped.append(1))
    result = hold(READ, state, Local(surroundings))
    assert len(result.samples["local"]) == 2
    assert len(dropped) == drops


def test_who_may_not_drop_caches_has_no_cold_disk(surroundings, monkeypatch):
    monkeypatch.setattr(kernel_caches, "_DROP", surroundings.work / "nowhere/drop_caches")
    result = hold(READ, State.COLD, Local(surroundings))
    assert not result.samples
    assert "only root may" in result.troubles["local"]
    assert hold(READ, State.HOT, Local(surroundings)).samples["local"]


def test_no_link_leads_to_a_directory(surroundings):
    result = hold(READ, State.COLD, Local(surroundings), link=Link(20))
    assert "no link" in result.troubles["local"]


def test_a_directory_that_is_given_gets_a_copy_or_has_one(surroundings, tmp_path):
    directory = tmp_path / "given"
    directory.mkdir()
    given = Given(surroundings, "nfs", directory)
    assert len(hold(READ, State.HOT, given).samples["nfs"]) == 2
    assert (directory / "small/file").read_text() == "content"
    (directory / "small/file").write_text("kept")
    assert len(hold(READ, State.WARM, given).samples["nfs"]) == 2
    assert (directory / "small/file").read_text() == "kept"
    assert "caches" in hold(READ, State.COLD, given).troubles["nfs"]


def test_a_directory_that_cannot_be_written_must_hold_the_tree(surroundings, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    tree = made(TREE, surroundings.work / "trees")
    trouble = hold(READ, State.HOT, Given(surroundings, "ro", tmp_path / "ro")).troubles["ro"]
    assert trouble == f"{tmp_path / 'ro'}: no tree small there: put a copy of {tree} there"


@pytest.mark.parametrize(
    ("key", "contestant", "name"),
    [
        (Key("find", State.HOT), "cvfs", "find-hot-cvfs"),
        (Key("find", State.COLD, Link(20, 0)), "cvfs:A=1,B=/x", "find-cold-20ms-0mbit-cvfs_A=1_B=_x"),
    ],
)
def test_file_names(key, contestant, name):
    assert file_name(key, contestant) == name
