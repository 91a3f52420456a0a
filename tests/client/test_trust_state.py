"""What is remembered between mounts, and what becomes of it when the disk does not play along."""

import json
import os

import pytest

from cvfs.client.trust_state import Kept, TrustState
from cvfs.errors import FormatError
from cvfs.trust import Seen

SEEN = Seen(7, 1700000000, "ab" * 20, "20260101000000")
KEPT = Kept(bytes(range(256)), b"whitelist\xff", b"", 1700000000.25)


@pytest.fixture
def state(tmp_path) -> TrustState:
    return TrustState(str(tmp_path), "sw.example.org")


def test_nothing_at_first(state):
    assert state.seen() is None
    assert state.kept() is None


def test_round_trip_through_another_process_s_eyes(state, tmp_path):
    state.keep(KEPT, SEEN)
    other = TrustState(str(tmp_path), "sw.example.org")
    assert other.seen() == SEEN
    assert other.kept() == KEPT
    assert TrustState(str(tmp_path), "other.example.org").seen() is None


def test_the_newer_replaces_the_older_and_nothing_is_left_lying(state, tmp_path):
    state.keep(KEPT, SEEN)
    newer = Seen(8, 1700000001, "cd" * 20, "20260102000000")
    state.keep(KEPT, newer)
    assert state.seen() == newer
    assert sorted(os.listdir(tmp_path / "sw.example.org")) == ["documents.json", "seen.json"]


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
def test_damaged_documents_are_refused(state, tmp_path, data):
    (tmp_path / "sw.example.org").mkdir()
    (tmp_path / "sw.example.org" / "documents.json").write_bytes(data)
    with pytest.raises(FormatError, match=r"sw\.example\.org: the kept documents .* remove them"):
        state.kept()


@pytest.mark.parametrize("data", [b"", b"null", b'{"revision": 1}', b"\x00" * 5_000])
def test_a_damaged_record_is_refused_with_its_place(state, tmp_path, data):
    (tmp_path / "sw.example.org").mkdir()
    (tmp_path / "sw.example.org" / "seen.json").write_bytes(data)
    with pytest.raises(FormatError, match=r"seen\.json: .*: remove it"):
        state.seen()


def test_a_record_that_cannot_be_read_is_no_reason_to_forget_it(state, tmp_path):
    (tmp_path / "sw.example.org" / "seen.json").mkdir(parents=True)
    with pytest.raises(FormatError, match=r"seen\.json: Is a directory"):
        state.seen()


def test_a_failed_write_leaves_the_old_one(state, tmp_path, monkeypatch, caplog):
    state.keep(KEPT, SEEN)

    def full(_source, _target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    state.keep(KEPT, Seen(8, 1700000001, "cd" * 20, "20260102000000"))
    assert "No space left" in caplog.text
    assert state.seen() == SEEN
    assert state.kept() == KEPT
    assert sorted(os.listdir(tmp_path / "sw.example.org")) == ["documents.json", "seen.json"]


def test_documents_are_json_that_people_can_look_at(state, tmp_path):
    state.keep(KEPT, SEEN)
    magic, accepted, *_ = json.loads((tmp_path / "sw.example.org" / "documents.json").read_bytes())
    assert (magic, accepted) == ("cvfs trust 1", 1700000000.25)
