"""Contests of publishers, each once with a tree of a hundred files: what they say was done has been done."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.campaign import held
from benchmarks.measuring.commands import CVFS_SERVER, environment
from benchmarks.model import Failed, Key, Unavailable
from benchmarks.publishing import tools, works
from benchmarks.publishing.contests import PublishingContest
from benchmarks.publishing.named import PUBLISHING, contest
from benchmarks.publishing.programs import run
from benchmarks.publishing.sites import Site
from benchmarks.targets.mounted import is_mounted
from benchmarks.targets.site import FQRN
from benchmarks.trees.packages import CATALOGS, change, path_of, sources

FILES = 100


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """Whatever else this machine has to write is no matter of these tests."""
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def opened(work_dir):
    """A contest of a hundred files that is held: its takes, each with the path where it worked."""
    contests = []

    def opened(prepare):
        contests.append(PublishingContest(Key("work"), work_dir, lambda place: prepare(place, FILES)).opened())
        return contests[-1].__enter__()

    yield opened
    for one in contests:
        one.__exit__(None, None, None)


def newest(work_dir):
    """The site that was made last."""
    sites = list(work_dir.glob("work-*/*/site"))
    return Site(max(sites, key=lambda path: path.parent.stat().st_mtime_ns), work_dir)


def server(site, verb, *options):
    command = [*CVFS_SERVER, verb, "--root", site.root, *options, FQRN]
    return subprocess.run(command, env=environment(site.work_dir), capture_output=True, text=True, check=False)


def published_files(site):
    """Entries of the newest revision that are files, by what the publisher itself lists."""
    done = server(site, "info")
    assert done.returncode == 0, done.stderr
    return int(next(line.split()[-1] for line in done.stdout.splitlines() if line.startswith("Entries:")))


class TestPublish:
    def test_what_was_counted_is_published_and_sound(self, opened, work_dir):
        takes = opened(works.publish)
        assert set(takes) == {"cp -a", "tar | zstd -3", "cvfs zlib", "cvfs zlib-fast", "cvfs zstd"}
        sample = takes["cvfs zlib-fast"]()
        assert sample.seconds > sample.figures["publish_seconds"] > 0
        assert sample.cpu_seconds > 0
        # Files, the markers of catalogs, and the directories above them.
        assert sample.figures["added"] >= FILES + CATALOGS
        assert sample.figures["catalogs"] == CATALOGS + 1
        assert sample.figures["bytes_in"] == size(work_dir / "trees/sources-100")
        site = newest(work_dir)
        checked = server(site, "check", "-i")
        assert checked.returncode == 0, checked.stdout
        assert published_files(site) == sample.figures["entries"]

    def test_tools_do_their_work(self, opened, work_dir):
        takes = opened(works.publish)
        takes["cp -a"]()
        (copy,) = work_dir.glob("work-*/*/copy")
        assert size(copy) == size(work_dir / "trees/sources-100")
        archive = takes["tar | zstd -3"]()
        assert 0 < archive.figures["bytes_stored"] < size(copy)


class TestIngest:
    def test_an_archive_gives_what_the_tree_gives(self, opened, work_dir):
        takes = opened(works.ingest)
        assert set(takes) == {"tar -x", "cvfs zlib", "cvfs zlib-fast", "cvfs zstd"}
        sample = takes["cvfs zlib"]()
        assert sample.figures["added"] >= FILES + CATALOGS
        assert sample.figures["bytes_in"] == size(work_dir / "trees/sources-100")
        takes["tar -x"]()
        (extracted,) = work_dir.glob("work-*/*/tree")
        assert size(extracted) == size(work_dir / "trees/sources-100")


class TestCheck:
    def test_what_is_sound_gives_samples_and_damage_gives_none(self, opened, work_dir):
        takes = opened(works.check)
        assert set(takes) == {
            "cp -a",
            "cp -a of the storage",
            "cvfs check",
            "cvfs check -i",
            "cvfs check -i --skip-verified",
        }
        assert takes["cvfs check -i --skip-verified"]().seconds > 0
        damage(newest(work_dir))
        with pytest.raises(Failed, match="exit status 1"):
            takes["cvfs check -i"]()


class TestCollect:
    def test_half_of_the_objects_go_and_what_is_left_is_sound(self, opened, work_dir):
        takes = opened(works.gc)
        before = files(newest(work_dir).storage)
        left = takes["cvfs gc"]().figures["files"]
        assert before - left >= FILES // 2
        collected = newest(work_dir)
        assert files(collected.storage) == left
        assert server(collected, "check").returncode == 0


class TestIncremental:
    pytestmark = pytest.mark.system

    def test_ten_files_are_published_by_either_way(self, opened, work_dir):
        takes = opened(works.publish_incremental)
        for way in ("cvfs transaction", "cvfs --from"):
            figures = takes[way]().figures
            assert (figures["modified"], figures["added"], figures["objects"]) == (works.CHANGED, 0, works.CHANGED)
        assert not [path for path in work_dir.glob("work-*/*/site/cvmfs/*") if is_mounted(path)]


class TestContest:
    def test_nothing_of_it_is_left_but_what_is_kept(self, work_dir):
        with PublishingContest(Key("work"), work_dir, lambda place: place.new("x").mkdir() or {}).opened():
            assert list(work_dir.glob("work-*"))
        assert not list(work_dir.glob("work-*"))

    def test_replication_says_why_it_is_not_measured(self, work_dir):
        result = held(contest("replicate", work_dir), 1)
        assert "no verb that replicates" in result.troubles["cvfs"]
        words = [*CVFS_SERVER, "snapshot", "--help"]
        # When there is a verb, there is to be a contest.
        assert subprocess.run(words, env=environment(work_dir), capture_output=True, check=False).returncode

    @pytest.mark.parametrize("quick", [True, False])
    def test_every_name_is_a_contest(self, work_dir, quick):
        ending = "-small" if quick else ""
        keys = [contest(name, work_dir, quick=quick).key for name in PUBLISHING]
        assert keys == [Key(f"{name}{ending}") for name in PUBLISHING]


class TestPrograms:
    def test_memory_is_that_of_all_processes(self, work_dir):
        block = "b = bytearray(40_000_000); time.sleep(0.5)"
        code = f"import os, time; pid = os.fork(); {block}; pid and os.wait()"
        _, alone = run([*PYTHON, f"import time; {block}"], work_dir)
        _, two = run([*PYTHON, code], work_dir)
        assert alone["peak"] > 40_000_000
        assert two["peak"] > 80_000_000

    def test_who_is_not_installed_is_not_measured(self, work_dir):
        with pytest.raises(Unavailable, match="no-such-tool is not installed"):
            run(["no-such-tool"], work_dir)

    def test_who_fails_gives_no_sample(self, work_dir):
        with pytest.raises(Failed, match="No such file"):
            tools.copy(work_dir / "nowhere", work_dir / "copy")


class TestTrees:
    def test_changes_are_changes_each_in_a_catalog_of_its_own(self, tmp_path):
        sources(FILES).make(tmp_path)
        before = contents(tmp_path)
        change(tmp_path, 10, "once")
        once = contents(tmp_path)
        change(tmp_path, 10, "twice")
        changed = {path for path in before if once[path] != before[path]}
        assert changed == {path for path in once if contents(tmp_path)[path] != once[path]}
        assert changed == {tmp_path / path_of(number) for number in range(10)}
        assert len({path.relative_to(tmp_path).parts[0] for path in changed}) == 10


PYTHON = (shutil.which("python3"), "-c")


def contents(top):
    return {path: path.read_bytes() for path in top.rglob("*.py")}


def size(tree):
    return sum(len(content) for content in contents(tree).values())


def files(directory):
    return sum(len(names) for _, _, names in os.walk(directory))


def damage(site):
    """One object."""
    path = next(path for path in Path(site.storage, "data").glob("??/*") if path.name[-1] not in "CHXMP")
    path.chmod(0o644)
    path.write_bytes(b"damaged")
