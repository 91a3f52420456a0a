"""A program run as an ordinary user without any capability, who can read this Python and the project wherever they are.

/dev/fuse is everybody's, as distributions have it; only the program sees any of this.

`python ordinary.py [--bare HOME] [--helpers] COMMAND…`: with --bare on a machine without /cvmfs and /etc/cvmfs, HOME being read-only.
"""

import os
import stat
import sys
import tempfile

USER = 1000
_DROPPED = ("--inh-caps=-all", "--bounding-set=-all")


def ordinary(*words, bare=None, helpers=False):
    """The command line that runs these words so; with `helpers` set-user-id programs have their effect."""
    options = [*(("--bare", str(bare)) if bare else ()), *(("--helpers",) if helpers else ())]
    return [sys.executable, os.path.abspath(__file__), *options, *map(str, words)]


def _main(words):
    from cvfs.kernel import namespaces

    present = os.getcwd()
    namespaces.separate()
    _open_ways()
    _open_device("/dev/fuse")
    if words[0] == "--bare":
        _make_bare(words[1])
        words = words[2:]
    dropped = _DROPPED
    if words[0] == "--helpers":
        dropped, words = (), words[1:]
    os.chdir(present)
    os.execvp("setpriv", ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *dropped, *words])


def _open_ways():
    """The interpreter may be below a directory that is its owner's alone, as root's is."""
    from cvfs.kernel import room

    for path in (os.path.realpath(sys.executable), *map(os.path.abspath, sys.path)):
        parts = path.split("/")
        for way in ("/".join(parts[:count]) for count in range(2, len(parts))):
            if os.path.isdir(way) and not os.stat(way).st_mode & 1:
                room._cover(way, [], {})


def _open_device(device):
    """Another node of the device: the rights of the one that is there are the whole machine's."""
    from cvfs.kernel import mounts

    found = os.stat(device)
    if stat.S_IMODE(found.st_mode) & 0o006 == 0o006:
        return
    with tempfile.TemporaryDirectory() as place:
        mounts.mount("tmpfs", place, "tmpfs", 0, "size=64k")
        os.mknod(f"{place}/fuse", stat.S_IFCHR, found.st_rdev)
        os.chmod(f"{place}/fuse", 0o666)
        mounts.bind(f"{place}/fuse", device)
        mounts.unmount(place, lazy=True)


def _make_bare(home):
    from cvfs.kernel import mounts, room

    mounts.bind(home, home)
    mounts.seal(home)
    room.mounts = type("Unsealed", (), {**vars(mounts), "seal": lambda _place: None})
    room._cover("/etc", ["cvmfs"], {})
    os.rmdir("/etc/cvmfs")
    room._rebuild_root(["cvmfs"], {})
    os.rmdir("/cvmfs")


if __name__ == "__main__":
    _main(sys.argv[1:])
