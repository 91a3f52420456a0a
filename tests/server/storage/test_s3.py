"""Storage in S3 where networks and servers fail: what cannot be had fails in time, and nothing is taken for stored that is not."""

import dataclasses
import hashlib
import itertools
import os
import threading

import pytest

from cvfs.errors import MissingObject, StoreError, StoreFull, Unreachable, UsageError
from cvfs.store.base import fetch_document
from cvfs_server.storage import bucket as requests
from cvfs_server.storage import s3 as module
from cvfs_server.storage.bucket import Listed

PATH = "data/ab/cdef"


@pytest.fixture
def relayed(new_s3, relay, monkeypatch):
    """Makes a storage behind the relay, which behaves; no pause between attempts takes long."""
    monkeypatch.setattr(requests, "_LONGEST_PAUSE", 0.01)

    def make(**parameters):
        made = new_s3(PORT=relay.port, **parameters).staged_by("one")
        relay.seen.clear()
        return made

    return make


def _stored(storage):
    return dict(storage.objects())


# --- what is sent ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "content_type", "age"),
    [
        (PATH, "application/x-cvmfs", 259200),
        (".cvmfspublished", "application/x-cvmfs", 61),
        (".cvmfs_status.json", "application/json", 61),
    ],
)
def test_readers_are_told_how_long_it_lasts(new_s3, path, content_type, age):
    storage = new_s3()
    (storage.put if path == PATH else storage.replace)(path, b"content")
    answer = storage.bucket._ask("head_object", path, Key=storage.key(path))
    assert (answer["ContentType"], answer["CacheControl"]) == (content_type, f"max-age={age}")


def test_an_object_is_looked_for_before_it_is_put(relayed, relay):
    storage = relayed()
    storage.put(PATH, b"content")
    storage.put(PATH, b"content")
    assert [request.method for request in relay.seen] == ["HEAD", "PUT", "HEAD"]


def test_an_object_is_put_blindly_if_that_is_wanted(relayed, relay):
    storage = relayed(PEEK_BEFORE_PUT="no")
    assert [storage.put(PATH, b"content"), storage.put(PATH, b"content")] == [True, True]
    assert [request.method for request in relay.seen] == ["PUT", "PUT"]


def test_what_is_there_with_another_length_is_put_again(new_s3):
    storage = new_s3()
    storage.put(PATH, b"cut of")
    assert storage.put(PATH, b"cut off") is True
    assert fetch_document(storage, PATH) == b"cut off"


def test_many_objects_are_removed_with_few_requests(relayed, relay):
    storage = relayed()
    paths = [f"data/{number:02x}/object" for number in range(10)]
    for path in paths:
        storage.put(path, b"content")
    relay.seen.clear()
    storage.discard_many(paths)
    assert [request.method for request in relay.seen] == ["POST"]
    assert _stored(storage) == {}


def test_batches_can_be_switched_off(relayed, relay):
    storage = relayed(BATCH_DELETE="no")
    for number in range(3):
        storage.put(f"data/0{number}/object", b"content")
    storage.discard_many([f"data/0{number}/object" for number in range(3)])
    assert relay.count("DELETE") == 3
    assert _stored(storage) == {}


def test_what_could_not_be_removed_is_named(new_s3, monkeypatch):
    storage = new_s3()
    answer = {"Errors": [{"Key": "gone", "Code": "NoSuchKey"}, {"Key": "x/data/ab/c", "Code": "AccessDenied"}]}
    monkeypatch.setattr(requests.Bucket, "_ask", lambda *_, **__: answer)
    with pytest.raises(StoreFull, match="x/data/ab/c: not removed: AccessDenied"):
        storage.discard_many(["data/ab/c"])


# --- objects in parts --------------------------------------------------------------------------------------------------


@pytest.fixture
def in_parts(monkeypatch):
    monkeypatch.setattr(module, "_PARTS_FROM", 6 * 2**20)
    monkeypatch.setattr(module, "_SMALLEST_PART", 5 * 2**20)


def _upload(storage, size=11 * 2**20):
    upload, block = storage.start_upload(), os.urandom(2**20)
    for _ in range(size // len(block)):
        upload.write(block)
    return upload, hashlib.sha1(block * (size // len(block))).hexdigest()


@pytest.mark.usefixtures("in_parts")
def test_a_large_object_comes_in_parts(relayed, relay):
    storage = relayed()
    upload, digest = _upload(storage)
    assert upload.commit(PATH) is True
    assert relay.count("PUT") == 3
    assert hashlib.sha1(b"".join(storage.fetch(PATH))).hexdigest() == digest
    storage.sync()
    storage.clear_staging("one")
    assert relay.count("DELETE") == 0


@pytest.mark.usefixtures("in_parts")
def test_parts_of_a_dead_publisher_are_given_up(relayed, relay):
    storage = relayed(MAX_RETRIES=0)
    relay.only("reset", "PUT", first=2)
    with pytest.raises(Unreachable):
        _upload(storage)[0].commit(PATH)
    relay.behave()
    assert _uploads(storage) == 1
    storage.staged_by("other").clear_staging("one")
    assert _uploads(storage) == 0
    assert not storage.has(PATH)


def _uploads(storage):
    return len(storage.bucket._ask("list_multipart_uploads", "", Prefix=storage.alias).get("Uploads", []))


@pytest.mark.usefixtures("in_parts")
def test_an_end_whose_answer_got_lost_is_an_end(relayed, relay):
    storage = relayed(MAX_RETRIES=1)
    upload, digest = _upload(storage)
    relay.only("lost", "POST", first=2, times=1)
    assert upload.commit(PATH) is True
    assert hashlib.sha1(b"".join(storage.fetch(PATH))).hexdigest() == digest
    storage.sync()


# --- troubles that pass ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["503", "reset", "lost", "slow"])
@pytest.mark.parametrize("method", ["HEAD", "PUT", "GET", "DELETE", "POST"])
def test_a_request_is_repeated(relayed, relay, fault, method):
    storage = relayed()
    # The first two requests of this method, whatever they are for.
    met = itertools.count()
    relay.fault = lambda request: fault if request.method == method and next(met) < 2 else ""
    assert storage.put(PATH, b"content") is True
    assert fetch_document(storage, PATH) == b"content"
    storage.sync()
    storage.discard_many([PATH])
    storage.discard(PATH)
    assert not storage.has(PATH)
    assert len(relay.spoiled) == min(2, relay.count(method))


def test_an_answer_that_breaks_off_goes_on_where_it_was(relayed, relay):
    storage = relayed()
    content = os.urandom(1_000_000)
    storage.put(PATH, content)
    relay.only("cut", "GET", times=2)
    assert fetch_document(storage, PATH, 2**20) == content
    assert relay.count("GET") == 3
    relay.only("cut", "GET", times=1)
    assert b"".join(storage.fetch(PATH, span=(1000, 500_000))) == content[1000:501_000]


def test_what_was_replaced_without_an_answer_was_replaced(relayed, relay):
    storage = relayed(MAX_RETRIES=1)
    relay.only("lost", "PUT", objects=False)
    storage.replace(".cvmfspublished", b"new")
    assert fetch_document(storage, ".cvmfspublished") == b"new"


def test_a_server_that_is_not_at_once_of_one_mind(new_s3, monkeypatch):
    """Its first answers are those of before."""
    monkeypatch.setattr(requests, "_LONGEST_PAUSE", 0.01)
    storage = new_s3().staged_by("one")
    storage.put(PATH, b"content")
    answers = iter([None, Listed("", 3, '"old"')])
    plain = requests.Bucket.head
    monkeypatch.setattr(requests.Bucket, "head", lambda *arguments: next(answers, False) or plain(*arguments))
    storage.sync()


# --- troubles that stay ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("503", "the server answers 503.*; try again later"),
        ("reset", "ConnectionClosedError"),
        ("hang", "no answer within 1 s"),
    ],
)
def test_a_server_that_never_answers_is_given_up(relayed, relay, fault, words):
    storage = relayed(MAX_RETRIES=1, TIMEOUT=1, PEEK_BEFORE_PUT="no")
    relay.fault = lambda _request: fault
    acts = (
        lambda: storage.put(PATH, b"content"),
        lambda: storage.has(PATH),
        lambda: storage.replace(".cvmfspublished", b"new"),
        lambda: storage.discard_many([PATH]),
    )
    for act in acts if fault != "hang" else acts[:2]:
        with pytest.raises(Unreachable, match=words):
            act()


def test_an_answer_that_always_breaks_off_is_given_up(relayed, relay):
    storage = relayed(MAX_RETRIES=1)
    storage.put(PATH, b"0123456789")
    relay.only("cut", "GET")
    pieces = []
    with pytest.raises(Unreachable, match=r"IncompleteRead|ends"):
        pieces.extend(storage.fetch(PATH))
    assert b"".join(pieces) == b"01234567"[: len(b"".join(pieces))]


def test_nobody_listens(new_s3):
    storage = new_s3()
    bucket = dataclasses.replace(
        storage.bucket, settings=dataclasses.replace(storage.bucket.settings, endpoint="http://127.0.0.1:1", retries=0)
    )
    with pytest.raises(Unreachable, match="EndpointConnectionError"):
        dataclasses.replace(storage, bucket=bucket).has(PATH)


# --- servers that lie --------------------------------------------------------------------------------------------------


def test_an_object_that_was_acknowledged_and_dropped_is_found_out(relayed, relay):
    storage = relayed(MAX_RETRIES=1)
    relay.only("lie", "PUT", first=2, times=1)
    for number in range(3):
        storage.put(f"data/ab/object{number}", b"content%d" % number)
    with pytest.raises(StoreError, match="object1: the server acknowledged it and does not have it"):
        storage.sync()
    # It is not forgotten either.
    with pytest.raises(StoreError, match="object1"):
        storage.sync()


def test_an_object_that_another_process_lost_is_found_out(relayed, relay):
    storage = relayed(MAX_RETRIES=1)
    relay.only("lie", "PUT")
    child = os.fork()
    if not child:
        os._exit(0 if storage.put(PATH, b"content") else 1)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(StoreError, match="acknowledged it and does not have it"):
        storage.sync()


def test_an_object_that_changed_behind_our_back_is_found_out(new_s3):
    storage = new_s3(MAX_RETRIES=0).staged_by("one")
    storage.put(PATH, b"content")
    storage.bucket.put(storage.key(PATH), b"contend", hashlib.md5(b"contend").digest(), module._OBJECT)
    with pytest.raises(StoreError, match="acknowledged it"):
        storage.sync()


def test_what_nobody_in_particular_puts_is_asked_for_at_once(relayed, relay):
    storage = relayed(MAX_RETRIES=0).staged_by("")
    relay.only("lie", "PUT", times=1)
    with pytest.raises(StoreError, match="acknowledged it and does not have it"):
        storage.put(PATH, b"content")
    storage.put(PATH, b"content")
    storage.discard(PATH)
    # It is not remembered for ever.
    storage.sync()


def test_a_document_that_was_acknowledged_and_dropped_is_found_out(relayed, relay):
    storage = relayed(MAX_RETRIES=1)
    storage.replace(".cvmfspublished", b"old")
    relay.only("lie", "PUT", objects=False)
    with pytest.raises(StoreError, match="cvmfspublished: the server acknowledged it and does not have it"):
        storage.replace(".cvmfspublished", b"new")
    assert fetch_document(storage, ".cvmfspublished") == b"old"


def test_bytes_that_change_on_the_way_are_refused_by_the_server(new_s3):
    storage = new_s3(MAX_RETRIES=0)
    with pytest.raises(StoreFull, match="BadDigest"):
        storage.bucket.put(storage.key(PATH), b"content", hashlib.md5(b"other").digest(), module._OBJECT)
    assert not storage.has(PATH)


# --- asking for what was put -------------------------------------------------------------------------------------------


def test_many_objects_are_asked_for_by_lists(relayed, relay):
    storage = relayed()
    for number in range(40):
        storage.put(f"data/{number % 2:02x}/object{number}", b"content")
    relay.seen.clear()
    storage.sync()
    assert [request.method for request in relay.seen] == ["GET", "GET"]
    relay.seen.clear()
    storage.sync()
    assert relay.seen == []


def test_objects_that_a_list_does_not_show_yet_are_asked_for(new_s3, monkeypatch):
    storage = new_s3().staged_by("one")
    for number in range(20):
        storage.put(f"data/ab/object{number:02}", b"content")
    plain = requests.Bucket.page
    monkeypatch.setattr(requests.Bucket, "page", lambda *arguments: (plain(*arguments)[0][3:], False))
    storage.sync()
    storage.discard("data/ab/object01")
    storage.bucket.settings
    again = storage.staged_by("two")
    again._written.put("data/ab/object01", 7, "tag")
    monkeypatch.setattr(requests, "_LONGEST_PAUSE", 0.01)
    with pytest.raises(StoreError, match="object01"):
        again.sync()


def test_long_lists_come_in_pages(new_s3, monkeypatch):
    storage = new_s3()
    paths = [f"data/{number % 3:02x}/object{number}" for number in range(12)]
    for number, path in enumerate(paths):
        storage.put(path, b"x" * number)
    storage.replace("data/txn", b"something else")
    for size in (1, 3, 12, 13, 14):
        monkeypatch.setattr(requests, "PAGE", size)
        assert _stored(storage) == {path: number for number, path in enumerate(paths)}
        again = storage.staged_by(f"asks for {size}")
        for path in paths:
            found = storage.bucket.head(storage.key(path))
            again._written.put(path, found.size, found.etag)
        again.sync()


def test_a_listing_that_is_not_read_to_its_end_leaves_no_threads(new_s3, monkeypatch):
    storage = new_s3()
    for number in range(6):
        storage.put(f"data/{number:02x}/object", b"content")
    monkeypatch.setattr(requests, "PAGE", 2)
    listing = storage.objects()
    next(listing)
    listing.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("s3")] == []


def test_threads_share_a_storage(new_s3):
    storage = new_s3().staged_by("one")
    troubles = []

    def work(first):
        try:
            for number in range(first, first + 5):
                storage.put(f"data/ab/object{number}", b"content")
        except Exception as trouble:
            troubles.append(trouble)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 20, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert len(_stored(storage)) == 20
    storage.sync()


# --- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"SECRET_KEY": "wrong"}, "look at CVMFS_S3_ACCESS_KEY, _SECRET_KEY, "),
        ({"ACCESS_KEY": "test:nobody"}, "look at CVMFS_S3_ACCESS_KEY"),
        ({"BUCKET": "no-such-bucket"}, "CVMFS_S3_BUCKET names no bucket"),
    ],
)
def test_what_the_server_refuses_is_told_with_the_remedy(new_s3, object_server, tmp_path, parameters, words):
    storage = new_s3()
    file = object_server.configuration(tmp_path / "other.conf", **parameters)
    settings = module.load_s3_settings(str(file))
    other = dataclasses.replace(storage, bucket=dataclasses.replace(storage.bucket, settings=settings))
    with pytest.raises(StoreFull, match=words) as refused:
        other.bucket.put("x", b"", hashlib.md5(b"").digest(), module._OBJECT)
    assert settings.secret_key not in str(refused.value)


def test_the_users_own_account_is_not_used(new_s3, monkeypatch, tmp_path):
    """Neither is a profile that does not exist an error."""
    (tmp_path / "aws").write_text("[default]\nregion = nowhere\nendpoint_url = http://127.0.0.1:1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    monkeypatch.setenv("AWS_PROFILE", "none")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    requests._forget_clients()
    assert new_s3().put(PATH, b"content") is True


def test_a_bucket_is_made_where_it_is_missing(new_s3):
    storage = new_s3(BUCKET=f"new-{os.getpid()}")
    assert storage.put(PATH, b"content") is True


def test_a_staging_directory_that_cannot_be_used_is_named(new_s3, tmp_path):
    storage = dataclasses.replace(new_s3(), staging=str(tmp_path / "s3.conf"))
    with pytest.raises(StoreFull, match=r"s3\.conf"):
        storage.start_upload()


def test_nothing_is_asked_for_a_path_that_leads_elsewhere(new_s3):
    with pytest.raises(UsageError):
        new_s3().has("data//ab")
    with pytest.raises(MissingObject):
        fetch_document(new_s3(), PATH)


def test_a_list_that_begins_again_and_again_is_given_up(new_s3, monkeypatch):
    storage = new_s3()
    for number in range(3):
        storage.put(f"data/00/object{number}", b"content")
    monkeypatch.setattr(requests, "PAGE", 2)
    ask = requests.Bucket._ask
    monkeypatch.setattr(requests.Bucket, "_ask", lambda *said, **told: ask(*said, **{**told, "StartAfter": ""}))
    with pytest.raises(Unreachable, match="the same list again and again"):
        list(storage.objects())


@pytest.mark.parametrize("tag", ["", "two words", "two\nlines", "\u00e9", "x" * 2049])
def test_a_tag_that_cannot_be_written_down_is_refused(new_s3, monkeypatch, tag):
    storage = new_s3().staged_by("one")
    ask = requests.Bucket._ask
    monkeypatch.setattr(requests.Bucket, "_ask", lambda *said, **told: {**ask(*said, **told), "ETag": tag})
    with pytest.raises(Unreachable, match="ETag that makes no sense"):
        storage.put("data/00/object", b"content")
    assert list(storage._written.batches()) == []
