"""Work in the namespaces of another process: its failures come back as what they were."""

import subprocess

import pytest

from cvfs.errors import MountError
from cvfs.kernel import mounts
from cvfs.kernel.mounts import InUse
from cvfs_server.transaction.surroundings import Here, KeptBy


@pytest.fixture
def kept():
    """The namespaces of a process that does nothing."""
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--propagation",
        "slave",
        "--",
        "sh",
        "-c",
        "echo; read end",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        if process.stdout.readline() != b"\n":
            pytest.skip("user namespaces are not allowed here")
        yield KeptBy(process.pid)
        process.stdin.close()


def refuse(error):
    raise error


def test_mounts_are_seen_there_only(kept, tmp_path):
    place = str(tmp_path)
    kept.run(lambda: mounts.mount("tmpfs", place, "tmpfs", mounts.MS_RDONLY, "size=64k"))
    found = kept.mounted_at(place)
    assert (found.type, found.is_writable) == ("tmpfs", False)
    assert Here().mounted_at(place) is None
    kept.run(lambda: mounts.unmount(place))
    assert kept.mounted_at(place) is None


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (InUse("somebody is there"), InUse, "somebody is there"),
        (MountError("refused"), MountError, "refused"),
        (ValueError("strange"), MountError, "ValueError: strange"),
    ],
)
def test_failures(kept, error, kind, text):
    with pytest.raises(kind, match=f"^{text}$") as caught:
        kept.run(lambda: refuse(error))
    assert type(caught.value) is kind


def test_nobody_keeps_them():
    with pytest.raises(MountError, match="No such file or directory"):
        KeptBy(2**22 + 1).run(lambda: None)
    assert KeptBy(2**22 + 1).mounted_at("/proc") is None


def test_here(tmp_path):
    done = []
    Here().run(lambda: done.append(1))
    assert done == [1]
