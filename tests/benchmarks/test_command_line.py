"""What makes no sense is refused in one line, before anything is measured."""

import fcntl

import pytest

from benchmarks import campaign, plan
from benchmarks.__main__ import main
from benchmarks.model import Key, Link, Result, Sample, State
from benchmarks.report import results


@pytest.fixture
def run(tmp_path, capsys):
    """Exit status, output, complaint."""

    def run(*words):
        status = main(["run", "--work-dir", str(tmp_path / "work"), *words])
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["fly"], "fly: no such workload: `python -m benchmarks list` shows them"),
        (
            ["--against", "local,nfs"],
            "nfs: no such target: local, cvfs, cvfs-fusepy, cvmfs2, cvfs:KEY=VALUE,…, or a name given by --dir",
        ),
        (["--state", "cold,frozen"], "--state cold,frozen: 'frozen' is not a valid State: there are cold, warm, hot"),
        (["--rtt", "fast"], "--rtt fast: numbers, with commas between them"),
        (["--bandwidth", "100,-1"], "--bandwidth 100,-1: no link is like that"),
        (["--rtt", "nan"], "--rtt nan: no link is like that"),
        (["--dir", "nfs"], "--dir nfs: NAME=PATH of a directory"),
        (["--dir", "nfs=/nowhere"], "--dir nfs=/nowhere: NAME=PATH of a directory"),
    ],
)
def test_nonsense(run, words, complaint):
    assert run(*words) == (2, "", f"benchmarks: {complaint}\n")


def test_repetitions_are_at_least_one(run, capsys):
    with pytest.raises(SystemExit):
        run("--repeat", "0")
    assert "at least 1" in capsys.readouterr().err


def test_two_runs_do_not_share_a_work_directory(run, tmp_path):
    (tmp_path / "work").mkdir()
    with (tmp_path / "work/lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        status, _, complaint = run()
    assert status == 2
    assert complaint.endswith("another run is working there: wait for it, or take another --work-dir\n")


@pytest.fixture
def planned(monkeypatch):
    """Nothing is measured: what was wished for, and the repetitions."""
    wished = []
    found = [Result(Key("find", State.HOT), {"local": (Sample(1.0, 1.0),)})]

    def note(wishes, targets, _work):
        wished.append((wishes, [target.name for target in targets]))
        return []

    monkeypatch.setattr(plan, "planned", note)
    monkeypatch.setattr(campaign, "run", lambda _contests, repetitions: wished.append(repetitions) or iter(found))
    return wished


def test_nothing_said_is_the_quick_set(run, planned, tmp_path):
    status, output, _ = run()
    (wishes, names), repetitions = planned
    assert (wishes.workloads, wishes.full, wishes.links, wishes.flames) == ([], False, None, None)
    assert list(wishes.states) == [State.COLD, State.WARM, State.HOT]
    assert (names, repetitions, status) == (["local", "cvfs"], 3, 0)
    assert output == f"{tmp_path}/work/report/results.json\n{tmp_path}/work/report/report.md\n"
    assert results.load(tmp_path / "work/report/results.json").results[0].key == Key("find", State.HOT)


def test_everything_said(run, planned, tmp_path):
    words = [
        "find",
        "--against",
        "cvfs:A=1,cvmfs2",
        "--state",
        "hot",
        "--rtt",
        "0,20",
        "--bandwidth",
        "0,100",
        "--repeat",
        "7",
        "--full",
        "--flame",
    ]
    run(*words, "--out", str(tmp_path / "out"), "--dir", f"nfs={tmp_path}")
    (wishes, names), repetitions = planned
    assert (wishes.workloads, wishes.full, repetitions) == (["find"], True, 7)
    assert wishes.states == [State.HOT]
    assert wishes.links == [Link(0, 0), Link(20, 0), Link(0, 100), Link(20, 100)]
    assert names == ["cvfs:A=1", "cvmfs2", "nfs"]
    assert wishes.flames == tmp_path / "out/flames"
    assert (tmp_path / "out/report.md").exists()


def test_the_full_set_has_more_repetitions(run, planned):
    run("--full")
    assert planned[1] == 5


def test_a_run_without_any_sample_is_a_failure(run, monkeypatch):
    monkeypatch.setattr(plan, "planned", lambda *_: [])
    monkeypatch.setattr(campaign, "run", lambda *_: iter([Result(Key("find"), {}, {"local": "no"})]))
    assert run()[0] == 1
