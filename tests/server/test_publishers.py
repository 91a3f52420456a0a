"""Those who work on a repository: what killed ones left is cleared away, and nothing else."""

import os

import pytest

from cvfs.errors import MissingObject
from cvfs_server import publishers
from cvfs_server.publishers import living, registered, registry
from cvfs_server.storage.local import LocalStorage


@pytest.fixture
def own(new_repository):
    return new_repository()


def _marks(own):
    return f"{own.settings.spool}/publishers"


def _objects(own):
    return sorted(LocalStorage(own.settings.storage).objects())


def _leave_dead(own):
    """What a killed publisher leaves."""
    with registered(own.settings, "test") as publisher:
        name = publisher.name
    with open(f"{_marks(own)}/{name}", "w", encoding="ascii") as mark:
        mark.write("another boot\n\n")
    return name


def test_whoever_works_is_named_until_the_end(own):
    with registered(own.settings, "test") as publisher:
        with registry(own.settings):
            assert living(own.settings) == {publisher.name}
        assert os.path.isdir(publisher.scratch)
    assert os.listdir(_marks(own)) == []
    assert not os.path.exists(publisher.scratch)


@pytest.mark.parametrize("name", ["...lock", "..lock", ".lock", "note", "1.2.lock"])
def test_what_no_publisher_made_leads_nowhere(own, name):
    before, marker = _objects(own), f"{own.settings.spool}/something"
    os.makedirs(marker)
    os.makedirs(_marks(own), exist_ok=True)
    with open(f"{_marks(own)}/{name}", "w", encoding="ascii"):
        pass
    with registered(own.settings, "test"):
        pass
    assert (_objects(own), os.path.isdir(marker)) == (before, True)
    assert before
    assert own.check() == []


def test_objects_without_their_bytes_go_after_a_crash_of_the_machine(own):
    name = _leave_dead(own)
    broken = f"{own.settings.storage}/data/ab/{'c' * 38}"
    before = _objects(own)
    with open(broken, "wb"):
        pass
    with registered(own.settings, "test"):
        pass
    assert _objects(own) == before
    assert name not in os.listdir(_marks(own))


def test_an_object_that_is_collected_meanwhile_is_no_trouble(own, monkeypatch):
    name, asked = _leave_dead(own), []

    def gone(_storage, path, **_options):
        asked.append(path)
        raise MissingObject(path)

    monkeypatch.setattr(LocalStorage, "fetch", gone)
    with registered(own.settings, "test"):
        pass
    assert asked
    assert name not in os.listdir(_marks(own))


def test_another_boot_is_told_apart():
    assert publishers._boot() == publishers._boot() != "another boot"
