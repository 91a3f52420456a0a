"""Room for mounts in mount namespaces of our own: each script runs in one, and tells what it sees there."""

import json
import os
import subprocess
import sys

import pytest
from processes import ENVIRONMENT

pytestmark = pytest.mark.system

START = """
import json, os, sys
from cvfs.errors import MountError
from cvfs.kernel import mounts, namespaces
from cvfs.kernel.mount_table import find_mount
from cvfs.kernel.room import make_room
here = sys.argv[1]
namespaces.separate()
"""


def inside(script, directory):
    """What the script prints as JSON."""
    words = [sys.executable, "-c", START + script, str(directory)]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_directory_that_is_there_stays(tmp_path):
    (tmp_path / "place").mkdir()
    script = """
make_room([f"{here}/place"])
print(json.dumps(find_mount(here) is None))
"""
    assert inside(script, tmp_path) is True


def test_neighbours_stay(tmp_path):
    """Directories with what is mounted in them, links, files; a link or a file of the wanted name gives way."""
    for name in ("directory", "mounted"):
        (tmp_path / name).mkdir()
    (tmp_path / "directory/file").write_text("content")
    (tmp_path / "file").write_text("plain")
    (tmp_path / "link").symlink_to("directory")
    (tmp_path / "wanted").symlink_to("nowhere")
    script = """
mounts.mount("tmpfs", f"{here}/mounted", "tmpfs", 0, "")
open(f"{here}/mounted/new", "w").close()
os.chdir(here)
make_room([f"{here}/wanted", f"{here}/deep/place", f"{here}/mounted"])
seen = {name: os.listdir(f"{here}/{name}") for name in os.listdir(here) if name != "file"}
try:
    os.mkdir(f"{here}/other")
except OSError as error:
    seen["errno"] = error.errno
print(json.dumps([seen, open(f"{here}/file").read(), os.readlink(f"{here}/link"), os.listdir(".")]))
"""
    seen, file, link, working = inside(script, tmp_path)
    assert seen == {
        "directory": ["file"],
        "link": ["file"],
        "mounted": ["new"],
        "wanted": [],
        "deep": ["place"],
        "errno": 30,
    }
    assert (file, link) == ("plain", "directory")
    # Who works in what was covered still does.
    assert "deep" not in working
    assert sorted(os.listdir(tmp_path)) == ["directory", "file", "link", "mounted", "wanted"]


def test_where_looking_mounts(tmp_path):
    """The directory above mounts on demand: what is looked for there comes, for everybody, and may take long."""
    script = """
device = os.open("/dev/fuse", os.O_RDWR)
mounts.mount("parent", here, "fuse.cvfs-parent", 0, f"fd={device},rootmode=40000,user_id=0,group_id=0")
make_room([f"{here}/wanted"])
print(json.dumps([os.listdir(here), os.listdir(f"{here}/wanted")]))
"""
    assert inside(script, tmp_path) == [["wanted"], []]


def test_servers_are_not_asked(tmp_path):
    """What is beside is mounted, but nobody answers for it."""
    (tmp_path / "beside").mkdir()
    script = """
device = os.open("/dev/fuse", os.O_RDWR)
data = f"fd={device},rootmode=40000,user_id=0,group_id=0"
mounts.mount("beside", f"{here}/beside", "fuse.cvfs", 0, data)
make_room([f"{here}/wanted"])
print(json.dumps([sorted(os.listdir(here)), os.listdir(f"{here}/wanted"), find_mount(f"{here}/beside").type]))
"""
    assert inside(script, tmp_path) == [["beside", "wanted"], [], "fuse.cvfs"]


def test_a_new_root(tmp_path):
    script = """
before = set(os.listdir("/"))
make_room(["/no-such-top/a", "/no-such-top/b"])
print(json.dumps([sorted(set(os.listdir("/")) - before), sorted(os.listdir("/no-such-top")), os.path.isdir(here),
                  find_mount("/").type, sorted(before - set(os.listdir("/"))), os.access("/dev/null", os.W_OK)]))
"""
    assert inside(script, tmp_path) == [["no-such-top"], ["a", "b"], True, "tmpfs", [], True]
    assert not os.path.exists("/no-such-top")


def test_a_new_root_in_a_chroot(tmp_path):
    """There the root is not that of a mount, and cannot be exchanged for another one."""
    script = """
for name in ("tmp", "proc", "etc"):
    os.mkdir(f"{here}/{name}")
mounts.bind("/proc", f"{here}/proc")
os.chroot(here)
os.chdir("/")
make_room(["/cvmfs/a"])
print(json.dumps([sorted(os.listdir("/")), os.listdir("/cvmfs")]))
"""
    assert inside(script, tmp_path) == [["cvmfs", "etc", "proc", "tmp"], ["a"]]


def test_a_root_with_nothing_to_build_in(tmp_path):
    script = """
os.mkdir(f"{here}/proc")
mounts.bind("/proc", f"{here}/proc")
os.chroot(here)
os.chdir("/")
try:
    make_room(["/cvmfs/a"])
except MountError as error:
    print(json.dumps(str(error)))
"""
    assert "none of tmp, usr, etc" in inside(script, tmp_path)
