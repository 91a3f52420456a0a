"""Contests of clients, each once with a small tree: figures of real mounts, and what of them is left."""

import os

import pytest

from benchmarks.campaign import held
from benchmarks.model import Key, State
from benchmarks.mounting.memory import Memory
from benchmarks.mounting.mount_time import MountTime
from benchmarks.mounting.named import MOUNTING
from benchmarks.targets.cvfs_mount import CvfsMount
from benchmarks.targets.local import Local
from benchmarks.targets.mounted import is_mounted
from benchmarks.targets.surroundings import Surroundings
from benchmarks.trees.packages import names

TREE = names(200)
LOOKUPS = 400


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory):
    return Surroundings(tmp_path_factory.mktemp("work"))


@pytest.fixture
def targets(surroundings):
    return [Local(surroundings), CvfsMount(surroundings)]


@pytest.mark.parametrize("small", [True, False])
def test_every_contest_has_a_key_of_its_own(targets, surroundings, small):
    keys = [one.key for made in MOUNTING.values() for one in made.contests(targets, surroundings.work, small)]
    assert keys == [Key("mount", State.COLD), Key("mount", State.WARM), Key("memory-small" if small else "memory")]


@pytest.mark.system
class TestMountTime:
    def test_a_mount_that_can_be_listed_and_is_gone_afterwards(self, targets, surroundings):
        requests = {}
        for state in (State.COLD, State.WARM):
            result = held(MountTime(state, TREE, targets, surroundings.work), 1)
            assert set(result.troubles) == {"local"}
            (sample,) = result.samples["cvfs"]
            assert sample.seconds > sample.figures["command_seconds"] > 0
            assert sample.cpu_seconds > sample.figures["client_cpu_seconds"] > 0
            assert 10e6 < sample.figures["resident"] < 500e6
            (log,) = surroundings.work.glob("clients/mount-time/*/server/access.log")
            requests[state] = log.read_text().count("/data/")
        # With a full cache the root catalog and the certificate are there already.
        assert requests[State.COLD] > requests[State.WARM] == 0
        assert not [path for path in surroundings.work.glob("clients/**/mnt") if is_mounted(path)]

    def test_a_client_that_cannot_mount_is_in_trouble(self, surroundings):
        target = CvfsMount(surroundings, "cvfs:no", options=("CVMFS_TIMEOUT=never",))
        result = held(MountTime(State.WARM, TREE, [target], surroundings.work), 1)
        assert not result.samples
        assert "CVMFS_TIMEOUT" in result.troubles["cvfs:no"]


@pytest.mark.system
class TestMemory:
    def test_is_told_after_each_step(self, targets, surroundings):
        result = held(Memory(TREE, TREE, LOOKUPS, targets, surroundings.work), 1)
        assert "no process" in result.troubles["local"]
        (sample,) = result.samples["cvfs"]
        steps = [sample.figures[name] for name in ("idle", "after_find", "after_lookups")]
        # The kernel counts pages by processor, and adds them up now and then.
        assert 10e6 < max(steps) < 1.2 * sample.figures["peak"] < 500e6
        assert sample.figures["after_reading"] == sample.client.resident
        assert sum(sample.client.fuse.values()) > len(os.listdir(surroundings.tree(TREE)))
        assert sample.seconds > 0
        assert not [path for path in surroundings.work.glob("clients/**/mnt") if is_mounted(path)]
