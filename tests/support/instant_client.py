"""A client that is there at once: mounts a memory file system at its place, says so, ends when that is unmounted.

Its repository's name says how it behaves: `fails…` complains, `silent…` never says that it is ready, `slow…` waits for the file
`<place>.go` beside the parent's directory, `twice…` is unmounted the first time before it says that it is ready, `never…` always.
"""

import ctypes
import os
import select
import socket
import sys
import time

_READY = b"READY=1"


def main(name: str, place: str) -> None:
    if name.startswith("fails"):
        sys.exit(f"cvfs: {name}: no server answers")
    parent = os.getppid()
    while name.startswith("silent") or (name.startswith("slow") and not os.path.exists(os.path.dirname(place) + ".go")):
        # Who has been killed tells nobody to end.
        if os.getppid() != parent:
            sys.exit()
        time.sleep(0.005)
    os.listdir(place)  # as a client looks whether there is nothing in the way
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(name.encode(), place.encode(), b"tmpfs", 0, b"size=1m"):
        sys.exit(os.strerror(ctypes.get_errno()))
    with open(place + "/program", "w") as file:
        file.write("#!/bin/sh\necho ran\n")
    os.chmod(place + "/program", 0o755)
    os.symlink("program", place + "/link")
    if name.startswith("never") or (name.startswith("twice") and not os.path.exists(os.path.dirname(place) + ".twice")):
        open(os.path.dirname(place) + ".twice", "w").close()
        libc.umount2(place.encode(), 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as news:
        news.sendto(_READY, "\0" + os.environ["NOTIFY_SOCKET"][1:])
    _wait_unmounted(place.encode())


def _wait_unmounted(place: bytes) -> None:
    with open("/proc/self/mountinfo", "rb") as table:
        poll = select.poll()
        poll.register(table, select.POLLPRI | select.POLLERR)
        while b" " + place + b" " in table.read():
            poll.poll()
            table.seek(0)


main(*sys.argv[1:])
