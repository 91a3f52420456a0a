"""The list of condemned objects, and what rescues from it: bytes in a file, many readers, one writer."""

import os
import pickle
import random

import pytest

from cvfs.errors import FormatError, StoreFull
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs_server.gc.condemned import (
    RECORD_SIZE,
    CondemnedList,
    condemned_now,
    content_of,
    list_path,
    present_name,
    read_rescued,
    record_of,
    rescued_path,
    write_list,
)
from cvfs_server.gc.guarded import Guarded
from cvfs_server.gc.inventory import Inventory
from cvfs_server.storage.local import LocalStorage

CONTENTS = [
    ContentHash.of(
        b"%d" % number, random.Random(number).choice(list(Algorithm)), random.Random(number).choice(list(ObjectKind))
    )
    for number in range(1000)
]


def _record(content):
    return record_of(content.digest, content.algorithm, content.kind)


@pytest.fixture
def area(tmp_path):
    (tmp_path / "gc").mkdir()
    return str(tmp_path / "gc")


@pytest.fixture
def condemn(area):
    """Puts contents onto a new list."""

    def make(*contents):
        if os.path.exists(list_path(area)):
            os.unlink(list_path(area))
        write_list(list_path(area), sorted(map(_record, contents)))
        return condemned_now(area)

    return make


class TestList:
    def test_what_is_written_is_found_and_nothing_else(self, area, condemn):
        condemn(*CONTENTS[:500])
        found = CondemnedList.open(list_path(area))
        assert len(found) == 500
        assert sorted(map(_record, CONTENTS[:500])) == list(found)
        for content in CONTENTS[:500]:
            assert found.matching(content.digest) == [_record(content)]
        assert not any(found.matching(content.digest) for content in CONTENTS[500:])
        parts = [record for number in range(256) for record in found.part(number)]
        assert parts == list(found)

    @pytest.mark.parametrize("content", CONTENTS[:30])
    def test_records_are_contents(self, content):
        assert len(_record(content)) == RECORD_SIZE
        assert content_of(_record(content)) == content

    @pytest.mark.parametrize("code", [0b00011111, 0b11000000, 255])
    def test_a_code_that_means_nothing(self, code):
        with pytest.raises(FormatError, match="means nothing"):
            content_of(bytes(20) + bytes((code,)))

    def test_one_digest_several_kinds(self, area, condemn):
        same = [CONTENTS[0].as_kind(kind) for kind in (ObjectKind.FILE, ObjectKind.CHUNK, ObjectKind.CATALOG)]
        condemn(*CONTENTS[1:50], *same)
        assert CondemnedList.open(list_path(area)).matching(CONTENTS[0].digest) == sorted(map(_record, same))

    def test_there_is_none(self, area):
        assert CondemnedList.open(list_path(area)) is None
        assert present_name(area) == ""
        assert condemned_now(area) is None

    @pytest.mark.parametrize("data", [b"", b"short", b"x" * 53, b"cvfs condemned 1" + bytes(16) + b"x"])
    def test_a_file_that_is_no_list(self, area, data):
        with open(list_path(area), "wb") as file:
            file.write(data)
        with pytest.raises(FormatError, match=r"cannot be read|no list of condemned objects"):
            CondemnedList.open(list_path(area))

    def test_every_list_has_a_name_of_its_own(self, condemn):
        assert len({condemn(CONTENTS[0]).name for _ in range(5)}) == 5

    def test_it_stays_readable_without_its_name(self, area, condemn):
        condemn(*CONTENTS[:10])
        found = CondemnedList.open(list_path(area))
        os.unlink(list_path(area))
        assert found.matching(CONTENTS[3].digest)

    def test_no_room(self, tmp_path):
        with pytest.raises(StoreFull, match="cannot write"):
            write_list(str(tmp_path / "missing" / "list"), [])


class TestRescue:
    def test_what_is_condemned_is_written_down_once(self, area, condemn):
        condemned = condemn(*CONTENTS[:10])
        for content in (CONTENTS[3], CONTENTS[3], CONTENTS[500], CONTENTS[7]):
            condemned.spare(content.path)
        assert read_rescued(area)[0] == [_record(CONTENTS[3]), _record(CONTENTS[7])]

    def test_the_next_ones_are_read_from_where_the_last_ended(self, area, condemn):
        condemned = condemn(*CONTENTS[:10])
        condemned.spare(CONTENTS[1].path)
        first, position = read_rescued(area)
        condemned.spare(CONTENTS[2].path)
        assert (first, read_rescued(area, position)) == (
            [_record(CONTENTS[1])],
            ([_record(CONTENTS[2])], 2 * RECORD_SIZE),
        )

    def test_all_kinds_of_a_digest(self, area, condemn):
        chunk = CONTENTS[0].as_kind(ObjectKind.CHUNK)
        condemned = condemn(CONTENTS[0].as_kind(ObjectKind.FILE), chunk)
        condemned.spare(chunk.path)
        assert len(read_rescued(area)[0]) == 2

    @pytest.mark.parametrize(
        "place", [".cvmfspublished", "data/txn/1.2", "data/00", "data/zz/" + "0" * 38, "data/00/1234"]
    )
    def test_other_places(self, area, condemn, place):
        condemn(*CONTENTS[:10]).spare(place)
        assert not os.path.exists(rescued_path(area))

    def test_a_list_that_is_finished_or_replaced_condemns_nothing(self, area, condemn):
        """Its successor waits for those who know the old one."""
        condemned = condemn(*CONTENTS[:10])
        os.unlink(list_path(area))
        condemned.spare(CONTENTS[1].path)
        condemn(*CONTENTS[:10])
        condemned.spare(CONTENTS[2].path)
        assert not os.path.exists(rescued_path(area))

    def test_a_copy_in_another_process(self, area, condemn):
        condemned = pickle.loads(pickle.dumps(condemn(*CONTENTS[:10])))
        condemned.spare(CONTENTS[1].path)
        assert read_rescued(area)[0] == [_record(CONTENTS[1])]
        late = pickle.dumps(condemned)
        condemn(*CONTENTS[:10])
        pickle.loads(late).spare(CONTENTS[2].path)
        assert read_rescued(area)[0] == [_record(CONTENTS[1])]

    def test_what_a_full_disk_cut_off_shifts_nothing(self, area, condemn):
        condemned = condemn(*CONTENTS[:10])
        condemned.spare(CONTENTS[1].path)
        with open(rescued_path(area), "ab") as file:
            file.write(b"cut off")
        assert read_rescued(area) == ([_record(CONTENTS[1])], RECORD_SIZE)
        condemned.spare(CONTENTS[2].path)
        assert read_rescued(area)[0] == [_record(CONTENTS[1]), _record(CONTENTS[2])]

    def test_never_by_way_of_a_link(self, area, condemn, tmp_path):
        condemned, target = condemn(*CONTENTS[:10]), tmp_path / "another's"
        os.symlink(target, rescued_path(area))
        with pytest.raises(StoreFull, match="cannot write"):
            condemned.spare(CONTENTS[1].path)
        assert not target.exists()


class TestGuarded:
    """What a publisher gets instead of its storage while there is a list."""

    @pytest.fixture
    def storage(self, tmp_path):
        made = LocalStorage(str(tmp_path / "repository"))
        made.create()
        return made

    @pytest.fixture
    def rescued(self, area):
        return lambda: [content_of(record) for record in read_rescued(area)[0]]

    def test_put_rescues(self, storage, condemn, rescued):
        guarded = Guarded(storage, condemn(*CONTENTS[:10]))
        storage.put(CONTENTS[1].path, b"there")
        assert not guarded.put(CONTENTS[1].path, b"again")
        assert guarded.put(CONTENTS[2].path, b"new")
        assert guarded.put(CONTENTS[50].path, b"never condemned")
        assert rescued() == [CONTENTS[1], CONTENTS[2]]

    def test_an_upload_rescues_when_it_has_a_name(self, storage, condemn, rescued):
        guarded = Guarded(storage.staged_by("me"), condemn(*CONTENTS[:10]))
        upload = guarded.start_upload()
        upload.write(b"content")
        assert rescued() == []
        assert upload.commit(CONTENTS[3].path)
        upload.abort()
        assert rescued() == [CONTENTS[3]]
        assert b"".join(guarded.fetch(CONTENTS[3].path)) == b"content"

    def test_so_does_asking_and_reading_does_not(self, storage, condemn, rescued):
        guarded = Guarded(storage, condemn(*CONTENTS[:10]))
        storage.put(CONTENTS[4].path, b"there")
        assert list(guarded.fetch(CONTENTS[4].path)) == [b"there"]
        assert rescued() == []
        assert guarded.has(CONTENTS[4].path)
        assert not guarded.has(CONTENTS[5].path)
        assert rescued() == [CONTENTS[4], CONTENTS[5]]

    def test_everything_else_is_the_storage_s(self, storage, condemn):
        guarded = Guarded(storage, condemn(*CONTENTS[:10])).staged_by("me")
        guarded.create()
        assert (guarded.place, guarded.parallel) == (storage.place, storage.parallel)
        guarded.replace(".cvmfspublished", b"document")
        assert b"".join(storage.fetch(".cvmfspublished")) == b"document"
        for content in CONTENTS[20:24]:
            guarded.put(content.path, b"x")
        assert {place for place, _ in guarded.objects()} == {content.path for content in CONTENTS[20:24]}
        guarded.discard(CONTENTS[20].path)
        guarded.discard_many(content.path for content in CONTENTS[21:23])
        assert [place for place, _ in guarded.objects()] == [CONTENTS[23].path]
        guarded.sync()
        guarded.clear_staging("me")


class TestInventory:
    @pytest.fixture
    def inventory(self, tmp_path):
        made = Inventory(str(tmp_path / "inventory"), RECORD_SIZE)
        made.start()
        return made

    def test_each_record_once_in_order(self, inventory):
        records = list(map(_record, CONTENTS))
        for _ in range(3):
            inventory.add(records)
        assert list(inventory.records()) == sorted(records)
        assert inventory.part(7) == {record for record in records if record[0] == 7}

    def test_several_processes_write_at_once(self, inventory):
        records = list(map(_record, CONTENTS))
        children = []
        for number in range(3):
            if not (pid := os.fork()):
                for start in range(number, len(records), 3):
                    inventory.add(records[start : start + 20])
                os._exit(0)
            children.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
        assert list(inventory.records()) == sorted(records)

    def test_no_room(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(StoreFull, match="cannot write the list of objects"):
            Inventory(str(tmp_path / "file" / "below"), RECORD_SIZE).start()
