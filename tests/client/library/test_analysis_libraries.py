"""pandas, uproot, dask and numpy reading from `cvmfs://`, with nothing mounted."""

import io
import os
import tarfile

import dask
import dask.bag
import numpy as np
import pandas as pd
import pytest
import uproot

import cvfs
from cvfs.chunking import ChunkSizes
from cvfs.client.library.fsspec_filesystem import CvmfsFileSystem

PARTS = 4
EVENTS = 1000

pytestmark = [
    pytest.mark.usefixtures("no_configuration"),
    # What these libraries announce to each other is not ours to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def published(make_repository, tmp_path_factory):
    """Tables, a ROOT file, arrays and lines of text."""
    repository = make_repository(tmp_path_factory.mktemp("analysis"), chunk_sizes=ChunkSizes(2**15, 2**16, 2**17))
    tree = repository.tree
    table = pd.DataFrame({"run": range(100), "energy": np.linspace(0, 13.6, 100)})
    table.to_csv(tree / "runs.csv", index=False)
    table.to_csv(tree / "runs.csv.gz", index=False)
    for part in range(PARTS):
        (tree / f"part{part}.txt").write_text("".join(f"{part * 10 + line}\n" for line in range(10)))
    random = np.random.default_rng(1)
    with uproot.recreate(tree / "events.root") as file:
        file.mktree("events", {"mass": np.float64, "charge": np.int32})
        for _ in range(5):
            file["events"].extend(
                {"mass": random.normal(91, 2, EVENTS * 10), "charge": random.integers(-1, 2, EVENTS * 10)}
            )
    np.save(tree / "array.npy", np.arange(EVENTS))
    with tarfile.open(tree / "runs.tar.gz", "w:gz") as archive:
        archive.add(tree / "runs.csv", "runs.csv")
    repository.publish()
    yield repository
    CvmfsFileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def options(published, tmp_path_factory):
    place = tmp_path_factory.mktemp("options")
    (place / "etc").mkdir()
    return {
        "server_url": published.url,
        "public_key": published.public_key,
        "cache": str(place / "cache"),
        "etc": str(place / "etc"),
    }


@pytest.fixture
def url(published):
    return f"cvmfs://{published.fqrn}"


@pytest.fixture(scope="module")
def reader(published):
    with cvfs.open_repository(published.url, public_key=published.public_key) as opened:
        yield opened


# --- pandas -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["runs.csv", "runs.csv.gz"])
def test_pandas_reads_a_table(published, url, options, name):
    expected = pd.read_csv(published.tree / "runs.csv")
    pd.testing.assert_frame_equal(pd.read_csv(f"{url}/{name}", storage_options=options), expected)


def test_pandas_reads_an_open_file(published, reader):
    expected = pd.read_csv(published.tree / "runs.csv")
    with reader.open("/runs.csv") as file:
        pd.testing.assert_frame_equal(pd.read_csv(file), expected)


def test_pandas_is_told_what_is_missing(url, options):
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        pd.read_csv(f"{url}/none.csv", storage_options=options)
    with pytest.raises(OSError, match="cannot be changed"):
        pd.DataFrame({"x": [1]}).to_csv(f"{url}/new.csv", storage_options=options)


# --- uproot -----------------------------------------------------------------------------------------------------------


def test_uproot_reads_a_tree(published, url, options):
    with uproot.open(published.tree / "events.root") as file:
        expected = file["events"].arrays(library="np")
    with uproot.open(f"{url}/events.root", **options) as file:
        found = file["events"].arrays(library="np")
    assert set(found) == {"mass", "charge"}
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_uproot_fetches_what_it_reads(published, options, web, tmp_path):
    """One branch of a large file: its chunks and no others."""
    server = web(published.storage.parent)
    own = options | {"server_url": f"{server.url}/@fqrn@", "cache": str(tmp_path / "cache")}
    with uproot.open(f"cvmfs://{published.fqrn}/events.root", **own) as file:
        server.requests.clear()
        assert len(file["events"]["charge"].array(library="np", entry_stop=100)) == 100
    with cvfs.open_repository(published.url, public_key=published.public_key) as reader:
        pieces = reader.repository.pieces(*reader.find("/events.root"))
    assert len(pieces) > 4
    assert 0 < len(server.requests) < len(pieces) / 2


def test_uproot_iterates_over_several_files(published, url, options):
    files = {f"{url}/events.root": "events"}
    batches = list(uproot.iterate(files, ["mass"], step_size=EVENTS * 20, library="np", **options))
    assert sum(len(batch["mass"]) for batch in batches) == EVENTS * 50


# --- dask -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_dask_reads_in_its_workers(url, options, scheduler):
    lines = dask.bag.read_text(f"{url}/part*.txt", storage_options=options)
    with dask.config.set(scheduler=scheduler, num_workers=2):
        assert lines.npartitions == PARTS
        assert lines.map(int).sum().compute() == sum(part * 10 + line for part in range(PARTS) for line in range(10))


# --- numpy, tarfile ---------------------------------------------------------------------------------------------------


def test_numpy_reads_and_maps_arrays(reader):
    expected = np.arange(EVENTS)
    with reader.open("/array.npy") as file:
        assert np.array_equal(np.load(file), expected)
    with reader.open("/array.npy") as file:
        mapped = np.memmap(
            file, dtype=expected.dtype, mode="r", offset=os.fstat(file.fileno()).st_size - expected.nbytes
        )
        assert np.array_equal(mapped, expected)
    with reader.local_path("/array.npy") as place:
        assert np.array_equal(np.load(place, mmap_mode="r"), expected)


def test_an_archive_is_read_in_place(published, reader):
    with reader.open("/runs.tar.gz") as file, tarfile.open(fileobj=file) as archive:
        inside = archive.extractfile("runs.csv")
        assert inside.read() == (published.tree / "runs.csv").read_bytes()
    with io.TextIOWrapper(reader.open("/runs.csv")) as file:
        assert file.readline() == "run,energy\n"
