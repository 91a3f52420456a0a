"""A running mount follows its configuration repository, once in a while and whatever goes wrong."""

import pytest

from cvfs.client.config_watch import EVERY, ConfigWatch
from cvfs.client.settings import settings_from
from cvfs.errors import UsageError


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def watch(name: str, reread, clock: Clock) -> ConfigWatch:
    return ConfigWatch(settings_from("sw.example.org", {"CVMFS_CONFIG_REPOSITORY": name}), reread, clock)


def test_it_is_read_again_once_in_a_while():
    clock, read = Clock(), []
    watched = watch("config.example.org", lambda: read.append(clock.now), clock)
    for later in (1, EVERY - 1, EVERY, EVERY + 1, 2 * EVERY, 2 * EVERY + 1):
        clock.now = 1000 + later
        watched.work()
    assert read == [1000 + EVERY, 1000 + 2 * EVERY]


@pytest.mark.parametrize("name", ["", "sw.example.org"])
def test_who_has_none_reads_nothing(name):
    clock = Clock()
    watched = watch(name, lambda: pytest.fail("read"), clock)
    clock.now += 2 * EVERY
    watched.work()


def test_a_mount_that_was_given_its_settings_reads_nothing():
    clock = Clock()
    watched = watch("config.example.org", None, clock)
    clock.now += 2 * EVERY
    watched.work()


def test_trouble_is_logged_and_not_repeated_at_once(caplog):
    def refuse() -> None:
        raise UsageError("/etc/cvmfs/default.local:3: nonsense")

    clock = Clock()
    watched = watch("config.example.org", refuse, clock)
    clock.now += EVERY
    watched.work()
    watched.work()
    assert [record.getMessage() for record in caplog.records] == [
        "sw.example.org: the configuration cannot be read again: /etc/cvmfs/default.local:3: nonsense"
    ]
