"""docs/python.md: every Python block is run, in order, against a repository that it describes."""

import functools
import inspect
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import uproot

import cvfs
from cvfs.client.library.fsspec_filesystem import CvmfsFileSystem

PAGE = Path(__file__).parents[3] / "docs" / "python.md"
FQRN = "sw.example.org"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def published(new_repository):
    """What the page speaks of."""
    repository = new_repository(FQRN)
    for directory in ("bin", "lib", "data"):
        (repository.tree / directory).mkdir()
    (repository.tree / "README").write_text("read me\n")
    (repository.tree / "bin" / "tool").write_text("exit 0\n")
    (repository.tree / "lib" / "module.py").write_text("pass\n")
    data = repository.tree / "data"
    (data / "events.csv").write_text("run,mass\n" + "1,91.2\n" * 500)
    (data / "part1.txt").write_text("1\n")
    (data / "part2.txt").write_text("22\n")
    np.save(data / "array.npy", np.arange(10))
    with tarfile.open(data / "archive.tar", "w") as archive:
        archive.add(data / "part1.txt", "inside.txt")
    with uproot.recreate(data / "events.root") as file:
        file.mktree("events", {"mass": np.float64}).extend({"mass": np.ones(10)})
    repository.publish()
    return repository


@pytest.fixture
def places(published, tmp_path, monkeypatch):
    """The places that the page names, and where they are here."""
    etc = tmp_path / "etc"
    (etc / "keys").mkdir(parents=True)
    key = etc / "keys" / f"{FQRN}.pub"
    key.write_bytes(Path(published.public_key).read_bytes())
    (etc / "default.local").write_text(
        f"CVMFS_SERVER_URL={published.url}\nCVMFS_HTTP_PROXY=DIRECT\nCVMFS_CACHE_BASE={tmp_path}/base\n"
    )
    monkeypatch.setenv("CVFS_ETC", str(etc))
    return {
        f'"http://stratum1.example.org/cvmfs/{FQRN}"': repr(published.url),
        '"http://stratum1.example.org/cvmfs/@fqrn@"': repr(published.url),
        '"http://squid.example.org:3128;DIRECT"': '"DIRECT"',
        f'"/etc/cvmfs/keys/{FQRN}.pub"': repr(str(key)),
        '"/var/tmp/cvfs-cache"': repr(f"{tmp_path}/cache"),
        '"/tmp/': f'"{tmp_path}/',
        # Another test does it in processes, which take their time to start.
        '"processes"': '"threads"',
    }


@pytest.mark.usefixtures("forgetting", "no_configuration")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_page_does_what_it_says(places, capfd):
    known: dict[str, object] = {}
    assert len(BLOCKS) > 10
    for number, block in enumerate(BLOCKS):
        here = functools.reduce(lambda text, place: text.replace(*place), places.items(), block)
        exec(compile(here, f"{PAGE.name}, block {number}", "exec"), known)
    known["repository"].close()
    said = capfd.readouterr().out
    assert f"{FQRN} 2\nread me\n" in said
    assert "/lib/module.py lib .py" in said
    assert "/none: no such file or directory in the repository" in said
    assert known["table"]["mass"].sum() == pytest.approx(91.2 * 500)
    assert len(known["masses"]) == len(known["array"]) == 10
    assert set(known["files"].values()) == {b"1\n", b"22\n"}
    assert known["text"] == Path(places['"/tmp/'][1:] + "events.csv").read_bytes()


def test_every_argument_is_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    for name in inspect.signature(cvfs.open_repository).parameters:
        assert name == "name_or_url" or f"`{name}`" in page
    for name in ("CVMFS_PUBLIC_KEY", "CVMFS_SERVER_URL", "CVMFS_CACHE_DIR", CvmfsFileSystem.protocol):
        assert name in page
