"""Pinning by `talk`: the objects of a file are held together or not at all."""

import types

import pytest

from cvfs.client.talk.cache import CacheCommands
from cvfs.errors import Unreachable

CHUNKED = "/chunked/random_1m"


@pytest.fixture
def mounted(opened, fixture_repository):
    repository = opened(fixture_repository("tiny.example.org"))
    # The catalog on the way is held from here on, too.
    repository.lookup(CHUNKED)
    return types.SimpleNamespace(repository=repository, plane=repository.plane, mountpoint="/cvmfs/tiny.example.org")


def held(mounted) -> int:
    return sum(entry.held for entry in mounted.plane.cache.entries())


def test_a_file_is_pinned_whole(mounted):
    before = held(mounted)
    assert CacheCommands(mounted).pin(CHUNKED).good
    entry = mounted.repository.lookup(CHUNKED)
    assert held(mounted) == before + len(mounted.repository.pieces(CHUNKED, entry))


def test_what_cannot_be_fetched_whole_is_not_pinned_in_part(mounted, monkeypatch):
    before, repository = held(mounted), mounted.repository
    contents = repository.contents_of(repository.lookup(CHUNKED))
    opened = []

    def fail_second(wanted):
        if opened:
            raise Unreachable("no server answers")
        opened.append(wanted)
        return contents.open(wanted)

    monkeypatch.setattr(repository, "contents_of", lambda _: types.SimpleNamespace(open=fail_second))
    answer = CacheCommands(mounted).pin(CHUNKED)
    assert not answer.good
    assert "no server answers" in answer.text
    assert len(opened) == 1
    assert held(mounted) == before
