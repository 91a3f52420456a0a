"""Every name's way from nothing to mounted and back, and what the kernel is told on it."""

import itertools

import pytest

from cvfs.client.parent import names as names_module
from cvfs.client.parent.names import FIRST_NODE, Answer, Names, Reply, Standing

NAME = b"sw.example.org"
NOW = 100.0
NODE = FIRST_NODE


STRANGER, CLIENT = 4711, 4712


class Way:
    """Names with one name, brought to a standing by the requests that bring it there."""

    def __init__(self, standing=Standing.IDLE):
        self.ours = {CLIENT}
        self.names = Names(self.ours.__contains__)
        self._unique = itertools.count(1000)
        self.lookup()
        if standing is not Standing.IDLE:
            self.inside()
        if standing in (Standing.MOUNTING, Standing.MOUNTED):
            self.names.begin(NAME)
        if standing is Standing.MOUNTED:
            self.names.mounted(NAME)
        if standing is Standing.FAILED:
            self.names.failed(NAME, NOW + 5)

    def lookup(self, unique=None, now=NOW, asker=STRANGER):
        return self.names.lookup(NAME, unique or next(self._unique), now, asker)

    def inside(self, unique=None, now=NOW):
        return self.names.ask_inside(NODE, unique or next(self._unique), now)


@pytest.mark.parametrize(
    ("standing", "asker", "answer"),
    [
        (Standing.IDLE, STRANGER, Answer.PRESENT),
        (Standing.WANTED, STRANGER, Answer.PRESENT),
        (Standing.MOUNTING, STRANGER, None),
        (Standing.MOUNTED, STRANGER, Answer.LASTING),
        (Standing.FAILED, STRANGER, Answer.ABSENT),
        # Who mounts must get there whatever others are told.
        (Standing.IDLE, CLIENT, Answer.PRESENT),
        (Standing.WANTED, CLIENT, Answer.PRESENT),
        (Standing.MOUNTING, CLIENT, Answer.PRESENT),
        (Standing.MOUNTED, CLIENT, Answer.LASTING),
        (Standing.FAILED, CLIENT, Answer.PRESENT),
    ],
)
def test_what_a_name_is_answered(standing, asker, answer):
    expected = Reply(7, answer, NODE) if answer else None
    assert Way(standing).lookup(7, asker=asker) == expected


@pytest.mark.parametrize(
    ("standing", "reply", "wanted"),
    [
        (Standing.IDLE, None, NAME),
        (Standing.WANTED, None, b""),
        (Standing.MOUNTING, Reply(7, Answer.STALE, NODE), b""),
        # Mounted, and asked for all the same: it is gone, or the asker cannot see it.
        (Standing.MOUNTED, None, NAME),
        (Standing.FAILED, Reply(7, Answer.STALE, NODE), b""),
    ],
)
def test_what_is_answered_to_a_question_inside(standing, reply, wanted):
    assert Way(standing).inside(7) == (reply, wanted)


def test_the_way_of_a_first_access():
    way = Way()
    assert way.inside(1) == (None, NAME)
    assert way.inside(2) == (None, b"")
    assert way.names.begin(NAME) == [Reply(1, Answer.STALE, NODE), Reply(2, Answer.STALE, NODE)]
    assert way.lookup(3) is None
    assert way.lookup(4) is None
    assert way.names.mounted(NAME) == [Reply(3, Answer.LASTING, NODE), Reply(4, Answer.LASTING, NODE)]
    assert way.names.all_mounted() == [(NAME, NODE)]


def test_a_client_that_asks_before_it_is_known_is_let_go_when_it_is():
    way = Way(Standing.MOUNTING)
    newcomer = 4713
    assert way.lookup(3) is None
    assert way.lookup(4, asker=newcomer) is None
    assert way.names.spare(NAME) == []
    way.ours.add(newcomer)
    assert way.names.spare(NAME) == [Reply(4, Answer.PRESENT, NODE)]
    assert way.names.mounted(NAME) == [Reply(3, Answer.LASTING, NODE)]


def test_who_waits_for_a_mount_that_fails_hears_that_there_is_none():
    way = Way(Standing.MOUNTING)
    assert way.lookup(3) is None
    assert way.names.failed(NAME, NOW + 5) == [Reply(3, Answer.ABSENT, NODE)]
    assert way.names.all_mounted() == []


def test_what_fails_before_it_began_lets_the_askers_go():
    way = Way()
    way.inside(1)
    assert way.names.failed(NAME, NOW + 5) == [Reply(1, Answer.STALE, NODE)]


def test_after_a_while_what_failed_is_tried_again():
    way = Way(Standing.FAILED)
    assert way.lookup(7, now=NOW + 4.9).answer is Answer.ABSENT
    assert way.lookup(8, now=NOW + 5).answer is Answer.PRESENT
    assert way.inside(9, now=NOW + 5) == (None, NAME)


def test_what_is_gone_is_mounted_again():
    way = Way(Standing.MOUNTED)
    way.names.gone(NAME)
    assert way.names.all_mounted() == []
    assert way.lookup(7).answer is Answer.PRESENT
    assert way.inside(8) == (None, NAME)


@pytest.mark.parametrize("standing", [Standing.WANTED, Standing.MOUNTING, Standing.FAILED])
def test_news_of_an_older_mount_disturb_nobody(standing):
    way = Way(standing)
    before = way.lookup(7)
    way.names.gone(NAME)
    assert way.lookup(7) == before


def test_a_mount_that_is_somewhere_else_lets_its_askers_go():
    way = Way(Standing.MOUNTED)
    way.inside(5)
    assert way.names.mounted(NAME) == [Reply(5, Answer.STALE, NODE)]


@pytest.mark.parametrize("ask", [Way.lookup, Way.inside])
def test_who_gave_up_is_not_answered(ask):
    way = Way(Standing.MOUNTING if ask is Way.lookup else Standing.WANTED)
    ask(way, 5)
    assert way.names.take_back(5)
    assert not way.names.take_back(5)
    assert 5 not in [reply.unique for reply in way.names.mounted(NAME)]


def test_names_nobody_knows_are_dropped_and_failures_only_when_they_count_no_more(monkeypatch):
    monkeypatch.setattr(names_module, "REMEMBERED", 2)
    way = Way(Standing.FAILED)
    way.names.forget(NODE, 1)
    way.names.lookup(b"other.example.org", 1, NOW, STRANGER)
    way.names.lookup(b"third.example.org", 2, NOW, STRANGER)
    assert way.lookup(3).answer is Answer.ABSENT
    way.names.lookup(b"fourth.example.org", 4, NOW + 5, STRANGER)
    assert NODE not in way.names
    assert all(node in way.names for node in (NODE + 1, NODE + 2, NODE + 3))


def test_a_name_that_the_kernel_still_knows_keeps_its_number(monkeypatch):
    monkeypatch.setattr(names_module, "REMEMBERED", 1)
    way = Way()
    way.lookup()
    way.names.forget(NODE, 1)
    way.names.lookup(b"other.example.org", 1, NOW, STRANGER)
    assert way.lookup(3).node == NODE
