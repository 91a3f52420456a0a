"""What is remembered between mounts, and what becomes of it when the disk, or another process, does not play along."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from processes import ENVIRONMENT

from cvfs.client import trust_state
from cvfs.client.trust_state import Kept, TrustState
from cvfs.errors import FormatError, Locked, UsageError
from cvfs.format.manifest import Manifest
from cvfs.format.whitelist import Whitelist
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.trust import Seen, Verified

FQRN = "sw.example.org"
NOW = 1_800_000_000.0
ROOT = ContentHash.of(b"root", Algorithm.SHA1, ObjectKind.CATALOG)
OTHER = ContentHash.of(b"other", Algorithm.SHA1, ObjectKind.CATALOG)
KEPT = Kept(bytes(range(256)), b"whitelist\xff", b"", NOW)


def verified(revision=7, root=ROOT, timestamp=1_700_000_000, issued="20260101000000") -> Verified:
    manifest = Manifest(root_catalog=root, revision=revision, fqrn=FQRN, timestamp=timestamp)
    return Verified(manifest, Whitelist(issued, "20300101000000", FQRN, ()), NOW)


NEWER = verified(8, OTHER, 1_700_000_001, "20260102000000")


@pytest.fixture
def state(tmp_path) -> TrustState:
    return TrustState(str(tmp_path), FQRN)


@pytest.fixture
def place(tmp_path):
    directory = tmp_path / FQRN
    directory.mkdir()
    return directory


def test_nothing_at_first(state):
    assert state.seen() is None
    assert state.kept() is None


def test_round_trip_through_another_process_s_eyes(state, tmp_path):
    state.keep(KEPT, verified())
    other = TrustState(str(tmp_path), FQRN)
    assert other.seen() == Seen(7, 1_700_000_000, str(ROOT), "20260101000000")
    assert other.kept() == KEPT
    assert TrustState(str(tmp_path), "other.example.org").seen() is None


def test_the_newer_replaces_the_older_and_nothing_is_left_lying(state, tmp_path):
    state.keep(KEPT, verified())
    state.keep(KEPT, NEWER)
    assert state.seen() == NEWER.seen
    assert sorted(os.listdir(tmp_path / FQRN)) == ["documents.json", "lock", "seen.json"]


# --- several processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "late",
    [
        verified(),
        verified(9, timestamp=1_600_000_000, issued="20260102000000"),
        verified(9, timestamp=1_700_000_001),
        verified(8, ROOT, 1_700_000_001, "20260102000000"),
    ],
    ids=["revision", "timestamp", "whitelist", "root"],
)
def test_who_comes_late_does_not_set_the_record_back(state, late):
    state.keep(KEPT, NEWER)
    state.keep(replace(KEPT, manifest=b"late"), late)
    assert state.seen() == NEWER.seen
    assert state.kept() == KEPT


def test_processes_that_write_at_the_same_time_leave_the_newest(state, tmp_path):
    """Each writes many revisions, all of them interleaved."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_trust_state as t\n"
        "t.trust_state._PATIENCE = 100\n"
        "state = t.TrustState(sys.argv[2], t.FQRN)\n"
        "for n in range(int(sys.argv[3]), 60, 3): state.keep(t.replace(t.KEPT, manifest=b'%d' % n), t.verified(n))\n"
    )
    here = os.path.dirname(__file__)
    command = [sys.executable, "-c", script, here, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(n)], env=ENVIRONMENT) for n in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    assert (state.seen().revision, state.kept().manifest) == (59, b"59")


def test_the_lock_is_waited_for(state, place, monkeypatch):
    monkeypatch.setattr(trust_state, "_PATIENCE", 60)
    with open(place / "lock", "w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        writer = threading.Thread(target=state.keep, args=(KEPT, verified()))
        writer.start()
        assert state.seen() is None
        fcntl.flock(holder, fcntl.LOCK_UN)
        writer.join(60)
    assert state.seen() == verified().seen


def test_but_not_for_ever(state, place, monkeypatch, caplog):
    monkeypatch.setattr(trust_state, "_PATIENCE", 0.05)
    with open(place / "lock", "w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        state.keep(KEPT, verified())
        assert "another process holds its lock" in caplog.text
        with pytest.raises(Locked, match=FQRN):
            state.forget()
    assert state.seen() is None


# --- how often it is written ------------------------------------------------------------------------------------------


@pytest.fixture
def written(state, monkeypatch):
    names = []
    write = state._write

    def count(name, data):
        names.append(name)
        write(name, data)

    monkeypatch.setattr(state, "_write", count)
    return names


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"accepted": NOW + 240}, []),
        ({"accepted": NOW + 3601}, ["documents.json"]),
        ({"accepted": NOW - 1}, ["documents.json"]),
        ({"whitelist": b"signed anew"}, ["documents.json"]),
    ],
)
def test_what_did_not_change_is_not_written_at_every_check(state, written, changes, expected):
    state.keep(KEPT, verified())
    assert written == ["documents.json", "seen.json"]
    written.clear()
    state.keep(replace(KEPT, **changes), verified())
    assert written == expected


def test_everything_is_on_the_disk_before_it_counts(state, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, name=name, real=real: (done.append(name), real(*given)))
    state.keep(KEPT, verified())
    assert done == ["fsync", "replace", "fsync"] * 2


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'["cvfs trust 1", 1.0, "a", "b"]',
        b'["cvfs trust 1", 1.0, "a", "b", "c", "d"]',
        b'["cvfs trust 1", "1.0", "a", "b", "c"]',
        b'["cvfs trust 1", 1.0, "a", "b", 3]',
        '["cvfs trust 1", 1.0, "a", "b", "€"]'.encode(),
        b'["cvfs trust 2", 1.0, "a", "b", "c"]',
        b"[" * 100_000,
    ],
)
def test_damaged_documents_are_refused_and_replaced(state, place, data):
    (place / "documents.json").write_bytes(data)
    with pytest.raises(FormatError, match=r"sw\.example\.org/documents\.json: the kept documents .*: remove it"):
        state.kept()
    state.keep(KEPT, verified())
    assert state.kept() == KEPT


@pytest.mark.parametrize("data", [b"", b"null", b'{"revision": 1}', b"\x00" * 5_000])
def test_a_damaged_record_is_refused_with_its_place(state, place, data, caplog):
    (place / "seen.json").write_bytes(data)
    with pytest.raises(FormatError, match=r"seen\.json: .*: begin anew with cvfs trust reset sw\.example\.org"):
        state.seen()
    # Nobody can tell whether it would be set back.
    state.keep(KEPT, verified())
    assert (place / "seen.json").read_bytes() == data
    assert "cannot be remembered" in caplog.text


def test_a_record_that_cannot_be_read_is_no_reason_to_forget_it(state, place):
    (place / "seen.json").mkdir()
    with pytest.raises(UsageError, match=r"seen\.json: Is a directory: begin anew with cvfs trust reset"):
        state.seen()


def refuse(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_place_of_somebody_else_is_told_from_damage(state, place, monkeypatch, number):
    state.keep(KEPT, verified())
    advice = f"for user {os.getuid()} to change, or choose a place with CVFS_TRUST_STATE_DIR"
    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", refuse(number))
        with pytest.raises(UsageError, match=rf"seen\.json: {os.strerror(number)}: .*{advice}"):
            state.seen()
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse(number))
        with pytest.raises(UsageError, match=rf"sw\.example\.org: {os.strerror(number)}: .*{advice}"):
            state.forget()
    assert state.seen() == verified().seen


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_directory_of_another_user(state, place, caplog):
    state.keep(KEPT, verified())
    place.chmod(0o700)
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import test_trust_state as t; os.setuid(65534)\n"
        "state = t.TrustState(sys.argv[2], t.FQRN)\n"
        "state.keep(t.KEPT, t.NEWER)\n"
        "try: state.seen()\nexcept t.UsageError as error: print(error)\n"
    )
    command = [sys.executable, "-c", script, os.path.dirname(__file__), str(place.parent)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)
    assert told.returncode == 0
    assert "seen.json: Permission denied: it is for user 0 to change" in told.stdout
    assert "cannot be remembered: Permission denied" in told.stderr
    assert state.seen() == verified().seen


def test_a_failed_write_leaves_the_old_one(state, tmp_path, monkeypatch, caplog):
    state.keep(KEPT, verified())
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", refuse(errno.ENOSPC))
        state.keep(KEPT, NEWER)
        state.keep(KEPT, NEWER)
    assert caplog.text.count("No space left") == 1
    assert state.seen() == verified().seen
    assert state.kept() == KEPT
    assert sorted(os.listdir(tmp_path / FQRN)) == ["documents.json", "lock", "seen.json"]


@pytest.mark.parametrize("point", range(4))
def test_killed_in_the_middle_what_is_kept_is_still_no_older_than_what_was_seen(state, monkeypatch, point):
    class Killed(BaseException):
        pass

    state.keep(KEPT, verified())
    calls = iter(range(100))

    def stop(real):
        def call(*given):
            if next(calls) == point:
                raise Killed
            return real(*given)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", stop(os.fsync))
        with pytest.raises(Killed):
            state.keep(replace(KEPT, manifest=b"newer"), NEWER)
    assert (state.seen(), state.kept().manifest) in [
        (verified().seen, KEPT.manifest),
        (verified().seen, b"newer"),
        (NEWER.seen, b"newer"),
    ]


def test_forgetting(state, tmp_path):
    assert state.forget() == []
    state.keep(KEPT, verified())
    assert state.forget() == [f"{tmp_path}/{FQRN}/seen.json", f"{tmp_path}/{FQRN}/documents.json"]
    assert (state.seen(), state.kept(), state.forget()) == (None, None, [])
    state.keep(KEPT, verified(1, OTHER))
    assert state.seen().revision == 1


def test_documents_are_json_that_people_can_look_at(state, tmp_path):
    state.keep(KEPT, verified())
    magic, accepted, *_ = json.loads((tmp_path / FQRN / "documents.json").read_bytes())
    assert (magic, accepted) == ("cvfs trust 1", NOW)
