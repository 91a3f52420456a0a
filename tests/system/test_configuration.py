"""Trees of real sites, unchanged but for the servers, give real mounts; a configuration repository that hangs holds nobody."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import CVFS, ENVIRONMENT

pytestmark = pytest.mark.system

BINDING = "CVFS_FUSE_BINDING"
PLAIN = {
    name: text for name, text in ENVIRONMENT.items() if not name.startswith(("CVMFS_", "CVFS_")) or name == BINDING
}
ETC = Path(__file__).parent.parent / "data/etc"
CONFIG = "cvmfs-config.cern.ch"


def cvfs(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CVFS, *map(str, words)], capture_output=True, text=True, timeout=120, env=PLAIN, check=False
    )


def append(etc: Path, name: str, text: str) -> None:
    (etc / name).parent.mkdir(parents=True, exist_ok=True)
    with open(etc / name, "a", encoding="ascii") as file:
        file.write(text + "\n")


@pytest.fixture
def site(tmp_path):
    """Gives a copy of a sample tree, moved below the test's directory; what is mounted from it is unmounted."""
    etc = tmp_path / "etc"

    def make(name: str) -> Path:
        shutil.copytree(ETC / name, etc, ignore=shutil.ignore_patterns("config-repository"))
        places = f"CVMFS_CACHE_BASE={tmp_path}/base\nCVMFS_MOUNT_DIR={tmp_path}/mounts\nCVMFS_HTTP_PROXY=DIRECT"
        places += "\nCVFS_CONFIG_REPO_TIMEOUT=90"
        append(etc, "default.local", places)
        return etc

    yield make
    with contextlib.suppress(FileNotFoundError):
        for place in (tmp_path / "mounts").iterdir():
            subprocess.run(["umount", "-l", place], capture_output=True, check=False)


def published(new_repository, fqrn: str):
    repository = new_repository(fqrn, place=fqrn)
    (repository.tree / "hello.txt").write_text(fqrn)
    repository.publish()
    return repository


def trust(etc: Path, repository, directory: str) -> None:
    (etc / directory).mkdir(parents=True, exist_ok=True)
    shutil.copy(repository.public_key, etc / directory)


@pytest.mark.parametrize(
    ("name", "fqrn"), [("eessi", "software.eessi.io"), ("galaxy", "data.galaxyproject.org"), ("cern", "cms.cern.ch")]
)
def test_a_sites_tree_gives_a_mount(name, fqrn, site, new_repository, tmp_path):
    etc = site(name)
    repository = published(new_repository, fqrn)
    domain = fqrn.partition(".")[2]
    trust(etc, repository, f"keys/{domain}")
    append(etc, f"domain.d/{domain}.local", f"CVMFS_SERVER_URL={repository.url}")
    # A configuration repository is another matter, below.
    done = cvfs("--etc", etc, "mount", fqrn.partition(".")[0], "-o", "CVMFS_CONFIG_REPOSITORY=")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "mounts" / fqrn / "hello.txt").read_text() == fqrn


def add_config_repository(etc: Path, new_repository) -> None:
    """A repository of the domain whose server and key only the configuration repository knows."""
    config = new_repository(CONFIG, place=CONFIG)
    shutil.copytree(ETC / "cern/config-repository", config.tree, dirs_exist_ok=True)
    repository = published(new_repository, "atlas.cern.ch")
    trust(config.tree / "etc/cvmfs", repository, "keys/cern.ch")
    append(config.tree / "etc/cvmfs", "config.d/atlas.cern.ch.conf", f"CVMFS_SERVER_URL={repository.url}")
    config.publish()
    trust(etc, config, "keys/cern.ch")
    append(etc, f"config.d/{CONFIG}.local", f"CVMFS_SERVER_URL={config.url}")


def test_keys_and_servers_of_the_configuration_repository(site, new_repository, tmp_path):
    etc = site("cern")
    add_config_repository(etc, new_repository)
    done = cvfs("--etc", etc, "mount", "atlas")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "mounts/atlas.cern.ch/hello.txt").read_text() == "atlas.cern.ch"
    assert not (tmp_path / "mounts" / CONFIG).exists()
    # What it lists nobody mounts, although nothing on this machine says so.
    assert (tmp_path / "base/config" / CONFIG / "etc/cvmfs/blacklist").exists()


def test_a_configuration_repository_that_hangs_holds_nobody(site, new_repository, tmp_path):
    etc = site("cern")
    add_config_repository(etc, new_repository)
    assert "config.d/atlas.cern.ch.conf" in cvfs("--etc", etc, "showconfig", "-s", "atlas").stdout
    record = tmp_path / "base/config" / CONFIG / ".cvfs-copy"
    os.utime(record, (time.time() - 3600,) * 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        append(
            etc,
            f"config.d/{CONFIG}.local",
            f"CVMFS_SERVER_URL={url}\nCVMFS_TIMEOUT_DIRECT=600\nCVFS_CONFIG_REPO_TIMEOUT=1",
        )
        done = cvfs("--etc", etc, "mount", "atlas")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "no answer within 1 seconds; its copy of revision 2 serves" in done.stderr
    assert (tmp_path / "mounts/atlas.cern.ch/hello.txt").read_text() == "atlas.cern.ch"


def test_a_required_configuration_repository_that_is_not_there(site, new_repository):
    etc = site("cern")
    append(etc, "default.local", "CVMFS_CONFIG_REPO_REQUIRED=yes")
    append(etc, f"config.d/{CONFIG}.local", "CVMFS_SERVER_URL=file:///none")
    done = cvfs("--etc", etc, "mount", "atlas")
    assert done.returncode == 2
    assert "atlas.cern.ch: CVMFS_CONFIG_REPO_REQUIRED is set, but configuration repository" in done.stderr


def test_the_mount_helper_reads_the_tree(site, new_repository, tmp_path):
    etc = site("eessi")
    repository = published(new_repository, "software.eessi.io")
    trust(etc, repository, "keys/eessi.io")
    append(etc, "domain.d/eessi.io.local", f"CVMFS_SERVER_URL={repository.url}")
    place = tmp_path / "mounts/here"
    place.mkdir(parents=True)
    start = "from cvfs_tools.mount_helper import main; main(prog_name='mount.cvfs')"
    words = [sys.executable, "-c", start, "software", str(place), "-o", f"ro,_netdev,etc={etc}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=PLAIN, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (place / "hello.txt").read_text() == "software.eessi.io"
