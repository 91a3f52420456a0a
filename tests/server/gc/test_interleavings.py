"""Garbage collection beside publishers: whoever does what at whichever stage, nothing that is needed goes.

The collection runs in this process and tells its stages; what happens beside it happens there.
"""

import threading

import pytest

from cvfs.errors import UsageError
from cvfs.hashes import ContentHash, ObjectKind
from cvfs_server.gc import collect as collect_module
from cvfs_server.gc.condemned import is_condemned
from cvfs_server.publish import PublishOptions
from cvfs_server.publishers import registered, switching
from cvfs_server.tags.tags import add_tag, remove_tags
from cvfs_server.ways.tree import publish_tree

STAGES = ["mark", "condemn", "wait", "keep", "forget", "sweep", "batch", "finish"]
# From here on there is a list, which publishers know.
LISTED = STAGES[2:]


class Killed(BaseException):
    """Nothing that anybody handles."""


class At:
    """Calls something at the first arrival at a stage."""

    def __init__(self, stage, act):
        self._stage = stage
        self._act = act
        self.came = 0

    def __call__(self, stage):
        if stage == self._stage:
            self.came += 1
            if self.came == 1:
                self._act()


class Slow:
    """A publisher that has found its contents in the storage, and then takes its time."""

    def __init__(self, past):
        self._past = past
        self._found = threading.Event()
        self._go_on = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._publish)

    def start(self):
        """Returns when everything is stored, and nothing released."""
        self._thread.start()
        assert self._found.wait(60)

    def finish(self):
        """Let it release its revision."""
        self._go_on.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self._failure is None
        self._past.note("slow")

    def abandon(self):
        """It fails instead."""
        self._failure = UsageError("given up")
        self._go_on.set()
        self._thread.join(60)

    def _publish(self):
        own = self._past.own
        try:
            publish_tree(own.site, own.fqrn, str(own.tree), PublishOptions(report=self._report, workers=1, tag="slow"))
        except UsageError:
            assert self._failure is not None

    def _report(self, kind, path):
        # The rows of the root directory come last: whatever lies below is in the store.
        del kind
        if path == b"/zzz":
            self._found.set()
            assert self._go_on.wait(120)
            if self._failure:
                raise self._failure


def _bring_back(past):
    """The tree of a revision that is garbage, as a new one: its contents are condemned, and still there."""
    for name in ("only0", "only2"):
        past.write(name, b"only in revision %s" % name[-1:].encode())
    past.write("changing", b"revision 0")
    past.write("nested/changing", b"nested, revision 2")


def _place(past, data, kind=ObjectKind.FILE):
    from cvfs.compression import ZLIB

    return ContentHash.of(ZLIB.encode(data), past.own.settings.algorithm, kind).path


@pytest.mark.parametrize("stage", STAGES)
def test_contents_come_back_at_any_stage(past, stage):
    _bring_back(past)
    at = At(stage, lambda: past.publish("again"))
    past.collect(stage=at)
    assert at.came
    past.assert_sound()
    past.collect()
    past.assert_sound()


@pytest.mark.parametrize("stage", LISTED)
def test_worker_processes_know_the_list_too(past, stage):
    for number in range(400):
        past.write(f"many/{number}", b"content %d" % number)
    past.publish()
    (past.own.tree / "many").rename(past.own.tree.parent / "aside")
    past.publish()
    past.publish()
    (past.own.tree.parent / "aside").rename(past.own.tree / "many")
    at = At(stage, lambda: past.publish("again", workers=2))
    past.collect(stage=at)
    assert at.came
    past.assert_sound()
    assert _place(past, b"content 7") in past.objects()


def test_who_began_before_is_waited_for(past):
    _bring_back(past)
    past.write("zzz", b"last")
    slow = Slow(past)
    slow.start()
    at = At("wait", slow.finish)
    report = past.collect(stage=at, patience=60)
    assert at.came
    assert report.deleted > 0
    assert not report.waits_for
    assert _place(past, b"only in revision 2") in past.objects()
    assert _place(past, b"nested, revision 0") not in past.objects()
    past.assert_sound()


def test_not_for_ever_and_the_next_run_goes_on(past):
    _bring_back(past)
    past.write("zzz", b"last")
    before = past.objects()
    slow = Slow(past)
    slow.start()
    report = past.collect(patience=0)
    assert len(report.waits_for) == 1
    assert report.deleted == 0
    assert past.area("condemned").exists()
    again = past.collect(patience=0)
    assert again.waits_for == report.waits_for
    slow.finish()
    assert before <= past.objects()
    assert past.collect().deleted > 0
    assert not past.area("condemned").exists()
    assert _place(past, b"only in revision 2") in past.objects()
    past.assert_sound()


def test_who_began_before_and_failed_keeps_nothing(past):
    _bring_back(past)
    past.write("zzz", b"last")
    slow = Slow(past)
    slow.start()
    past.collect(stage=At("wait", slow.abandon), patience=60)
    assert _place(past, b"only in revision 2") not in past.objects()
    past.assert_sound()


@pytest.mark.parametrize("times", [1, 2, 3])
def test_publishing_while_the_list_is_made_makes_it_anew(past, monkeypatch, times):
    """The last attempt is made under the lock, so that the collection comes to its end."""
    write_list, made = collect_module.write_list, []

    def write_and_publish(path, records):
        count = write_list(path, records)
        made.append(count)
        if len(made) <= times:
            past.write("only2", b"only in revision 2")
            past.write("changing", b"publication %d" % len(made))
            past.publish(f"while{len(made)}")
        return count

    monkeypatch.setattr(collect_module, "write_list", write_and_publish)
    past.collect()
    assert len(made) == times + 1
    assert _place(past, b"only in revision 2") in past.objects()
    past.assert_sound()


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_any_stage(past, stage):
    wanted = past.closure(*list(past.roots.values())[-2:], past.roots["kept"])

    def die():
        raise Killed

    with pytest.raises(Killed):
        past.collect(stage=At(stage, die))
    past.assert_sound()
    past.collect()
    assert past.objects() == wanted | past.documents()
    past.assert_sound()
    assert sorted(path.name for path in past.area("").iterdir()) == ["lock", "sweep.lock"]


@pytest.mark.parametrize("stage", LISTED)
def test_killed_and_contents_come_back_before_the_next_run(past, stage):
    def die():
        raise Killed

    with pytest.raises(Killed):
        past.collect(stage=At(stage, die))
    _bring_back(past)
    past.publish("again")
    past.collect()
    past.assert_sound()


def test_the_run_that_goes_on_also_collects_what_is_new(past):
    """What has become garbage since the earlier list was made."""

    def die():
        raise Killed

    with pytest.raises(Killed):
        past.collect(stage=At("sweep", die))
    for number in range(3):
        past.write("changing", b"later %d" % number)
        past.publish()
    past.collect()
    wanted = past.closure(*list(past.roots.values())[-2:], past.roots["kept"])
    assert past.objects() == wanted | past.documents()


def test_killed_in_the_middle_of_the_sweep(past, monkeypatch):
    """Each object is a batch of its own; the collection dies after each number of them."""
    monkeypatch.setattr("cvfs_server.gc.sweep._AT_ONCE", 1)
    monkeypatch.setattr("cvfs_server.gc.sweep._HOLD", 0)
    wanted = past.closure(*list(past.roots.values())[-2:], past.roots["kept"])

    def die_at(count):
        left = [count]

        def stage(name):
            left[0] -= name == "batch"
            if not left[0]:
                raise Killed

        return stage

    killed, done = 0, False
    while not done:
        try:
            past.collect(stage=die_at(killed + 1))
            done = True
        except Killed:
            killed += 1
        past.assert_sound()
    assert past.objects() == wanted | past.documents()
    assert killed > 5


class TestRescue:
    """What a publisher found that knew the list."""

    def _rescuer(self, past, stage, data):
        """Stores contents that are condemned, and is never heard of again."""
        place = _place(past, data)

        def rescue():
            with registered(past.own.settings, "publish") as publisher:
                publisher.storage.put(place, b"not looked at")

        return place, At(stage, rescue)

    @pytest.mark.parametrize("stage", ["wait", "keep", "forget", "sweep"])
    def test_stays_and_goes_with_the_next_run_if_nobody_needs_it(self, past, stage):
        place, at = self._rescuer(past, stage, b"only in revision 2")
        report = past.collect(stage=at)
        assert place in past.objects()
        assert report.deleted < report.condemned
        report = past.collect()
        assert place not in past.objects()
        assert report.deleted == 1

    def test_is_stored_anew_if_it_was_gone(self, past):
        data = b"only in revision 2"
        place = _place(past, data)
        seen = []

        def store():
            with registered(past.own.settings, "publish") as publisher:
                seen.append(place in past.objects())
                publisher.storage.put(place, b"stored anew")

        past.collect(stage=At("finish", store))
        assert seen == [False]
        assert (past.own.storage / place).read_bytes() == b"stored anew"

    def test_costs_nothing_for_other_objects(self, past):
        with registered(past.own.settings, "publish") as publisher:
            assert type(publisher.storage).__name__ == "LocalStorage"
        sizes = []

        def store():
            with registered(past.own.settings, "publish") as publisher:
                publisher.storage.put(_place(past, b"the same in all revisions"), b"")
                publisher.storage.put(_place(past, b"never seen"), b"")
            sizes.append(past.area("rescued").exists())

        past.collect(stage=At("wait", store))
        assert sizes == [False]


def test_a_condemned_revision_gets_no_name(past):
    """While the list is there; afterwards it is not there at all."""
    old, kept, answers = next(iter(past.roots.values())), past.roots["kept"], []

    def ask():
        with switching(past.own.settings, "tag"):
            answers.extend(is_condemned(past.own.settings, root) for root in (old, kept))

    past.collect(stage=At("wait", ask))
    assert answers == [True, False]
    ask()
    assert answers[2:] == [False, False]


@pytest.mark.parametrize("stage", ["mark", "condemn"])
def test_a_name_that_is_given_before_the_list_is_there_keeps_its_revision(past, stage):
    old = next(iter(past.roots.values()))
    at = At(stage, lambda: add_tag(past.own.site, past.own.fqrn, "early", "", old))
    past.collect(stage=at)
    assert past.closure(old) <= past.objects()
    past.assert_sound()


@pytest.mark.parametrize("stage", STAGES)
def test_a_name_that_is_taken_away_meanwhile(past, stage):
    past.collect(stage=At(stage, lambda: remove_tags(past.own.site, past.own.fqrn, ["kept"])))
    past.assert_sound()
    past.collect()
    past.assert_sound()
    assert past.roots["kept"].path not in past.objects()


@pytest.mark.parametrize("stage", STAGES)
def test_a_collection_beside_readers(past, stage):
    """One who opened the newest revision before reads all of it, whatever has gone meanwhile."""
    with past.own.open() as repository:
        at = At(stage, lambda: past.publish("newer"))
        past.write("more", b"more")
        past.collect(stage=at)
        assert past._look_through(repository)
    past.assert_sound()
