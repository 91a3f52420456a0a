"""Targets by their names, and what clients say of themselves."""

import socket
import threading

import pytest

from benchmarks.model import Failed, Link, State, Unavailable
from benchmarks.targets import control, original
from benchmarks.targets.cvfs_mount import CvfsMount
from benchmarks.targets.local import Given, Local
from benchmarks.targets.named import split, targets
from benchmarks.targets.original import Original, configuration
from benchmarks.targets.surroundings import Surroundings
from benchmarks.trees.base import Tree
from cvfs.errors import UsageError


@pytest.fixture
def surroundings(tmp_path):
    return Surroundings(tmp_path)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("local", ["local"]),
        ("local,cvfs,,cvmfs2", ["local", "cvfs", "cvmfs2"]),
        ("cvfs:A=1,B_2=x/y,local,cvfs-fusepy:C=3", ["cvfs:A=1,B_2=x/y", "local", "cvfs-fusepy:C=3"]),
        ("A=1,local", ["A=1", "local"]),
    ],
)
def test_settings_belong_to_the_name_before_them(words, names):
    assert split(words) == names


def test_names_stand_for_targets(surroundings, tmp_path):
    words = split("local,cvfs,cvfs-fusepy,cvfs:A=1,B=2,cvmfs2,local")
    assert targets(words, {"nfs": tmp_path}, surroundings) == [
        Local(surroundings),
        CvfsMount(surroundings),
        CvfsMount(surroundings, "cvfs-fusepy", "fusepy"),
        CvfsMount(surroundings, "cvfs:A=1,B=2", options=("A=1", "B=2")),
        Original(surroundings),
        Given(surroundings, "nfs", tmp_path),
    ]


@pytest.mark.parametrize("name", ["nfs", "A=1", "cvmfs", "local:A=1"])
def test_a_name_that_stands_for_nothing_is_refused(surroundings, name):
    with pytest.raises(UsageError, match=f"^{name}: no such target: local, cvfs"):
        targets([name], {}, surroundings)


# --- clients that answer ----------------------------------------------------------------------------------------------


@pytest.fixture
def client(tmp_path):
    """Answers one command, in pieces, at a path that is too long for a socket's address."""
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    path, asked = directory / "cvmfs_io.x", []

    def start(*pieces):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"/proc/self/fd/{open_directory(directory)}/cvmfs_io.x")
        listener.listen()

        def answer():
            with listener, listener.accept()[0] as connection:
                asked.append(connection.recv(100))
                for piece in pieces:
                    connection.sendall(piece)

        threading.Thread(target=answer, daemon=True).start()
        return path, asked

    import os

    opened = []

    def open_directory(place):
        opened.append(os.open(place, os.O_PATH))
        return opened[-1]

    yield start
    for descriptor in opened:
        os.close(descriptor)


def test_cvfs_says_all_of_its_state(client):
    path, asked = client(b'{"requests": {"REA', b'D": 4}}\n')
    assert control.state(path) == {"requests": {"READ": 4}}
    assert asked == [b"stat\n"]


def test_the_original_says_what_the_kernel_asked_by_names_of_its_own(client):
    path, asked = client(
        b"Inode Generation:\n  init-catalog-revision: 2\n\nRaw Counters:\nName|Value|Description\n"
        b"cache.n_certificate_hits|0|Number of certificate hits\ncvmfs.n_fs_dir_open|3|Overall number of directory open",
        b" operations\ncvmfs.n_fs_lookup|12|Number of lookups\ncvmfs.n_fs_stat|5|Number of stats\ncvmfs.n_fs_odd|x|\n",
    )
    assert control.operations(path) == {"OPENDIR": 3, "LOOKUP": 12, "GETATTR": 5}
    assert asked == [b"internal affairs\n"]


def test_a_client_that_is_gone_is_told_in_one_line(tmp_path):
    with pytest.raises(Failed, match=r"cvmfs_io.x: the client does not answer: No such file or directory$"):
        control.state(tmp_path / "cvmfs_io.x")


# --- the original -----------------------------------------------------------------------------------------------------


def test_an_original_that_is_not_installed_says_so(surroundings, monkeypatch):
    monkeypatch.setattr(original, "_PROGRAM", "cvmfs2-that-is-not-there")
    with pytest.raises(Unavailable, match=r"is not installed here$"):
        Original(surroundings).hold(Tree("x", "", lambda _place: None))


def test_the_original_is_given_a_configuration_of_its_own(tmp_path):
    lines = configuration(tmp_path / "cache", "http://127.0.0.1:80/cvmfs/x", tmp_path / "x.pub").splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    assert settings["CVMFS_SERVER_URL"] == "http://127.0.0.1:80/cvmfs/x"
    assert settings["CVMFS_PUBLIC_KEY"] == f"{tmp_path}/x.pub"
    assert settings["CVMFS_CACHE_BASE"] == settings["CVMFS_RELOAD_SOCKETS"] == f"{tmp_path}/cache"
    assert all(name.startswith("CVMFS_") for name in settings)


def test_a_machine_without_fuse_has_no_mount(surroundings, monkeypatch):
    monkeypatch.setattr("pathlib.Path.exists", lambda _path: False)
    target = CvfsMount(surroundings)
    with (
        pytest.raises(Unavailable, match="no /dev/fuse"),
        target.place(Tree("x", "", lambda _place: None), State.COLD, Link()),
    ):
        pass
