"""The harness tells the truth of real mounts: cold is cold, hot is hot, a delay is seen, and nothing of a run is left."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from pathlib import Path

import pytest
from bindings import require_fusepy
from ordinary import USER, ordinary
from processes import wait_until

from benchmarks.campaign import held
from benchmarks.model import Link, State
from benchmarks.reading import Caches, Reading
from benchmarks.report import results
from benchmarks.targets import kernel_caches
from benchmarks.targets.cvfs_mount import CvfsMount
from benchmarks.targets.local import Local
from benchmarks.targets.site import FQRN, published
from benchmarks.targets.surroundings import Surroundings
from benchmarks.trees.base import Tree
from benchmarks.workloads.base import Workload

pytestmark = pytest.mark.system
FILES = 12
SLOW = Link(rtt=30)

# A run of two workloads: one that reads, and one that is never done. Arguments: the work directory.
RUN = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
import test_honesty
from benchmarks.__main__ import main
from benchmarks.workloads.named import WORKLOADS
WORKLOADS["chain"] = test_honesty.CHAIN
WORKLOADS["endless"] = test_honesty.ENDLESS
sys.exit(main(["run", *sys.argv[2:], "--work-dir", sys.argv[1], "--repeat", "1", "--against", "cvfs"]))
"""


def make(place):
    """A chain: each file names the next one, so that nobody can know it beforehand; two catalogs."""
    (place / "deep").mkdir()
    (place / "deep/.cvmfscatalog").touch()
    for number in range(FILES):
        after = f"{'deep/' * (number % 2 == 0)}file{number + 1}"
        content = f"{after}\n{number}" + "padding " * 100 * number
        (place / f"{'deep/' * (number % 2)}file{number}").write_text(content)


def follow(scene):
    script = (
        'name=file0; count=0; while [ -e "$0/$name" ]; do read -r name < "$0/$name"; count=$((count + 1)); done; '
        "echo files=$count"
    )
    return ["bash", "-c", script, str(scene.top)]


CHAIN = Workload("chain", "one file after the other", Tree("chain", "", make), follow)
ENDLESS = Workload(
    "endless", "", CHAIN.tree, lambda scene: ["sh", "-c", f"cat {scene.top}/file0; touch ../begun; sleep 900"]
)


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory):
    """The tree is made and published once for all tests."""
    found = Surroundings(tmp_path_factory.mktemp("work"))
    published(CHAIN.tree, found, "zlib")
    return found


@pytest.fixture
def site(surroundings):
    return published(CHAIN.tree, surroundings, "zlib")


def measure(surroundings, state, *targets, link=SLOW, repetitions=2):
    return held(Reading(CHAIN, state, link, targets, surroundings.work, Caches()), repetitions)


# --- cold is cold -----------------------------------------------------------------------------------------------------


def closure(storage):
    """Paths and sizes of what a client needs that reads every file: read off the published files, by no code of a client."""
    manifest = dict(re.findall(rb"^([A-Z])(.*)$", (storage / ".cvmfspublished").read_bytes(), re.MULTILINE))
    names = [".cvmfspublished", ".cvmfswhitelist", path_of(manifest[b"X"].decode(), "X")]
    names += objects(storage, manifest[b"C"].decode())
    return {f"/cvmfs/{FQRN}/{name}": (storage / name).stat().st_size for name in names}


def objects(storage, catalog):
    name = path_of(catalog, "C")
    yield name
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(zlib.decompress((storage / name).read_bytes()))
        for (content,) in database.execute(
            "SELECT DISTINCT hex(hash) FROM catalog WHERE hash IS NOT NULL AND size > 0"
        ):
            yield path_of(content.lower())
        for (nested,) in database.execute("SELECT sha1 FROM nested_catalogs").fetchall():
            yield from objects(storage, nested)


def path_of(content, suffix=""):
    return f"data/{content[:2]}/{content[2:]}{suffix}"


@pytest.mark.parametrize("link", [Link(), SLOW], ids=["log", "relay"])
def test_cold_is_the_closure_byte_for_byte(surroundings, site, link):
    with CvfsMount(surroundings).place(CHAIN.tree, State.COLD, link) as place:
        for path in [*place.top.glob("file*"), *place.top.glob("deep/*")]:
            path.read_bytes()
        passed, costs = place.link.passed(), place.costs()
    expected = closure(site.storage)
    assert len(expected) == 3 + 2 + FILES
    assert passed.targets == Counter(expected.keys())
    assert passed.body_bytes == sum(expected.values())
    assert (costs.requests, costs.wire_bytes) == (len(expected), passed.body_bytes)


def test_cold_is_cold_each_time_and_takes_a_round_trip_for_each_object(surroundings):
    far = measure(surroundings, State.COLD, CvfsMount(surroundings))
    assert not far.troubles
    for sample in far.samples["cvfs"]:
        # Each file, and the nested catalog; the root catalog came with the mount.
        assert sample.client.requests == FILES + 1
        assert sample.figures["files"] == FILES
        assert sample.client.fuse["READ"] >= FILES
        assert sample.client.cpu_seconds > 0
        assert sample.seconds >= FILES * SLOW.rtt / 1000


# --- warm and hot -----------------------------------------------------------------------------------------------------


def test_warm_asks_the_kernel_anew_and_no_server(surroundings):
    samples = measure(surroundings, State.WARM, CvfsMount(surroundings), repetitions=1).samples["cvfs"]
    assert samples[0].client.requests == 0
    assert samples[0].client.fuse["READ"] >= FILES


def test_hot_asks_nobody(surroundings):
    """Memory may run short: what the kernel then drops it asks for again, but hardly each time."""
    result = measure(surroundings, State.HOT, CvfsMount(surroundings), repetitions=3)
    assert not result.troubles
    assert [sample.client.requests for sample in result.samples["cvfs"]] == [0, 0, 0]
    assert min(sample.client.fuse.get("READ", 0) for sample in result.samples["cvfs"]) == 0
    assert all(sample.client.resident > 0 for sample in result.samples["cvfs"])


def test_targets_side_by_side(surroundings, monkeypatch):
    """Other settings have a cache of their own; they are obeyed: without zero-message open the kernel says what it opens."""
    require_fusepy()
    monkeypatch.setattr(kernel_caches, "drop", lambda: None)
    settings = ("CVFS_OPEN_MESSAGES=yes",)
    targets = [
        Local(surroundings),
        CvfsMount(surroundings),
        CvfsMount(surroundings, "cvfs-fusepy", "fusepy"),
        CvfsMount(surroundings, "cvfs:CVFS_OPEN_MESSAGES=yes", options=settings),
    ]
    for state in (State.COLD, State.HOT):
        result = measure(surroundings, state, *targets, link=Link(), repetitions=1)
        assert not result.troubles
        assert list(result.samples) == [target.name for target in targets]
        assert result.samples["local"][0].client is None
        opened = result.samples[targets[3].name][0].client.fuse["OPEN"]
        assert opened >= FILES > result.samples["cvfs"][0].client.fuse.get("OPEN", 0)


# --- a run ------------------------------------------------------------------------------------------------------------


def start(work, *words, prefix=()):
    script = RUN.format(tests=str(Path(__file__).parent))
    command = [*prefix, sys.executable, "-c", script, str(work), *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def left_behind(work):
    """Mounts below the directory, and processes that know of it."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(work) in line]
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(work) in path.read_bytes():
                processes.append(path.parent.name)
    return mounts + processes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_mount_and_no_process_and_keeps_what_was_measured(surroundings, number):
    work = surroundings.work
    (work / "begun").unlink(missing_ok=True)
    running = start(work, "chain", "endless", "--state", "cold", "--rtt", "1")
    assert wait_until(lambda: (work / "begun").exists() or running.poll() is not None)
    assert left_behind(work)
    running.send_signal(number)
    _, complaint = running.communicate(timeout=90)
    assert (running.returncode, complaint.splitlines()[-1]) == (
        130,
        "benchmarks: interrupted; what was measured before is kept",
    )
    assert wait_until(lambda: not left_behind(work))
    report = results.load(work / "report/results.json")
    assert [(result.key.workload, len(result.samples["cvfs"])) for result in report.results] == [("chain", 1)]


def test_an_ordinary_user_runs_the_same(surroundings):
    if shutil.which("fusermount3") is None:
        pytest.skip("fusermount3 is missing")
    with tempfile.TemporaryDirectory(prefix="ordinary-") as name:
        work = Path(name)
        for part in ("trees", "sites"):
            shutil.copytree(surroundings.work / part, work / part)
        for path in [work, *work.rglob("*")]:
            os.chown(path, USER, USER, follow_symlinks=False)
        running = start(work, "chain", prefix=ordinary(helpers=True))
        _, complaint = running.communicate(timeout=100)
        assert running.returncode == 0, complaint
        document = json.loads((work / "report/results.json").read_text())
    assert [(result["state"], list(result["samples"]), result["troubles"]) for result in document["results"]] == [
        (state, ["cvfs"], {}) for state in ("cold", "warm", "hot")
    ]
    assert document["setting"]["user"] == "ordinary"
    assert not left_behind(work)
